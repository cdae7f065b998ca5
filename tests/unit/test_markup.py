"""HTML that nobody's text gets out of."""

from __future__ import annotations

import json

import pytest

from workflow.report.markup import Html, element, embedded, foreign, joined, table


def test_text_is_escaped_and_html_is_not() -> None:
    assert element("p", "<b>&\"'", Html("<i>x</i>")) == "<p>&lt;b&gt;&amp;&quot;&#x27;<i>x</i></p>"
    assert joined("<", Html("<br>")) == "&lt;<br>"


def test_attributes_are_escaped() -> None:
    assert element("a", title='"><script>', class_="x", data_name="y", hidden=True, open=False) == (
        '<a title="&quot;&gt;&lt;script&gt;" class="x" data-name="y" hidden></a>'
    )
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--", "]]>", "a\u2028b", "\ud800", "&lt;"])
def test_data_cannot_end_its_element(text: str) -> None:
    written = embedded({text: [text, None, 1.5]})
    assert not {"<", ">", "&", "\u2028"} & set(written) and written.isascii()
    assert json.loads(written) == {text: [text, None, 1.5]}


def test_data_knows_no_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded([float("nan")])


def test_foreign_text_is_plain_and_short() -> None:
    assert foreign("a\0b\u202ec\x1b[31md\ud800e") == "abcde"
    assert len(foreign("x" * 10_000)) == 300
    assert foreign("\N{GRINNING FACE} \u05d0") == "\N{GRINNING FACE} \u05d0"


def test_tables_scroll_by_themselves() -> None:
    head = '<thead><tr><th scope="col">a</th><th class="number" scope="col">b</th></tr></thead>'
    body = '<tbody><tr><td>&lt;</td><td class="number"><i>1</i></td></tr></tbody>'
    written = table(["a", "b"], [["<", Html("<i>1</i>")]], numbers=(1,))
    assert written == f'<div class="scroll" tabindex="0"><table>{head}{body}</table></div>'
