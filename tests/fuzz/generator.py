"""Owns the mix of a fuzz run: which cases are made, how often, in which order; all of it follows from the seed.

Never sends anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.fuzz import addresses, binary, framing, routes, tensors
from tests.fuzz.cases import Case, ModelUnderTest
from tests.fuzz.draw import Draw

Maker = Callable[[Draw], Case]

MIX: list[tuple[Maker, float]] = [
    (tensors.document, 14),
    (tensors.text, 10),
    (tensors.token, 4),
    (tensors.depth, 2),
    (tensors.data_depth, 1),
    (tensors.no_request, 1),
    (tensors.many, 0.4),
    (tensors.predict, 5),
    (tensors.shape, 6),
    (tensors.datatype, 2),
    (tensors.nesting, 3),
    (tensors.count, 2),
    (tensors.rows, 0.5),
    (tensors.elements, 1),
    (tensors.parameters, 3),
    (tensors.outputs, 3),
    (binary.right, 1),
    (binary.header_length, 2),
    (binary.two_header_lengths, 0.5),
    (binary.size, 2),
    (binary.cut, 1),
    (binary.mixed, 2),
    (binary.document, 3),
    (binary.strings, 2),
    (binary.raw, 1),
    (binary.raw_right, 1),
    (binary.compressed, 1),
    (binary.corrupt, 2),
    (binary.flipped, 1.5),
    (binary.not_compressed, 0.5),
    (binary.unknown_encoding, 1),
    (binary.bomb, 0.4),
    (addresses.header, 3),
    (addresses.path, 5),
    (addresses.method, 2),
    (addresses.target, 3),
    (addresses.repository, 1),
    (addresses.admin, 3),
    (routes.document, 3),
    (routes.change, 3),
    (routes.listing, 0.5),
    (addresses.large_body, 0.1),
    (addresses.pipelined, 2),
    (addresses.pipelined_garbage, 1),
    (framing.bad_length, 0.8),
    (framing.borderline_length, 0.5),
    (framing.two_lengths, 0.5),
    (framing.huge_length, 0.5),
    (framing.length_and_chunks, 0.8),
    (framing.good_chunks, 0.8),
    (framing.bad_chunks, 0.6),
    (framing.bad_coding, 0.3),
    (framing.no_host, 0.5),
    (framing.bad_header, 1),
    (framing.odd_header, 0.8),
    (framing.huge_head, 0.3),
    (framing.large_head, 0.3),
    (framing.bad_request_line, 1),
    (framing.bare_line_ends, 0.3),
    (framing.old_version, 0.5),
    (framing.connection_header, 1.5),
    (framing.in_pieces, 0.8),
    (framing.blank_lines_first, 0.3),
    (framing.cut_off, 1.5),
    (framing.garbage, 0.5),
    (framing.changed_bytes, 1.5),
]
"""Every maker, and how often it is asked beside the others; `framing.unfinished` takes seconds and stands apart."""


class Generator:
    """A stream of cases."""

    def __init__(self, seed: int, models: tuple[ModelUnderTest, ...]) -> None:
        self._draw = Draw(seed, models)

    def cases(self, count: int) -> Iterator[Case]:
        """Yield this many cases."""
        makers = [maker for maker, _ in MIX]
        weights = [weight for _, weight in MIX]
        for maker in self._draw.random.choices(makers, weights, k=count):
            yield self._make(maker)

    def unfinished(self, count: int) -> Iterator[Case]:
        """Yield requests that stop in the middle and wait; each takes seconds."""
        for _ in range(count):
            yield self._make(framing.unfinished)

    def _make(self, maker: Maker) -> Case:
        case = maker(self._draw)
        return replace(case, name=f"{maker.__module__.rsplit('.', 1)[-1]}.{maker.__name__}: {case.name}")
