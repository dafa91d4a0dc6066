"""Names in a list, and their separators."""

from __future__ import annotations

import os
import threading
from functools import partial
from io import BytesIO

import pytest

from bulkstow.errors import ConfigurationError
from bulkstow.source.listing import read_list, read_when_ready


def names(data: bytes, *, null_separated: bool = False) -> list[str]:
    """Return all names in `data`."""
    return list(read_list(BytesIO(data).read, null_separated=null_separated))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n\r\n", ["a", "b"]),
        (b"a\n\n\nb\n", ["a", "b"]),
        (b"# a\n'b c'\n d \n*.dcm\n", ["# a", "'b c'", " d ", "*.dcm"]),
    ],
)
def test_a_line_is_a_name(data: bytes, expected: list[str]) -> None:
    """Line ends of both kinds separate, empty lines do not count, and every other character is part of a name."""
    assert names(data) == expected


def test_nul_separates_names_that_hold_newlines() -> None:
    """With NULs, as `find -print0` writes them, a name may hold any other byte."""
    assert names(b"a\nb\0c\r\0\0d", null_separated=True) == ["a\nb", "c\r", "d"]


def test_a_name_that_is_not_utf_8_keeps_its_bytes() -> None:
    """Other bytes become surrogates, as in the functions of `os`."""
    (name,) = names(b"caf\xe9\n")
    assert os.fsencode(name) == b"caf\xe9"


def test_names_across_blocks_stay_whole() -> None:
    """A list that is longer than a block has all its names."""
    expected = [f"archive/study{number % 97}/IM{number:06}" for number in range(20_000)]
    assert names("\n".join(expected).encode()) == expected
    assert names("\0".join(expected).encode(), null_separated=True) == expected


@pytest.mark.parametrize("null_separated", [False, True])
def test_names_are_read_as_they_are_written(null_separated: bool) -> None:
    """Names in a pipe are read before the pipe is closed."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as pipe:
        separator = b"\0" if null_separated else b"\n"
        listed = read_list(stream.read1, null_separated=null_separated)
        pipe.write(b"first" + separator + b"sec")
        assert next(listed) == "first"
        pipe.write(b"ond" + separator)
        assert next(listed) == "second"
        pipe.close()
        assert list(listed) == []


@pytest.mark.parametrize(("null_separated", "hint"), [(True, "newlines"), (False, "NULs")])
def test_the_wrong_separator_is_reported(null_separated: bool, hint: str) -> None:
    """A list without its separator is not read into memory, but refused with a hint at the other separator."""
    with pytest.raises(ConfigurationError, match=f"separated by {hint}"):
        names(b"x" * 200_000, null_separated=null_separated)


def test_a_pipe_that_nobody_writes_to_can_be_given_up() -> None:
    """Reading ends when no more names are needed; names before that are returned."""
    reading, writing = os.pipe()
    try:
        given_up = threading.Event()
        os.write(writing, b"one\ntwo\n")
        names = read_list(partial(read_when_ready, reading, given_up.is_set, lambda: None), null_separated=False)
        assert [next(names), next(names)] == ["one", "two"]
        given_up.set()
        assert list(names) == []
    finally:
        os.close(reading)
        os.close(writing)
