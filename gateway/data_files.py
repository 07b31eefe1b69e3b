"""Rows of a data file as a model's inputs: .csv, .parquet, .npz and .jsonl, read block by block.

Never runs the model and never holds more than one block of a file that can be read in pieces.
"""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

from gateway.errors import CannotStart, InvalidData, WrongUsage, unknown_name
from gateway.inference.columns import ColumnPlan, fill_input, plan_columns
from gateway.inference.samples import Inputs
from gateway.inference.signature import Signature
from gateway.messages import Array

if TYPE_CHECKING:
    from pyarrow import ChunkedArray, Table

BLOCK_ROWS = 4096

Block = dict[str, Array]
"""Column → values, rows first; columns in the file's order."""


class DataFile:
    """A data file whose columns have found their places in a model's inputs."""

    def __init__(self, path: Path, signature: Signature, *, drop: Sequence[str] = ()) -> None:
        """Read the first block and decide which column goes where.

        Args:
            drop: Columns that are no features.
        Raises:
            WrongUsage: no file, or of no known kind.
            InvalidData: it cannot be read, or its columns do not fit.
            CannotStart: Parquet, and pyarrow is not installed.
        """
        self.path = path
        self._signature = signature
        self._drop = frozenset(drop)
        read = _READERS.get(path.suffix.lower())
        if read is None:
            raise WrongUsage(f"{path}: expected a file that ends in {', '.join(_READERS)}")
        self._read = read
        if not path.is_file():
            raise WrongUsage(f"{path}: no such file")
        self._plan = self._plan_columns()

    @property
    def features(self) -> dict[str, list[str]]:
        """Names of the columns of each input, where the file names them."""
        return self._plan.features

    def sha256(self) -> str:
        """Hash the file's bytes; hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[Inputs]:
        """Yield the rows as the model's inputs, at most so many at a time.

        Raises: InvalidData: a value does not fit, naming column and row.
        """
        seen = 0
        for block in self._raw_blocks(rows):
            try:
                inputs = {
                    spec.name: fill_input(
                        spec, [(name, block[name]) for name in self._plan.sources[spec.name]], first_row=seen + 1
                    )
                    for spec in self._signature.inputs
                }
            except InvalidData as exc:
                raise InvalidData(f"{self.path}: {exc}") from exc
            seen += len(next(iter(block.values())))
            yield inputs

    def _plan_columns(self) -> ColumnPlan:
        first = next(self._raw_blocks(1), None)
        if first is None or not first:
            raise InvalidData(f"{self.path}: has no {'rows' if first is None else 'columns'}")
        scalars = {name: values.ndim == 1 and not _holds_lists(values) for name, values in first.items()}
        try:
            return plan_columns(self._signature, scalars, in_order=self.path.suffix.lower() != ".npz")
        except InvalidData as exc:
            raise InvalidData(f"{self.path}: {exc}") from exc

    def _raw_blocks(self, rows: int) -> Iterator[Block]:
        """Read blocks, less the dropped columns."""
        dropped = False
        for block in self._read(self.path, rows):
            for name in () if dropped else sorted(self._drop - block.keys()):
                raise InvalidData(unknown_name(f"{self.path}: --drop", name, block))
            dropped = True
            yield {name: values for name, values in block.items() if name not in self._drop}


def _holds_lists(values: Array) -> bool:
    return values.dtype.kind == "O" and any(isinstance(value, list) for value in values)


# --- one reader a kind of file ------------------------------------------------------------------------


def _csv_blocks(path: Path, rows: int) -> Iterator[Block]:
    """Read text columns; the first line names them."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            _check_header(path, header)
            taken: list[list[str]] = []
            number = 0
            for number, fields in enumerate((fields for fields in reader if fields), start=1):
                if len(fields) != len(header):
                    raise InvalidData(f"{path}: row {number} has {len(fields)} fields, the header names {len(header)}")
                taken.append(fields)
                if len(taken) == rows:
                    yield _text_block(header, taken)
                    taken = []
            if taken:
                yield _text_block(header, taken)
    except (csv.Error, UnicodeDecodeError) as exc:
        raise InvalidData(f"{path}: not CSV: {exc}") from exc
    except OSError as exc:
        raise InvalidData(f"{path}: cannot be read: {exc.strerror}") from exc


