"""Job logs as HTML: terminal colors as classes, the runner's section markers removed."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

SECTION = re.compile(r"section_(?:start|end):\d+:[^\r\n]*?(?:\r|\n|\Z)(?:\x1b\[0K)?")
ESCAPE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")
BACK = re.compile(r"[^\n\r]*\r(?!\n)")
COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
#: More than this is shown only by the raw log.
SHOWN = 400_000


def render(content: bytes) -> Markup:
    """The end of a log as HTML."""
    text = content[-SHOWN:].decode(errors="replace")
    text = BACK.sub("", SECTION.sub("", text).replace("\r\n", "\n"))
    found, at, style = [], 0, frozenset[str]()
    for match in ESCAPE.finditer(text):
        found.append(_span(text[at : match.start()], style))
        at = match.end()
        if match[2] == "m":
            style = _style(style, match[1])
    found.append(_span(text[at:], style))
    return Markup("").join(found)


def _span(text: str, style: frozenset[str]) -> Markup:
    if not text:
        return Markup("")
    if not style:
        return escape(text)
    return Markup('<span class="{}">{}</span>').format(" ".join(sorted(style)), text)


def _style(style: frozenset[str], codes: str) -> frozenset[str]:
    for code in (int(part or 0) for part in codes.split(";")):
        if code == 0:
            style = frozenset()
        elif code == 1:
            style |= {"bold"}
        elif 30 <= code <= 37 or 90 <= code <= 97:
            style = frozenset(name for name in style if name == "bold") | {COLOURS[code % 10]}
    return style
