import json
import math

import numpy as np
import pytest

from loadtests.datasets import load_dataset, models
from tests.support.server import EXAMPLE_MODELS


def test_every_example_model_has_a_data_set() -> None:
    assert set(models()) == {path.parent.parent.name for path in EXAMPLE_MODELS.glob("*/1/model.onnx")}


@pytest.mark.parametrize("model", models())
def test_every_column_has_a_value_for_every_row(model: str) -> None:
    dataset = load_dataset(model)
    assert dataset.rows > 100
    assert {len(column) for column in dataset.columns.values()} == {dataset.rows}
    assert [name for one in dataset.inputs for name in one.features] == list(dataset.columns)
    for one in dataset.inputs:
        assert math.prod(one.row_shape) == len(one.features)


@pytest.mark.parametrize("model", models())
def test_the_rows_of_the_golden_requests_are_among_them(model: str) -> None:
    """The models were trained on these very rows, so what a load test sends is what the model knows."""
    dataset = load_dataset(model)
    known = {str(row) for row in zip(*(column.tolist() for column in dataset.columns.values()), strict=True)}
    case = json.loads((EXAMPLE_MODELS / model / "1" / "golden.json").read_text())["cases"][0]["inputs"]
    golden = [
        np.array(case[one.name], dataset.columns[one.features[0]].dtype).reshape(-1, len(one.features)).tolist()
        for one in dataset.inputs
    ]
    for parts in zip(*golden, strict=True):
        assert str(tuple(value for part in parts for value in part)) in known


def test_a_model_without_a_data_set_is_an_error_that_names_those_that_have_one() -> None:
    with pytest.raises(ValueError, match=r"no data set for model 'fraud'.*penguins"):
        load_dataset("fraud")
