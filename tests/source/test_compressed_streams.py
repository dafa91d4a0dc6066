"""Members of a compressed archive are read again without decompressing it from the beginning for each."""

from __future__ import annotations

import gzip
import os
import random
from pathlib import Path

import pytest

from bulkstow.errors import DamagedHead
from bulkstow.model import Candidate, Container
from bulkstow.source import compressed_streams as module
from bulkstow.source.compressed_streams import STREAMS_KEPT, CompressedStreams
from bulkstow.source.extents import open_bytes
from bulkstow.source.windows import ByteReader
from tests.source.members import found

CONTENT = random.Random(1).randbytes(2**20)


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """Give a compressed file."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(CONTENT, 1))
    return Container(found(path), "a gzip file")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the descriptors of all files that are opened."""
    descriptors: list[int] = []

    def noted(candidate: Candidate) -> ByteReader:
        data = open_bytes(candidate)
        descriptors.append(data.descriptor)
        return data

    monkeypatch.setattr(module, "open_bytes", noted)
    return descriptors


def test_a_later_part_goes_on_where_the_last_one_ended(container: Container, opened: list[int]) -> None:
    """Parts in ascending order take one stream, an earlier one another; each has its bytes."""
    streams = CompressedStreams()
    for offset, size_bytes in ((0, 10), (10, 300_000), (400_000, 1), (900_000, 2**20 - 900_000)):
        assert b"".join(streams.read(container, offset, size_bytes)) == CONTENT[offset : offset + size_bytes]
    assert len(opened) == 1
    assert b"".join(streams.read(container, 5, 10)) == CONTENT[5:15]
    assert b"".join(streams.read(container, 20, 10)) == CONTENT[20:30]
    assert len(opened) == 2
    streams.close()
    assert not any(is_open(descriptor) for descriptor in opened)


def test_the_nearest_stream_is_used_and_few_are_kept(container: Container, opened: list[int]) -> None:
    """Streams that are read at once are kept up to a number; the one with the least to skip is used again."""
    streams = CompressedStreams()
    reading = [streams.read(container, offset * 1000, 10) for offset in range(STREAMS_KEPT + 2)]
    first = [next(parts) for parts in reading]
    assert first == [CONTENT[offset * 1000 : offset * 1000 + 10] for offset in range(STREAMS_KEPT + 2)]
    assert [list(parts) for parts in reading] == [[]] * (STREAMS_KEPT + 2)
    assert sum(map(is_open, opened)) == STREAMS_KEPT
    assert b"".join(streams.read(container, 3100, 10)) == CONTENT[3100:3110]
    assert len(opened) == STREAMS_KEPT + 2
    streams.close()


def test_a_stream_that_is_left_or_fails_is_closed(container: Container, opened: list[int]) -> None:
    """A part that is not read to its end leaves no stream, and neither does one beyond the end of the content."""
    streams = CompressedStreams()
    parts = streams.read(container, 0, 2**20)
    next(parts)
    del parts
    with pytest.raises(DamagedHead):
        list(streams.read(container, 2**20 - 1, 2))
    assert not any(is_open(descriptor) for descriptor in opened)


def test_another_version_of_the_archive_is_opened_anew(container: Container, opened: list[int]) -> None:
    """A stream of an archive that has changed since is used again only for the same version."""
    streams = CompressedStreams()
    assert b"".join(streams.read(container, 0, 1)) == CONTENT[:1]
    path = Path(container.candidate.location)
    path.write_bytes(gzip.compress(bytes(100)))
    os.utime(path, ns=(1, 1))
    assert b"".join(streams.read(Container(found(path), container.format_name), 1, 9)) == bytes(9)
    assert len(opened) == 2
    streams.close()


def is_open(descriptor: int) -> bool:
    """Return whether a descriptor is open."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
