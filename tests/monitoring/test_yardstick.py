import msgspec
import pytest

from gateway.errors import InvalidReference
from gateway.messages import ModelVersion
from gateway.monitoring.yardstick import Yardstick
from gateway.settings import MonitoringOptions
from tests.monitoring.replicas import FRAUD, built_reference, reference_rows, yardstick

ROWS = reference_rows(41, rows=500)


def selected(*names: str) -> Yardstick:
    return yardstick(ROWS, MonitoringOptions(features=names))


def test_a_selection_keeps_those_inputs_and_all_predictions() -> None:
    subject = selected("x_2", "x_0", "x_2")
    assert [feature.name for feature in subject.reference.features] == ["x_2", "x_0", "score"]
    assert [feature.name for feature in subject.predictions.features] == ["score"]
    assert subject.hash == built_reference(ROWS).hash


def test_counts_of_two_selections_never_merge() -> None:
    series = {stick.series(FRAUD, "primary") for stick in (yardstick(ROWS), selected("x_0"), selected("x_1"))}
    assert len({one.reference for one in series}) == 3
    # The edges of the predictions are the same in each.
    compared = {stick.series(FRAUD, "comparison").reference for stick in (selected("x_0"), selected("x_0"))}
    assert len(compared) == 1


def test_a_name_that_is_no_input_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InvalidReference, match="unknown 'x_9'"):
        selected("x_0", "x_9")
    with pytest.raises(InvalidReference, match="unknown 'score'"):
        selected("score")


def test_a_series_is_named_by_everything_that_keeps_counts_apart() -> None:
    subject = yardstick(ROWS, MonitoringOptions(bucket_s=7, window_buckets=3))
    series = subject.series(ModelVersion("fraud", 4), "shadow")
    assert (series.model, series.version, series.traffic, series.bucket_s, series.window_s) == (
        "fraud",
        4,
        "shadow",
        7,
        21,
    )
    assert series.cells == subject.layout.cells
    assert subject.series(FRAUD, "comparison").cells == subject.predictions.cells


def test_a_reference_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidReference):
        Yardstick(b"{}")


@pytest.mark.parametrize(
    "table",
    [
        {"bucket_s": 0},
        {"window_buckets": 0},
        {"min_rows": 0},
        {"sampling": 0},
        {"sampling": 1.5},
        {"buffer_buckets": -1},
        {"bukket_s": 10},
    ],
)
def test_options_that_make_no_sense_are_refused(table: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, MonitoringOptions)
