"""The values that flow through the pipeline, one type a stage.

Every value is frozen; none has a field that is filled in later. This module knows neither files nor
servers nor clocks. A path is a `str` as `os.fsdecode` makes it: a name that is not UTF-8 carries lone
surrogates, and goes back to its bytes by `os.fsencode`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What became of a file: the same words in ledger, report, summary and exit status."""

    STORED = "stored"
    WARNED = "warned"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    UNCONFIRMED = "unconfirmed"
    CONFLICT = "conflict"
    UNREADABLE = "unreadable"
    SKIPPED = "skipped"

    @property
    def is_failure(self) -> bool:
        """True for what makes a run end with exit status 1."""
        return self in _FAILURES

    @property
    def is_success(self) -> bool:
        """True where the server has the instance."""
        return self in _SUCCESSES


_FAILURES = frozenset({Outcome.REFUSED, Outcome.UNCONFIRMED, Outcome.CONFLICT, Outcome.UNREADABLE})
_SUCCESSES = frozenset({Outcome.STORED, Outcome.WARNED, Outcome.DUPLICATE})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A regular file that the scan found; nothing is known of its content."""

    location: str
    size_bytes: int
    modified_ns: int
    by_link: bool = field(default=False, compare=False)
    """The scan followed a link at `location`, so whoever opens it does; else a link there is one that came later."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of a file says of its instance; a UID that is not there is empty (PS3.10 §7.1)."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Instance:
    """A file that can be sent."""

    candidate: Candidate
    header: Header
    truncation: str = ""
    """What the head says of pixel data that are longer than the file, for the report; empty where it says nothing."""
    conflicting_file: str = ""
    """The file with other content that the server has under the same SOP Instance UID, in words for a reason: that this
    UID is there already says nothing of this file."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Instances that travel in one request, and what they have been through together.

    Batches split; only parts of one batch with the same past are joined again. So all in it have the same past.
    """

    number: int
    instances: tuple[Instance, ...]
    requests: int = 0
    """Requests that carried these instances before this one."""
    failed_attempts: int = 0
    """How many of those ended without the server's word and count against the limit of attempts."""
    may_be_stored: bool = False
    """An earlier request reached the server and was not answered: 'already stored' would be our own doing."""
    ambiguous_failures: int = 0
    """How many of them, alone, the server failed for a reason that may pass or may not."""
    was_ambiguous: bool = False
    """An earlier request was answered, with a failure of each of these instances for such a reason: a server that lost
    a race in its database may have the instance all the same."""
    excused: int = 0
    """How many of them the server rejected for load, or failed during an outage: they are no attempts."""

    @property
    def size_bytes(self) -> int:
        """The files' bytes, framing not included."""
        return sum(instance.candidate.size_bytes for instance in self.instances)


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer, read whole up to a limit."""

    status: int
    body: bytes
    content_type: str = ""
    warning: str = ""
    """The `Warning` header: dcm4chee puts its reason there."""
    retry_after_s: float | None = None
    location: str = ""
    """Where a redirect points."""
    is_replayed: bool = False
    """The body had left once before, on a pooled connection that was lost without an answer."""
    is_whole: bool = True
    """It came after the whole body had left; False where the server did not hear us out."""
    changed: Mapping[str, str] = field(default_factory=dict)
    """Files that were written to while their bytes left, by SOP Instance UID, with the reason: what the server stored
    of them may be neither the old file nor the new one."""


class Cause(StrEnum):
    """Why an exchange ended without an answer."""

    UNREACHABLE = "no connection"
    DISCONNECTED = "connection lost"
    STALLED = "server took no bytes"
    UNANSWERED = "no answer in time"
    OVERLONG = "answer longer than the limit"
    MALFORMED = "malformed answer"


@dataclass(frozen=True, slots=True)
class NoResponse:
    """An exchange that ended without an answer."""

    cause: Cause
    body_started: bool
    """Bytes of the body had left: the server may have stored some of it."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """An exchange that we ended ourselves, or did not begin, because files were not what the scan had found."""

    changed: Mapping[str, str]
    """The reason for each such file, by SOP Instance UID."""
    directories: frozenset[str] = frozenset()
    """Directories in whose trees more files may have changed."""
    is_begun: bool = True
    """Bytes may have left before it was ended."""


Exchange = Response | NoResponse | SourceChanged


@dataclass(frozen=True, slots=True)
class RequestTiming:
    """Where one request's time went; what is left of `elapsed_s` was spent waiting for a turn."""

    elapsed_s: float
    connecting_s: float
    """Until the connection stood; next to nothing where it stood already."""
    reading_s: float
    """Waiting for the disk, and for a processor."""
    sending_s: float
    """Waiting for the network, or the server, to take bytes."""
    waiting_s: float
    """From the last byte that left to the answer; 0 where it did not come so far."""
    throttled_s: float = 0.0
    """Waiting because of a limit that the user set."""
    receive_window_s: float = 0.0
    """That part of `sending_s` in which the server had no room for what the network would have brought."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One batch sent once, and how that ended."""

    batch: Batch
    exchange: Exchange


