"""Owns the rules of succession: what follows what, what is obeyed, and that no position is ever used twice."""

import msgspec
import pytest

from gateway.errors import RevisionMismatch, UnknownRoute
from gateway.store.lineage import KEPT_EPOCHS, Verdict, adopted_record, judge, next_record, seed_record, settle
from gateway.store.records import Action, Ancestor, Position, RouteRecord, Unreadable
from tests.store.changes import change, content

NOW = 1_700_000_000.0
EPOCH = 1_700_000_000_000


def written(
    current: RouteRecord | None,
    version: int | None,
    *,
    now: float = NOW,
    server: str = "run-1",
    action: Action = "put",
) -> RouteRecord:
    what = None if version is None else content(version)
    return next_record(current, change(what, current, action=action), now=now, server=server, write_id="w")


def seeded(known: RouteRecord, replaced: RouteRecord | None = None, *, now: float = NOW + 60) -> RouteRecord:
    return seed_record(known, replaced, now=now, server="run-2", write_id="s")


def adopted(known: RouteRecord | None, stored: RouteRecord) -> RouteRecord:
    return adopted_record(known, stored, now=NOW + 90, server="run-2", write_id="a", actor="ops", reason="yes")


FIRST = written(None, 1)
SECOND = written(FIRST, 2)
THIRD = written(SECOND, 3)
FOURTH = written(THIRD, 4)


def test_a_new_route_begins_an_epoch_named_by_the_time() -> None:
    assert (FIRST.epoch, FIRST.revision, FIRST.lineage) == (EPOCH, 1, {})


def test_revisions_of_one_run_share_an_epoch() -> None:
    assert [(record.epoch, record.revision) for record in (SECOND, THIRD)] == [(EPOCH, 2), (EPOCH, 3)]


def test_a_write_into_another_run_of_the_store_opens_a_new_epoch() -> None:
    """It may have lost revisions that were answered: what it writes now must not take their place."""
    after_restart = written(SECOND, 3, server="run-2", now=NOW + 5)
    assert (after_restart.epoch, after_restart.revision) == (EPOCH + 5000, 3)
    assert after_restart.lineage == {EPOCH: Ancestor(2, SECOND.hash)}


def test_epochs_grow_also_when_the_clock_goes_back() -> None:
    assert written(SECOND, 3, server="run-2", now=NOW - 3600).epoch == EPOCH + 1


def test_a_route_made_again_begins_at_revision_1_of_a_new_epoch() -> None:
    gone = written(SECOND, None)
    again = written(gone, 1)
    assert (gone.revision, gone.content, gone.hash) == (3, None, "")
    assert (again.epoch, again.revision) == (EPOCH + 1, 1)
    assert again.lineage == {EPOCH: Ancestor(3, "")}


@pytest.mark.parametrize(
    ("known", "stored", "verdict"),
    [
        (None, None, Verdict.SAME),
        (None, FIRST, Verdict.OBEY),
        (SECOND, SECOND, Verdict.SAME),
        (SECOND, THIRD, Verdict.OBEY),
        (FIRST, THIRD, Verdict.OBEY),
        (THIRD, SECOND, Verdict.REGRESSED),
        (SECOND, msgspec.structs.replace(SECOND, content=content(9), hash=content(9).hash), Verdict.REGRESSED),
        (SECOND, Unreadable("no"), Verdict.REGRESSED),
        (None, Unreadable("no"), Verdict.REGRESSED),
        (SECOND, None, Verdict.RESEED),
        # A restart that lost nothing, and one that lost what this replica knows.
        (SECOND, written(SECOND, 3, server="run-2", now=NOW + 5), Verdict.OBEY),
        (FIRST, written(SECOND, 3, server="run-2", now=NOW + 5), Verdict.OBEY),
        (THIRD, written(SECOND, 9, server="run-2", now=NOW + 5), Verdict.REGRESSED),
        (written(SECOND, 3, server="run-2"), SECOND, Verdict.REGRESSED),
        # Deleted, deleted and made again.
        (SECOND, written(SECOND, None), Verdict.OBEY),
        (SECOND, written(written(SECOND, None), 1), Verdict.OBEY),
        (written(SECOND, None), None, Verdict.RESEED),
        (written(SECOND, None), SECOND, Verdict.REGRESSED),
        # The store forgot, and a replica gave back what it knew.
        (THIRD, seeded(THIRD), Verdict.OBEY),
        (SECOND, seeded(THIRD), Verdict.OBEY),
        (FOURTH, seeded(THIRD), Verdict.RESEED),
        (seeded(THIRD), seeded(FOURTH, seeded(THIRD), now=NOW + 61), Verdict.OBEY),
        (FOURTH, seeded(FOURTH, seeded(THIRD)), Verdict.OBEY),
        (FOURTH, written(seeded(THIRD), 5, server="run-2"), Verdict.REGRESSED),
        (written(seeded(THIRD), 5, server="run-2"), seeded(THIRD), Verdict.REGRESSED),
        # The store forgot, and somebody began anew.
        (SECOND, written(None, 1, now=NOW + 60), Verdict.REGRESSED),
        (SECOND, written(None, 1, now=NOW + 60, action="automatic"), Verdict.RESEED),
        (SECOND, written(None, 1, now=NOW + 60, action="configured"), Verdict.RESEED),
        (written(None, 1, action="automatic"), written(None, 1, now=NOW + 60), Verdict.OBEY),
        (written(None, 1, action="automatic"), written(None, 1, now=NOW + 60, action="automatic"), Verdict.OBEY),
        (written(None, 1, now=NOW + 60, action="automatic"), SECOND, Verdict.OBEY),
        # An operator accepted what the store holds.
        (FOURTH, adopted(FOURTH, SECOND), Verdict.OBEY),
        (THIRD, adopted(FOURTH, SECOND), Verdict.OBEY),
        (written(FOURTH, 5), adopted(FOURTH, SECOND), Verdict.OBEY),
        (FOURTH, written(adopted(THIRD, SECOND), 9, server="run-2"), Verdict.OBEY),
        (adopted(FOURTH, SECOND), SECOND, Verdict.REGRESSED),
    ],
)
def test_a_replica_obeys_only_what_takes_into_account_what_it_knows(
    known: RouteRecord | None, stored: RouteRecord | Unreadable | None, verdict: Verdict
) -> None:
    found, reason = judge(known, stored)
    assert found is verdict
    assert (reason != "") == (verdict is Verdict.REGRESSED)


