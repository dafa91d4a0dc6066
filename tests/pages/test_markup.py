"""Markup and tables."""

from __future__ import annotations

from bulkstow.pages.markup import Table, tag, text

TABLE = Table(("what", "n", "x"), (("a", "1,000", "2"), ("longer", "1", "3")))


def test_a_table_lines_up() -> None:
    """Words stand to the left, figures to the right."""
    assert TABLE.lines() == ["what        n  x", "a       1,000  2", "longer      1  3"]


def test_a_table_can_be_reduced_to_some_columns() -> None:
    """They come in the order asked for; a column that is not there is passed over."""
    assert TABLE.only(("x", "y", "what")) == Table(("x", "what"), (("2", "a"), ("3", "longer")))


def test_nothing_reaches_a_page_unescaped() -> None:
    """Markup, quotes and controls in text and attributes are shown literally."""
    assert text('<b>\x1b"') == "&lt;b&gt;\\x1b&quot;"
    assert tag("p", "x", class_='"><script>') == '<p class="&quot;&gt;&lt;script&gt;">x</p>'
