"""Where the bytes of an instance come from, and the body that they make, segment by segment.

Owns opening, comparing with what the scan found, and the order of framing and files. A file that is not what the scan
found ends the body with `SourceChanged`: it is never padded and never finished (a request that looks complete would be
stored). Everything here blocks, and belongs into a thread; nothing here knows of sockets.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bulkstow.blocking import ReadLimit, each
from bulkstow.errors import BulkstowError
from bulkstow.model import Candidate, Instance
from bulkstow.opening import open_file
from bulkstow.platform import files
from bulkstow.wire.multipart import closing, part_head

GATHER_BYTES = 256 * 2**10
"""Framing and small files are gathered in a buffer of this size, once for each body: a send of 256 KiB costs 40 µs, of
which the call itself is a thirtieth."""

SMALL_BYTES = 16 * 2**10
"""A file up to this size is read into that buffer. Whole runs of one thread: 1.3 KB files 10 µs each, against 13 µs
straight from the page cache; at 35 KB it is 17 against 15 µs, at 0.5 MB 150 against 90."""


class InstanceChanged(BulkstowError):
    """A file could not be read as the scan had found it; stays inside this room."""

    def __init__(self, instance: Instance, reason: str) -> None:
        super().__init__(reason)
        self.instance = instance
        self.reason = reason


@dataclass(frozen=True, slots=True)
class FileRange:
    """The first `size_bytes` of an open file; whose it is, for who has to say that it is shorter."""

    descriptor: int
    size_bytes: int
    instance: Instance


Segment = memoryview | FileRange
"""A piece of a body. It is good until the next one is drawn."""


class Contents(Protocol):
    """What an instance consists of."""

    def segments(self, instance: Instance) -> Generator[Segment]:
        """Yield the instance's bytes. Raises SourceChanged."""

    def changed(self, instances: Sequence[Instance]) -> dict[str, str]:
        """Return, by SOP Instance UID, why what was sent of an instance cannot be vouched for."""


class Files:
    """Instances are files."""

    def segments(self, instance: Instance) -> Generator[Segment]:
        """Open the file, hand it on, and look whether it is still what it was.

        Raises SourceChanged, once the file has been taken: what is still as the scan found it was so all the while.
        """
        try:
            descriptor = open_file(instance.candidate.location, by_link=instance.candidate.by_link)
            try:
                yield FileRange(descriptor, instance.candidate.size_bytes, instance)
                _compare(instance, os.fstat(descriptor))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise InstanceChanged(instance, f"cannot be read: {error.strerror or error}") from error

    def changed(self, instances: Sequence[Instance]) -> dict[str, str]:
        """Look at the files again.

        A file that goes straight from the page cache into a socket is not copied: what is written into it leaves with
        it, until the last byte is at the server. So what the server has is only known once it has answered.
        """
        found: dict[str, str] = {}
        for instance in instances:
            try:
                _compare(instance, os.stat(instance.candidate.location))  # noqa: PTH116 - a str that need not be UTF-8
            except InstanceChanged as changed:
                found[instance.header.sop_instance_uid] = changed.reason
            except OSError as error:
                # Removed or moved: it may have been written to before that, with its bytes on their way.
                found[instance.header.sop_instance_uid] = f"cannot be looked at again: {error.strerror or error}"
        return found


def opened(contents: Contents, instance: Instance) -> dict[str, str]:
    """Open an instance; return, by SOP Instance UID, why it cannot be read or is not as the scan found it. Blocks."""
    try:
        with contextlib.closing(contents.segments(instance)) as drawn:
            _read_first(next(drawn, None))
    except InstanceChanged as error:
        return {instance.header.sop_instance_uid: error.reason}
    return {}


async def look_again(
    look: Callable[[Instance], dict[str, str]], instances: Sequence[Instance], readers: Executor, limit: ReadLimit
) -> dict[str, str]:
    """Look at instances again in threads; return, by SOP Instance UID, why one is not as the scan found it.

    One whose storage does not answer within the limit is among them.
    """

    def missed(instance: Instance, why: str) -> dict[str, str]:
        return {instance.header.sop_instance_uid: f"cannot be looked at again: {why}"}

    changed: dict[str, str] = {}
    async for several in each(look, instances, missed, readers, limit, items_per_turn=len(instances)):
        for found in several:
            changed |= found
    return changed


async def directories_of(
    instances: Sequence[Instance], changed: Mapping[str, str], readers: Executor, limit: ReadLimit
) -> frozenset[str]:
    """Return the directories of what is changed, or the nearest ones above them that are there.

    One whose storage does not answer within the limit counts as there.
    """
    asked = {i.candidate.location.rpartition("/")[0] for i in instances if i.header.sop_instance_uid in changed}
    directories: set[str] = set()
    async for several in each(_nearest_directory, sorted(asked), _itself, readers, limit, at_once=len(asked)):
        directories.update(several)
    return frozenset(directories)


def _itself(directory: str, _why: str) -> str:
    return directory


