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


def note(words: str) -> str:
    """Return a paragraph in small print; nothing for no words."""
    return tag("p", text(words), class_="note") if words else ""


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and rows of words; the first cell of a row names it."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[str, ...] = ()
    """Headings of columns with sentences, which wrap, instead of figures."""

    def markup(self, name: str) -> str:
        """Return the table as HTML, in a region that the keyboard can scroll."""
        kinds = ["words" if heading in self.words else None for heading in self.headings]
        head = (
            tag("th", text(heading), scope="col", class_=kind)
            for heading, kind in zip(self.headings, kinds, strict=True)
        )
        body = (
            tag(
                "tr",
                tag("th", text(first), scope="row", class_=kinds[0]),
                *(tag("td", text(cell), class_=kind) for cell, kind in zip(others, kinds[1:], strict=True)),
            )
            for first, *others in self.rows
        )
        table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
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
