"""Comparing the content of two instances, in steps that a watcher can see, so that one that hangs is given up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack, closing
from dataclasses import replace

from bulkstow.blocking import ReadLimit, Work, Worker, run_in_threads
from bulkstow.errors import InstanceChanged
from bulkstow.model import Instance
from bulkstow.ports import SegmentReader, Source

BLOCK_BYTES = 1024 * 1024
"""Read of each instance at a time: 0.15 ms from the page cache, and a disk of 10 MB/s gives it within any limit."""

UNREADABLE = "cannot be read: "


class _Comparison(Work[bool, bool | None | OSError]):
    """Two instances; a step is a block of each, the only result whether they are equal, or an error with the location.

    One thread at a time takes steps.
    """

    def __init__(self, source: Source, instance: Instance, other: Instance) -> None:
        super().__init__(results_per_list=1)
        self._source = source
        # A file that is only compared may be outside of the sources, so links to it are followed.
        self._instances = [replace(i, candidate=replace(i.candidate, by_link=True)) for i in (instance, other)]
        self._views = [memoryview(bytearray(min(BLOCK_BYTES, i.size_bytes) or 1)) for i in self._instances]
        self._open = ExitStack()
        self._readers: list[SegmentReader] = []
        self._location = other.candidate.location
        """The instance that is being read."""
        self._has_more = True
        self._is_hashed = False
        """The other file is gone, and the instance is compared with its digest."""
        self._hash = hashlib.sha256()

    @property
    def has_more(self) -> bool:
        """False while a step is under way, and after the last one."""
        return self._has_more

    def _next_step(self, _worker: Worker[bool, bool | OSError | None]) -> bool | None:
        has_more, self._has_more = self._has_more, False
        return has_more or None

    def _run(self, _step: bool) -> object:
        """Return the result; "more" if there is none yet."""
        instance, other = self._instances
        try:
            if self._is_hashed:
                return self._hash_more()
            if not self._readers:
                if self._source.verify(other):
                    return "more" if self._look_elsewhere() or self._begin_digest() else None
                digest = self._source.digest(other.candidate)
                self._location = instance.candidate.location
                if digest is not None and self._source.digest(instance.candidate) == digest:
                    return True
            ours, theirs = (self._read(number) for number in (0, 1))
        except (OSError, InstanceChanged) as error:
            if self._location == other.candidate.location and (self._look_elsewhere() or self._begin_digest()):
                return "more"
            if not self._readers and self._location == other.candidate.location:
                return None
            reason = str(error) if isinstance(error, InstanceChanged) else error.strerror or str(error)
            return OSError(None, reason.removeprefix(UNREADABLE), self._location)
        return ours == theirs if ours != theirs or not ours else "more"

    def _begin_digest(self) -> bool:
        """Begin to compare with the digest of the other file, if it has one and is gone, as after it was stored."""
        other = self._instances[1]
        if self._is_hashed or not (other.sha256 and self._source.is_gone(other.candidate.location)):
            return False
        self._open.close()
        self._readers.clear()
        self._is_hashed = True
        return True

    def _hash_more(self) -> object:
        block = self._read(0)
        self._hash.update(block)
        return "more" if block else self._hash.hexdigest() == self._instances[1].sha256

    def _look_elsewhere(self) -> bool:
        """Begin again at the source of the other instance; return False unless it was read from the spool.

        It leaves the spool once its outcome is recorded.
        """
        other = self._instances[1]
        if other.candidate.extent is None or not other.candidate.extent.is_spooled:
            return False
        self._open.close()
        self._readers.clear()
        candidate, sent_bytes = replace(other.candidate, extent=None), other.other_size_bytes
        self._instances[1] = replace(other, candidate=candidate, sent_bytes=sent_bytes)
        self._location = candidate.location
        return True

    def _read(self, number: int) -> bytes:
        instance, view = self._instances[number], self._views[number]
        self._location = instance.candidate.location
        if len(self._readers) == number:
            self._readers.append(self._open.enter_context(closing(SegmentReader(self._source.open(instance)))))
        return bytes(view[: self._readers[number].read_into(view)])

    def _finish(self, _step: bool, result: object, worker: Worker[bool, bool | OSError | None]) -> None:
        self._has_more = result == "more"
        if self._has_more:
            return
        self._open.close()
        worker.results.append(result)  # type: ignore[arg-type]  # everything else that `_run` returns

    def _time_out(self, _step: bool, why: str, worker: Worker[bool, bool | OSError | None]) -> None:
        # The readers stay open: the thread that hangs uses one of them.
        worker.results.append(OSError(None, why, self._location))


async def compare(
    instance: Instance,
    other: Instance,
    source: Source,
    threads: Executor,
    limit: ReadLimit,
    on_stuck: Callable[[], None] = lambda: None,
) -> bool | None:
    """Return whether two instances of one size have the same content; None if the other one has changed or is gone.

    `on_stuck` is called while the storage does not respond. Raises OSError with the location of the instance that
    cannot be read, also if it does not respond within the limit.
    """
    found: list[bool | OSError | None] = []
    async for results in run_in_threads(_Comparison(source, instance, other), threads, limit):
        if not results:
            on_stuck()
        found += results
    (result,) = found
    if isinstance(result, OSError):
        raise result
    extent = other.candidate.extent
    if result is None and extent is not None and extent.is_spooled:
        # It was sent meanwhile, and its content released: the source reads it again.
        other = replace(other, candidate=replace(other.candidate, extent=None))
        return await compare(instance, other, source, threads, limit, on_stuck)
    return result
