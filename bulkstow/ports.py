"""The ports of the pipeline: source and destination.

The pipeline knows no file system and no server. A source is written with plain blocking calls for one instance at a
time; the pipeline and the destination make these calls in worker threads, several at once, and give up those that hang.
"""

# ruff: noqa: ARG002 - the default methods need no arguments

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import anyio

from bulkstow.blocking import Work
from bulkstow.errors import InstanceChanged
from bulkstow.model import Batch, Candidate, Container, Exchange, FileResult, Instance, NoResponse, Outcome, Response
from bulkstow.platform.files import read_into

Found = Candidate | FileResult
"""What a scan yields: a candidate, or the outcome of something that cannot be sent."""


@dataclass(frozen=True, slots=True)
class Room:
    """A request for room in the spool, in bytes."""

    size_bytes: int
    spare_bytes: int = 0
    """Room that has to stay free, for the members of archives that are members themselves."""


Members = Generator[Sequence[Found] | Room, None, None]
"""The members of a container, in lists. After a `Room`, the next step is taken once there is that much room for it."""


@dataclass(frozen=True, slots=True)
class FileRange:
    """A part of an open file; it can be sent without a copy (sendfile)."""

    descriptor: int
    offset: int
    """The beginning of the range in the file, in bytes."""
    size_bytes: int

    def read_into(self, view: memoryview, at: int) -> int:
        """Read from `at` bytes after the beginning of the range; return how many bytes, at least one.

        The caller limits the view to the range. Blocks. Raises InstanceChanged if the file is shorter or unreadable.
        """
        try:
            count = read_into(self.descriptor, view, self.offset + at)
        except OSError as error:
            raise InstanceChanged(f"cannot be read: {error.strerror or error}") from error
        if not count:
            raise InstanceChanged(f"changed while it was sent: {self.size_bytes} bytes at the scan, now {at}")
        return count


Segment = memoryview | FileRange
"""A part of an instance; it is valid until the next one is drawn."""


def size_of(segment: Segment) -> int:
    """Return a segment's length in bytes."""
    return segment.size_bytes if isinstance(segment, FileRange) else len(segment)


class SegmentReader:
    """Segments as one stream of bytes."""

    def __init__(self, drawn: Generator[Segment]) -> None:
        self._drawn = drawn
        self._segment: Segment = memoryview(b"")
        self._offset = 0

    def read_into(self, view: memoryview) -> int:
        """Fill the view, less only at the end, and return how many bytes. Raises InstanceChanged."""
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
            piece = view[filled : filled + left_bytes]
            if isinstance(segment, memoryview):
                count = len(piece)
                piece[:] = segment[offset : offset + count]
            else:
                count = segment.read_into(piece, offset)
            filled += count
            self._offset += count
        return filled

    def close(self) -> None:
        """Close the segments; no thread may be reading."""
        self._drawn.close()


Scanned = Iterator[Sequence[Found]] | AsyncGenerator[Sequence[Found], None] | Work[Any, Found]
"""The lists of a scan."""