def test_a_seed_keeps_the_revision_and_its_author_under_a_new_epoch() -> None:
    seed = seeded(THIRD)
    assert (seed.revision, seed.content, seed.actor, seed.at) == (3, THIRD.content, THIRD.actor, THIRD.at)
    assert seed.epoch > THIRD.epoch
    assert seed.action == "seed"


def test_a_seed_that_knows_more_takes_the_place_of_one_that_knew_less() -> None:
    """Replicas may remember different revisions; the highest wins, in whatever order they arrive."""
    low, high = seeded(SECOND), seeded(FOURTH)
    assert judge(FOURTH, low)[0] is Verdict.RESEED
    replacing = seeded(FOURTH, low, now=NOW + 61)
    for record in (SECOND, THIRD, FOURTH, low):
        assert judge(record, replacing)[0] is Verdict.OBEY
    assert judge(SECOND, high)[0] is Verdict.OBEY


def test_an_adopted_record_stands_above_both() -> None:
    record = adopted(FOURTH, SECOND)
    assert (record.revision, record.content, record.actor) == (5, SECOND.content, "ops")
    assert record.epoch > FOURTH.epoch
    assert record.lineage[EPOCH] == Ancestor(None, "")
    assert adopted(None, SECOND).revision == 3


def test_no_position_is_used_twice_whatever_the_store_loses() -> None:
    """Every way on from the second revision, as different replicas may take them without knowing of one another."""
    ways = [
        THIRD,
        written(SECOND, 9, server="run-2", now=NOW + 5),
        seeded(SECOND),
        adopted(THIRD, SECOND),
        written(None, 2, now=NOW + 60),
        written(written(SECOND, None), 2),
    ]
    positions = {(record.epoch, record.revision) for record in ways}
    assert len(positions) == len(ways)


def test_lineages_are_bounded() -> None:
    record = FIRST
    for run in range(3 * KEPT_EPOCHS):
        record = written(record, run, server=f"run-{run}", now=NOW + run)
    assert len(record.lineage) == KEPT_EPOCHS
    assert max(record.lineage) < record.epoch
    assert judge(FIRST, record)[0] is Verdict.REGRESSED


@pytest.mark.parametrize(
    ("current", "expected", "is_mismatch"),
    [
        (None, None, False),
        (SECOND, SECOND.position, False),
        (written(SECOND, None), None, False),
        (SECOND, None, True),
        (None, SECOND.position, True),
        (SECOND, FIRST.position, True),
        (SECOND, Position(SECOND.epoch, SECOND.revision, "another"), True),
        (written(SECOND, None), SECOND.position, True),
    ],
)
def test_a_change_is_written_only_where_it_was_expected(
    current: RouteRecord | None, expected: Position | None, *, is_mismatch: bool
) -> None:
    if not is_mismatch:
        assert settle(current, change(content(9), expected)) is None
        return
    with pytest.raises(RevisionMismatch) as caught:
        settle(current, change(content(9), expected))
    assert caught.value.expected == (None if expected is None else expected.etag)
    standing = current if current is not None and not current.is_deleted else None
    assert caught.value.current == (None if standing is None else standing.position.etag)


def test_the_same_content_needs_no_revision() -> None:
    assert settle(SECOND, change(content(2), SECOND, reason="another reason")) is SECOND
    assert settle(SECOND, change(content(2, slots="1*10000"), SECOND)) is None


def test_what_is_not_there_cannot_be_deleted() -> None:
    with pytest.raises(UnknownRoute):
        settle(None, change(None))
    with pytest.raises(UnknownRoute):
        settle(written(SECOND, None), change(None))


def test_a_record_survives_being_stored() -> None:
    for record in (FIRST, seeded(THIRD), adopted(FOURTH, SECOND), written(SECOND, None)):
        assert RouteRecord.decode(record.encode()) == record


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"\xff", FIRST.encode()[:-20], FIRST.encode().replace(b"0*10000", b"0*9999")],
)
def test_a_damaged_record_is_never_taken_for_one(raw: bytes) -> None:
    assert isinstance(RouteRecord.decode(raw), Unreadable)


def test_an_entity_tag_reads_back() -> None:
    assert Position.from_etag(SECOND.position.etag) == SECOND.position
    for text in ("", "-", "1-2", "1-2-", "a-2-ff", "1-b-ff", "1--ff", "²-1-ff"):
        assert Position.from_etag(text) is None
