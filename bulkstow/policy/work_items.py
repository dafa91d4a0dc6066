"""Work items: requests to make, and the ways in which a batch is sent again.

Defines how a batch is split and joined again, and the number of attempts. `settlement` decides outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum

from bulkstow.model import Batch, FileResult, Instance, Outcome
from bulkstow.policy.retry import Delay
from bulkstow.wire.server_profile import DEFAULT, ServerProfile

AMBIGUOUS_TRIES = 3
"""Attempts after code 272: it is bad content at one server, and at another a lost race for a database row, which the
third attempt wins."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What settlement depends on beside the exchange: the user's choices and the kind of server."""

    attempts: int = 5
    """Requests that may end without a verdict of the server before an instance is given up."""
    trust_status: bool = False
    """A 2xx response that lists nothing counts as stored, for servers that respond with an empty body."""
    profile: ServerProfile = DEFAULT
    """The kind of server."""


@dataclass(frozen=True, slots=True)
class Store:
    """Send this batch (STOW-RS)."""

    batch: Batch
    is_piece: bool = False
    """It is part of a batch that was split to find the instance that made it fail; that is no retry."""


@dataclass(frozen=True, slots=True)
class Query:
    """Ask by QIDO-RS whether the server has these instances; if not, their outcome is `otherwise`, for `reason`.

    `otherwise` is UNCONFIRMED if the server did not name them, and REFUSED if it did.
    """

    batch: Batch
    reason: str
    asked: int = 0
    otherwise: Outcome = Outcome.UNCONFIRMED
    excused: int = 0
    """How many queries were rejected because of load, or failed during an outage: they do not count as asked."""


WorkItem = Store | Query


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A work item, and how long it has to wait."""

    item: WorkItem
    delay: Delay = Delay.NONE
    at_least_s: float | None = None
    """The server's Retry-After."""


