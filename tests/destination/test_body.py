"""Claims about the streamed body."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from bulkstow.destination.body import HOP_BYTES, WRITE_BYTES, Body, SourceChanged, write_body
from bulkstow.model import Instance
from bulkstow.wire.multipart import closing, part_head
from tests.archives import write_batch, write_instance

pytestmark = pytest.mark.anyio


@pytest.fixture
async def readers(anyio_backend: str) -> AsyncIterator[ThreadPoolExecutor]:
    """Give threads to read with."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


async def count_bytes(chunks: AsyncIterator[memoryview]) -> int:
    """Take chunks until the body ends or is ended, and return how many bytes there were."""
    count = 0
    with suppress(SourceChanged):
        async for piece in chunks:
            count += len(piece)
    return count


def remove(instances: Sequence[Instance]) -> None:
    """Delete the files of instances."""
    for instance in instances:
        Path(instance.candidate.location).unlink()


def open_files() -> set[str]:
    """Return the files that this process has open."""
    return {str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.exists()}


def framed(instances: Sequence[Instance], boundary: str = "B") -> bytes:
    """Return the body as one would write it by hand."""
    parts = b"".join(
        part_head(boundary, i.candidate.size_bytes, first=n == 0) + Path(i.candidate.location).read_bytes()
        for n, i in enumerate(instances)
    )
    return parts + closing(boundary)


@pytest.mark.parametrize(
    "sides",
    [[16], [16, 16, 16], [1100], [16, 1100, 16], [1100, 1100], [700, 700, 700], [16, 1024, 1100, 16, 16]],
    ids=str,
)
async def test_body_is_exact(tmp_path: Path, readers: ThreadPoolExecutor, sides: list[int]) -> None:
    """Whatever mix of small and large files: the bytes are those of the framing, and as many as declared."""
    instances = [write_instance(tmp_path, n, rows=side, columns=side) for n, side in enumerate(sides)]
    taken: list[int] = []
    body = Body(instances, "B", readers, taken.append)

    produced = b"".join([bytes(piece) async for piece in body.chunks()])

    assert produced == framed(instances)
    assert len(produced) == body.length_bytes == sum(taken)
    assert max(taken) <= WRITE_BYTES
    assert body.is_started
    assert body.is_taken


async def test_body_begins_anew(tmp_path: Path, readers: ThreadPoolExecutor) -> None:
    """A second call of chunks gives the whole body again: a retry never sends what is left of the first."""
    body = Body(write_batch(tmp_path, 3).instances, "B", readers)
    first = b"".join([bytes(piece) async for piece in body.chunks()])
    second = b"".join([bytes(piece) async for piece in body.chunks()])
    assert first == second


async def test_reads_only_ahead_of_what_is_taken(tmp_path: Path, readers: ThreadPoolExecutor) -> None:
    """A body that nobody takes further is not read further: at most two reads are in memory."""
    instances = [write_instance(tmp_path, n, rows=1024, columns=1023) for n in range(6)]
    body = Body(instances, "B", readers)
    chunks = body.chunks()
    await anext(chunks)
    remove(instances[2:])

    taken_bytes = WRITE_BYTES + await count_bytes(chunks)

    assert body.fault is not None
    assert body.fault.instance in instances[2:4]
    assert taken_bytes > HOP_BYTES


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


@pytest.mark.parametrize("side", [16, 1100], ids=["small", "large"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (grow, "bytes at the scan, now"),
        (shrink, "bytes at the scan, now"),
        (touch, "modification time"),
        (Path.unlink, "cannot be read: No such file"),
    ],
    ids=["grown", "shrunk", "touched", "gone"],
)
async def test_changed_file_ends_the_body(
    tmp_path: Path, readers: ThreadPoolExecutor, side: int, change: object, words: str
) -> None:
    """A file that is not what the scan found ends the body before its last byte; it is neither padded nor finished."""
    good, bad = (write_instance(tmp_path, n, rows=side, columns=side) for n in (1, 2))
    assert callable(change)
    change(Path(bad.candidate.location))
    body = Body([good, bad], "B", readers)

    produced_bytes = await count_bytes(body.chunks())

    assert body.fault is not None
    assert body.fault.instance is bad
    assert words in body.fault.reason
    assert not body.is_taken
    assert produced_bytes <= body.length_bytes - len(closing("B")) - 1


async def test_file_changed_while_it_streams(tmp_path: Path, readers: ThreadPoolExecutor) -> None:
    """A large file that grows after its first bytes have left is not finished either."""
    instance = write_instance(tmp_path, 1, rows=3000, columns=1100)
    body = Body([instance], "B", readers)
    chunks = body.chunks()
    await anext(chunks)
    await anext(chunks)
    grow(Path(instance.candidate.location))

    with pytest.raises(SourceChanged):
        async for _ in chunks:
            pass

    assert not body.is_taken


async def test_abandoned_body_leaves_no_file_open(tmp_path: Path, readers: ThreadPoolExecutor) -> None:
    """A body that is given up midway closes its file, and not before the read under way has ended."""
    instance = write_instance(tmp_path, 1, rows=4000, columns=1100)
    chunks = Body([instance], "B", readers).chunks()
    await anext(chunks)
    await anext(chunks)
    assert instance.candidate.location in open_files()
    await chunks.aclose()
    assert instance.candidate.location not in open_files()


async def test_written_body_is_the_sent_one(tmp_path: Path) -> None:
    """The body in a file has the very bytes that would be sent."""
    instances = write_batch(tmp_path / "archive", 3).instances
    size_bytes = await write_body(instances, "B", tmp_path / "request.bin")
    assert (tmp_path / "request.bin").read_bytes() == framed(instances)
    assert size_bytes == (tmp_path / "request.bin").stat().st_size
