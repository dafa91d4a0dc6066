"""Comparing two files byte by byte, in steps that a watcher can see, so that one that hangs is given up."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from bulkstow.blocking import ReadLimit, Turn, Work, carry_out
from bulkstow.model import Candidate
from bulkstow.opening import open_file
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.platform.files import read_at

BLOCK_BYTES = 1024 * 1024
"""Read of each file at a time: 0.15 ms from the page cache, and a disk of 10 MB/s gives it well within any limit."""


@dataclass(slots=True)
class _Step:
    """One block of each file; `location` is the one that is being read."""

    location: str


class _Comparison(Work[_Step, bool | None | OSError]):
    """Two files, block by block; its one result is whether they are equal, or an error that names the file."""

    def __init__(self, candidate: Candidate, other: Candidate) -> None:
        super().__init__(results_per_turn=1)
        self._files = candidate, other
        self._offset_bytes = 0
        self._open = ExitStack()
        self._descriptors: list[int] = []
        self._is_over = False
        self._is_under_way = False

    @property
    def has_more(self) -> bool:
        """False once a step is under way or all is known."""
        return not (self._is_over or self._is_under_way)

    def _take(self, _turn: Turn[_Step, bool | OSError | None]) -> _Step | None:
        if not self.has_more:
            return None
        self._is_under_way = True
        return _Step(self._files[1].location)

    def _do(self, step: _Step) -> object:
        """Return the result; "more" where these blocks are equal and others follow."""
        candidate, other = self._files
        try:
            if not self._descriptors:
                status = os.stat(other.location)  # noqa: PTH116 - a str that need not be UTF-8
                if (status.st_size, status.st_mtime_ns) != (other.size_bytes, other.modified_ns):
                    return None
                step.location = candidate.location
                mine = os.stat(candidate.location)  # noqa: PTH116
                if (mine.st_dev, mine.st_ino) == (status.st_dev, status.st_ino):
                    return True  # a link to it
            ours, theirs = (self._read(number, step) for number in (0, 1))
        except OSError as error:
            is_gone = not self._descriptors and step.location == other.location
            return None if is_gone else OSError(error.errno, error.strerror or str(error), step.location)
        self._offset_bytes += len(ours)
        return ours == theirs if ours != theirs or not ours else "more"

    def _read(self, number: int, step: _Step) -> bytes:
        file = self._files[number]
        step.location = file.location
        if len(self._descriptors) == number:
            self._descriptors.append(open_file(file.location, by_link=True))
            self._open.callback(os.close, self._descriptors[number])
        block = b""
        # Network file systems may return less than was asked for.
        while len(block) < BLOCK_BYTES and (
            more := read_at(self._descriptors[number], BLOCK_BYTES - len(block), self._offset_bytes + len(block))
        ):
            block += more
        return block

    def _put(self, _step: _Step, brought: object, turn: Turn[_Step, bool | OSError | None]) -> None:
        self._is_under_way = False
        if brought == "more":
            return
        self._is_over = True
        self._open.close()
        turn.results.append(brought)  # type: ignore[arg-type]  # all else that `_do` returns

    def _miss(self, step: _Step, why: str, turn: Turn[_Step, bool | OSError | None]) -> None:
        # Its descriptors stay open: the thread that hangs uses one of them.
        self._is_over = True
        turn.results.append(OSError(None, why, step.location))


async def compare(
    candidate: Candidate,
    other: Candidate,
    threads: WorkerThreads,
    limit: ReadLimit,
    on_stuck: Callable[[], None] = lambda: None,
) -> bool | None:
    """Say whether two files of one size hold the same bytes; None where the other one is not what it was, or is gone.

    `on_stuck` is called while the storage does not answer. Raises OSError that names the file that cannot be read, also
    where it does not answer within the limit.
    """
    found: list[bool | OSError | None] = []
    async for results in carry_out(_Comparison(candidate, other), threads, limit):
        if not results:
            on_stuck()
        found += results
    (result,) = found
    if isinstance(result, OSError):
        raise result
    return result
