import numpy as np

from gateway.monitoring.reference_builder import build_reference
from gateway.monitoring.reference_summary import odd_findings, summarise_reference
from tests.monitoring.windows import KINDS

ROWS = 3_000


def test_the_summary_shows_what_to_check_by_eye() -> None:
    rng = np.random.default_rng(1)
    amount = np.where(rng.random(ROWS) < 0.25, 0.0, rng.lognormal(3, 1, ROWS))
    amount[:30], amount[30:33] = np.nan, np.inf
    reference = build_reference({"amount": amount, "city": KINDS["zipf"](rng, ROWS)}, {"label": rng.random(ROWS) < 0.1})
    lines = summarise_reference(reference).splitlines()
    assert lines[0] == f"3000 rows, 2 inputs, 1 prediction, {reference.hash}"
    amount_line, city_line, label_line = lines[2:]
    assert amount_line.split()[:4] == ["amount", "input", "1", "%"]
    assert amount_line.endswith("% at 0, 0.1 % not finite")
    assert "'c0' 2" in city_line
    assert "16 more" in city_line
    assert label_line.split()[:2] == ["label", "prediction"]
    assert "False" in label_line


def test_sound_data_raises_no_warning() -> None:
    rng = np.random.default_rng(2)
    reference = build_reference({kind: draw(rng, ROWS) for kind, draw in KINDS.items()}, {})
    assert odd_findings(reference) == []


def test_what_looks_odd_is_said() -> None:
    rng = np.random.default_rng(3)
    inputs = {
        "constant": np.full(1_500, 7.0),
        "empty": np.full(1_500, np.nan),
        "sparse": np.where(rng.random(1_500) < 0.7, np.nan, rng.normal(size=1_500)),
        "session": np.array([f"s{index}" for index in range(1_500)], dtype=object),
        "user": np.array([f"u{index % 900}" for index in range(1_500)], dtype=object),
        "wide": rng.normal(size=(1_500, 254)),
    }
    findings = "\n".join(odd_findings(build_reference(inputs, {})))
    for expected in (
        "1500 rows are few",
        "3 columns beyond the first 256",
        "'constant' is constant",
        "'empty' has no usable value",
        "'sparse' is missing in",
        "'session' has too many categories to list",
        "'user' will show about",
    ):
        assert expected in findings


def test_a_name_or_category_cannot_drive_the_terminal() -> None:
    texts = np.array(["\x1b[31mred", "x" * 40] * 1_000, dtype=object)
    shown = summarise_reference(build_reference({"text": texts, "n" * 60: np.arange(2_000.0)}, {}))
    assert "\x1b" not in shown
    assert "'xxxxxxxxxxxxxxxxxxxx…'" in shown
    assert "n" * 31 + "…" in shown


def test_many_rare_categories_are_summed_up() -> None:
    texts = np.array([f"u{index}" for index in range(4_000)], dtype=object)
    assert "many more 100 %" in summarise_reference(build_reference({"text": texts}, {}))