class HealthSignal(Enum):
    """What an exchange says about the destination's health."""

    NONE = "none"
    """Nothing: bulkstow cancelled it, or the process that sent it ended."""
    EASED = "eased"
    """It answered."""
    BUSY = "busy"
    """It answered that it is busy."""
    REJECTED = "rejected"
    """It, or a limiter in front of it, did not accept the request now (429, 503)."""
    GONE = "gone"
    """No answer, or an answer of a proxy in its place: several in a row open the circuit breaker."""
    FULL = "full"
    """It has no space for any instance: several in a row open the circuit breaker."""

    @property
    def is_answered(self) -> bool:
        """True if the destination itself has processed the request."""
        return self in (HealthSignal.EASED, HealthSignal.BUSY, HealthSignal.FULL)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is settled, what is left to do, and what the exchange says about the destination."""

    results: tuple[FileResult, ...] = ()
    again: tuple[Scheduled, ...] = ()
    health_signal: HealthSignal = HealthSignal.EASED
    too_large_bytes: int | None = None
    """Size of a body that the destination refused as too large (413)."""


def is_retry(item: WorkItem) -> bool:
    """Return True if this repeats a request that failed; a part of a batch that was split does not."""
    return (
        isinstance(item, Store) and not item.is_piece and item.batch.failed_attempts + item.batch.ambiguous_failures > 0
    )


def one_request(item: WorkItem) -> tuple[WorkItem, WorkItem | None]:
    """Split off as much of an item as is certainly one request: a query for several instances may take as many."""
    if not isinstance(item, Query) or len(item.batch.instances) == 1:
        return item, None
    first, *others = item.batch.instances
    one, rest = (replace(item.batch, instances=tuple(instances)) for instances in ([first], others))
    return replace(item, batch=one), replace(item, batch=rest)


def results_of(batch: Batch, instances: Iterable[Instance], outcome: Outcome, reason: str) -> tuple[FileResult, ...]:
    """Return the same outcome for some instances of a batch; the reason of a file that is cut off also says so."""
    return tuple(result_of(batch, instance, outcome, reason) for instance in instances)


def result_of(batch: Batch, instance: Instance, outcome: Outcome, reason: str) -> FileResult:
    """Return the outcome of one instance of a batch, as `results_of` does."""
    reason = with_truncation(reason, instance.truncation)
    return instance.result(outcome, reason, attempts=batch.requests)


def with_truncation(reason: str, truncation: str) -> str:
    """Return a reason, followed by the note that a file is cut off."""
    return f"{reason}; {truncation}" if reason and truncation else reason or truncation


def gather(again: Iterable[Scheduled]) -> tuple[Scheduled, ...]:
    """Join instances that wait for the same reason in one request again; an item without delay is sent alone."""
    alone: list[Scheduled] = []
    together: dict[tuple[Delay, int], list[Batch]] = {}
    for later in again:
        if later.delay is Delay.NONE:
            alone.append(later)
        else:
            together.setdefault((later.delay, later.item.batch.failed_attempts), []).append(later.item.batch)
    return tuple(alone) + tuple(
        Scheduled(Store(replace(batches[0], instances=tuple(i for b in batches for i in b.instances))), delay)
        for (delay, _), batches in together.items()
    )


def after_fault(
    batch: Batch, rules: Rules, reason: str, at_least_s: float | None = None, *, halve_from: int | None = None
) -> tuple[Scheduled, ...]:
    """Retry after a request that ended without a verdict of the server, while attempts are left; then query.

    From the failed attempt `halve_from` on a batch is halved, so that one instance that the server cannot process does
    not fail the others; at the last attempt each instance is sent alone.
    """
    batch = replace(batch, failed_attempts=batch.failed_attempts + 1)
    later = _backoff(batch, at_least_s)
    if batch.failed_attempts >= rules.attempts:
        attempts = "1 attempt" if batch.failed_attempts == 1 else f"{batch.failed_attempts} attempts, the last"
        return (Scheduled(Query(batch, f"{attempts}: {reason}"), Delay.BACKOFF, at_least_s),)
    if len(batch.instances) == 1 or halve_from is None:
        return (later(batch),)
    if batch.failed_attempts == rules.attempts - 1:
        return singly(batch, later)
    return halves(batch, later) if batch.failed_attempts >= halve_from else (later(batch),)


MOST_EXCUSED = 20
"""Failures that are not counted as attempts before a batch is given up nevertheless, so that a run always ends. A
limiter that rejects one request in ten does so 20 times in a row once in 10^20; with their backoff that takes about a
minute."""


def after_excuse(batch: Batch, reason: str, at_least_s: float | None = None) -> tuple[Scheduled, ...]:
    """Retry after a failure that the instances did not cause: a rejection because of load, or one during an outage.

    It is counted apart from the attempts. After half of MOST_EXCUSED each instance is sent alone, because one of them
    may be the cause nevertheless; after all of them QIDO-RS is queried.
    """
    batch = replace(batch, excused=batch.excused + 1)
    later = _backoff(batch, at_least_s)
    if batch.excused >= MOST_EXCUSED:
        reason = f"{batch.excused} times not accepted, the last: {reason}"
        return (Scheduled(Query(batch, reason), Delay.BACKOFF, at_least_s),)
    if batch.excused == MOST_EXCUSED // 2 and len(batch.instances) > 1:
        return singly(batch, later)
    return (later(batch),)


def _backoff(whole: Batch, at_least_s: float | None) -> Callable[[Batch], Scheduled]:
    def later(part: Batch) -> Scheduled:
        return Scheduled(Store(part, is_piece=len(part.instances) < len(whole.instances)), Delay.BACKOFF, at_least_s)

    return later


def _at_once(batch: Batch) -> Scheduled:
    return Scheduled(Store(batch, is_piece=True))


def halves(batch: Batch, later: Callable[[Batch], Scheduled] = _at_once) -> tuple[Scheduled, ...]:
    """Retry a batch in two parts, to find out which one is refused."""
    middle = len(batch.instances) // 2
    return tuple(later(replace(batch, instances=half)) for half in (batch.instances[:middle], batch.instances[middle:]))


def singly(batch: Batch, later: Callable[[Batch], Scheduled] = _at_once) -> tuple[Scheduled, ...]:
    """Retry each instance of a batch alone."""
    return tuple(later(replace(batch, instances=(instance,))) for instance in batch.instances)
