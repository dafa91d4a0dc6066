"""Patched bytes of segments, in memory and in files."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.errors import InstanceChanged
from bulkstow.ports import FileRange, Segment, size_of
from bulkstow.source.splicing import NEAR_BYTES, spliced
from bulkstow.wire.edit_levels import Patch


def joined(segments: Generator[Segment]) -> bytes:
    """Return the bytes of segments."""
    pieces = []
    for segment in segments:
        if isinstance(segment, FileRange):
            pieces.append(os.pread(segment.descriptor, segment.size_bytes, segment.offset))
        else:
            pieces.append(bytes(segment))
    return b"".join(pieces)


def in_memory(data: bytes, sizes: list[int]) -> Generator[Segment]:
    """Yield data in pieces of these sizes, and the rest; memory is reused for the next piece."""
    at = 0
    for size_bytes in [*sizes, len(data)]:
        buffer = bytearray(data[at : at + size_bytes])
        yield memoryview(buffer)
        buffer[:] = b"\xff" * len(buffer)
        at += size_bytes


@st.composite
def patches(draw: st.DrawFn, size_bytes: int) -> list[Patch]:
    """Return patches in order that do not overlap; several may be at one offset."""
    edges = sorted(draw(st.lists(st.integers(0, size_bytes), max_size=12)))
    pairs = list(zip(edges[::2], edges[1::2], strict=False))
    return [Patch(begin, end - begin, draw(st.binary(max_size=5))) for begin, end in pairs]


@given(st.binary(max_size=60), st.lists(st.integers(0, 20), max_size=6), st.data())
def test_patches_are_applied_wherever_segments_end(data: bytes, sizes: list[int], drawn: st.DataObject) -> None:
    """The result does not depend on how the bytes are divided."""
    several = drawn.draw(patches(len(data)))
    expected, at = b"", 0
    for patch in several:
        expected += data[at : patch.at] + patch.data
        at = patch.at + patch.size_bytes
    assert joined(spliced(in_memory(data, sizes), several)) == expected + data[at:]


def test_what_is_behind_the_last_patch_stays_a_range_of_the_file(tmp_path: Path) -> None:
    """The head is one segment of memory, also if it has many patches; a long part between two is not copied."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * (NEAR_BYTES // 64))
    size_bytes = path.stat().st_size
    several = [Patch(10, 2, b"ab"), Patch(100, 0, b"cd"), Patch(200 + 2 * NEAR_BYTES, 5, b"")]
    with path.open("rb") as file:

        def whole() -> Generator[Segment]:
            yield FileRange(file.fileno(), 0, size_bytes)

        segments = list(spliced(whole(), several))
        kinds = [(isinstance(segment, FileRange), size_of(segment)) for segment in segments]
        assert kinds == [(False, 102), (True, 100 + 2 * NEAR_BYTES), (True, size_bytes - 205 - 2 * NEAR_BYTES)]


@pytest.mark.parametrize("patch", [Patch(11, 0, b"x"), Patch(8, 3, b"x")])
def test_data_that_end_too_early_have_changed(patch: Patch) -> None:
    """A patch behind the end, or one that removes more than there is, is an error."""
    with pytest.raises(InstanceChanged, match="ends after 10 bytes"):
        joined(spliced(in_memory(bytes(10), [3]), [patch]))
