"""A reference window as text, for the person who published it to check by eye.

Never read by a program: `reference.json` is.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.monitoring.bins import POINT_MASS_SHARE, Category
from gateway.monitoring.reference import CategoricalFeature, Feature, NumericFeature, Reference

SOUND_ROWS = 2_000
MOSTLY_NULL = 0.5
MANY_UNSEEN = 0.1
NAME_WIDTH = 32
SHOWN_CATEGORIES = 4
SHOWN_MASSES = 2


def summarise_reference(reference: Reference) -> str:
    """Describe a reference: a line per feature, then what looks odd.

    Returns: Lines of text without a final newline.
    """
    inputs = sum(feature.role == "input" for feature in reference.features)
    predictions = len(reference.features) - inputs
    head = (
        f"{reference.rows} rows, {_several(inputs, 'input')}, {_several(predictions, 'prediction')}, {reference.hash}"
    )
    table = [
        ("feature", "role", "null", "min", "median", "max", "mean", "sigma", "notable"),
        *(_line(feature) for feature in reference.features),
    ]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]) - 1)]
    lines = [head, *(_aligned(row, widths) for row in table)]
    return "\n".join(lines + [f"warning: {text}" for text in odd_findings(reference)])


def odd_findings(reference: Reference) -> list[str]:
    """List what a data scientist should look at before trusting the reference, a sentence each."""
    found = []
    if reference.rows < SOUND_ROWS:
        found.append(
            f"{reference.rows} rows are few: a window should hold at most a tenth of the reference's rows, and at "
            f"least 200; publish {SOUND_ROWS} rows or more"
        )
    if reference.capped:
        found.append(f"{_several(reference.capped, 'column')} beyond the first 256 are not watched")
    for feature in reference.features:
        found += [f"'{feature.name}' {finding}" for finding in _odd(feature)]
    return found


def _odd(feature: Feature) -> list[str]:
    usable = feature.rows - feature.null - (feature.non_finite if isinstance(feature, NumericFeature) else 0)
    if not usable:
        return ["has no usable value: its distribution cannot be watched"]
    found = []
    if usable <= (1 - MOSTLY_NULL) * feature.rows:
        found.append(f"is missing in {_percent(feature.rows - usable, feature.rows)} of the rows")
    if max(feature.counts, default=0) == usable:
        found.append("is constant")
    if isinstance(feature, CategoricalFeature) and feature.others is None:
        found.append("has too many categories to list: an identifier or free text? Unseen values count as other")
    elif isinstance(feature, CategoricalFeature) and feature.unseen > MANY_UNSEEN * usable:
        found.append(f"will show about {_percent(feature.unseen, usable)} unseen values: an identifier or free text?")
    return found


def _line(feature: Feature) -> tuple[str, ...]:
    name = feature.name if len(feature.name) <= NAME_WIDTH else feature.name[: NAME_WIDTH - 1] + "…"
    null = _percent(feature.null, feature.rows)
    if isinstance(feature, NumericFeature):
        moments = (feature.minimum, feature.median, feature.maximum, feature.mean, feature.sigma)
        return (name, feature.role, null, *(f"{moment:.4g}" for moment in moments), _point_masses(feature))
    return (name, feature.role, null, "", "", "", "", "", _categories(feature))


def _point_masses(feature: NumericFeature) -> str:
    """Name the values that hold most rows, and the rows that are not finite."""
    usable = max(sum(feature.counts), 1)
    # A bin is a point where its edges are neighbours: its centroid is then its lower edge.
    points = [
        (count, edge)
        for edge, count, centroid in zip(feature.edges, feature.counts[1:], feature.centroids[1:], strict=True)
        if centroid == edge and count > POINT_MASS_SHARE * usable
    ]
    notes = [f"{_percent(count, usable)} at {edge:.4g}" for count, edge in sorted(points, reverse=True)[:SHOWN_MASSES]]
    if feature.non_finite:
        notes.append(f"{_percent(feature.non_finite, feature.rows)} not finite")
    return ", ".join(notes)


def _categories(feature: CategoricalFeature) -> str:
    commonest = zip(feature.values[:SHOWN_CATEGORIES], feature.counts, strict=False)
    notes = [f"{_quoted(value)} {_percent(count, feature.rows)}" for value, count in commonest]
    rarer = max(len(feature.values) - SHOWN_CATEGORIES, 0) + len(feature.others or ())
    if rarer or feature.others is None:
        shown = sum(feature.counts[:SHOWN_CATEGORIES])
        rest = feature.rows - feature.null - shown
        notes.append(f"{'many' if feature.others is None else rarer} more {_percent(rest, feature.rows)}")
    return ", ".join(notes)


def _quoted(value: Category) -> str:
    if not isinstance(value, str):
        return str(value)
    # A terminal should not obey what the data holds.
    text = "".join(letter if letter.isprintable() else "?" for letter in value)
    return f"'{text[:20]}…'" if len(text) > 20 else f"'{text}'"


def _percent(part: int, whole: int) -> str:
    share = 100 * part / max(whole, 1)
    return "0 %" if not part else "<0.1 %" if share < 0.1 else f"{share:.3g} %"


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    name, role, *numbers = row[:-1]
    cells = [name.ljust(widths[0]), role.ljust(widths[1])]
    cells += [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
    return "  ".join([*cells, row[-1]]).rstrip()
