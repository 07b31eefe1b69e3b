"""Owns the story's report: one page that needs nothing else, a section for each phase.

Never measures.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from loadtests.story.telling import Told

_STYLE = """
:root { color-scheme: light dark; --line: #d5d9df; --muted: #5b6470; --good: #1a7f4b; --bad: #c0341d; }
@media (prefers-color-scheme: dark) { :root { --line: #343a44; --muted: #9aa4b1; --good: #4cc38a; --bad: #ff8b75; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 0; }
p { margin: .3rem 0; } .muted { color: var(--muted); }
.course { display: flex; gap: 2px; margin: 1.5rem 0; height: 1.2rem; }
.course span { background: var(--good); border-radius: 2px; min-width: 3px; }
.course .failed { background: var(--bad); } .course .reached { background: var(--line); }
section { border-top: 1px solid var(--line); padding: 1rem 0; }
.verdict { float: right; font-weight: 600; } .passed { color: var(--good); } .failed { color: var(--bad); }
dl { display: grid; grid-template-columns: 17rem 1fr; gap: .1rem 1rem; margin: .6rem 0 0; }
dt { color: var(--muted); } dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
"""


def page(told: Sequence[Told], *, title: str, about: str) -> str:
    """Return the report.

    Args:
        about: One line on when and where it was told.
    """
    passed = sum(one.verdict == "passed" for one in told)
    took_s = max((one.begun_s + one.took_s for one in told), default=0.0)
    verdict = "passed" if passed == len(told) else "failed"
    course = "".join(
        f'<span class="{one.verdict.rpartition(" ")[2]}" style="flex-grow: {max(one.took_s, 0.1):.1f}" '
        f'title="{html.escape(one.title)}: {one.took_s:.1f} s"></span>'
        for one in told
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>\n'
        f"<h1>{html.escape(title)}</h1>\n"
        f'<p class="muted">{html.escape(about)}</p>\n'
        f'<p><strong class="{verdict}">{passed} of {len(told)} phases passed</strong> in {took_s:.0f} s.</p>\n'
        f'<div class="course" role="img" aria-label="How long each phase took">{course}</div>\n'
        + "".join(_section(number, one) for number, one in enumerate(told, start=1))
        + "</body></html>\n"
    )


def _section(number: int, one: Told) -> str:
    figures = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in one.figures.items()
    )
    times = f"from second {one.begun_s:.1f}, for {one.took_s:.1f} s" if one.fault is not None else ""
    return (
        f'<section><span class="verdict {one.verdict.rpartition(" ")[2]}">{one.verdict}</span>'
        f"<h2>{number}. {html.escape(one.title)}</h2>\n<p>{html.escape(one.promise)}</p>\n"
        f'<p class="muted">{times}</p>\n'
        + (f'<p class="failed">{html.escape(one.fault)}</p>\n' if one.fault else "")
        + (f"<dl>{figures}</dl>" if figures else "")
        + "</section>\n"
    )
