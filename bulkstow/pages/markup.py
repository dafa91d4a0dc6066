"""HTML that escapes, and the tables of the report.

No text reaches the page unescaped: content passes `text`, attributes pass `tag`.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from bulkstow.printing import shown


def text(words: str) -> str:
    """Return words as markup: special characters escaped, controls and lone surrogates shown as escapes."""
    return escape(shown(words))


def tag(name: str, *content: str, **attributes: str | None) -> str:
    """Return an element; content is markup, attributes are escaped, `class_` is class and `aria_label` aria-label."""
    given = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    written = "".join(f' {key}="{text(value)}"' for key, value in given)
    return f"<{name}{written}>{''.join(content)}</{name}>"


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and rows of words; the first cell of a row names it."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markup(self, name: str) -> str:
        """Return the table as HTML, in a region that the keyboard can scroll."""
        head = tag("tr", *(tag("th", text(heading), scope="col") for heading in self.headings))
        body = (
            tag("tr", tag("th", text(first), scope="row"), *(tag("td", text(cell)) for cell in others))
            for first, *others in self.rows
        )
        table = tag("table", tag("thead", head), tag("tbody", *body))
        return tag("div", table, class_="scroll", role="region", aria_label=name, tabindex="0")

    def lines(self) -> list[str]:
        """Return the table as lines of text: words to the left, figures to the right."""
        rows = [self.headings, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]

    def only(self, headings: tuple[str, ...]) -> Table:
        """Return the table with those of its columns, in this order."""
        columns = [self.headings.index(heading) for heading in headings if heading in self.headings]
        heads, *rows = (tuple(row[column] for column in columns) for row in (self.headings, *self.rows))
        return Table(heads, tuple(rows))
