"""What an expression selects, read without Prometheus."""

from __future__ import annotations

import pytest

from dashboards.promql import grouping_labels, selectors


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ("up", ["up"]),
        ('up{job="gateway"} == 0', ['up{job="gateway"}']),
        ("rate(a_total[5m]) / 2", ["a_total"]),
        ("sum by (route) (a) / on (route) group_left () b", ["a", "b"]),
        ("sum(a) without (instance)", ["a"]),
        ("a unless on (model) b and ignoring (le) c or d", ["a", "b", "c", "d"]),
        ("max by (by, on) (a{by=~\"sticky|random\", on!='x'})", ['a{by=~"sticky|random", on!="x"}']),
        ("histogram_quantile(0.99, sum by (le) (rate(a_bucket[1m])))", ["a_bucket"]),
        ("level:metric:rate5m > bool 14.4 * 1e-3", ["level:metric:rate5m"]),
        ("a offset 5m + a @ 1e9", ["a", "a"]),
        ('a{x="}",} # b', ['a{x="}"}']),
        ("absent(up == 1) or vector(0) * time()", ["up"]),
        ('label_replace(a, "to", "$1", "from", "(.*)")', ["a"]),
        ("count_values by (x) (a) > inf", ["a"]),
        ("max_over_time(a[1h:30s])", ["a"]),
    ],
)
def test_selectors_are_found_and_nothing_else(expression: str, selected: list[str]) -> None:
    assert [str(one) for one in selectors(expression)] == selected


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("a", set()),
        ("sum by (route, variant) (a) / on (route) group_left (version) b", {"route", "variant", "version"}),
        ("sum by (by) (a)", {"by"}),
        ('a{route="x"} unless ignoring (le) b', {"le"}),
        ("a * on () group_left () b", set()),
    ],
)
def test_labels_of_groupings_are_found(expression: str, labels: set[str]) -> None:
    assert grouping_labels(expression) == labels


@pytest.mark.parametrize("expression", ["a{b}", "a{b=c}", "a;b"])
def test_what_is_no_promql_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"no matcher|unexpected"):
        selectors(expression)
