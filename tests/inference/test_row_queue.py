"""Holds the queue to its promises: who runs together, when, and what the bound counts.

Never waits: the time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Overloaded, TooLarge
from gateway.inference.row_queue import Batch, RowQueue


@dataclass(eq=False)
class Request:
    """A request that a test can abandon."""

    rows: int = 1
    group: Hashable = None
    arrived_at: float = 0.0
    deadline: float = float("inf")
    number: int = 0
    has_left: list[bool] = field(default_factory=list)

    def abandon(self) -> None:
        self.has_left.append(True)

    def is_abandoned(self) -> bool:
        return bool(self.has_left)


def make_queue(
    *,
    max_rows: int = 8,
    max_queue_rows: int = 32,
    delay_s: float = 0.0,
    shares_runs: bool = True,
    preferred_rows: Collection[int] = (),
    max_queue_requests: int = 0,
) -> RowQueue[Request]:
    return RowQueue(
        name="fraud:3",
        max_rows=max_rows,
        max_queue_rows=max_queue_rows,
        max_queue_delay_s=delay_s,
        shares_runs=shares_runs,
        preferred_rows=preferred_rows,
        max_queue_requests=max_queue_requests,
    )


def filled(queue: RowQueue[Request], *requests: Request) -> RowQueue[Request]:
    for request in requests:
        queue.put(request)
    return queue


def taken(queue: RowQueue[Request], now: float = 0.0) -> Batch[Request]:
    batch = queue.next_batch(now)
    assert batch is not None
    return batch


# --- who runs together -----------------------------------------------------------------------------


def test_all_that_waits_runs_together() -> None:
    requests = [Request(rows=2), Request(rows=1), Request(rows=3)]
    batch = taken(filled(make_queue(), *requests))
    assert (batch.requests, batch.rows, batch.reason) == (requests, 6, "drained")


def test_a_batch_stops_before_max_rows_and_the_rest_keeps_its_order() -> None:
    requests = [Request(rows=3), Request(rows=3), Request(rows=3), Request(rows=1)]
    queue = filled(make_queue(max_rows=8), *requests)
    assert taken(queue).requests == requests[:2]
    assert taken(queue).requests == requests[2:]


def test_a_small_request_never_overtakes_a_large_one_of_its_group() -> None:
    requests = [Request(rows=6), Request(rows=7), Request(rows=1)]
    queue = filled(make_queue(max_rows=8), *requests)
    assert taken(queue).requests == requests[:1]


def test_a_request_above_max_rows_runs_alone() -> None:
    large, small = Request(rows=20), Request(rows=1)
    queue = filled(make_queue(max_rows=8), large, small)
    batch = taken(queue)
    assert (batch.requests, batch.rows, batch.reason) == ([large], 20, "oversize")
    assert taken(queue).requests == [small]


def test_groups_never_share_a_run() -> None:
    first, other, second = Request(group="a"), Request(group="b"), Request(group="a")
    queue = filled(make_queue(), first, other, second)
    assert taken(queue).requests == [first, second]
    assert taken(queue).requests == [other]


def test_of_the_groups_that_are_due_the_one_whose_head_waited_longest_runs_first() -> None:
    younger, older = Request(group="a", arrived_at=2.0), Request(group="b", arrived_at=1.0)
    queue = filled(make_queue(), younger, older)
    assert [taken(queue, 3.0).requests, taken(queue, 3.0).requests] == [[older], [younger]]


def test_a_model_that_shares_no_runs_gets_one_request_a_run() -> None:
    requests = [Request(), Request()]
    queue = filled(make_queue(shares_runs=False), *requests)
    assert [taken(queue).requests, taken(queue).requests] == [requests[:1], requests[1:]]


def test_a_request_without_rows_waits_and_leaves_like_any_other() -> None:
    empty = Request(rows=0)
    queue = filled(make_queue(), empty)
    assert not queue.is_empty
    batch = taken(queue)
    assert (batch.requests, batch.rows) == ([empty], 0)
    assert queue.is_empty


@pytest.mark.parametrize(
    ("waiting", "make", "reason"),
    [
        pytest.param([Request()], make_queue, "drained", id="all that waited"),
        pytest.param([Request(rows=8)], make_queue, "full", id="exactly max_rows"),
        pytest.param([Request(rows=7), Request(rows=2)], make_queue, "full", id="the next one does not fit"),
        pytest.param([Request(rows=9)], make_queue, "oversize", id="one request above max_rows"),
        pytest.param([Request(rows=9), Request()], make_queue, "oversize", id="and others behind it"),
        pytest.param([Request(group="a"), Request(group="b")], make_queue, "shape", id="another group waits"),
        pytest.param([Request()], partial(make_queue, delay_s=1.0), "delay", id="waited long enough"),
        pytest.param([Request(rows=8)], partial(make_queue, delay_s=1.0), "full", id="full before the delay is over"),
        pytest.param([Request()], partial(make_queue, shares_runs=False), "single", id="this model shares no runs"),
        pytest.param([Request(rows=9)], partial(make_queue, shares_runs=False), "single", id="nor for large requests"),
    ],
)
def test_a_batch_says_why_it_was_released(
    waiting: list[Request], make: Callable[[], RowQueue[Request]], reason: str
) -> None:
    queue = filled(make(), *waiting)
    assert taken(queue, 1.0).reason == reason


# --- when -------------------------------------------------------------------------------------------


def test_an_empty_queue_has_nothing_to_run_and_no_time_to_wake() -> None:
    queue = make_queue(delay_s=1.0)
    assert queue.next_batch(100.0) is None
    assert queue.release_at() is None
    assert queue.is_empty


def test_with_a_delay_nothing_runs_before_the_oldest_has_waited_it_out() -> None:
    queue = filled(make_queue(delay_s=0.5), Request(arrived_at=10.0), Request(arrived_at=10.4))
    assert queue.next_batch(10.49) is None
    assert queue.release_at() == 10.5
    assert len(taken(queue, 10.5).requests) == 2


def test_a_full_group_does_not_wait_out_the_delay() -> None:
    queue = filled(make_queue(max_rows=4, delay_s=5.0), Request(rows=3), Request(rows=1))
    assert taken(queue, 0.0).rows == 4


def test_a_full_group_runs_while_an_older_group_still_waits_for_company() -> None:
    lonely = Request(group="a", arrived_at=0.0)
    full = Request(group="b", arrived_at=1.0, rows=4)
    queue = filled(make_queue(max_rows=4, delay_s=5.0), lonely, full)
    assert taken(queue, 1.0).requests == [full]
    assert queue.next_batch(1.0) is None
    assert taken(queue, 5.0).requests == [lonely]


def test_the_time_to_wake_is_the_oldest_head_of_all_groups() -> None:
    queue = filled(make_queue(delay_s=5.0), Request(group="a", arrived_at=3.0), Request(group="b", arrived_at=2.0))
    assert queue.release_at() == 7.0


def test_a_model_that_shares_no_runs_never_waits_for_company() -> None:
    queue = filled(make_queue(shares_runs=False, delay_s=5.0), Request(arrived_at=1.0))
    assert queue.release_at() == 1.0
    assert taken(queue, 1.0).reason == "single"


# --- preferred sizes ---------------------------------------------------------------------------------


def test_a_run_of_a_preferred_size_does_not_wait_for_more_company() -> None:
    queue = make_queue(delay_s=5.0, preferred_rows=[4])
    filled(queue, Request(rows=3))
    assert queue.next_batch(0.0) is None
    filled(queue, Request(rows=1))
    batch = taken(queue)
    assert (batch.rows, batch.reason) == (4, "preferred")


def test_of_several_preferred_sizes_the_largest_that_waits_runs_and_the_rest_waits_on() -> None:
    queue = filled(make_queue(delay_s=5.0, preferred_rows=[2, 4, 6]), *(Request() for _ in range(5)))
    assert taken(queue).rows == 4
    assert queue.next_batch(0.0) is None
    assert queue.rows == 1


def test_a_size_that_only_overtaking_could_make_is_not_made() -> None:
    queue = filled(make_queue(delay_s=5.0, preferred_rows=[4]), Request(rows=3), Request(rows=2), Request(rows=1))
    assert queue.next_batch(0.0) is None


def test_a_preferred_size_above_max_rows_is_never_made() -> None:
    queue = filled(make_queue(max_rows=4, delay_s=5.0, preferred_rows=[3, 6]), Request(rows=2))
    assert queue.next_batch(0.0) is None
    assert taken(filled(queue, Request(rows=4))).rows == 2


def test_once_the_delay_is_over_size_matters_no_longer() -> None:
    queue = filled(make_queue(delay_s=5.0, preferred_rows=[2]), *(Request() for _ in range(3)))
    batch = taken(queue, 5.0)
    assert (batch.rows, batch.reason) == (3, "delay")


def test_without_a_delay_nothing_is_held_back_for_a_preferred_size() -> None:
    queue = filled(make_queue(preferred_rows=[2]), *(Request() for _ in range(3)))
    assert taken(queue).rows == 3


# --- the dead ---------------------------------------------------------------------------------------


def test_an_abandoned_request_is_dropped_when_the_batch_forms() -> None:
    gone, stays = Request(rows=3), Request(rows=2)
    queue = filled(make_queue(), gone, stays)
    gone.abandon()
    assert queue.rows == 5
    batch = taken(queue)
    assert (batch.requests, batch.rows, queue.rows) == ([stays], 2, 0)


def test_a_request_is_dead_from_its_deadline_on() -> None:
    queue = filled(make_queue(), Request(deadline=5.0), Request(deadline=5.1))
    assert [request.deadline for request in taken(queue, 5.0).requests] == [5.1]


def test_the_dead_behind_a_full_batch_make_room_for_the_living() -> None:
    first, gone, third = Request(rows=4), Request(rows=4), Request(rows=4)
    queue = filled(make_queue(max_rows=8), first, gone, third)
    gone.abandon()
    batch = taken(queue)
    assert (batch.requests, batch.rows, batch.reason) == ([first, third], 8, "full")


def test_a_queue_of_the_dead_has_nothing_to_run_and_is_empty_afterwards() -> None:
    requests = [Request(group="a"), Request(group="b"), Request(group="a")]
    queue = filled(make_queue(), *requests)
    for request in requests:
        request.abandon()
    assert queue.next_batch(1.0) is None
    assert (queue.rows, queue.is_empty, list(queue)) == (0, True, [])


def test_a_dead_group_does_not_keep_a_living_one_from_running() -> None:
    gone, alive = Request(group="a", arrived_at=0.0), Request(group="b", arrived_at=1.0)
    queue = filled(make_queue(), gone, alive)
    gone.abandon()
    assert taken(queue, 1.0).requests == [alive]


def test_the_rows_of_the_dead_make_no_group_full() -> None:
    gone, small, large = Request(rows=3), Request(rows=2), Request(rows=3, arrived_at=1.0)
    queue = filled(make_queue(max_rows=4, delay_s=5.0), gone, small, large)
    gone.abandon()
    assert taken(queue, 1.0).requests == [small]
    assert queue.next_batch(5.9) is None
    assert taken(queue, 6.0).requests == [large]


# --- the bound --------------------------------------------------------------------------------------


def test_more_rows_than_the_queue_can_ever_hold_are_too_large() -> None:
    queue = make_queue(max_queue_rows=32)
    with pytest.raises(TooLarge, match=r"^fraud:3: the request has 33 rows, the queue holds at most 32$"):
        queue.put(Request(rows=33))
    assert queue.is_empty


def test_rows_that_do_not_fit_now_are_an_overload() -> None:
    queue = filled(make_queue(max_queue_rows=32), Request(rows=30))
    with pytest.raises(Overloaded, match=r"^fraud:3: queue holds 30 of 32 rows$"):
        queue.put(Request(rows=3))
    queue.put(Request(rows=2))
    assert queue.rows == 32


def test_too_large_is_said_even_while_the_queue_is_full() -> None:
    queue = filled(make_queue(max_queue_rows=32), Request(rows=32))
    with pytest.raises(TooLarge):
        queue.put(Request(rows=33))


def test_requests_may_be_bounded_besides_their_rows() -> None:
    queue = filled(make_queue(max_queue_requests=2), Request(group="a"), Request(group="b"))
    with pytest.raises(Overloaded, match=r"^fraud:3: queue holds 2 of 2 requests$"):
        queue.put(Request())
    taken(queue)
    queue.put(Request())


def test_every_waiting_request_can_be_listed() -> None:
    requests = [Request(group="a"), Request(group="b"), Request(group="a")]
    assert set(filled(make_queue(), *requests)) == set(requests)


# --- laws -------------------------------------------------------------------------------------------

Operation = tuple[str, int, str]
operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 12), st.sampled_from("ab")),
        st.tuples(st.just("put_brief"), st.integers(0, 6), st.sampled_from("ab")),
        st.tuples(st.just("abandon"), st.integers(0, 30), st.just("")),
        st.tuples(st.just("pass_time"), st.integers(1, 4), st.just("")),
        st.tuples(st.just("take"), st.just(0), st.just("")),
    ),
    max_size=60,
)


@dataclass
class Play:
    """Plays operations on a queue beside the plainest account of what waits: one list in order of arrival."""

    queue: RowQueue[Request]
    max_rows: int
    max_queue_rows: int
    delay_s: float
    shares_runs: bool
    preferred_rows: Collection[int] = ()
    max_queue_requests: int = 0
    now: float = 0.0
    waiting: list[Request] = field(default_factory=list)
    ran: list[Request] = field(default_factory=list)

    def step(self, operation: Operation) -> None:
        what, number, group = operation
        if what == "abandon":
            for request in self.waiting[number : number + 1]:
                request.abandon()
        elif what == "pass_time":
            self.now += number
        elif what == "take":
            self.take()
        else:
            life_s = 3.0 if what == "put_brief" else float("inf")
            self.put(Request(number, group, self.now, self.now + life_s, len(self.waiting) + len(self.ran)))

    def put(self, request: Request) -> None:
        held = sum(other.rows for other in self.waiting)
        try:
            self.queue.put(request)
        except TooLarge:
            assert request.rows > self.max_queue_rows
        except Overloaded:
            assert request.rows <= self.max_queue_rows
            assert held + request.rows > self.max_queue_rows or len(self.waiting) == self.max_queue_requests
        else:
            assert held + request.rows <= self.max_queue_rows
            assert not self.max_queue_requests or len(self.waiting) < self.max_queue_requests
            self.waiting.append(request)

    def take(self) -> None:
        before = list(self.waiting)
        batch = self.queue.next_batch(self.now)
        self.waiting = [request for request in self.waiting if request in set(self.queue)]
        left = [request for request in before if request not in self.waiting]
        chosen = batch.requests if batch else []
        assert all(self.is_dead(request) for request in left if request not in chosen)
        if batch is None:
            assert not any(self.is_due(request, before) for request in before if not self.is_dead(request))
            return
        self.check(batch, before)
        self.ran += batch.requests

    def check(self, batch: Batch[Request], before: list[Request]) -> None:
        assert batch.requests
        (group,) = {request.group for request in batch.requests}
        mates = [request for request in before if request.group == group]
        alive = [request for request in mates if not self.is_dead(request)]
        assert batch.requests == alive[: len(batch.requests)]
        assert batch.rows == sum(request.rows for request in batch.requests)
        assert batch.rows <= self.max_rows or len(batch.requests) == 1
        assert not set(batch.requests) & set(self.ran)
        assert self.is_due(mates[0], before)
        rest = alive[len(batch.requests) :]
        if not self.shares_runs:
            assert len(batch.requests) == 1
        elif rest:
            limit = self.preferred(mates) if batch.reason == "preferred" else self.max_rows
            assert batch.rows + rest[0].rows > limit

    def is_dead(self, request: Request) -> bool:
        return request.is_abandoned() or request.deadline <= self.now

    def is_due(self, request: Request, waiting: list[Request]) -> bool:
        """Tell whether the request's group may run: its head, dead or alive, waited, or it has rows for a run."""
        mates = [other for other in waiting if other.group == request.group]
        delay_s = self.delay_s if self.shares_runs else 0.0
        has_waited = mates[0].arrived_at + delay_s <= self.now
        return has_waited or sum(mate.rows for mate in mates) >= self.max_rows or self.preferred(mates) > 0

    def preferred(self, mates: list[Request]) -> int:
        """Return the largest preferred size that requests of one group make from the oldest on, or 0."""
        sums = accumulate(mate.rows for mate in mates)
        return max((rows for rows in sums if rows <= self.max_rows and rows in self.preferred_rows), default=0)