@dataclass(frozen=True, slots=True)
class Referenced:
    """An item of a Store Instances Response (PS3.18 Table I.1-1)."""

    sop_class_uid: str
    sop_instance_uid: str
    """Empty where the server did not name one."""
    code: int | None = None
    """FailureReason or WarningReason; None where absent."""
    comment: str = ""
    """The server's own words beside the code, printable and of bounded length."""


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """A Store Instances Response (PS3.18 Annex I), whatever notation it came in."""

    stored: tuple[Referenced, ...] = ()
    """Items of ReferencedSOPSequence without a WarningReason."""
    warned: tuple[Referenced, ...] = ()
    """Items of ReferencedSOPSequence with one: stored all the same."""
    failed: tuple[Referenced, ...] = ()
    other_failures: tuple[Referenced, ...] = ()
    """Items of OtherFailuresSequence, tied to no instance: their UIDs are empty as a rule."""
    retrieve_url: str = ""
    comment: str = ""
    """The server's own words beside the sequences."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file, for good or until the next run."""

    candidate: Candidate
    header: Header | None
    """None where the file was not read as DICOM."""
    outcome: Outcome
    reason: str = ""
    attempts: int = 0
    """Requests that carried it."""
    copy_of: str = ""
    """Location of the file that was sent for the same SOP Instance UID: a copy, or one in conflict with this one."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole run in figures."""

    destination: str
    outcomes: dict[Outcome, int]
    """Every file that the run came across, by what is now known of it."""
    settled_before: int
    """Those of them that an earlier run had settled: nothing was sent for them."""
    bytes_sent: int
    """Bytes of request bodies that the server took: files and framing, repeats included."""
    requests: int
    retries: int
    elapsed_s: float
    concurrency: int
    """Requests at once that the run came to; 0 where it did not come so far."""
    complete: bool
    """False when the run was interrupted or stopped: what is not counted was not looked at."""
    batch_bytes: int | None = 0
    batch_instances: int | None = 0
    """What a request might hold in the end; None is unlimited, 0 where it did not come so far."""
    outage_s: float = 0.0
    """How long the server was gone or full: time without server."""
    server_requests_per_s: float | None = None
    """Requests a second that the server accepts; None where it rejected none for their rate."""
    bottleneck: str = "unknown"
    """What the run waited for most."""
    spent_s: Mapping[str, float] = field(default_factory=dict)
    """Where the time of all requests together went, how long none began though it might, and the processor's time."""
    empty_sources: tuple[str, ...] = ()
    """The first sources in which no file was found, where that is not accepted: a failure, too."""
    studies: int | None = None
    """Studies that this run sent something of; None where they could not be counted."""
    ledger: str = ""
    version: str = ""
    """Of bulkstow."""
    started_at: str = ""
    """ISO 8601, local time with its offset from UTC; so is `ended_at`."""
    ended_at: str | None = None
    exit_status: int | None = None
    """The command's exit status; None, as `ended_at`, while the run goes on, or if the process was killed."""
    stopped_because: str | None = None
    """What ended the run early, in one line."""

    @property
    def failures(self) -> int:
        """Files that are refused, unconfirmed, in conflict or unreadable."""
        return sum(count for outcome, count in self.outcomes.items() if outcome.is_failure)
