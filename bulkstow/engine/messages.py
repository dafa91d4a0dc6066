"""The messages between the coordinator and a sender, and their bytes.

The coordinator tells a sender how to send, and gives it batches; the sender gives back how each request ended. A
message is pickled, as both ends are the same program and nothing else can write to the channel between them. A batch
travels as plain tuples with no more than sending needs, which takes 2 µs an instance at both ends together; pickling
the values of `model` takes 10 µs.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bulkstow.config import DestinationSettings
from bulkstow.destination.given_headers import GivenHeaders
from bulkstow.errors import (
    BulkstowError,
    ConfigurationError,
    DestinationRefused,
    LoginRefused,
    RunStopped,
    StorageGone,
)
from bulkstow.model import Batch, Candidate, Exchange, Extent, Header, Instance, RequestTiming

if TYPE_CHECKING:
    from bulkstow.wire.edit_rules import Edits

_ERRORS: dict[str, type[BulkstowError]] = {
    error.__name__: error for error in (ConfigurationError, DestinationRefused, LoginRefused, RunStopped, StorageGone)
}
"""The errors of a sender that end the run."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Connect to a destination; the first message to a sender."""

    destination: DestinationSettings
    environment: Mapping[str, str] = field(repr=False)
    """The variables that a login reads; some are secrets."""
    read_concurrency: int
    """Files that this sender may read at once."""
    read_timeout_s: float
    is_throttled: bool
    """Bytes have to be admitted by the coordinator."""
    headers: GivenHeaders = field(repr=False)
    """The user's headers: a file of headers that is a pipe can be read only once."""
    edits: Edits | None = field(default=None, repr=False)
    """The edits of the instances, with the key of new UIDs."""


SentFile = tuple[str, int, int | str, bool | None, Extent | None, int | None, str]
"""The location, size, version, `by_link` and extent of a candidate, and the `sent_bytes` and SOP Instance UID of its
instance: as much as sending needs."""


@dataclass(frozen=True, slots=True)
class Post:
    """Send a batch in one request; `number` identifies the request."""

    number: int
    files: tuple[SentFile, ...]

    @classmethod
    def of(cls, number: int, batch: Batch) -> Post:
        """Return the message for a batch."""
        return cls(number, _files(batch.instances))

    @property
    def batch(self) -> Batch:
        """The batch, with the values that sending needs; its number is that of the request."""
        return Batch(self.number, tuple(map(_instance, self.files)))


@dataclass(frozen=True, slots=True)
class Verify:
    """Reach the server, and compare an instance with the scan: does the sender see the coordinator's files?"""

    number: int
    files: tuple[SentFile]

    @classmethod
    def of(cls, number: int, instance: Instance) -> Verify:
        """Return the message for an instance."""
        (file,) = _files([instance])
        return cls(number, (file,))

    @property
    def instance(self) -> Instance:
        """The instance, with the values that the comparison needs."""
        return _instance(self.files[0])


def _files(instances: Sequence[Instance]) -> tuple[SentFile, ...]:
    return tuple(
        (c.location, c.size_bytes, c.version, c.by_link, c.extent, i.sent_bytes, i.header.sop_instance_uid)
        for i in instances
        for c in (i.candidate,)
    )


def _instance(file: SentFile) -> Instance:
    location, size_bytes, version, by_link, extent, sent_bytes, uid = file
    candidate = Candidate(location, size_bytes, version, by_link, extent)
    return Instance(candidate, Header("", "", uid, "", ""), sent_bytes=sent_bytes)


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a request at once; nothing is told of it any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """So many bytes of those that a request wanted to send may be sent."""

    number: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ShortenReads:
    """Wait only a moment longer for storage that hangs: the run is about to end."""


ToSender = Begin | Post | Verify | Cancel | Admitted | ShortenReads


@dataclass(frozen=True, slots=True)
class Ready:
    """The sender can send."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An error that no retry fixes: of one request, or of the sender as a whole if there is no number."""

    number: int | None
    kind: str
    text: str

    @classmethod
    def of(cls, error: BulkstowError, number: int | None = None) -> Failed:
        """Return the message of an error."""
        kind = type(error).__name__
        return cls(number, kind if kind in _ERRORS else RunStopped.__name__, str(error))

    @property
    def error(self) -> BulkstowError:
        """The error, for raising it."""
        return _ERRORS[self.kind](self.text)


@dataclass(frozen=True, slots=True)
class Ended:
    """A request has ended."""

    number: int
    exchange: Exchange
    timings: tuple[RequestTiming, ...] = ()
    """One for each time that it was sent: again after a fresh login, or with a Content-Length."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The answer to `Verify`: how the file differs from the scan; empty if it does not."""

    number: int
    change: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request wants to send so many bytes."""

    number: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GivenBack:
    """So many bytes were admitted and not sent."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Progress:
    """The sums of a sender since its start; comes at intervals, as a sign of life too, and before each `Ended`."""

    sent_bytes: int
    """Bytes of bodies that sockets have accepted since the start."""
    cpu_s: float
    """Processor time of the sender since its start."""
    user_s: float
    """The part of it that was not spent in the system's calls: Python's own, and encryption."""


FromSender = Ready | Failed | Ended | Verified | Wanted | GivenBack | Progress


def encode(message: ToSender | FromSender) -> bytes:
    """Return the bytes of a message."""
    return pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)


def decode(data: bytes | memoryview) -> ToSender | FromSender:
    """Return the message in bytes that `encode` made; only bytes of our own processes may be given to it."""
    message: ToSender | FromSender = pickle.loads(data)  # noqa: S301 - both ends are ours
    return message
