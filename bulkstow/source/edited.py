"""Instances of any source, edited while they are sent: the head is patched, the pixel data are sent in place.

The patches of a head are found when it is read, and again when it is sent, unless they are still in memory; they are
the same, as they depend on nothing but its bytes and the rules.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Generator, Hashable, Sequence
from contextlib import closing
from dataclasses import replace

from bulkstow.errors import DamagedHead, InstanceChanged
from bulkstow.model import Candidate, Container, Instance
from bulkstow.ports import Found, Members, Room, Scanned, Segment, Source, size_of
from bulkstow.source.edited_heads import EditedHead, edit_head, readable
from bulkstow.source.splicing import spliced
from bulkstow.wire.edit_levels import growth_bytes
from bulkstow.wire.edit_rules import Edits
from bulkstow.wire.steps import Problem

KEPT_BYTES = 32 * 2**20
"""Memory for patches of heads that are read and not sent yet: 14,000 of 8 new UIDs each. Patching a head takes 30 µs,
finding its patches again 200 µs."""

_MOST_KEPT_OF_ONE_BYTES = KEPT_BYTES // 64
"""Longer ones, as those of a deflated data set, are found again."""


class EditedSource(Source):
    """The instances of a source after some edits."""

    def __init__(self, source: Source, edits: Edits) -> None:
        self._source = source
        self._edits = edits
        self._kept = _Kept()

    @property
    def at_source(self) -> Source:
        """The source without the edits."""
        return self._source

    def read_head(self, candidate: Candidate) -> Instance | Container:
        """Return the instance after the edits. Raises DamagedHead if it cannot be edited."""
        found = self._source.read_head(candidate)
        if isinstance(found, Container):
            return found
        if candidate.announced is not None and candidate.extent is None:  # its content is elsewhere, and is not fetched
            return replace(found, header=self._edits.header(found.header), original=found.header)
        try:
            head = self._head(found)
        except InstanceChanged as change:
            raise DamagedHead(str(change)) from None
        if not head.patches:
            return found
        return replace(
            found,
            header=head.header(found.header),
            original=found.header,
            sent_bytes=found.candidate.content_bytes + growth_bytes(head.patches),
        )

    def open(self, instance: Instance) -> Generator[Segment]:
        """Yield the bytes of the edited instance."""
        at_source = _at_source(instance)
        try:
            head = self._kept.get(instance.candidate) or self._head(at_source)
        except DamagedHead as error:
            raise InstanceChanged(str(error)) from None
        sent_bytes = 0
        with closing(self._source.open(at_source)) as drawn:
            for segment in spliced(drawn, head.patches):
                sent_bytes += size_of(segment)
                if sent_bytes > (instance.sent_bytes or sent_bytes):
                    break
                yield segment
        if sent_bytes != (instance.sent_bytes or sent_bytes):
            raise InstanceChanged(f"changed while it was sent: edited, it had {instance.sent_bytes} bytes before")

    def _head(self, instance: Instance) -> EditedHead:
        """Return the edits of an instance of the source. Raises DamagedHead, InstanceChanged, OSError."""
        with closing(self._source.open(instance)) as drawn:
            data = readable(drawn, instance.candidate.content_bytes)
            try:
                head = edit_head(self._edits, data)
            except Problem as problem:
                raise DamagedHead(f"cannot be edited: {problem}") from None
        self._kept.add(instance.candidate, head)
        return head

    def verify(self, instance: Instance) -> str:
        """Return why the instance at the source may have changed since the scan."""
        return self._source.verify(_at_source(instance))

    def prefetch(self, instance: Instance) -> int:
        """Read the instance at the source into memory."""
        return self._source.prefetch(_at_source(instance))

    def release(self, candidates: Sequence[Candidate]) -> None:
        """Take note that the content of candidates is not needed any more."""
        self._kept.drop(candidates)
        self._source.release(candidates)

    def scan(self) -> Scanned:
        """Return the scan of the source."""
        return self._source.scan()

    def members(self, container: Container) -> Members:
        """Yield the members of a container."""
        return self._source.members(container)

    async def reserve(self, room: Room) -> None:
        """Wait for room in the spool of the source."""
        await self._source.reserve(room)

    @property
    def is_fetched(self) -> bool:
        """True if the content of the source is on another machine."""
        return self._source.is_fetched

    def fetch(self, candidates: Sequence[Candidate]) -> AsyncGenerator[Sequence[Found]]:
        """Fetch the content of candidates, not yet edited."""
        return self._source.fetch(candidates)

    async def until_full(self) -> None:
        """Return when the source waits until instances are released."""
        await self._source.until_full()

    def digest(self, candidate: Candidate) -> Hashable | None:
        """Return the digest of the source: content that is equal there is equal after the edits, too."""
        return self._source.digest(candidate)

    def find_truncation(self, candidate: Candidate) -> str:
        """Return whether the content at the source is cut off."""
        return self._source.find_truncation(candidate)

    def is_gone(self, location: str) -> bool:
        """Return whether nothing is at a location any more."""
        return self._source.is_gone(location)

    def existing_parent(self, location: str) -> str:
        """Return the innermost directory above a changed instance that still exists."""
        return self._source.existing_parent(location)

    @property
    def empty_parts(self) -> Sequence[str]:
        """The first parts of the source in which the scan has found nothing."""
        return self._source.empty_parts

    @property
    def pruned_parts(self) -> int:
        """The number of parts that the scan left out."""
        return self._source.pruned_parts


class _Kept:
    """The edits of the heads that were read last, up to KEPT_BYTES; threads take turns."""

    def __init__(self) -> None:
        self._heads: OrderedDict[Candidate, EditedHead] = OrderedDict()
        self._memory_bytes = 0
        self._lock = threading.Lock()

    def get(self, candidate: Candidate) -> EditedHead | None:
        """Return the edits of a candidate; None if they are not kept."""
        with self._lock:
            return self._heads.get(candidate)

    def add(self, candidate: Candidate, head: EditedHead) -> None:
        """Keep edits, and drop the oldest ones if that are too many."""
        if head.memory_bytes > _MOST_KEPT_OF_ONE_BYTES:
            return
        with self._lock:
            self._drop(candidate)
            self._heads[replace(candidate, extent=None, announced=None)] = head
            self._memory_bytes += head.memory_bytes
            while self._memory_bytes > KEPT_BYTES:
                self._drop(next(iter(self._heads)))

    def drop(self, candidates: Sequence[Candidate]) -> None:
        """Drop the edits of candidates."""
        with self._lock:
            for candidate in candidates:
                self._drop(candidate)

    def _drop(self, candidate: Candidate) -> None:
        head = self._heads.pop(candidate, None)
        self._memory_bytes -= 0 if head is None else head.memory_bytes


def _at_source(instance: Instance) -> Instance:
    """Return the instance as it is at the source."""
    return replace(instance, header=instance.source_header, sent_bytes=None, original=None)
