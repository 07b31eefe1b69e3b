"""Owns what a run leaves behind: the structure of latest.json.

Never measures or prints.
"""

import msgspec

from loadtests.bench.client import Measurement
from loadtests.bench.machine import Machine

AGAIN = ":again"
"""Ends the key under which the second measurement of the first server is kept."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How long a run measures, and where."""

    rounds: int
    warmup_s: float
    measure_s: float
    ceiling_s: float
    """Seconds of onnxruntime alone for each batch size, once a round."""
    server_cores: list[int]
    client_cores: list[int]


class CellResult(msgspec.Struct, frozen=True, kw_only=True):
    """One cell: a list of measurements, one a round, for each server."""

    cell: str
    body: str
    encoding: str
    connections: int
    rows: int
    request_bytes: int
    answer_bytes: int
    measurements: dict[str, list[Measurement]]
    ceiling_rows_per_s: dict[int, list[float]]
    """Rows a second of onnxruntime alone, by batch size; empty when it was not measured."""
    failures: dict[str, str] = {}
    """Why a peer has no measurements in this cell, in one line."""


class StartResult(msgspec.Struct, frozen=True, kw_only=True):
    """How fast one server started, each time, and what it held when it was ready."""

    server: str
    repository: str
    ready_s: list[float]
    resident_bytes: list[int]


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader must know of somebody else's server."""

    name: str
    """What its configurations have in common, `MLServer`."""
    dialect: str
    versions: dict[str, str]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. A server that does not speak a cell's encoding has no measurements in it."""

    machine: Machine
    plan: Plan
    titles: dict[str, str]
    cells: list[CellResult]
    starts: list[StartResult]
    peers: dict[str, Peer] = {}
    """Whose server the keys of peers name."""
    left_out: dict[str, str] = {}
    """Peers whose environment could not be made, and why, in one line."""
