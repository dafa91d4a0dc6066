"""Which instances travel together.

Owns the limits of a request: bytes, count, one study, each SOP instance once. Keeps an open batch for each study (or
one for all) and closes it when the next instance would pass a limit. It sends nothing and remembers nothing of a batch
that it has closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bulkstow.model import Batch, Instance
from bulkstow.wire.multipart import PART_OVERHEAD_BYTES

OPEN_STUDIES = 64
"""Open batches at once. Archives are mostly stored study by study, so a handful is open at a time; the bound is for
those that are not, where 64 batches of a few hundred instances are some MB of memory."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one request may hold; None is unlimited."""

    size_bytes: int | None
    instances: int | None


@dataclass(slots=True)
class _Open:
    instances: list[Instance] = field(default_factory=list)
    sop_instance_uids: set[str] = field(default_factory=set)
    size_bytes: int = 0


class Batcher:
    """Gathers instances into batches that keep the limits.

    `keep_studies` gives each study its batches; without it instances are taken as they come. An instance larger than
    the byte limit goes alone. `overhead_bytes` is what framing adds to each. Batches are numbered from 1, in the order
    in which they are closed.
    """

    def __init__(
        self, limits: BatchLimits, *, keep_studies: bool = True, overhead_bytes: int = PART_OVERHEAD_BYTES
    ) -> None:
        self.limits = limits
        self._overhead_bytes = overhead_bytes
        self._keep_studies = keep_studies
        self._open: dict[str, _Open] = {}
        self._closed_count = 0

    def add(self, instances: Iterable[Instance]) -> Iterator[Batch]:
        """Take instances in their order and yield each batch that is full."""
        for instance in instances:
            study = instance.header.study_uid if self._keep_studies else ""
            if (lane := self._open.get(study)) is not None and not self._fits(lane, instance):
                yield self._close(study)
                lane = None
            if lane is None:
                if len(self._open) >= OPEN_STUDIES:
                    yield self._close(next(iter(self._open)))
                lane = self._open[study] = _Open()
            lane.instances.append(instance)
            lane.sop_instance_uids.add(instance.header.sop_instance_uid)
            lane.size_bytes += instance.candidate.size_bytes + self._overhead_bytes
            if self._full(lane):
                yield self._close(study)

    def close_oldest(self) -> Batch | None:
        """Close the batch that has been open for longest; None where none is."""
        return self._close(next(iter(self._open))) if self._open else None

    def flush(self) -> Iterator[Batch]:
        """Close and yield every open batch, the oldest first."""
        while self._open:
            yield self._close(next(iter(self._open)))

    def _fits(self, lane: _Open, instance: Instance) -> bool:
        limit_bytes = self.limits.size_bytes
        return (
            limit_bytes is None or lane.size_bytes + instance.candidate.size_bytes + self._overhead_bytes <= limit_bytes
        ) and instance.header.sop_instance_uid not in lane.sop_instance_uids

    def _full(self, lane: _Open) -> bool:
        limits = self.limits
        return (limits.instances is not None and len(lane.instances) >= limits.instances) or (
            limits.size_bytes is not None and lane.size_bytes >= limits.size_bytes
        )

    def _close(self, study: str) -> Batch:
        self._closed_count += 1
        return Batch(number=self._closed_count, instances=tuple(self._open.pop(study).instances))
