"""Owns what is measured: the bodies, and the cells (body, encoding, connections) of the benchmark's table.

Never builds a request or opens a socket.
"""

from dataclasses import dataclass

ENCODINGS = ("json", "binary")
CONNECTIONS = (1, 8, 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """One kind of request: which model it asks, and how many rows it carries."""

    name: str
    model: str
    input_name: str
    row_shape: tuple[int, ...]
    rows: int
    distinct: int
    """How many different requests a client cycles through, so that nothing can answer from a cache."""
    with_ceiling: bool = False
    """Whether onnxruntime alone is measured beside the servers, in rows per second."""


BODIES = {
    body.name: body
    for body in (
        Body(name="tabular", model="tabular", input_name="features", row_shape=(30,), rows=1, distinct=64),
        Body(name="mlp", model="mlp", input_name="features", row_shape=(512,), rows=1, distinct=32),
        Body(
            name="image", model="cnn", input_name="image", row_shape=(3, 64, 64), rows=1, distinct=16, with_ceiling=True
        ),
        Body(
            name="images", model="cnn", input_name="image", row_shape=(3, 64, 64), rows=8, distinct=4, with_ceiling=True
        ),
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One line of the table: a body in one encoding from a number of closed-loop connections."""

    body: Body
    encoding: str
    connections: int

    @property
    def name(self) -> str:
        """The cell's name on the command line, `tabular-json-64`."""
        return f"{self.body.name}-{self.encoding}-{self.connections}"


def parse_cell(name: str) -> Cell:
    """Read a cell from its name.

    Raises: ValueError: the name is not `<body>-<encoding>-<connections>` with a known body and encoding.
    """
    body_name, _, rest = name.partition("-")
    encoding, _, connections = rest.partition("-")
    if body_name not in BODIES or encoding not in ENCODINGS or not connections.isascii() or not connections.isdigit():
        raise ValueError(
            f"no cell {name!r}: expected <body>-<encoding>-<connections>, for example tabular-json-64; "
            f"bodies: {', '.join(BODIES)}; encodings: {', '.join(ENCODINGS)}"
        )
    if not 1 <= int(connections) <= 1024:
        raise ValueError(f"cell {name!r}: expected 1 to 1024 connections, got {connections}")
    return Cell(body=BODIES[body_name], encoding=encoding, connections=int(connections))


def all_cells() -> list[Cell]:
    """Return the whole table; eight images a request in binary only, since their JSON is a megabyte of digits."""
    return [
        Cell(body=body, encoding=encoding, connections=connections)
        for body in BODIES.values()
        for encoding in ENCODINGS
        if not (body.name == "images" and encoding == "json")
        for connections in CONNECTIONS
    ]


def quick_cells() -> list[Cell]:
    """Return the three cells of the quick mode."""
    return [parse_cell(name) for name in ("tabular-json-1", "tabular-json-64", "image-binary-8")]


def peer_cells() -> list[Cell]:
    """Return the cells of the comparison with peers; few, since every server is in each of them."""
    return [parse_cell(name) for name in ("tabular-json-64", "tabular-json-1", "mlp-json-64", "image-binary-8")]
