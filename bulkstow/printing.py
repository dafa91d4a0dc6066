"""Escapes text from files, servers and arguments for a terminal and a spreadsheet.

A file name may contain any character but a slash and a NUL: an escape sequence for the terminal, a newline that forges
a line, a Unicode override that reverses the text, or a formula. This module writes to no stream.
"""

from __future__ import annotations

_FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - spreadsheets accept the full-width ones, too
"""Characters with which a cell must not begin (OWASP, CSV Injection)."""


def shown(text: str) -> str:
    """Return text for one line, with unprintable characters and bytes that are not UTF-8 escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def shown_lines(text: str) -> str:
    """Return text of several lines, each of them escaped by `shown`."""
    return "\n".join(map(shown, text.split("\n")))


def shown_in_cell(value: object) -> object:
    """Return a value for a spreadsheet, with an apostrophe before text that would be a formula."""
    if not isinstance(value, str):
        return value
    return f"'{shown(value)}" if value.startswith(_FORMULA) else shown(value)
