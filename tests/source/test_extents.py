"""Extents: the bytes of an instance within another file, as they are or deflated, and nothing else."""

from __future__ import annotations

import os
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.errors import DamagedHead, InstanceChanged
from bulkstow.model import Candidate, Coding, Extent, Instance
from bulkstow.ports import FileRange, SegmentReader, size_of
from bulkstow.source.extents import BLOCK_BYTES, open_extent
from bulkstow.source.files import FileSource
from bulkstow.source.heads import find_cut_off, read_instance
from tests.archives import header
from tests.short_reads import shorten_reads
from tests.wire.test_part10 import DEFLATED, EXPLICIT_LITTLE, IMPLICIT_LITTLE, data_set, element, meta

PIXELS = element(0x7FE00010, "OW", bytes(range(250)) * 400)

BEFORE = b"the bytes before " * 30


def extent_of(path: Path, content: bytes, coding: Coding = Coding.DEFLATE) -> Extent:
    """Write content between other bytes and return its extent."""
    kept = content if coding is Coding.STORED else zlib.compress(content, wbits=-15)
    path.write_bytes(BEFORE + kept + b"after")
    status = path.stat()
    version = status.st_size, status.st_mtime_ns
    if coding is Coding.STORED:
        return Extent(str(path), len(BEFORE), len(kept), version)
    return Extent(str(path), len(BEFORE), len(kept), version, coding, len(content), zlib.crc32(content))


def candidate_of(extent: Extent) -> Candidate:
    """Return a member with an extent."""
    return Candidate(f"{extent.path}!/IM1", extent.content_bytes, "crc32:00000000", by_link=False, extent=extent)


def content_of(extent: Extent) -> bytes:
    """Return the bytes that an extent yields, up to an error."""
    content = bytearray()
    for segment in open_extent(extent, by_link=False):
        if isinstance(segment, FileRange):
            content += os.pread(segment.descriptor, segment.size_bytes, segment.offset)
        else:
            assert len(segment) <= BLOCK_BYTES
            content += segment
    return bytes(content)


def test_a_stored_extent_is_one_range(tmp_path: Path) -> None:
    """It leaves by sendfile, like a file of its own."""
    extent = extent_of(tmp_path / "a.zip", b"content" * 1000, Coding.STORED)
    (segment,) = open_extent(extent, by_link=False)
    assert isinstance(segment, FileRange)
    assert (segment.offset, segment.size_bytes) == (len(BEFORE), 7000)
    assert content_of(extent) == b"content" * 1000


@given(
    pieces=st.lists(st.tuples(st.binary(max_size=40), st.integers(1, 40_000)), max_size=6),
    longest_bytes=st.sampled_from([1 << 30, 1000]),
)
@settings(deadline=None)
def test_a_deflated_extent_is_inflated(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bytes, int]], longest_bytes: int
) -> None:
    """Any content comes out as it was, in bounded blocks, also if the system reads fewer bytes than requested."""
    content = b"".join(piece * count for piece, count in pieces)
    extent = extent_of(tmp_path_factory.getbasetemp() / "any.zip", content)
    with pytest.MonkeyPatch.context() as patch:
        shorten_reads(patch, longest_bytes)
        assert b"".join(map(bytes, open_extent(extent, by_link=False))) == content  # type: ignore[arg-type]


