"""The instances of a run, handed out batch by batch, and their bytes while they are in flight.

Numbers each worker's instances across all loads of a run: starting again would send duplicates. It is a `Source`, so
that a load takes the same way as files do. Holds nothing of instances that have been answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence

from bulkstow.bench.workload import Generated, Workload
from bulkstow.model import Candidate, Instance
from bulkstow.ports import Found, Segment, Source


class Supply(Source):
    """Makes each instance of a workload once; threads read those that were taken and not given back."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._taken: Counter[int] = Counter()
        self._under_way: dict[str, Generated] = {}

    def take(self, worker: int, count: int) -> tuple[Instance, ...]:
        """Return a worker's next instances."""
        first = self._taken[worker]
        self._taken[worker] += count
        made = [self._workload.instance(worker, number) for number in range(first, first + count)]
        self._under_way.update((one.instance.header.sop_instance_uid, one) for one in made)
        return tuple(one.instance for one in made)

    def give_back(self, instances: Sequence[Instance]) -> None:
        """Forget instances that have been sent."""
        for instance in instances:
            del self._under_way[instance.header.sop_instance_uid]

    def scan(self) -> Iterator[Sequence[Found]]:
        """Yield nothing: a load takes its instances request by request."""
        return iter(())

    def read_head(self, candidate: Candidate) -> Instance:
        """Return an instance under way."""
        under_way = (made.instance for made in self._under_way.values())
        return next(instance for instance in under_way if instance.candidate == candidate)

    def open(self, instance: Instance) -> Generator[Segment]:
        """Yield an instance's bytes."""
        # An abandoned thread may come late, and finds nothing.
        if (made := self._under_way.get(instance.header.sop_instance_uid)) is not None:
            yield from made.pieces()

    def verify(self, instance: Instance) -> str:  # noqa: ARG002 - of `Source`
        """Return nothing: generated instances do not change."""
        return ""