def _read_first(segment: Segment | None) -> None:
    """Read a byte of a file, as it may be opened on a disk that fails. Raises SourceChanged."""
    if isinstance(segment, FileRange):
        _compare(segment.instance, os.fstat(segment.descriptor))
        if segment.size_bytes:
            read_into(memoryview(bytearray(1)), segment, 0)


def _nearest_directory(directory: str) -> str:
    """Return the directory, or the nearest one above it that is there."""
    while directory and not Path(directory).is_dir():
        directory = directory.rpartition("/")[0]
    return directory


@dataclass(slots=True)
class Cursor:
    """How far a body has been drawn."""

    number: int = 0
    """Of the instance that is being read, from 0."""


def segments(
    instances: Sequence[Instance], boundary: str, contents: Contents, place: Cursor | None = None
) -> Generator[Segment]:
    """Yield a whole body: framing and small files gathered, large ones by themselves. Raises SourceChanged."""
    place = place or Cursor()
    gathered = memoryview(bytearray(GATHER_BYTES))
    filled = 0
    for number, instance in enumerate(instances):
        place.number = number
        head = part_head(boundary, instance.candidate.size_bytes, first=number == 0)
        if filled + len(head) > GATHER_BYTES:
            yield gathered[:filled]
            filled = 0
        gathered[filled : filled + len(head)] = head
        filled += len(head)
        for segment in contents.segments(instance):
            size_bytes = size_of(segment)
            if filled and (size_bytes > SMALL_BYTES or filled + size_bytes > GATHER_BYTES):
                yield gathered[:filled]
                filled = 0
            if size_bytes > SMALL_BYTES:
                yield segment
            else:
                _copy(segment, gathered[filled : filled + size_bytes])
                filled += size_bytes
    end = closing(boundary)
    if filled + len(end) > GATHER_BYTES:
        yield gathered[:filled]
        filled = 0
    gathered[filled : filled + len(end)] = end
    yield gathered[: filled + len(end)]


def size_of(segment: Segment) -> int:
    """Return a segment's length in bytes."""
    return segment.size_bytes if isinstance(segment, FileRange) else len(segment)


def read_into(view: memoryview, source: FileRange, offset: int) -> int:
    """Read from a file at an offset; return how many bytes, at least one.

    Raises SourceChanged at its end, and where the disk fails.
    """
    try:
        count = files.read_into(source.descriptor, view, offset)
    except OSError as error:
        raise InstanceChanged(source.instance, f"cannot be read: {error.strerror or error}") from error
    if not count:
        raise InstanceChanged(source.instance, _changed_size(source.instance.candidate, offset))
    return count


def _copy(segment: Segment, view: memoryview) -> None:
    if isinstance(segment, memoryview):
        view[:] = segment
        return
    filled = 0
    while filled < segment.size_bytes:
        filled += read_into(view[filled:], segment, filled)


def _compare(instance: Instance, found: os.stat_result) -> None:
    candidate = instance.candidate
    if found.st_size != candidate.size_bytes:
        raise InstanceChanged(instance, _changed_size(candidate, found.st_size))
    if found.st_mtime_ns != candidate.modified_ns:
        raise InstanceChanged(instance, "changed while it was sent: its modification time is new")


def _changed_size(candidate: Candidate, found_bytes: int) -> str:
    return f"changed while it was sent: {candidate.size_bytes} bytes at the scan, now {found_bytes}"


class Stopwatch:
    """The time that a thread spends at something, turn by turn; others may look while it is under way."""

    def __init__(self) -> None:
        self._over_s = 0.0
        self._began_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Of all turns, the one under way included."""
        began_s = self._began_s
        return self._over_s + (0.0 if began_s is None else time.perf_counter() - began_s)

    def __enter__(self) -> None:
        self._began_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        over_s, self._began_s = self.elapsed_s, None
        self._over_s = over_s


class BodyReader:
    """A body as a stream of bytes to read from; for who cannot take files as they are."""

    def __init__(self, drawn: Generator[Segment]) -> None:
        self._drawn = drawn
        self._segment: Segment = memoryview(b"")
        self._offset = 0
        self.read_bytes = 0
        self._reading = Stopwatch()
        self.waited_s = 0.0
        """Nothing else is waited for in here."""

    @property
    def reading_s(self) -> float:
        """The time of all reads."""
        return self._reading.elapsed_s

    def read_into(self, view: memoryview) -> int:
        """Fill the view as far as the body goes, and return how far. Raises SourceChanged."""
        with self._reading:
            filled = self._read_into(view)
        self.read_bytes += filled
        return filled

    def _read_into(self, view: memoryview) -> int:
        filled = 0
        while filled < len(view):
            segment, offset = self._segment, self._offset
            left_bytes = size_of(segment) - offset
            if not left_bytes:
                drawn = next(self._drawn, None)
                if drawn is None:
                    break
                self._segment, self._offset = drawn, 0
                continue
            room = view[filled : filled + left_bytes]
            if isinstance(segment, memoryview):
                count = len(room)
                room[:] = segment[offset : offset + count]
            else:
                count = read_into(room, segment, offset)
            filled += count
            self._offset += count
        return filled

    def close(self) -> None:
        """Close the file that is open; nothing may be reading."""
        self._drawn.close()
