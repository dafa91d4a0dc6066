"""Verifying instances: changed files are found with their reasons, and so are files that hang."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bulkstow.blocking import ReadLimit
from bulkstow.model import Instance
from bulkstow.source.files import FileSource
from bulkstow.source_check import SourceCheck
from tests.archives import write_batch

pytestmark = pytest.mark.anyio


@pytest.fixture
async def readers(anyio_backend: str) -> AsyncIterator[ThreadPoolExecutor]:
    """Give threads for reading."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


def grow(path: Path) -> None:
    """Add a byte."""
    with path.open("ab") as file:
        file.write(b"x")


def shrink(path: Path) -> None:
    """Cut a byte off."""
    os.truncate(path, path.stat().st_size - 1)


def touch(path: Path) -> None:
    """Change the modification time only."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


@pytest.mark.parametrize(
    ("change", "changed_words", "unreadable_words"),
    [
        (grow, "bytes at the scan, now", "bytes at the scan, now"),
        (shrink, "bytes at the scan, now", "bytes at the scan, now"),
        (touch, "modification time", "modification time"),
        (Path.unlink, "cannot be looked at again: No such file", "cannot be read: No such file"),
    ],
    ids=["grown", "shrunk", "touched", "gone"],
)
async def test_changed_files_are_found(
    tmp_path: Path,
    readers: ThreadPoolExecutor,
    change: Callable[[Path], None],
    changed_words: str,
    unreadable_words: str,
) -> None:
    """Only a file that has changed since the scan is returned, with the reason and its directory."""
    instances = write_batch(tmp_path, 3).instances
    source_check, bad = SourceCheck(FileSource(), readers, ReadLimit(60)), instances[1]
    assert await source_check.changed(instances) == {}
    assert await source_check.unreadable(instances) is None
    change(Path(bad.candidate.location))
    ((uid, reason),) = (await source_check.changed(instances)).items()
    assert uid == bad.header.sop_instance_uid
    assert changed_words in reason
    seen = await source_check.unreadable(instances)
    assert seen is not None
    assert seen.directories == {str(tmp_path)}
    assert not seen.is_begun
    assert unreadable_words in seen.changed[bad.header.sop_instance_uid]


class HangingFiles(FileSource):
    """Files, one of which hangs."""

    def __init__(self, hanging: Instance) -> None:
        super().__init__()
        self._hanging = hanging
        self.may_end = threading.Event()

    def verify(self, instance: Instance) -> str:
        """Verify, or hang."""
        if instance is self._hanging:
            self.may_end.wait()
        return super().verify(instance)


async def test_storage_that_hangs_counts_as_changed(tmp_path: Path, readers: ThreadPoolExecutor) -> None:
    """Only the instance whose storage does not answer within the limit is returned."""
    instances = write_batch(tmp_path, 4).instances
    source = HangingFiles(instances[2])
    changed = await SourceCheck(source, readers, ReadLimit(0.2)).changed(instances)
    source.may_end.set()
    assert set(changed) == {instances[2].header.sop_instance_uid}
    assert "cannot be looked at again: the storage" in changed[instances[2].header.sop_instance_uid]
