"""The values that flow through the pipeline, one type per stage.

Every value is frozen and complete when it is made. This module does no I/O and reads no clock. A path is a `str` as
`os.fsdecode` returns it: a name that is not UTF-8 contains lone surrogates, and `os.fsencode` turns it back into its
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of a file; ledger, report, summary and metrics use the same words."""

    STORED = "stored"
    WARNED = "warned"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    UNCONFIRMED = "unconfirmed"
    CONFLICT = "conflict"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    SKIPPED = "skipped"

    @property
    def is_failure(self) -> bool:
        """True if this outcome makes a run end with exit status 1."""
        return self in _FAILURES

    @property
    def is_success(self) -> bool:
        """True if the server has the instance."""
        return self in _SUCCESSES


_FAILURES = frozenset({Outcome.REFUSED, Outcome.UNCONFIRMED, Outcome.CONFLICT, Outcome.MISSING, Outcome.UNREADABLE})
_SUCCESSES = frozenset({Outcome.STORED, Outcome.WARNED, Outcome.DUPLICATE})


class Coding(StrEnum):
    """How the bytes of an instance are kept in a file."""

    STORED = "stored"
    DEFLATE = "deflate"
    """Raw deflated data (RFC 1951)."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The part of a file that has the bytes of an instance; any process of this computer can read it."""

    path: str
    """The file; of content that was copied into the spool the number of an open file, such as /proc/12/fd/7."""
    offset: int
    size_bytes: int
    """The number of bytes in the file."""
    version: tuple[int, int]
    """Size and modification time in ns of the file when the extent was found."""
    coding: Coding = Coding.STORED
    decoded_bytes: int | None = None
    """The number of bytes of the instance, if they are not stored as they are."""
    crc32: int | None = None
    """The checksum of the instance's bytes, compared when they are decoded."""
    is_spooled: bool = False
    """The file is a part of the spool of a running process: `version` identifies it, as it grows."""

    @property
    def content_bytes(self) -> int:
        """The number of bytes of the instance."""
        return self.size_bytes if self.decoded_bytes is None else self.decoded_bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that the scan found; its content has not been read yet.

    Location, size and version identify it: the ledger has them, and they are the same in every run.
    """

    location: str
    """The absolute path of a file; of anything else a name that begins with a scheme, such as `s3:`. The location of a
    member of an archive is that of the archive, `!/`, and the name of the member."""
    size_bytes: int
    """The size that the scan found: of a compressed file the compressed size; 0 if the source does not tell one."""
    version: int | str
    """A value that changes with the content: of a file its modification time in ns, else an ETag, a checksum or the
    like. Versions are compared exactly; only numbers tell which of two is newer."""
    by_link: bool | None = field(default=None, compare=False)
    """The scan followed a symbolic link at `location`, so opening it may follow one too; if False, a link found there
    was put in place later, and is refused. None if the candidate is from the ledger: the source decides."""
    extent: Extent | None = field(default=None, compare=False)
    """The bytes, if they are not the whole file at `location`. None also if the candidate is from the ledger: the
    source finds them again."""
    announced: Header | None = field(default=None, compare=False)
    """The head as the source announces it before the content is read; None if it does not."""

    @property
    def content_bytes(self) -> int:
        """The number of bytes of the content; the size that the scan found, as long as there is no better one."""
        return self.size_bytes if self.extent is None else self.extent.content_bytes


@dataclass(frozen=True, slots=True)
class Container:
    """A file with other files in it: an archive, or a compressed file."""

    candidate: Candidate
    format_name: str
    """The format with its article, such as 'a zip archive'."""


@dataclass(frozen=True, slots=True)
class Header:
    """The UIDs in the head of a file, its modality and its study date; a missing value is empty (PS3.10 §7.1)."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str | None = field(default=None, compare=False)
    """Modality (0008,0060), such as CT or MR; empty if there is no valid one; None if it is not known, as in a row of
    an older ledger or for a head that was not read that far."""
    study_date: str | None = field(default=None, compare=False)
    """Study Date (0008,0020) as YYYYMMDD; empty or None likewise."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A file that can be sent."""

    candidate: Candidate
    header: Header
    truncation: str = ""
    """A note for the report if the pixel data are longer than the file; otherwise empty."""
    conflicting_file: str = ""
    """A description of the file with other content that the server has under the same SOP Instance UID; otherwise
    empty. If it is set, finding the UID at the server proves nothing about this file."""
    sha256: str = ""
    """The SHA-256 of the file, in hexadecimal digits; empty if the user did not ask for it."""
    sent_bytes: int | None = None
    """The number of bytes that are sent, if that is not the number of the candidate, as after an edit."""
    original: Header | None = None
    """The head at the source, if the instance is edited; `header` is that of the sent instance."""

    @property
    def size_bytes(self) -> int:
        """The number of bytes that are sent."""
        return self.candidate.content_bytes if self.sent_bytes is None else self.sent_bytes

    @property
    def other_size_bytes(self) -> int | None:
        """The number of bytes that are sent; None if it is the size that the scan found."""
        return None if self.size_bytes == self.candidate.size_bytes else self.size_bytes

    @property
    def source_header(self) -> Header:
        """The head at the source."""
        return self.original or self.header

    def result(self, outcome: Outcome, reason: str = "", *, attempts: int = 0, copy_of: str = "") -> FileResult:
        """Return an outcome of the instance."""
        return FileResult(
            self.candidate,
            self.header,
            outcome,
            reason,
            attempts,
            copy_of,
            self.sha256,
            sent_bytes=self.other_size_bytes,
            original=self.original,
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """The instances of one request, with their common history.

    A batch can be split; only parts with the same history are joined again, so the history holds for every instance.
    """

    number: int
    instances: tuple[Instance, ...]
    requests: int = 0
    """Earlier requests with these instances."""
    failed_attempts: int = 0
    """How many of those ended without a verdict of the server; they count against the limit of attempts."""
    may_be_stored: bool = False
    """An earlier request reached the server without a response: 'already stored' may be the result of that request."""
    ambiguous_failures: int = 0
    """How many requests with a single instance the server failed with an ambiguous reason (272)."""
    was_ambiguous: bool = False
    """The server has failed each of these instances with an ambiguous reason before: after a lost race in its database
    it may have the instance nevertheless."""
    excused: int = 0
    """How many requests the server rejected because of load, or failed during an outage; they are no attempts."""

    @property
    def size_bytes(self) -> int:
        """The size of all files, without multipart framing."""
        return sum(instance.size_bytes for instance in self.instances)


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response; its body is read up to a limit."""

    status: int
    body: bytes
    content_type: str = ""
    warning: str = ""
    """The `Warning` header; dcm4chee gives its reason there."""
    retry_after_s: float | None = None
    location: str = ""
    """The target of a redirect."""
    is_replayed: bool = False
    """The body was sent once before, on a pooled connection that was lost without a response."""
    is_whole: bool = True
    """The response came after the whole body was sent; False if the server responded earlier."""
    changed: Mapping[str, str] = field(default_factory=dict)
    """The reason for each file that changed while it was sent, by SOP Instance UID: the server may have stored a
    mixture of the old and the new content."""


class Cause(StrEnum):
    """Why an exchange ended without a response."""

    UNREACHABLE = "no connection"
    DISCONNECTED = "connection lost"
    STALLED = "server took no bytes"
    UNANSWERED = "no answer in time"
    OVERLONG = "answer longer than the limit"
    MALFORMED = "malformed answer"
    SENDER_LOST = "the process that sent it ended"


@dataclass(frozen=True, slots=True)
class NoResponse:
    """An exchange that ended without a response."""

    cause: Cause
    body_started: bool
    """At least one byte of the body was sent: the server may have stored a part of it."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """An exchange that bulkstow cancelled, or did not begin, because files changed after the scan."""

    changed: Mapping[str, str]
    """The reason for each changed file, by SOP Instance UID."""
    directories: frozenset[str] = frozenset()
    """Directories below which more files may have changed."""
    is_begun: bool = True
    """At least one byte may have been sent."""


Exchange = Response | NoResponse | SourceChanged


@dataclass(frozen=True, slots=True)
class RequestTiming:
    """The time of one request by what it waited for; the rest of `elapsed_s` was spent waiting for a worker thread."""

    elapsed_s: float
    connecting_s: float
    """Until the connection was established; close to 0 for a pooled connection."""
    reading_s: float
    """Waiting for the storage, and for a processor."""
    sending_s: float
    """Waiting for the network or the server to accept data."""
    waiting_s: float
    """From the last byte sent to the response; 0 if the last byte was not sent."""
    throttled_s: float = 0.0
    """Waiting because of the user's bandwidth limit."""
    receive_window_s: float = 0.0
    """The part of `sending_s` in which the server's receive window was full (Linux only; otherwise 0)."""


@dataclass(frozen=True, slots=True)
class Referenced:
    """An item of a Store Instances Response (PS3.18 Table I.1-1)."""

    sop_class_uid: str
    sop_instance_uid: str
    """Empty if the server did not name one."""
    code: int | None = None
    """FailureReason or WarningReason; None if absent."""
    comment: str = ""
    """The server's comment on the code, printable and of bounded length."""


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """A Store Instances Response (PS3.18 Annex I), parsed from JSON or XML."""

    stored: tuple[Referenced, ...] = ()
    """Items of ReferencedSOPSequence without a WarningReason."""
    warned: tuple[Referenced, ...] = ()
    """Items of ReferencedSOPSequence with a WarningReason: they are stored, too."""
    failed: tuple[Referenced, ...] = ()
    other_failures: tuple[Referenced, ...] = ()
    """Items of OtherFailuresSequence; their UIDs are usually empty."""
    retrieve_url: str = ""
    comment: str = ""
    """The server's comment outside of the sequences."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """The outcome of one file, with its reason."""

    candidate: Candidate
    header: Header | None
    """None if the file could not be read as DICOM."""
    outcome: Outcome
    reason: str = ""
    attempts: int = 0
    """Requests with this file."""
    copy_of: str = ""
    """The location of the file that was sent for the same SOP Instance UID: a copy, or in conflict with this file."""
    sha256: str = ""
    """The SHA-256 of the file, in hexadecimal digits; empty if it was not computed."""
    accepted: str = ""
    """The note with which a user accepted this failure (`bulkstow accept`); empty if it is not accepted."""
    sent_bytes: int | None = None
    """The number of bytes that were sent, if that is not the number of the candidate."""
    original: Header | None = None
    """The head at the source, if the instance was edited."""

    @property
    def size_bytes(self) -> int:
        """The number of bytes that were sent, or that of the candidate; a DICOMweb server does not tell the latter."""
        return self.candidate.size_bytes if self.sent_bytes is None else self.sent_bytes

    @property
    def is_failure(self) -> bool:
        """True if this file makes a run end with exit status 1."""
        return self.outcome.is_failure and not self.accepted

    @property
    def reason_kind(self) -> str:
        """The part of the reason that many files share: up to a colon, and without the path of another file."""
        reason = self.reason.replace(self.copy_of, "another file") if self.copy_of else self.reason
        before, slash, _ = reason.partition(":")[0].partition(" /")
        return f"{before} …" if slash else before


@dataclass(frozen=True, slots=True)
class LedgerStudies:
    """The studies of a ledger's files for one destination."""

    known: int = 0
    complete: int = 0
    """How many of them have no failure that is not accepted."""
    sent: int = 0
    """How many of them had files that this run sent."""
    by_outcome: Mapping[Outcome, int] = field(default_factory=dict)
    """How many of them have files with an outcome."""
    files: int = 0
    """The number of files, those without a known study included."""
    failures_without: int = 0
    """Failures of files without a known study that are not accepted."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a whole run."""

    destination: str = ""
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    """The number of files by outcome, for all files that the run found."""
    settled_before: int = 0
    """How many of them an earlier run had settled; they were not sent again."""
    delivered: int = 0
    """The number of instances that the server has because of this run."""
    bytes_sent: int = 0
    """Bytes of request bodies that were sent: files and framing, retries included."""
    requests: int = 0
    retries: int = 0
    elapsed_s: float = 0.0
    concurrency: int = 0
    """The number of concurrent requests at the end; 0 if none was sent."""
    processes: int = 1
    """The number of processes at the end, this one included; in a cluster its workers count as processes."""
    accepted: int = 0
    """How many of the failures a user has accepted (`bulkstow accept`)."""
    complete: bool = False
    """False if the run was interrupted or stopped: files that are not counted were not reached."""
    batch_bytes: int | None = 0
    batch_instances: int | None = 0
    """The limit of a request at the end; None is unlimited, 0 means that none was sent."""
    outage_s: float = 0.0
    """How long the server was unavailable or out of space."""
    server_requests_per_s: float | None = None
    """Requests per second that the server accepts; None if it rejected none because of their rate."""
    bottleneck: str = "unknown"
    """The resource that the run waited for most."""
    spent_s: Mapping[str, float] = field(default_factory=dict)
    """The time of all requests by what they waited for, idle time of the scheduler, and processor time."""
    empty_sources: tuple[str, ...] = ()
    """The first sources without any file, unless `--allow-empty` was given; they count as failures."""
    shard: str | None = None
    """The part of the sources that this run sends, such as 3/16; None for all. The figures are those of this part."""
    studies: int | None = None
    """The number of studies of which this run sent instances; None if it could not be counted."""
    studies_known: int | None = None
    """The number of studies with files in the ledger for this destination; None likewise."""
    studies_complete: int | None = None
    """How many of them have no failure that is not accepted."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """The number of files that a filter left out, by its setting; they have no outcome."""
    pruned_directories: int = 0
    """Directories that were not entered because of `--exclude`."""
    disposed: int = 0
    """The number of files that were moved or deleted after their instances were stored (`--after-stored`)."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """The number of files that stay in place, by the reason."""
    watching: bool = False
    """The run waits for changes in its sources; everything that it has found has an outcome (`--watch`)."""
    ledger: str = ""
    version: str = ""
    """The version of bulkstow."""
    started_at: str = ""
    """ISO 8601, local time with its offset from UTC, as `ended_at`."""
    ended_at: str | None = None
    exit_status: int | None = None
    """The exit status of the command; None, as `ended_at`, while the run goes on, or if the process was killed."""
    stopped_because: str | None = None
    """The reason for an early end, in one line."""

    @property
    def failures(self) -> int:
        """The number of files that failed, without the accepted ones."""
        return sum(count for outcome, count in self.outcomes.items() if outcome.is_failure) - self.accepted