def _text_block(header: list[str], rows: list[list[str]]) -> Block:
    return {name: np.array(column, object) for name, column in zip(header, zip(*rows, strict=True), strict=True)}


def _check_header(path: Path, header: Sequence[str]) -> None:
    for position, name in enumerate(header):
        if name in header[:position]:
            raise InvalidData(f"{path}: two columns are named '{name}'")


def _jsonl_blocks(path: Path, rows: int) -> Iterator[Block]:
    """Read an object a line; the first names the columns, and what a later one lacks is null."""
    columns: list[str] = []
    taken: list[dict[str, object]] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate((line for line in file if line.strip()), start=1):
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError as exc:
                    raise InvalidData(f"{path}: row {number}: not JSON: {exc}") from exc
                if not isinstance(row, dict):
                    raise InvalidData(f"{path}: row {number}: expected an object")
                columns = columns or list(row)
                if row.keys() - set(columns):
                    name = min(row.keys() - set(columns))
                    raise InvalidData(f"{path}: row {number}: column '{name}' is not in the first row")
                taken.append(row)
                if len(taken) == rows:
                    yield _object_block(columns, taken)
                    taken = []
            if taken:
                yield _object_block(columns, taken)
    except OSError as exc:
        raise InvalidData(f"{path}: cannot be read: {exc.strerror}") from exc


def _object_block(columns: list[str], rows: list[dict[str, object]]) -> Block:
    block = {}
    for name in columns:
        values = np.empty(len(rows), object)
        for index, row in enumerate(rows):
            values[index] = row.get(name)
        block[name] = values
    return block


def _npz_blocks(path: Path, rows: int) -> Iterator[Block]:
    """Read an array a column, all of the same rows."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: Block = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as exc:
        hint = "; save text as numpy strings, not as objects" if "pickle" in str(exc) else ""
        raise InvalidData(f"{path}: cannot be read: {exc}{hint}") from exc
    lengths = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(lengths) != 1:
        sizes = ", ".join(f"'{name}' has shape {list(array.shape)}" for name, array in arrays.items())
        raise InvalidData(f"{path}: expected arrays of the same rows: {sizes or 'there is none'}")
    for start in range(0, lengths.pop(), rows):
        yield {name: array[start : start + rows] for name, array in arrays.items()}


def _parquet_blocks(path: Path, rows: int) -> Iterator[Block]:
    """Read the columns of a Parquet file, row group by row group."""
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError as exc:
        raise CannotStart(
            f"{path}: Parquet needs pyarrow, which is not installed: pip install 'onnx-gateway[parquet]'"
        ) from exc
    try:
        with ParquetFile(path) as file:
            _check_header(path, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=rows):
                yield _arrow_block(pa.Table.from_batches([batch]))
    except (pa.ArrowException, OSError) as exc:
        raise InvalidData(f"{path}: cannot be read: {exc}") from exc


def _arrow_block(table: Table) -> Block:
    return {name: _arrow_column(table.column(name)) for name in table.column_names}


def _arrow_column(column: ChunkedArray) -> Array:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    if pa.types.is_nested(kind):
        values = np.empty(len(column), object)
        for index, value in enumerate(column.to_pylist()):
            values[index] = value
        return values
    array: Array = column.to_numpy()
    return array


_READERS: dict[str, Callable[[Path, int], Iterator[Block]]] = {
    ".csv": _csv_blocks,
    ".jsonl": _jsonl_blocks,
    ".npz": _npz_blocks,
    ".parquet": _parquet_blocks,
}
