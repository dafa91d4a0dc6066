"""The instances of a run, and one request with them: made, sent and settled as `upload` does it, once.

`Supply` numbers each worker's instances across all loads of a run: starting again would send duplicates. It is a
`Source`, so that a load takes the same way as files do. `Sender` decides how an exchange counts: instances that the
server named as stored are acknowledged, all others are errors, by kind. There are no retries, which would hide the
result of the first attempt.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bulkstow.bench.recorder import RecordedRequest
from bulkstow.bench.workload import Generated, Workload
from bulkstow.blocking import ReadLimit
from bulkstow.config import READ_TIMEOUT_S, DestinationSettings
from bulkstow.destination.auth import Auth
from bulkstow.destination.stow import StowDestination
from bulkstow.errors import StoreResponseError
from bulkstow.events import Event, RequestTimed
from bulkstow.model import (
    Batch,
    Candidate,
    Exchange,
    Instance,
    NoResponse,
    Outcome,
    RequestTiming,
    Response,
    SourceChanged,
)
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.policy.settlement import settle
from bulkstow.policy.work_items import Rules
from bulkstow.ports import Destination, Found, Segment, Source
from bulkstow.wire import store_response
from bulkstow.wire.server_profile import DEFAULT, ServerProfile


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


SENDER_THREADS = 8
"""Worker threads, as many as `upload` has for reading."""

_ACKNOWLEDGED = frozenset({Outcome.STORED, Outcome.WARNED})
"""Not `duplicate`: each instance is sent once, and a server that did not store it has no goodput."""


Heard = dict[int, tuple[RequestTiming, float]]
"""The timing of each request that has just ended, and the time of its end, by the batch's number."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that ended, and its instances that were stored."""

    ended: RecordedRequest
    stored: tuple[Instance, ...]
    is_unreachable: bool
    """No connection came about."""


class Sender:
    """Sends batches of a supply, each once."""

    def __init__(
        self,
        destination: Destination,
        supply: Supply,
        heard: Heard,
        *,
        trust_status: bool = False,
        profile: ServerProfile = DEFAULT,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._destination = destination
        self._supply = supply
        self._heard = heard
        self._rules = Rules(attempts=1, trust_status=trust_status, profile=profile)
        self._number = 0
        self.now = now
        """The clock of all times, in seconds."""

    def take(self, worker: int, instances: int) -> Batch:
        """Return a worker's next batch, to be sent."""
        self._number += 1
        return Batch(self._number, self._supply.take(worker, instances))

    async def send(self, batch: Batch, *, started_s: float, intended_s: float, had_slot: bool = True) -> Answered:
        """Send a batch and return its result.

        Raises LoginRefused and DestinationRefused.
        """
        try:
            result = await self._destination.send(batch)
        finally:
            self._supply.give_back(batch.instances)
            spent, ended_s = self._heard.pop(batch.number, (None, self.now()))
        settlement = settle(batch, result, self._rules, has_stored=True)
        stored = {id(result.candidate) for result in settlement.results if result.outcome in _ACKNOWLEDGED}
        acknowledged = tuple(instance for instance in batch.instances if id(instance.candidate) in stored)
        has_begun = not (isinstance(result, NoResponse) and not result.body_started)
        ended = RecordedRequest(
            intended_s=intended_s,
            started_s=started_s,
            ended_s=ended_s,
            instances=len(acknowledged),
            size_bytes=sum(instance.size_bytes for instance in acknowledged),
            errors=errors(batch.instances, acknowledged, result, self._rules.profile),
            connected_s=started_s + spent.connecting_s if spent and has_begun else None,
            taken_s=ended_s - spent.waiting_s if spent and spent.waiting_s else None,
            is_unanswered=isinstance(result, NoResponse) and has_begun,
            had_slot=had_slot,
        )
        return Answered(ended, acknowledged, is_unreachable=not has_begun)


@asynccontextmanager
async def sending(
    settings: DestinationSettings, auth: Auth, workload: Workload
) -> AsyncIterator[tuple[StowDestination, Sender]]:
    """Connect to a server, and yield it with a sender of a workload.

    Raises ConfigurationError for certificates that cannot be loaded.
    """
    supply, heard = Supply(workload), Heard()

    with WorkerThreads(SENDER_THREADS) as threads:
        destination = StowDestination(
            settings, auth, source=supply, readers=threads, limit=ReadLimit(READ_TIMEOUT_S), reporter=_Timings(heard)
        )
        async with destination:
            yield (
                destination,
                Sender(destination, supply, heard, trust_status=settings.trust_status, profile=settings.profile),
            )


class _Timings:
    """Keeps the timing of each request; of a request that is repeated for a login, the last counts."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard

    def tell(self, event: Event) -> None:
        """Keep a timing, and pass over all other events."""
        if isinstance(event, RequestTimed) and event.batch is not None:
            self._heard[event.batch.number] = event.timing, time.perf_counter()


def errors(
    sent: Iterable[Instance], acknowledged: Iterable[Instance], result: Exchange, profile: ServerProfile
) -> dict[str, int]:
    """Count the instances that were not acknowledged: by failure reason, HTTP status, or how the exchange ended."""
    left = {i.header.sop_instance_uid for i in sent} - {i.header.sop_instance_uid for i in acknowledged}
    if not left:
        return {}
    match result:
        case NoResponse(cause=cause):
            return {cause.value: len(left)}
        case SourceChanged():
            raise AssertionError("generated instances do not change")
        case Response() as reply:
            return _refusals(left, reply, profile)


def _refusals(left: set[str], reply: Response, profile: ServerProfile) -> dict[str, int]:
    try:
        failed = store_response.read(reply.body, profile).failed
    except StoreResponseError:
        failed = ()
    reasons = {item.sop_instance_uid: profile.meaning(item.code) for item in failed if item.sop_instance_uid in left}
    counts = Counter(f"failure reason {reason}" for reason in reasons.values())
    if unnamed := len(left) - len(reasons):
        not_named = ", not named" if reply.status < 300 or reasons else ""
        counts[f"HTTP {reply.status}{not_named}"] += unnamed
    return dict(counts)
