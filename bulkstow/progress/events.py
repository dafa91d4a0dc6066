"""What a run tells of itself while it goes on: one union of events, one method to take them.

Counting (`tally`) and printing (`display`, `closing`) are two things; this module is neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from bulkstow.model import Batch, Exchange, FileResult, Outcome, RequestTiming
from bulkstow.policy.batching import BatchLimits
from bulkstow.policy.bottleneck import Wait
from bulkstow.policy.health import OutageCause
from bulkstow.policy.work_items import WorkItem


@dataclass(frozen=True, slots=True)
class Connecting:
    """The destination is asked whether it is there; nothing was sent yet."""

    url: str


@dataclass(frozen=True, slots=True)
class Found:
    """The scan came across files; negative where one was come across twice."""

    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Known:
    """Files among them that an earlier run settled."""

    outcomes: Mapping[Outcome, int]
    not_stored: tuple[FileResult, ...] = ()
    """Those of them that the server does not have, with their reasons."""
    size_bytes: int = 0
    """Of all of them."""


@dataclass(frozen=True, slots=True)
class ScanEnded:
    """From now on the total is known."""

    empty_sources: tuple[str, ...] = ()
    """The first of those that the user named and in which no file was found."""


@dataclass(frozen=True, slots=True)
class Started:
    """A request is under way."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Taken:
    """The server has taken some bytes of a body."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A request is over, whatever came of it; `result` is None where it was cancelled."""

    batch: Batch
    exchange: Exchange | None = None
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Timed:
    """Where the time of a request went; it comes before the request's `Ended`."""

    timing: RequestTiming
    batch: Batch | None = None


@dataclass(frozen=True, slots=True)
class Waited:
    """So long no request began though one more was allowed."""

    wait: Wait
    duration_s: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """Outcomes are in the ledger."""

    results: tuple[FileResult, ...]


@dataclass(frozen=True, slots=True)
class Reopened:
    """Files that are found once more: they were not sent because of another one with their SOP Instance UID."""

    results: tuple[FileResult, ...]


@dataclass(frozen=True, slots=True)
class OutageBegan:
    """The destination is gone or full, and has been since `lasted_s` seconds: sending stops."""

    cause: OutageCause
    lasted_s: float
    next_attempt_in_s: float


@dataclass(frozen=True, slots=True)
class OutageContinues:
    """An attempt during an outage failed."""

    cause: OutageCause
    lasted_s: float
    next_attempt_in_s: float


@dataclass(frozen=True, slots=True)
class OutageEnded:
    """The destination stores again, after `duration_s` seconds: sending goes on."""

    duration_s: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """The controllers chose other limits for the next requests."""

    concurrency: int
    """Requests that may be under way at once from now on."""
    settled_concurrency: int
    """The number that it has come to; a look above or below does not change it."""
    batch_limits: BatchLimits
    server_requests_per_s: float | None = None
    """Requests a second that the server seems to accept; None while it rejects none."""


@dataclass(frozen=True, slots=True)
class CeilingLearned:
    """The destination called a body too large (413): no larger ones are sent from now on."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """What is left of an exchange waits for its next try."""

    item: WorkItem
    delay_s: float
    after: Exchange | None
    """How the exchange ended; None where QIDO-RS answered, but did not list an instance."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """The ledger of an older bulkstow was brought to the present schema; it is kept as it was at `kept_copy`."""

    kept_copy: str


@dataclass(frozen=True, slots=True)
class Counted:
    """How many studies the run sent something of; None where that could not be found out."""

    studies: int | None


Outage = OutageBegan | OutageContinues | OutageEnded

Event = (
    Connecting
    | Found
    | Known
    | ScanEnded
    | Started
    | Taken
    | Ended
    | Timed
    | Waited
    | Recorded
    | Reopened
    | Outage
    | Tuned
    | CeilingLearned
    | RetryScheduled
    | Counted
    | Upgraded
)


class Reporter(Protocol):
    """Takes the events of a run."""

    def tell(self, event: Event) -> None:
        """Take an event; called in the event loop, so it neither blocks nor raises."""


class Reporters:
    """Tells several reporters of each event, in order."""

    def __init__(self, reporters: Iterable[Reporter]) -> None:
        self._reporters = tuple(reporters)

    def tell(self, event: Event) -> None:
        """Pass an event on."""
        for reporter in self._reporters:
            reporter.tell(event)
