"""Markdown as a page that holds no style of its own and no code."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

__all__ = ["read_line", "read_markdown"]

_RIGHT = "text-align:right"
# Where a column is narrow, an interval goes to the next line as one.
_INTERVAL = re.compile(r"\((\S+) to (\S+)\)")
_TOGETHER = "(\\1\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}\\2)"


def read_markdown(text: str) -> str:
    """Turn Markdown with tables into HTML for the pages.

    Parameters
    ----------
    text : str
        Labels and names in it may be somebody else's words: markup, pictures and links to scripts
        in it stay text.

    Returns
    -------
    str
        Tables can be scrolled by themselves, also with the keyboard.
    """
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    found: list[Token] = []
    tables = 0
    for token in reader.parse(text):
        # The pages' policy lets no style attribute in.
        if token.attrs.pop("style", None) == _RIGHT:
            token.attrSet("class", "right")
        if token.type == "table_open":
            tables += 1
            box = Token("box_open", "div", 1)
            box.attrs = {
                "class": "table",
                "tabindex": 0,
                "role": "region",
                "aria-label": f"Table {tables}",
            }
            found += [box, token]
        elif token.type == "table_close":
            found += [token, Token("box_close", "div", -1)]
        else:
            for part in token.children or ():
                part.content = _INTERVAL.sub(_TOGETHER, part.content)
            found.append(token)
    return str(reader.renderer.render(found, reader.options, {}))


def read_line(text: str) -> Markup:
    """Turn a line of Markdown, such as a description in the API's document, into HTML.

    Parameters
    ----------
    text : str
        As for `read_markdown`.
    """
    reader = MarkdownIt("commonmark", {"html": False}).disable("image")
    return Markup(reader.renderInline(text))  # noqa: S704 - markup in it is escaped by the reader
