"""Windows of files: short reads are repeated, deflated data are inflated in pieces, memory is bounded."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.errors import DamagedHead
from bulkstow.source.windows import REPLACED, FileBytes, FileWindow, InflatedWindow, open_file, read_up_to
from bulkstow.wire.steps import Window
from tests.short_reads import shorten_reads

CONTENT = bytes(number * 7 % 251 for number in range(300_000))


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """Give a file with CONTENT, followed by the same deflated."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT + deflated(CONTENT))
    opened = os.open(path, os.O_RDONLY)
    yield opened
    os.close(opened)


def deflated(data: bytes) -> bytes:
    """Return raw deflated data (RFC 1951)."""
    return zlib.compress(data, wbits=-15)


@pytest.mark.parametrize("longest_bytes", [1, 7, 1000])
def test_short_reads_are_repeated(descriptor: int, monkeypatch: pytest.MonkeyPatch, longest_bytes: int) -> None:
    """A system call that returns less than requested, as on FUSE, does not mean the end of the file."""
    shorten_reads(monkeypatch, longest_bytes)
    assert read_up_to(descriptor, 3_000, 10) == CONTENT[10:3_010]
    end = os.fstat(descriptor).st_size
    assert len(read_up_to(descriptor, 3_000, end - 10)) == 10
    assert read_up_to(descriptor, 10, end) == b""


@pytest.mark.parametrize("kind", ["as it is", "inflated"])
@given(reads=st.lists(st.tuples(st.integers(0, 300_100), st.integers(0, 70_000)), max_size=5))
def test_any_offset_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, kind: str, reads: list[tuple[int, int]]
) -> None:
    """In any order, a window returns the bytes at an offset, fewer only at the end, and None after it."""
    path = tmp_path_factory.getbasetemp() / "any-place"
    path.write_bytes(CONTENT if kind == "as it is" else deflated(CONTENT))
    descriptor = os.open(path, os.O_RDONLY)
    window: Window = (
        FileWindow(FileBytes(descriptor), len(CONTENT))
        if kind == "as it is"
        else InflatedWindow(FileBytes(descriptor), 0)
    )
    try:
        for at, size_bytes in reads:
            found = window.read(at, size_bytes)
            if at > len(CONTENT):
                assert found is None
            else:
                assert found is not None
                assert found[:size_bytes] == CONTENT[at : at + size_bytes]
    finally:
        os.close(descriptor)


def test_deflated_data_may_begin_anywhere(descriptor: int) -> None:
    """The data set follows the file meta information."""
    assert (InflatedWindow(FileBytes(descriptor), len(CONTENT)).read(5, 20) or b"")[:20] == CONTENT[5:25]


@pytest.mark.parametrize(("data", "reason"), [(deflated(CONTENT)[:-10], "cut off"), (b"\xff" * 50, "inflated")])
def test_damaged_deflated_data_raise(tmp_path: Path, data: bytes, reason: str) -> None:
    """Data that end too early, or are not deflated, raise DamagedHead."""
    path = tmp_path / "file"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    with pytest.raises(DamagedHead, match=reason):
        InflatedWindow(FileBytes(descriptor), 0).read(len(CONTENT) - 1, 1)
    os.close(descriptor)


def test_a_bomb_is_inflated_in_pieces(tmp_path: Path) -> None:
    """64 MiB of zeros from 64 KB of a file take less than 1 MiB of memory."""
    path = tmp_path / "bomb"
    path.write_bytes(deflated(bytes(2**26)))
    descriptor = os.open(path, os.O_RDONLY)
    tracemalloc.start()
    assert InflatedWindow(FileBytes(descriptor), 0).read(2**26 - 5, 100) == bytes(5)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    os.close(descriptor)
    assert peak_bytes < 2**20


def test_a_link_that_the_scan_did_not_see_is_not_followed(tmp_path: Path) -> None:
    """A regular file opens; a link in its place is refused with a reason, unless the scan followed a link there."""
    (tmp_path / "foreign").write_bytes(b"123")
    link = tmp_path / "link"
    link.symlink_to("foreign")
    for path, by_link in ((tmp_path / "foreign", False), (link, True)):
        descriptor = open_file(str(path), by_link=by_link)
        assert os.read(descriptor, 9) == b"123"
        os.close(descriptor)
    with pytest.raises(OSError, match=REPLACED):
        open_file(str(link), by_link=False)


def test_a_circular_link_has_the_text_of_the_system(tmp_path: Path) -> None:
    """A file that was a link at the scan is not reported as replaced."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        open_file(str(tmp_path / "loop"), by_link=True)
