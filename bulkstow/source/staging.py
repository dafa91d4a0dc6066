"""Copies members of archives that cannot be read in place into the spool.

A generator of members asks for room by yielding `Room`, and yields None to report progress.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager

from bulkstow.errors import SpoolExceeded
from bulkstow.model import Extent
from bulkstow.ports import Found, Room
from bulkstow.quantities import show_size
from bulkstow.source.spool import Spool

STEP_BYTES = 16 * 2**20
"""The bytes that are staged in a step: 0.05 s from gzip, 0.5 s from bzip2; handing a step over takes 0.2 ms."""

_ROOM_BYTES = STEP_BYTES
"""Room that is asked for at once, so that small members do not wait for the event loop one by one."""

_SHARE_OF_SPOOL = 8
"""The part of a small spool that one archive asks for in advance."""

SHARE_OF_NESTED = 2
"""The part of the spool that is left to the members of archives in archives: such an archive may itself be in the
spool, with others after it, and is released only after its members have been sent."""


class Staging:
    """Copies members of one archive into the spool, list by list."""

    def __init__(self, spool: Spool, *, is_nested: bool = False) -> None:
        self.is_nested = is_nested
        """The archive is itself in another one."""
        self._spool = spool
        self._most_bytes = spool.most_bytes // SHARE_OF_NESTED
        """The largest member for which there is always room after some time."""
        self._spare_bytes = 0 if is_nested else self._most_bytes
        self._room_bytes = 0
        """Room that is reserved and not used."""
        self._copied: list[Extent] = []
        """The extents in the spool of the list that is not handed over yet."""
        self._step_bytes = 0

    @property
    def has_enough(self) -> bool:
        """True if the list should be handed over."""
        return self._step_bytes >= STEP_BYTES

    def excess(self, size_bytes: int) -> str:
        """Return why a member can never be staged; empty if it can."""
        if size_bytes <= self._most_bytes:
            return ""
        return f"larger than half of the spool: --spool-bytes {show_size(self._spool.most_bytes)}"

    def copy(self, blocks: Iterable[bytes | memoryview], size_bytes: int) -> Generator[Room | None, None, Extent]:
        """Copy a content of `size_bytes` into the spool; return its extent.

        Raises SpoolExceeded if it is larger than half of the spool or than announced, and SpoolError if the spool
        cannot be written. Errors of `blocks` pass through.
        """
        if excess := self.excess(size_bytes):
            raise SpoolExceeded(excess)
        if size_bytes > self._room_bytes:
            self._give_back()
            asked_bytes = max(size_bytes, min(_ROOM_BYTES, self._spool.most_bytes // _SHARE_OF_SPOOL, self._most_bytes))
            if not self._spool.try_reserve(asked_bytes, self._spare_bytes):
                yield Room(asked_bytes, self._spare_bytes)
            self._room_bytes = asked_bytes
        content = self._spool.begin(size_bytes, spares=self._spare_bytes > 0)
        self._room_bytes -= size_bytes
        try:
            report_at_bytes = STEP_BYTES
            for block in blocks:
                content.write(block)
                if content.size_bytes >= report_at_bytes:
                    report_at_bytes += STEP_BYTES
                    yield None
        except BaseException:
            content.abort()
            raise
        extent = content.finish()
        self._copied.append(extent)
        self._step_bytes += size_bytes
        return extent

    def share(self, extent: Extent) -> None:
        """Take note of a member in place of an archive that is in the spool itself; it is released like a copy."""
        self._spool.share(extent)
        self._copied.append(extent)

    def hand_over(self, found: Sequence[Found]) -> Sequence[Found]:
        """Return a list whose contents are released by others from now on."""
        self._copied.clear()
        self._step_bytes = 0
        return found

    def discard(self) -> None:
        """Release the extents that were not handed over, and give back the room that was not used."""
        for extent in self._copied:
            self._spool.release(extent)
        self._copied.clear()
        self._give_back()

    def _give_back(self) -> None:
        room_bytes, self._room_bytes = self._room_bytes, 0
        if room_bytes:
            self._spool.give_back(room_bytes)

    @contextmanager
    def lend(self, extent: Extent) -> Iterator[None]:
        """Keep a copy that is no member, and release it at the end; meanwhile there is less room for others."""
        self._copied.remove(extent)
        kept_bytes = extent.size_bytes + self._spool.chunk_bytes  # with sent content in the same chunk
        self._most_bytes -= kept_bytes
        try:
            yield
        finally:
            self._most_bytes += kept_bytes
            self._spool.release(extent)
