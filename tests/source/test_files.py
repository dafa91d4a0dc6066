"""Files as a source on slow storage: each is opened once, and compared with the scan nevertheless."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bulkstow.errors import HeadError, InstanceChanged
from bulkstow.model import Candidate, Instance
from bulkstow.policy.slowness import SLOW_READS
from bulkstow.ports import SegmentReader
from bulkstow.source import files
from bulkstow.source.files import WHOLE_BYTES, FileSource
from tests.archives import candidate, instance_in, write_instance
from tests.short_reads import shorten_reads


class Storage:
    """Counts the files that are opened, and those that are open."""

    def __init__(self) -> None:
        self.opens: Counter[str] = Counter()
        self.open: set[int] = set()


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """Give slow storage, all files of which are closed at the end of the test."""
    monkeypatch.setattr(files, "SLOW_HEAD_S", 0.0)
    storage, opens, close = Storage(), os.open, os.close

    def count_open(path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = opens(path, *arguments, **options)
        if "IM" in str(path):
            storage.opens[Path(path).name] += 1
            storage.open.add(descriptor)
        return descriptor

    def count_close(descriptor: int) -> None:
        close(descriptor)
        storage.open.discard(descriptor)

    monkeypatch.setattr(os, "open", count_open)
    monkeypatch.setattr(os, "close", count_close)
    yield storage
    assert not storage.open


@pytest.fixture
def source(storage: Storage, tmp_path: Path) -> Iterator[FileSource]:
    """Give a source that has found its storage slow."""
    slow = FileSource(most_open_files=8)
    for _ in range(SLOW_READS):
        slow.read_head(write_instance(tmp_path, 1).candidate)
    storage.opens.clear()
    yield slow
    slow.close()


def content(source: FileSource, instance: Instance) -> bytes:
    """Return the bytes of an instance."""
    view = memoryview(bytearray(2 * instance.candidate.size_bytes))
    reader = SegmentReader(source.open(instance))
    return bytes(view[: reader.read_into(view)])


def test_a_small_file_is_opened_once(source: FileSource, storage: Storage, tmp_path: Path) -> None:
    """From head to body it stays open, prefetched or not, and a second try opens it again."""
    for number, is_prefetched in ((2, False), (3, True)):
        written = write_instance(tmp_path, number)
        path = Path(written.candidate.location)
        instance = instance_in(source, written.candidate)
        assert instance == written
        if is_prefetched:
            assert source.prefetch(instance) == written.candidate.size_bytes
        assert content(source, instance) == path.read_bytes()
        assert storage.opens[path.name] == 1
        assert content(source, instance) == path.read_bytes()
        assert storage.opens[path.name] == 2


def test_a_large_file_stays_open_once_it_is_prefetched(source: FileSource, storage: Storage, tmp_path: Path) -> None:
    """The head closes a file of which it has read only a part."""
    written = write_instance(tmp_path, 2, rows=512, columns=WHOLE_BYTES // 256)
    instance = instance_in(source, written.candidate)
    assert not storage.open
    source.prefetch(instance)
    assert len(storage.open) == 1
    assert content(source, instance) == Path(written.candidate.location).read_bytes()
    assert storage.opens.total() == 2


def test_a_file_read_in_pieces_is_whole(
    source: FileSource, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the storage returns fewer bytes than requested, the head is read all the same, and the file is closed."""
    shorten_reads(monkeypatch, 100)
    written = write_instance(tmp_path, 2)
    assert source.read_head(written.candidate) == written
    assert not storage.open


def test_a_file_that_is_not_sent_is_closed(source: FileSource, storage: Storage, tmp_path: Path) -> None:
    """What is no DICOM, or cannot be read, keeps no descriptor."""
    (tmp_path / "IM").write_bytes(b"no DICOM" * 100)
    (tmp_path / "IM0").touch()
    for name, error in (("IM", HeadError), ("IM0", HeadError), ("IM1", OSError)):
        with pytest.raises(error):
            source.read_head(Candidate(str(tmp_path / name), 0 if name == "IM0" else 800, 0, by_link=False))
    assert len(storage.open) == 0


def test_a_change_while_it_is_open_is_noticed(source: FileSource, tmp_path: Path) -> None:
    """A file that was changed in place ends the body; one that was replaced is noticed after the response."""
    changed, replaced = (instance_in(source, write_instance(tmp_path, number).candidate) for number in (2, 3))
    os.utime(changed.candidate.location, ns=(1, 1))
    with pytest.raises(InstanceChanged, match="its modification time is new"):
        content(source, changed)
    before = Path(replaced.candidate.location).read_bytes()
    (tmp_path / "new").write_bytes(before * 2)
    (tmp_path / "new").rename(replaced.candidate.location)
    assert content(source, replaced) == before
    assert "bytes at the scan" in source.verify(replaced)


@pytest.mark.usefixtures("storage")
def test_fast_storage_keeps_nothing_open(tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as heads are quick, each is read and closed."""
    monkeypatch.setattr(files, "SLOW_HEAD_S", 60.0)
    fast = FileSource(most_open_files=8)
    for number in range(3 * SLOW_READS):
        fast.read_head(candidate(Path(write_instance(tmp_path, number).candidate.location)))
    assert not storage.open
