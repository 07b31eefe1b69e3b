"""Holds the reader of ONNX files to its promise: every reference to another file is found, wherever it hides."""

from __future__ import annotations

import pytest

from gateway.errors import InvalidModel
from gateway.inference.graph import external_files
from tests.support import onnx_models


def test_a_model_whose_tensors_are_all_inside_refers_to_nothing() -> None:
    assert external_files(onnx_models.affine()) == set()


@pytest.mark.parametrize("location", ["weights.bin", "parts/weights.bin", "../elsewhere.bin", "/etc/passwd", ""])
def test_a_reference_is_returned_as_it_is_written(location: str) -> None:
    assert external_files(onnx_models.external_data(location)) == {location}


def test_references_in_attributes_subgraphs_and_functions_are_found() -> None:
    model = onnx_models.external_data_inside(attribute="a.bin", subgraph="b.bin", function="c.bin")
    assert external_files(model) == {"a.bin", "b.bin", "c.bin"}


def test_a_name_that_reads_location_is_no_reference() -> None:
    assert external_files(onnx_models.identity(shape=("location", 3))) == set()


def test_bytes_that_are_no_onnx_file_are_refused() -> None:
    with pytest.raises(InvalidModel, match=r"^model.onnx is not an ONNX file: "):
        external_files(b"\xff\xff location \xff")
