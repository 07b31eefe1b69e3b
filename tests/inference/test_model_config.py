"""Holds model.toml to its promises: which versions load, how they run, and every fault named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidSetting
from gateway.inference.model_config import (
    Batching,
    Execution,
    Latest,
    ModelConfig,
    Outputs,
    Provider,
    parse_model_config,
)


def read(text: str) -> ModelConfig:
    return parse_model_config(text.encode(), where="fraud/model.toml")


def test_an_empty_file_means_the_defaults() -> None:
    assert read("") == ModelConfig()
    assert ModelConfig().versions == "all"
    assert Batching() == Batching(max_rows=64, max_queue_delay_ms=0, max_queue_rows=1024, enabled=None)
    assert Execution() == Execution(providers=("cpu",), instances=1, intra_op_threads=1, session_options={})


def test_every_key_is_read() -> None:
    assert read(
        """
        versions = [1, 3]
        [batching]
        max_rows = 8
        max_queue_delay_ms = 2.5
        max_queue_rows = 16
        enabled = false
        [execution]
        providers = ["cuda", {name = "cpu", options = {arena_extend_strategy = "kSameAsRequested"}}]
        instances = 2
        intra_op_threads = 0
        [execution.session_options]
        graph_optimization_level = "ORT_ENABLE_BASIC"
        "session.intra_op.allow_spinning" = 1
        [outputs]
        score = "probabilities"
        label = "label"
        """
    ) == ModelConfig(
        versions=(1, 3),
        batching=Batching(max_rows=8, max_queue_delay_ms=2.5, max_queue_rows=16, enabled=False),
        execution=Execution(
            providers=("cuda", Provider(name="cpu", options={"arena_extend_strategy": "kSameAsRequested"})),
            instances=2,
            intra_op_threads=0,
            session_options={
                "graph_optimization_level": "ORT_ENABLE_BASIC",
                "session.intra_op.allow_spinning": 1,
            },
        ),
        outputs=Outputs(score="probabilities", label="label"),
    )


@pytest.mark.parametrize(
    ("versions", "available", "selected"),
    [
        ('"all"', {1, 2, 10}, {1, 2, 10}),
        ("{latest = 1}", {1, 2, 10}, {10}),
        ("{latest = 2}", {1, 2, 10}, {2, 10}),
        ("{latest = 9}", {1, 2, 10}, {1, 2, 10}),
        ("[1, 3]", {1, 2, 10}, {1}),
        ("[]", {1, 2, 10}, set()),
        ("{latest = 1}", set(), set()),
    ],
)
def test_versions_are_selected_from_those_that_are_there(
    versions: str, available: set[int], selected: set[int]
) -> None:
    assert read(f"versions = {versions}").selects(available) == selected


@given(st.sets(st.integers(1, 50)), st.integers(1, 60))
def test_the_latest_are_the_highest_numbers(available: set[int], latest: int) -> None:
    selected = ModelConfig(versions=Latest(latest=latest)).selects(available)
    assert len(selected) == min(latest, len(available))
    assert all(kept > left for kept in selected for left in available - selected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("version = 1", "key 'version': unknown 'version', did you mean 'versions'?", id="unknown key"),
        pytest.param(
            "versions = {last = 2}", "key 'versions.last': unknown 'last', did you mean 'latest'?", id="inner"
        ),
        pytest.param("versions = {latest = 0}", "key 'versions.latest': Expected `int` >= 1", id="none of the latest"),
        pytest.param("versions = [0]", "key 'versions[0]': Expected `int` >= 1", id="version nought"),
        pytest.param("versions = 'newest'", "key 'versions': Invalid enum value 'newest'", id="another word"),
        pytest.param("[batching]\nmax_rows = 0", "key 'batching.max_rows': Expected `int` >= 1", id="no rows"),
        pytest.param(
            "[batching]\nmax_rows = 2000",
            "key 'batching.max_rows': 2000 is more than batching.max_queue_rows (1024)",
            id="more than the queue holds",
        ),
        pytest.param(
            "[batching]\npreferred_rows = [8, 65]",
            "key 'batching.preferred_rows': 65 is more than batching.max_rows (64)",
            id="a preferred size that is never reached",
        ),
        pytest.param(
            "[batching]\nmax_queue_delay_ms = inf",
            "key 'batching.max_queue_delay_ms': Expected `float` <= 60000.0",
            id="a wait without end",
        ),
        pytest.param("[execution]\ninstances = 0", "key 'execution.instances': Expected `int` >= 1", id="no session"),
        pytest.param(
            "[execution]\nintra_op_threads = -1", "key 'execution.intra_op_threads': Expected `int` >= 0", id="threads"
        ),
        pytest.param(
            "[execution]\nproviders = []",
            "key 'execution.providers': expected at least one execution provider",
            id="none",
        ),
        pytest.param(
            "[execution]\nproviders = [{name = 'cpu', option = {}}]",
            "key 'execution.providers.option': unknown 'option', did you mean 'options'?",
            id="a provider's key",
        ),
        pytest.param("[execution]\nproviders = 'cpu'", "key 'execution.providers': Expected `array`", id="no array"),
    ],
)
def test_a_fault_names_the_file_and_the_key(text: str, said: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        read(text)
    assert str(caught.value).startswith(f"fraud/model.toml: {said}")


def test_what_the_file_says_is_laid_over_what_held_before_key_by_key() -> None:
    base = read("versions = [1]\n[batching]\nmax_rows = 8\nmax_queue_rows = 16\n[execution]\ninstances = 2")
    text = b"versions = 'all'\n[batching]\nmax_rows = 4\n[execution]\nproviders = [\"cuda\"]"
    assert parse_model_config(text, where="fraud/model.toml", base=base) == ModelConfig(
        versions="all",
        batching=Batching(max_rows=4, max_queue_rows=16),
        execution=Execution(providers=("cuda",), instances=2),
    )
    assert parse_model_config(b"", where="fraud/model.toml", base=base) == base


def test_rows_up_to_what_the_queue_holds_are_allowed() -> None:
    assert read("[batching]\nmax_rows = 8\nmax_queue_rows = 8").batching.max_rows == 8