@given(
    played=operations,
    max_rows=st.integers(1, 8),
    max_queue_rows=st.integers(8, 12),
    delay_s=st.sampled_from([0.0, 2.0]),
    shares_runs=st.booleans(),
    preferred_rows=st.sets(st.integers(1, 6), max_size=2),
    max_queue_requests=st.sampled_from([0, 3]),
)
def test_whatever_happens_rows_are_accounted_for_order_is_kept_and_runs_stay_within_bounds(
    *,
    played: list[Operation],
    max_rows: int,
    max_queue_rows: int,
    delay_s: float,
    shares_runs: bool,
    preferred_rows: set[int],
    max_queue_requests: int,
) -> None:
    queue = make_queue(
        max_rows=max_rows,
        max_queue_rows=max_queue_rows,
        delay_s=delay_s,
        shares_runs=shares_runs,
        preferred_rows=preferred_rows,
        max_queue_requests=max_queue_requests,
    )
    play = Play(queue, max_rows, max_queue_rows, delay_s, shares_runs, preferred_rows, max_queue_requests)
    for operation in played:
        play.step(operation)
        assert queue.rows == sum(request.rows for request in play.waiting)
        assert set(queue) == set(play.waiting)
        assert queue.is_empty == (not play.waiting)
    for group in "ab":
        numbers = [request.number for request in play.ran if request.group == group]
        assert all(earlier < later for earlier, later in pairwise(numbers))


@given(played=operations, shares_runs=st.booleans())
def test_a_queue_asked_often_enough_always_runs_dry(*, played: list[Operation], shares_runs: bool) -> None:
    queue = make_queue(delay_s=2.0, shares_runs=shares_runs)
    play = Play(queue, 8, 32, 2.0, shares_runs)
    for operation in played:
        play.step(operation)
    play.now += 2.0
    for _ in range(len(play.waiting)):
        play.take()
    assert (play.waiting, queue.rows, queue.is_empty) == ([], 0, True)
