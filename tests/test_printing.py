"""Text from files and servers, as it is printed."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.printing import shown, shown_in_cell, shown_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/archive/\u00fcber \u5f71\u50cf", "/archive/\u00fcber \u5f71\u50cf"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\r\tc\x00", r"a\nb\r\tc\x00"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("photo\u202egnp.exe", r"photo\u202egnp.exe"),
        ("\u2066\u200b\u2028\ufeff", r"\u2066\u200b\u2028\ufeff"),
        (os.fsdecode(b"caf\xe9"), r"caf\udce9"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text: str, expected: str) -> None:
    """Controls, direction overrides, invisible characters and bytes that are not UTF-8 are escaped, letters are not."""
    assert shown(text) == expected


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Zs"])))
def test_whatever_it_holds_it_can_be_printed(text: str) -> None:
    """The number of lines stays the same, and a cell is not a formula."""
    assert shown(text).isprintable()
    assert shown_lines(text).count("\n") == text.count("\n")
    assert shown_lines(text).replace("\n", "").isprintable()
    cell = str(shown_in_cell(text))
    assert cell.isprintable()
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_numbers_stay_numbers_in_cells() -> None:
    """Values other than text are not changed."""
    assert [shown_in_cell(value) for value in (-1, 0.5, None, sys.maxsize)] == [-1, 0.5, None, sys.maxsize]
