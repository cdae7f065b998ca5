"""A report: one HTML file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from workflow.errors import InputError
from workflow.report.figures import Analysis, data
from workflow.report.history import Run
from workflow.report.markup import Html, element, embedded
from workflow.report.sections import Section, sections
from workflow.report.summary import summary, title

_ASSETS = Path(__file__).with_name("assets")
_SCRIPTS = ("draw.js", "charts.js")


def page(runs: Sequence[Run]) -> str:
    """The first run in full, compared with the others.

    The same runs give the same text. Raises InputError for runs that searched for different things.
    """
    _check(runs)
    analysis = Analysis(runs[0])
    shown = list(sections(analysis, runs))
    header = element("header", summary(analysis), id="summary")
    main = element("main", header, *(section.html() for section in shown))
    drawn = element("script", embedded(data(analysis, runs)), type="application/json", id="data")
    body = element("body", _navigation(shown), main, drawn, element("script", _script()))
    return f"<!doctype html>\n{element('html', _head(analysis), body, lang='en')}\n"


def _check(runs: Sequence[Run]) -> None:
    different = [run for run in runs if run.objective != runs[0].objective]
    if different:
        what = f"{different[0].path}: searched for {different[0].objective}, {runs[0].path} for {runs[0].objective}"
        raise InputError(f"{what}\n    -> compare runs of one objective")


def _head(analysis: Analysis) -> Html:
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src '{_digest(_script())}'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title(analysis.run)}: report"),
        element("style", Html(_asset("report.css"))),
    )


def _script() -> Html:
    """In a function of its own, since names such as ``history`` are taken in a browser."""
    return Html(f"(() => {{\n{''.join(map(_asset, _SCRIPTS))}}})();\n")


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _navigation(shown: Sequence[Section]) -> Html:
    links = [("summary", "Summary"), *((section.name, section.short or section.title) for section in shown)]
    return element("nav", *(element("a", name, href=f"#{anchor}") for anchor, name in links), aria_label="sections")
