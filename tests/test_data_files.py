"""Rows of every kind of data file become the same inputs, block by block."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from gateway.data_files import DataFile
from gateway.errors import InvalidData, WrongUsage
from gateway.inference.signature import Signature
from gateway.messages import Array, TensorSpec

Columns = Mapping[str, Sequence[object]]


def spec(name: str, datatype: str = "FP32", shape: tuple[int, ...] = (-1, 1)) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape, axes=("",) * len(shape))


def signature(*inputs: TensorSpec) -> Signature:
    return Signature.of(inputs, [spec("y")])


def write_csv(path: Path, columns: Columns) -> Path:
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join("" if cell is None else str(cell) for cell in row) for row in rows)]
    path = path.with_suffix(".csv")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_parquet(path: Path, columns: Columns) -> Path:
    path = path.with_suffix(".parquet")
    parquet.write_table(pa.table({name: list(values) for name, values in columns.items()}), path, row_group_size=4)
    return path


def write_npz(path: Path, columns: Columns) -> Path:
    path = path.with_suffix(".npz")
    arrays: dict[str, Array] = {
        name: np.array([np.nan if value is None else value for value in values]) for name, values in columns.items()
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]  # its stub takes a flag among the arrays' names
    return path


def write_jsonl(path: Path, columns: Columns) -> Path:
    path = path.with_suffix(".jsonl")
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


Write = Callable[[Path, Columns], Path]
WRITERS: list[Write] = [write_csv, write_parquet, write_npz, write_jsonl]


def read(data: DataFile, rows: int) -> dict[str, Array]:
    blocks = list(data.blocks(rows))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


# --- the same rows in every form -----------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_the_same_rows_come_from_every_kind_of_file(tmp_path: Path, write: Write, rows: int) -> None:
    columns: Columns = {
        "age": [40.5, None, 31, 22, 55, 60, 17, 1, 2, 3],
        "visits": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        "island": ["Dream", "Biscoe", "Dream", "a", "b", "c", "d", "e", "f", "g"],
        "member": [True, False, True, True, True, False, False, False, False, False],
    }
    model = signature(
        spec("island", "BYTES"), spec("age"), spec("visits", "INT64", (-1,)), spec("member", "BOOL", (-1,))
    )
    data = DataFile(write(tmp_path / "rows", columns), model)
    inputs = read(data, rows)
    assert list(inputs) == ["island", "age", "visits", "member"]
    assert inputs["island"].ravel().tolist() == columns["island"]
    assert inputs["visits"].dtype == np.int64
    assert inputs["visits"].tolist() == columns["visits"]
    assert inputs["member"].tolist() == columns["member"]
    assert inputs["age"].dtype == np.float32
    assert np.isnan(inputs["age"][1, 0])
    assert inputs["age"][2:, 0].tolist() == columns["age"][2:]
    assert data.features == {name: [name] for name in ("island", "age", "visits", "member")}


@pytest.mark.parametrize("write", [write_csv, write_parquet, write_jsonl])
def test_the_header_names_the_columns_of_one_wide_input(tmp_path: Path, write: Write) -> None:
    columns: Columns = {"b": [1.0, 2.0], "target": [0, 1], "a": [3.0, 4.0]}
    data = DataFile(write(tmp_path / "rows", columns), signature(spec("x", shape=(-1, 2))), drop=["target"])
    assert data.features == {"x": ["b", "a"]}
    assert read(data, 10)["x"].tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize("write", [write_parquet, write_npz, write_jsonl])
def test_whole_tensors_are_read_by_the_inputs_name(tmp_path: Path, write: Write) -> None:
    images = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]], [[0.0, 0.0], [0.0, 1.0]]]
    data = DataFile(write(tmp_path / "rows", {"image": images}), signature(spec("image", shape=(-1, 2, 2))))
    assert read(data, 2)["image"].tolist() == images
    assert data.features == {}


def test_blocks_can_be_read_again_and_are_no_larger_than_asked(tmp_path: Path) -> None:
    data = DataFile(write_csv(tmp_path / "rows", {"x": list(range(10))}), signature(spec("x")))
    for _ in range(2):
        assert [len(block["x"]) for block in data.blocks(4)] == [4, 4, 2]


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows", {"x": [1, 2]})
    assert DataFile(path, signature(spec("x"))).sha256() == hashlib.sha256(path.read_bytes()).hexdigest()


# --- what spreadsheets and libraries do to files -----------------------------------------------------------


def test_csv_takes_quotes_a_byte_order_mark_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes('\ufeffname,x\r\n"a, ""b""\nc",1\r\n\r\nd,2\r\n'.encode())
    inputs = read(DataFile(path, signature(spec("name", "BYTES"), spec("x"))), 10)
    assert inputs["name"].ravel().tolist() == ['a, "b"\nc', "d"]
    assert inputs["x"].ravel().tolist() == [1, 2]


def test_parquet_reads_categories_decimals_and_integers_with_holes(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table(
        {
            "island": pa.array(["a", "b", "a"]).dictionary_encode(),
            "price": pa.array([1, 2, None], pa.decimal128(9, 2)),
            "count": pa.array([1, None, 3], pa.int32()),
        }
    )
    parquet.write_table(table, path)
    inputs = read(DataFile(path, signature(spec("island", "BYTES"), spec("price"), spec("count"))), 2)
    assert inputs["island"].ravel().tolist() == ["a", "b", "a"]
    assert inputs["price"][:2, 0].tolist() == [1, 2]
    assert np.isnan(inputs["price"][2, 0])
    assert np.isnan(inputs["count"][1, 0])


def test_what_a_later_object_lacks_is_null(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1, "b": 2}\n\n{"b": 3}\n')
    inputs = read(DataFile(path, signature(spec("a"), spec("b"))), 10)
    assert np.isnan(inputs["a"][1, 0])
    assert inputs["b"].ravel().tolist() == [2, 3]


# --- faults -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "a.csv: has no rows"),
        ("a.csv", "a,b,c\n", "a.csv: has no rows"),
        ("a.csv", "a,b,a\n1,2,3\n", "two columns are named 'a'"),
        ("a.csv", "a,b,c\n1,2,3\n1,2\n", "row 2 has 2 fields, the header names 3"),
        ("a.csv", "a,b,c\n1,2,3\n1,x,3\n", "a.csv: column 'b', row 2: 'x' is not a number"),
        ("a.csv", 'a,b,c\n1,"2,3\n', "not CSV: unexpected end of data"),
        ("a.csv", b"a,b,c\n\xff,1,2\n", "not CSV: 'utf-8' codec"),
        ("a.jsonl", "", "a.jsonl: has no rows"),
        ("a.jsonl", "{}\n", "a.jsonl: has no columns"),
        ("a.jsonl", '{"a": 1, "b": 2, "c": 3}\n[1]\n', "row 2: expected an object"),
        ("a.jsonl", '{"a": 1, "b": 2, "c": 3}\n{"a"\n', "row 2: not JSON"),
        ("a.jsonl", '{"a": 1, "b": 2, "c": 3}\n{"d": 1}\n', "row 2: column 'd' is not in the first row"),
        ("a.jsonl", '{"a": 1, "b": 2, "c": 3}\n{"a": 1, "b": "x", "c": 1}\n', "column 'b', row 2: 'x' is not a number"),
        ("a.npz", b"no archive", "a.npz: cannot be read"),
        ("a.parquet", b"no parquet", "a.parquet: cannot be read"),
    ],
)
def test_a_faulty_file_is_named_with_what_is_wrong(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InvalidData) as raised:
        read(DataFile(path, signature(spec("x", shape=(-1, 3)))), 10)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_arrays_of_different_rows_are_no_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, a=np.zeros(2), b=np.zeros(3))
    with pytest.raises(InvalidData, match="expected arrays of the same rows: 'a' has shape"):
        DataFile(path, signature(spec("a"), spec("b")))


def test_python_objects_in_an_archive_are_not_loaded(tmp_path: Path) -> None:
    """They are pickles, which run code."""
    path = tmp_path / "rows.npz"
    np.savez(path, x=np.array(["a", None], object))
    with pytest.raises(InvalidData, match="save text as numpy strings"):
        DataFile(path, signature(spec("x", "BYTES")))


def test_a_dropped_column_must_exist(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows", {"x": [1], "target": [0]})
    with pytest.raises(InvalidData, match="--drop: unknown 'taget', did you mean 'target'"):
        DataFile(path, signature(spec("x")), drop=["taget"])


@pytest.mark.parametrize(
    ("name", "said"), [("rows.xlsx", "expected a file that ends in .csv, .jsonl"), ("no.csv", "no such file")]
)
def test_a_file_that_cannot_be_data_is_wrong_usage(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "rows.xlsx").touch()
    with pytest.raises(WrongUsage, match=said):
        DataFile(tmp_path / name, signature(spec("x")))