@runtime_checkable
class Source(Protocol):
    """A source of instances; a subclass implements the abstract methods, the others have defaults.

    The location of a candidate identifies it in the ledger and has to be the same in every run.

    All methods may block and are called in worker threads, several at once, except `scan`, of which one list at a time
    is drawn.
    """

    @abstractmethod
    def scan(self) -> Scanned:
        """Yield everything the source has, in lists; called once in a run.

        A source that can continue while a part of it hangs returns `blocking.Work`. One on another machine may return
        an asynchronous generator, which is drawn in the event loop, and raises RunStopped if it cannot continue.
        """

    @abstractmethod
    def read_head(self, candidate: Candidate) -> Instance | Container:
        """Return the instance of a candidate, from this scan or from the ledger; or a container with others in it.

        Raises:
            HeadError: there is nothing to send; the file is skipped with this reason.
            DamagedHead: it may be an instance, but cannot be sent; this counts as a failure.
            OSError: it cannot be read; this counts as a failure, too.
        """

    @abstractmethod
    def open(self, instance: Instance) -> Generator[Segment]:
        """Yield the bytes of an instance, exactly `instance.size_bytes`.

        Raises InstanceChanged, also after the last segment, if they are not those of the scan, and OSError if they
        cannot be read; both count as a failure.
        """

    @abstractmethod
    def verify(self, instance: Instance) -> str:
        """Return why an instance may have changed since the scan; empty if it has not.

        An OSError counts as a change.
        """

    def members(self, container: Container) -> Members:
        """Yield the members of a container that `read_head` has returned.

        Each step blocks, and is soon done: it may yield an empty list. A container that is damaged is the outcome of
        its own candidate, after the members that could be found. Called only if `read_head` returns containers.
        """
        reason = f"{container.format_name}, which was not looked into"
        yield [FileResult(container.candidate, None, Outcome.UNREADABLE, reason)]

    async def reserve(self, room: Room) -> None:
        """Wait for the `Room` that `members` has asked for."""
        return

    @property
    def is_fetched(self) -> bool:
        """True if the content of candidates is on another machine, and is fetched before their heads are read."""
        return False

    async def fetch(self, candidates: Sequence[Candidate]) -> AsyncGenerator[Sequence[Found], None]:
        """Fetch the content of candidates, and yield each with its extent, or with its outcome, in any order.

        Called with `is_fetched` for candidates that are to be sent, in the event loop, for several lists at once. Waits
        for room in the spool, and for a source that does not respond. Raises RunStopped for an error that no retry
        fixes.
        """
        yield candidates

    def release(self, candidates: Sequence[Candidate]) -> None:
        """Take note that the content of candidates is not needed any more; called in the event loop, does not block."""
        return

    async def until_full(self) -> None:
        """Return when the source waits until instances are released: batches are closed early then."""
        await anyio.sleep_forever()

    def digest(self, candidate: Candidate) -> Hashable | None:
        """Return a value that two candidates share only if their content is the same; None if only reading tells.

        Raises OSError.
        """
        return None

    def find_truncation(self, candidate: Candidate) -> str:
        """Return a note for the report if the content is cut off; empty if it is whole, or that is unknown.

        Called for refused instances only. Raises HeadError, OSError.
        """
        return ""

    def prefetch(self, instance: Instance) -> int:
        """Read an instance into memory before it is sent; return the number of bytes.

        Called only while the source is slow. Never raises OSError, because sending the instance reports the error.
        """
        return 0

    def is_gone(self, location: str) -> bool:
        """Return whether nothing is at a location any more; False if that is not known. Blocks."""
        return False

    def existing_parent(self, location: str) -> str:
        """Return the innermost directory, or its equivalent, above a changed instance that still exists.

        After a change, instances at the same place are verified before they are sent.
        """
        return location.rpartition("/")[0]

    @property
    def empty_parts(self) -> Sequence[str]:
        """The first parts of the source in which the scan has found nothing; they count as failures."""
        return ()

    @property
    def pruned_parts(self) -> int:
        """The number of parts, such as directories, that the scan left out as a whole because of a filter."""
        return 0


@runtime_checkable
class Destination(Protocol):
    """A receiver of instances. Every call makes one exchange and returns its result; it retries nothing."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in ledger and summary; files that are stored in a destination of another name are sent again."""

    @abstractmethod
    async def send(self, batch: Batch) -> Exchange:
        """Send a batch once. Raises RunStopped for an error that no retry fixes."""

    @abstractmethod
    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str] | Response | NoResponse:
        """Return the SOP Instance UIDs of those instances that are stored, or the failure of the query."""

    @abstractmethod
    async def probe(self) -> Response | NoResponse:
        """Send a small query, to find out whether the destination responds."""
