"""The events of a run: one union, and one method that takes them.

`progress.tally` counts them, `progress.display` and `progress.closing` print what was counted, `progress.log` writes
them down. Whatever a stage, a source or a destination has to report is an event; nothing is reported by callbacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bulkstow.model import Batch, Exchange, FileResult, LedgerStudies, Outcome, RequestTiming
from bulkstow.policy.batching import BatchLimits
from bulkstow.policy.bottleneck import Wait
from bulkstow.policy.health import OutageCause
from bulkstow.policy.selection import Filter
from bulkstow.policy.study_state import StudyResult
from bulkstow.policy.work_items import WorkItem


@dataclass(frozen=True, slots=True)
class Connecting:
    """The run connects to the destination; nothing was sent yet."""

    url: str


@dataclass(frozen=True, slots=True)
class FilesFound:
    """The scan found files; negative numbers take back files that were found twice."""

    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Filters left out files, which have no outcome; `FilesFound` subtracts files that were counted as found before."""

    files: Mapping[Filter, int]
    directories: int = 0
    """Directories that the scan does not enter."""


@dataclass(frozen=True, slots=True)
class SettledBefore:
    """Files among those found that an earlier run settled."""

    outcomes: Mapping[Outcome, int]
    not_stored: tuple[FileResult, ...] = ()
    """The files that the server does not have, with their reasons."""
    size_bytes: int = 0
    """The size of all of them."""


@dataclass(frozen=True, slots=True)
class ScanEnded:
    """The scan has ended: from now on the total is known."""

    empty_sources: tuple[str, ...] = ()
    """The first sources in which no file was found."""


@dataclass(frozen=True, slots=True)
class RequestStarted:
    """A request has started."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class BytesSent:
    """The server has accepted some bytes of a body."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A request has ended in any way; `exchange` is None if it was cancelled."""

    batch: Batch
    exchange: Exchange | None = None
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RequestTimed:
    """The time of a request by what it waited for; precedes the request's `RequestEnded`."""

    timing: RequestTiming
    batch: Batch | None = None


@dataclass(frozen=True, slots=True)
class SendersChanged:
    """Another number of processes, or of a cluster's workers, sends for this process."""

    senders: int
    """0 if this process sends by itself."""
    are_workers: bool = False
    """They are workers of a Dask cluster."""


@dataclass(frozen=True, slots=True)
class SendersMeasured:
    """The processor time that was used since the last of these events."""

    cpu_s: float
    """Processor time of all senders, without that of this process."""
    busiest_cpu_s: float
    """Processor time of the sender that used the most."""


@dataclass(frozen=True, slots=True)
class Waited:
    """No request started for this time, although one more was allowed."""

    wait: Wait
    duration_s: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """Outcomes were written to the ledger."""

    results: tuple[FileResult, ...]


@dataclass(frozen=True, slots=True)
class Disposed:
    """Files whose instances are stored were moved or deleted, or stay in place (`--after-stored`)."""

    action: str
    """The action in the past tense, such as 'moved'."""
    files: int
    kept: tuple[tuple[str, str], ...] = ()
    """Locations of files that stay in place, with the reason."""
    kept_no_longer: Mapping[str, int] = field(default_factory=dict)
    """The number of files, by an earlier reason, that no longer stay in place, or for another reason."""


@dataclass(frozen=True, slots=True)
class Vanished:
    """Files that were found, and were gone before they were read; they have no outcome (`--watch`)."""

    locations: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Watching:
    """A run waits for changes in its sources, or no longer does (`--watch`)."""

    is_waiting: bool
    pending: int = 0
    """The number of files and directories that wait until they are quiet."""


@dataclass(frozen=True, slots=True)
class WatchNote:
    """Something that the user should know of the watched sources, such as why they are only scanned at intervals."""

    text: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan has listed files that would be sent."""

    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Reopened:
    """Files that are processed again: they were not sent because of another file with the same SOP Instance UID."""

    results: tuple[FileResult, ...]


@dataclass(frozen=True, slots=True)
class OutageBegan:
    """The destination has been unavailable or out of space for `lasted_s` seconds: sending stops."""

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
    """The destination stores again, after `duration_s` seconds: sending continues."""

    duration_s: float


@dataclass(frozen=True, slots=True)
class SourceOutageBegan:
    """A source on another machine has not answered for `lasted_s` seconds: nothing more is read from it."""

    lasted_s: float
    next_attempt_in_s: float


@dataclass(frozen=True, slots=True)
class SourceOutageEnded:
    """The source answers again, after `duration_s` seconds."""

    duration_s: float


@dataclass(frozen=True, slots=True)
class LimitsChanged:
    """The controllers chose other limits for the next requests."""

    concurrency: int
    """Requests that may be under way at once from now on."""
    settled_concurrency: int
    """The number that the controller has settled on; trying another number does not change it."""
    batch_limits: BatchLimits
    server_requests_per_s: float | None = None
    """Requests a second that the server seems to accept; None while it rejects none."""


@dataclass(frozen=True, slots=True)
class CeilingLearned:
    """The destination refused a body as too large (413): no larger bodies are sent from now on."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """What is left of an exchange waits for its next try."""

    item: WorkItem
    delay_s: float
    after: Exchange | None
    """How the exchange ended; None where QIDO-RS answered, but did not list an instance."""


@dataclass(frozen=True, slots=True)
class StudyVerified:
    """A study was compared with the server, and the result is in the ledger."""

    result: StudyResult
    is_from_before: bool = False
    """An unfinished earlier run confirmed the study; this run did not ask for it."""
    is_listed_instead: bool = False
    """The server does not count the instances of a study, so they were listed."""


@dataclass(frozen=True, slots=True)
class LedgerUpgraded:
    """The ledger of an older bulkstow was brought to the present schema; it is kept as it was at `kept_copy`."""

    kept_copy: str
    schema: int = 1
    """The schema that it had."""


@dataclass(frozen=True, slots=True)
class StudiesCounted:
    """The studies of the ledger were counted at the end of the run; None if they could not be counted in time."""

    studies: LedgerStudies | None


Outage = OutageBegan | OutageContinues | OutageEnded

Event = (
    Connecting
    | FilesFound
    | LeftOut
    | SettledBefore
    | ScanEnded
    | RequestStarted
    | BytesSent
    | RequestEnded
    | RequestTimed
    | SendersChanged
    | SendersMeasured
    | Waited
    | Recorded
    | Disposed
    | Vanished
    | Watching
    | WatchNote
    | Planned
    | Reopened
    | Outage
    | SourceOutageBegan
    | SourceOutageEnded
    | LimitsChanged
    | CeilingLearned
    | RetryScheduled
    | StudiesCounted
    | LedgerUpgraded
    | StudyVerified
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
