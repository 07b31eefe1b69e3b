import struct
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from loadtests.bench import payloads, procfs
from loadtests.bench.cells import BODIES, Body, all_cells, parse_cell, quick_cells
from loadtests.bench.responses import read_framing
from loadtests.bench.results import AGAIN
from loadtests.bench.rounds import order


@pytest.mark.parametrize("count", range(1, 8))
def test_in_a_round_every_server_is_measured_once_and_the_first_twice(count: int) -> None:
    keys = [f"server-{index}" for index in range(count)]
    for round_index in range(10):
        assert sorted(order(keys, round_index)) == sorted([*keys, keys[0] + AGAIN])


def test_the_two_measurements_of_one_server_are_apart_and_each_position_is_everybodys_turn() -> None:
    """Neighbours in time look alike: identical runs must be as far apart as the runs they judge."""
    keys = ["gateway", "bare", "naive"]
    rounds = [order(keys, index) for index in range(4)]
    assert rounds[0] == ["gateway", "bare", "gateway:again", "naive"]
    for turns in rounds:
        assert not any({before, after} == {"gateway", "gateway:again"} for before, after in pairwise(turns))
    for position in range(4):
        assert len({turns[position] for turns in rounds}) == 4


def test_every_cell_is_found_again_by_its_name() -> None:
    cells = all_cells()
    assert len({cell.name for cell in cells}) == len(cells) == 21
    assert [parse_cell(cell.name) for cell in cells] == cells
    assert set(quick_cells()) <= set(cells)


@pytest.mark.parametrize(
    "name",
    ["", "tabular", "tabular-json", "tabular-xml-8", "trees-json-8", "mlp-json-0", "mlp-json--1", "mlp-json-2000"],
)
def test_a_cell_that_does_not_exist_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"cell '{name}'"):
        parse_cell(name)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_carries_the_same_tensor_in_both_encodings(body: Body) -> None:
    tensors = payloads.inputs(body)
    assert len(tensors) == body.distinct
    assert len({tensor.tobytes() for tensor in tensors}) == body.distinct
    assert tensors[0].shape == (body.rows, *body.row_shape)
    text, no_head = payloads.infer_body(body, tensors[0], "json")
    raw, json_bytes = payloads.infer_body(body, tensors[0], "binary")
    assert no_head is None
    described = msgspec.json.decode(text)["inputs"][0]
    assert np.array_equal(np.array(described["data"], dtype=np.float32), tensors[0].ravel())
    head = msgspec.json.decode(raw[:json_bytes])["inputs"][0]
    assert head["parameters"]["binary_data_size"] == tensors[0].nbytes
    assert raw[json_bytes:] == tensors[0].tobytes()
    assert described["shape"] == head["shape"] == [body.rows, *body.row_shape]


def test_a_request_states_its_path_its_length_and_where_its_json_ends() -> None:
    request = payloads.http_request("/v2/models/mlp/infer", b"{}rest", 2)
    head, _, content = request.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /v2/models/mlp/infer HTTP/1.1"
    assert b"inference-header-content-length: 2" in head
    assert b"content-length: 6" in head.split(b"\r\n")
    assert content == b"{}rest"
    # Read as an answer would be: the length is the body's, not that of its JSON part.
    framing = read_framing(b"HTTP/1.1 200 OK" + request[request.index(b"\r\n") :], len(request))
    assert framing is not None
    assert framing.total_bytes - framing.head_bytes == 6


def test_probabilities_are_read_from_json_and_from_behind_other_outputs_in_binary() -> None:
    text = b'{"outputs":[{"name":"probabilities","shape":[1,2],"datatype":"FP32","data":[0.25,0.75]}]}'
    assert payloads.probabilities(200, text, None).tolist() == [[0.25, 0.75]]
    head = (
        b'{"outputs":[{"name":"label","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8}},'
        b'{"name":"probabilities","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}'
    )
    raw = head + struct.pack("<qff", 1, 0.25, 0.75)
    assert payloads.probabilities(200, raw, len(head)).tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize(
    ("status", "content"), [(503, b'{"error":"busy"}'), (200, b"<html>"), (200, b'{"outputs":[]}'), (200, b"{}")]
)
def test_an_answer_without_probabilities_is_no_answer(status: int, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"answer"):
        payloads.probabilities(status, content, None)


def test_cpu_and_parent_are_read_past_a_process_name_with_spaces_and_brackets() -> None:
    fields = ["S", "41", *["0"] * 9, "700", "300", "9", "9"]
    stat = f"42 (a) b (c) {' '.join(fields)}"
    assert procfs.parent_pid(stat) == 41
    assert procfs.cpu_ticks(stat) == 1000


def test_memory_is_told_in_bytes_and_zero_for_a_process_that_is_gone() -> None:
    assert procfs.memory_bytes("Name:\tx\nVmHWM:\t    200 kB\nVmRSS:\t    100 kB\n") == (102_400, 204_800)
    assert procfs.memory_bytes("Name:\tzombie\n") == (0, 0)


def test_stolen_time_counts_as_busy_and_waiting_does_not() -> None:
    assert procfs.busy_ticks("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 9 9 9 9 9 9 9 9 9 9\n") == 63