CONTENT = bytes(number * 11 % 253 for number in range(600_000))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"crc32": 5}, "damaged: its CRC-32 is not the one in the archive"),
        ({"decoded_bytes": 599_999}, "do not inflate to the announced length: more than 599999 bytes"),
        ({"decoded_bytes": 600_001}, "do not inflate to the announced length: fewer than 600001 bytes"),
        ({"size_bytes": 500}, "do not inflate to the announced length: fewer than 600000 bytes"),
        ({"offset": 0}, "damaged: the archive's data cannot be inflated"),
        ({"version": (7, 7)}, "changed while it was sent: its archive had 7 bytes at the scan"),
        ({"path": "/nowhere.zip"}, "cannot be read: No such file or directory"),
    ],
)
def test_what_is_not_as_announced_raises(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    """A wrong checksum, a wrong length and damaged data each have their reason, and no byte beyond the length comes."""
    extent = replace(extent_of(tmp_path / "a.zip", CONTENT), **changes)  # type: ignore[arg-type]
    drawn: list[int] = []
    with pytest.raises(InstanceChanged, match=reason):
        drawn.extend(map(size_of, open_extent(extent, by_link=False)))
    assert sum(drawn) <= extent.content_bytes


@pytest.mark.parametrize("coding", list(Coding))
def test_an_archive_that_changes_while_it_is_read_raises(tmp_path: Path, coding: Coding) -> None:
    """The comparison follows the last byte, so nothing of a changed archive is taken for whole."""
    path = tmp_path / "a.zip"
    drawn = open_extent(extent_of(path, b"x" * 1000, coding), by_link=False)
    next(drawn)
    os.utime(path, ns=(1, 1))
    with pytest.raises(InstanceChanged, match="the modification time of its archive is new"):
        next(drawn)


def test_a_damaged_archive_that_has_changed_is_called_changed(tmp_path: Path) -> None:
    """An archive that is overwritten meanwhile gives bytes that cannot be inflated; the change is the reason."""
    path = tmp_path / "a.zip"
    extent = extent_of(path, os.urandom(3 * BLOCK_BYTES))
    drawn = open_extent(extent, by_link=False)
    next(drawn)
    path.write_bytes(b"\xff" * path.stat().st_size)
    os.utime(path, ns=(1, 1))
    with pytest.raises(InstanceChanged, match="changed while it was sent"):
        list(drawn)


@pytest.mark.parametrize("coding", list(Coding))
@pytest.mark.parametrize(
    "content",
    [
        meta(EXPLICIT_LITTLE) + data_set() + PIXELS,
        meta(IMPLICIT_LITTLE) + data_set() + PIXELS,
        meta(EXPLICIT_LITTLE) + data_set(element(0x00091010, "OB", bytes(300_000))) + PIXELS,
        meta(DEFLATED) + zlib.compress(data_set() + PIXELS, wbits=-15),
    ],
    ids=["quick reader", "tolerant reader", "long head", "deflated data set"],
)
def test_a_head_is_read_from_an_extent(tmp_path: Path, coding: Coding, content: bytes) -> None:
    """Both readers find the same in an extent as in a file of its own, also beyond the first 64 KiB."""
    alone = tmp_path / "alone"
    alone.write_bytes(content)
    expected = read_instance(Candidate(str(alone), len(content), alone.stat().st_mtime_ns))
    found = read_instance(candidate_of(extent_of(tmp_path / "a.zip", content, coding)))
    assert found.header == expected.header
    assert found.size_bytes == len(content)


@pytest.mark.parametrize("coding", list(Coding))
def test_a_truncated_instance_is_noticed_in_an_extent(tmp_path: Path, coding: Coding) -> None:
    """The end of the extent is the end of the file, with any bytes after it in the archive."""
    content = (meta(EXPLICIT_LITTLE) + data_set() + PIXELS)[:-20]
    candidate = candidate_of(extent_of(tmp_path / "a.zip", content, coding))
    assert "20 of 100000 bytes missing" in read_instance(candidate).truncation
    assert "20 of 100000 bytes missing" in find_cut_off(candidate)
    with pytest.raises(DamagedHead, match="20 of 100000"):
        read_instance(candidate, skip_truncated=True)


def test_the_head_of_a_changed_archive_is_not_read(tmp_path: Path) -> None:
    """Offsets in an archive that has changed mean nothing."""
    extent = replace(extent_of(tmp_path / "a.zip", meta(EXPLICIT_LITTLE) + data_set()), version=(1, 1))
    with pytest.raises(DamagedHead, match="changed"):
        read_instance(candidate_of(extent))


def test_a_file_source_reads_extents(tmp_path: Path) -> None:
    """Content, comparison with the scan and prefetch concern the extent; two extents of one file are two contents."""
    source = FileSource()
    stored = extent_of(tmp_path / "a.zip", CONTENT, Coding.STORED)
    for extent in (stored, extent_of(tmp_path / "b.zip", CONTENT)):
        instance = Instance(candidate_of(extent), header(1))
        view = memoryview(bytearray(len(CONTENT) + 1))
        assert bytes(view[: SegmentReader(source.open(instance)).read_into(view)]) == CONTENT
        assert source.verify(instance) == ""
        assert source.prefetch(instance) == extent.size_bytes
        os.utime(extent.path, ns=(1, 1))
        assert "modification time of its archive is new" in source.verify(instance)
    other = candidate_of(replace(stored, offset=3))
    assert source.digest(candidate_of(stored)) == source.digest(candidate_of(stored)) != source.digest(other)
