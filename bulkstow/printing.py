"""Text from files, servers and arguments, made fit for a terminal and a spreadsheet.

A name may hold anything but a slash and a NUL: an ESC that steers the terminal, a newline that forges a line, a Unicode
override that turns the text around, or a formula. Knows nothing of streams.
"""

from __future__ import annotations

_FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - the wide ones count for spreadsheets, too
"""What a cell must not begin with (OWASP, CSV Injection)."""


def shown(text: str) -> str:
    """Return text as it can be printed in one line: what is not printable, and bytes that are no UTF-8, is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def shown_lines(text: str) -> str:
    """Return text of several lines, each as it can be printed."""
    return "\n".join(map(shown, text.split("\n")))


def shown_in_cell(value: object) -> object:
    """Return a value as a spreadsheet may open it: text that would be a formula there begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    return f"'{shown(value)}" if value.startswith(_FORMULA) else shown(value)
