import json

import numpy as np
import pytest

from loadtests.datasets import load_dataset, models
from loadtests.injection import read_injection
from loadtests.payloads import Drawer, Tensors, answered_rows, v1, v2_binary, v2_json


def drawer(model: str, *, seed: int = 3, max_rows: int = 4, drift: tuple[str, ...] = ()) -> Drawer:
    return Drawer(load_dataset(model), [read_injection(text) for text in drift], max_rows=max_rows, seed=seed)


def as_lists(tensors: Tensors) -> dict[str, list[object]]:
    return {name: tensor.tolist() for name, tensor in tensors.items()}


@pytest.mark.parametrize("model", models())
def test_one_seed_draws_the_same_requests(model: str) -> None:
    first, again, other = drawer(model), drawer(model), drawer(model, seed=4)
    drawn = [str(as_lists(first.draw(0))) for _ in range(20)]
    assert drawn == [str(as_lists(again.draw(0))) for _ in range(20)]
    assert drawn != [str(as_lists(other.draw(0))) for _ in range(20)]


def test_a_request_has_one_to_max_rows_rows_in_every_tensor() -> None:
    penguins = drawer("penguins", max_rows=3)
    sizes = [{len(tensor) for tensor in penguins.draw(0).values()} for _ in range(100)]
    assert {size for found in sizes for size in found} == {1, 2, 3}
    assert all(len(found) == 1 for found in sizes)


def test_a_sequence_has_one_step_to_all_of_them() -> None:
    sequences = drawer("digits_sequence")
    assert {sequences.draw(0)["steps"].shape[1] for _ in range(200)} == set(range(1, 9))


def test_faults_begin_on_their_schedule() -> None:
    cancer = drawer("breast_cancer", drift=("unit:breast_cancer/mean_radius:1000@60",))
    assert cancer.draw(59)["features"][:, 0].max() < 100
    assert cancer.draw(60)["features"][:, 0].min() > 1000


TEXTS = np.array([["Dream"], ["Île"]], object)
FLOATS = np.array([[1.5, np.nan], [2.0, 3.0]], np.float32)


def test_json_writes_a_missing_number_as_null() -> None:
    request = v2_json("m", {"place": TEXTS, "size": FLOATS})
    assert request.path == "/v2/models/m/infer"
    assert json.loads(request.content) == {
        "inputs": [
            {"name": "place", "shape": [2, 1], "datatype": "BYTES", "data": ["Dream", "Île"]},
            {"name": "size", "shape": [2, 2], "datatype": "FP32", "data": [1.5, None, 2.0, 3.0]},
        ]
    }


def test_binary_tensors_follow_the_json_in_order() -> None:
    request = v2_binary("m", {"place": TEXTS, "size": FLOATS})
    split = int(request.headers["inference-header-content-length"])
    described = json.loads(request.content[:split])["inputs"]
    assert [one["parameters"]["binary_data_size"] for one in described] == [4 + 5 + 4 + 4, 16]
    raw = request.content[split:]
    assert raw[:17] == b"\x05\0\0\0Dream\x04\0\0\0" + "Île".encode()
    assert np.array_equal(np.frombuffer(raw[17:], "<f4").reshape(2, 2), FLOATS, equal_nan=True)


def test_rest_v1_lists_rows_bare_of_one_input_and_named_of_several() -> None:
    assert v1("m", {"size": FLOATS}).path == "/v1/models/m:predict"
    assert json.loads(v1("m", {"size": FLOATS}).content) == {"instances": [[1.5, None], [2.0, 3.0]]}
    assert json.loads(v1("m", {"place": TEXTS, "size": FLOATS}).content) == {
        "instances": [{"place": ["Dream"], "size": [1.5, None]}, {"place": ["Île"], "size": [2.0, 3.0]}]
    }


def test_rows_of_an_answer_are_counted_in_every_dialect() -> None:
    assert answered_rows(b'{"predictions": [[1], [2], [3]]}', None) == 3
    head = b'{"outputs": [{"name": "y", "shape": [2, 5]}]}'
    assert answered_rows(head, None) == 2
    assert answered_rows(head + b"\0" * 40, len(head)) == 2


@pytest.mark.parametrize("content", [b"", b"[]", b'{"error": "no"}', b'{"outputs": []}'])
def test_what_is_no_answer_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(ValueError, match="not an inference answer"):
        answered_rows(content, None)
