"""Digests of the files to send: files of any size, and files that hang, change or are gone."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Sequence
from pathlib import Path

import anyio
import pytest

from bulkstow.blocking import ReadLimit
from bulkstow.model import FileResult, Header, Instance, Outcome
from bulkstow.pipeline.digest import BLOCK_BYTES, Digest
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.ports import Segment
from bulkstow.source.files import FileSource
from tests.archives import candidate

pytestmark = pytest.mark.anyio

SIZES_BYTES = (1, 100, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES, 5 * BLOCK_BYTES + 7)


def write(path: Path, size_bytes: int) -> Instance:
    """Write a file of a size, and return it as an instance."""
    path.write_bytes((path.name.encode() * (size_bytes + 1))[:size_bytes])
    return Instance(candidate(path), Header("2.25.1", "2.25.1.1", f"2.25.1.1.{path.name}", "1.2", "1.2"))


def digest_of(instance: Instance) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(Path(instance.candidate.location).read_bytes()).hexdigest()


async def digested(
    source: FileSource, lists: Sequence[Sequence[Instance]], *, readers: int = 4, timeout_s: float = 60.0
) -> tuple[list[Instance], list[FileResult]]:
    """Run the stage, and return the instances that it passes on."""
    limit = ReadLimit(timeout_s)
    threads = WorkerThreads(readers, stuck_s=limit.stuck_s)
    instances_in, instances = anyio.create_memory_object_stream[list[Instance]](len(lists))
    digested_in, passed_on = anyio.create_memory_object_stream[list[Instance]](1000)
    results_in, results = anyio.create_memory_object_stream[list[FileResult]](1000)
    for several in lists:
        instances_in.send_nowait(list(several))
    instances_in.close()
    stage = Digest(
        source=source,
        readers=readers,
        threads=threads,
        limit=limit,
        instances=instances,
        digested=digested_in,
        results=results_in,
    )
    try:
        await stage.run()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    with passed_on, results:
        return [one async for several in passed_on for one in several], [
            one async for several in results for one in several
        ]


@pytest.mark.parametrize("readers", [1, 3])
async def test_digests_are_those_of_the_bytes(tmp_path: Path, readers: int) -> None:
    """Files around the size of a block, in several lists, have the digest of their content, each once."""
    written = [write(tmp_path / f"{number}", size_bytes) for number, size_bytes in enumerate(SIZES_BYTES * 3)]
    found, results = await digested(FileSource(), [written[:4], written[4:5], written[5:]], readers=readers)
    assert results == []
    expected = {instance.candidate.location: digest_of(instance) for instance in written}
    assert {instance.candidate.location: instance.sha256 for instance in found} == expected
    assert len(found) == len(written)


async def test_a_file_that_cannot_be_read_is_unreadable(tmp_path: Path) -> None:
    """Removed, changed and truncated files get an outcome; the others pass."""
    gone, changed, shrunk, fine = (write(tmp_path / name, 2 * BLOCK_BYTES) for name in ("gone", "new", "short", "fine"))
    (tmp_path / "gone").unlink()
    (tmp_path / "new").write_bytes(b"2" * 2 * BLOCK_BYTES)
    (tmp_path / "short").write_bytes(b"3" * BLOCK_BYTES)
    found, results = await digested(FileSource(), [[gone, changed, shrunk, fine]])
    assert [instance.candidate for instance in found] == [fine.candidate]
    reasons = {Path(result.candidate.location).name: result.reason for result in results}
    assert {result.outcome for result in results} == {Outcome.UNREADABLE}
    assert {result.header for result in results} == {gone.header, changed.header, shrunk.header}
    assert reasons == {
        "gone": "cannot be read: No such file or directory",
        "new": "changed while it was sent: its modification time is new",
        "short": f"changed while it was sent: {2 * BLOCK_BYTES} bytes at the scan, now {BLOCK_BYTES}",
    }


class Hangs(FileSource):
    """A source of which one file hangs until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def open(self, instance: Instance) -> Generator[Segment]:
        """Wait for the file that hangs."""
        if instance.candidate.location.endswith("hangs"):
            self.released.wait()
        return super().open(instance)


async def test_a_file_that_hangs_delays_no_other(tmp_path: Path) -> None:
    """A file that hangs is abandoned after the time limit; files beside it and of later lists pass before."""
    source = Hangs()
    lists = [
        [write(tmp_path / f"{number}", 10) for number in range(5)] + [write(tmp_path / "hangs", 10)],
        [write(tmp_path / f"{number}", 10) for number in range(5, 9)],
    ]
    try:
        found, results = await digested(source, lists, readers=1, timeout_s=0.4)
    finally:
        source.released.set()
    assert len(found) == 9
    assert [Path(result.candidate.location).name for result in results] == ["hangs"]
    assert results[0].reason.startswith("cannot be read: the storage has not answered for")


async def test_no_files_are_no_digests() -> None:
    """Empty input ends the stage."""
    assert await digested(FileSource(), []) == ([], [])
