"""HTML by construction: text is escaped unless it is HTML already."""

from __future__ import annotations

import html
import json
from collections.abc import Container, Iterable, Sequence

from workflow.errors import printable, shortened


class Html(str):
    """Text that is HTML."""

    __slots__ = ()


Content = str | Html
_EMPTY_ELEMENTS = frozenset({"meta", "br", "input"})
_LONGEST = 300
"""Characters of a value that somebody else has chosen."""


def element(tag: str, /, *children: Content, **attributes: str | bool) -> Html:
    """``class_`` and the like stand for reserved words, ``data_x`` for ``data-x``; an attribute that is False is left
    out."""
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value is not False)
    if tag in _EMPTY_ELEMENTS:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{joined(*children)}</{tag}>")


def _attribute(key: str, value: str | bool) -> str:
    key = key.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{html.escape(str(value))}"'


def joined(*parts: Content) -> Html:
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def foreign(text: str) -> str:
    """What a user or a model has written, without what would move or hide the text around it, and short enough."""
    return shortened(printable(text), _LONGEST)


def embedded(data: object) -> Html:
    """JSON that can stand in a script element: no text in it ends the element. Raises ValueError for nan."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(text)


def table(
    header: Sequence[Content],
    rows: Iterable[Sequence[Content]],
    *,
    numbers: Container[int] = (),
    class_: str = "",
) -> Html:
    """A table that scrolls by itself where it is too wide; ``numbers`` are the columns that are set flush right."""
    head = _row("th", header, numbers)
    body = (_row("td", row, numbers) for row in rows)
    whole = element("table", element("thead", head), element("tbody", *body), class_=class_ or False)
    return element("div", whole, class_="scroll", tabindex="0")


def _row(tag: str, cells: Sequence[Content], numbers: Container[int]) -> Html:
    scope = tag == "th" and "col"
    return element(
        "tr", *(element(tag, cell, class_=i in numbers and "number", scope=scope) for i, cell in enumerate(cells))
    )


def chart(kind: str, note: str) -> Html:
    """The place of a plot, which the script fills."""
    return element("figure", element("div", class_="plot"), element("figcaption", note), data_chart=kind)


def sentence(text: str) -> Html:
    """What stands in the place of an empty plot."""
    return element("p", text, class_="empty")
