"""Buckets of object stores: how they are reached, their objects, and the reasons of those that cannot be read.

obstore reads the objects of all stores; `objects_s3` and `objects_obstore` list them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import obstore
from obstore.exceptions import BaseError

from bulkstow.errors import BulkstowError, ConfigurationError, StorageGone
from bulkstow.wire.object_store import StoreError

if TYPE_CHECKING:  # obstore has these types for checkers only
    from obstore import GetOptions
    from obstore.store import BackoffConfig, ClientConfig, ObjectStore, RetryConfig

STORE_ERRORS = (BaseError, FileNotFoundError, ValueError, NotImplementedError)
"""The exceptions that obstore raises."""

RETRY_S = 180.0
"""Time for which a request is repeated while the store does not answer, or answers with a server error (5xx)."""

LONGEST_WAIT_S = 5.0
"""The longest wait before a repetition: a store that is back after an outage is noticed soon."""

READ_TIMEOUT_S = 30
"""Time without a byte after which a request is repeated."""

CONNECT_TIMEOUT_S = 10
"""Time for a connection. The default of obstore, 5 s, is too short for a busy proxy."""

REQUEST_TIMEOUT_S = 3600
"""The limit of a whole request; slow links are not cut off, as READ_TIMEOUT_S notices one that is lost."""

NOT_FOUND = 404
PRECONDITION_FAILED = 412
SERVER_ERROR = 500
"""The lowest status of an error of the server."""

PAGE_LENGTH = 1000
"""Objects in a page of a listing: the most that S3 and Google Cloud Storage send at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """How stores are reached; options that are not given are found as the tools of each cloud find them."""

    endpoint: str | None = None
    region: str | None = None
    is_anonymous: bool = False
    ca_file: Path | None = None
    is_insecure: bool = False
    retry_s: float = RETRY_S

    @property
    def client(self) -> ClientConfig:
        """The options of obstore's HTTP client. Raises ConfigurationError if the file of the CA cannot be read."""
        client: ClientConfig = {
            "allow_http": True,  # only an endpoint that the user names has no TLS
            "allow_invalid_certificates": self.is_insecure,
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            "read_timeout": timedelta(seconds=READ_TIMEOUT_S),
            "timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
        }
        if self.ca_file is not None:
            try:
                client["root_certificate"] = self.ca_file.read_bytes()
            except OSError as error:
                raise ConfigurationError(f"--source-ca-file {self.ca_file}: {error.strerror or error}") from error
        return client

    @property
    def retries(self) -> RetryConfig:
        """The options of obstore's retries; the time limits them, not their number."""
        longest_s = min(LONGEST_WAIT_S, self.retry_s / 4)
        # obstore panics unless the first wait is shorter than the longest.
        waits_s = {"init_backoff": min(0.1, longest_s / 2), "max_backoff": longest_s}
        return {
            "max_retries": 1000,
            "retry_timeout": timedelta(seconds=self.retry_s),
            "backoff": cast("BackoffConfig", {name: timedelta(seconds=wait_s) for name, wait_s in waits_s.items()}),
        }

    @property
    def attempts(self) -> int:
        """The number of attempts in about that time for botocore, which waits up to 20 s, 10 s on average."""
        return 1 + round(self.retry_s / 10)


MODIFIED = "modified "
"""How the version of an object without an ETag begins."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as its bucket lists it."""

    key: str
    size_bytes: int
    version: str
    """The ETag, without its quotes, as Azure lists it; if there is none, the time of the last change."""
    storage_class: str = ""
    """Empty if the listing does not tell it."""

    @property
    def etag(self) -> str | None:
        """The ETag as requests demand it; None if there is none."""
        if self.version.startswith((MODIFIED, "W/")):
            return None  # weak ones are never equal (RFC 9110 §13.1.1)
        return f'"{self.version}"'

    @property
    def is_marker(self) -> bool:
        """The object only marks a directory, as the tools of S3 make them."""
        return not self.size_bytes and self.key.endswith("/")


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A part of a bucket that cannot be listed."""

    directory: str
    """The beginning of the keys, with a slash at its end unless it is empty."""
    reason: str


REPLACED = "replaced since it was listed: the next run sends it"

REMOVED = "removed since it was listed, or a key that begins or ends with a slash, which only works with S3"

ARCHIVED = "in an archive storage class: restore it first"


class ObjectError(BulkstowError):
    """An object cannot be read; the text is the reason for the report."""

    def __init__(self, reason: str, *, is_of_store: bool = False, may_be_of_store: bool = False) -> None:
        super().__init__(reason)
        self.is_of_store = is_of_store
        """No object of this bucket can be read at this time."""
        self.may_be_of_store = may_be_of_store
        """Other objects may fail for the same reason, such as a login that has ended."""

    @classmethod
    def of(cls, answer: StoreError) -> Self:
        """Return the error for a store's answer."""
        if answer.status is None:
            return cls(f"the store does not answer: {answer}", is_of_store=True)
        if answer.is_of_bucket:
            return cls(f"the bucket is gone ({answer})", is_of_store=True)
        if answer.is_archived:
            return cls(f"{ARCHIVED} ({answer})")
        if answer.status == PRECONDITION_FAILED:
            return cls(REPLACED)
        if answer.status == NOT_FOUND:
            return cls(REMOVED)
        return cls(f"the store answers {answer}", may_be_of_store=answer.is_refusal or answer.status >= SERVER_ERROR)


class Bucket(ABC):
    """A bucket. All methods block."""

    def __init__(self, root: str, store: ObjectStore) -> None:
        self.root = root
        """The beginning of locations: scheme and name."""
        self.store = store
        """Reads objects."""

    @abstractmethod
    def check(self, directory: str) -> None:
        """Ask for a first object. Raises ConfigurationError if the bucket or the login is refused, and StorageGone."""

    @abstractmethod
    def pages(self, directory: str) -> Iterator[list[ListedObject | Unlisted]]:
        """Yield the objects whose keys begin with `directory`, in the store's order. Raises StorageGone."""

    def find(self, key: str) -> ListedObject | None:
        """Return the object with a key; None if there is none. Raises ObjectError."""
        try:
            return listed(obstore.head(self.store, key))
        except FileNotFoundError:
            return None
        except STORE_ERRORS as error:
            raise ObjectError.of(StoreError.parse(str(error))) from None

    def read(self, expected: ListedObject, begin: int, end: int) -> memoryview:
        """Return a part of an object. Raises ObjectError, also if the object was replaced.

        Blocks: after a process has used the asynchronous calls of obstore, one in six ends with SIGABRT, as their
        threads are still in Python code when it ends.
        """
        try:
            result = obstore.get(self.store, expected.key, options=_options(expected, begin, end))
            data = memoryview(result.bytes())
        except STORE_ERRORS as error:
            raise ObjectError.of(StoreError.parse(str(error))) from None
        _check(expected, listed(result.meta), end - begin, data)
        return data

    def key_of(self, location: str) -> str:
        """Return the key of an object's location."""
        return location[len(self.root) + 1 :]


def _options(expected: ListedObject, begin: int, end: int) -> GetOptions:
    options: GetOptions = {"range": (begin, end)}
    if expected.etag is not None:
        options["if_match"] = expected.etag
    return options


def _check(expected: ListedObject, found: ListedObject, wanted_bytes: int, data: memoryview) -> None:
    """Raise ObjectError unless a store has answered with the object that was listed; some ignore If-Match."""
    is_same = (found.size_bytes, found.version) == (expected.size_bytes, expected.version)
    if not is_same or len(data) != wanted_bytes:
        raise ObjectError(REPLACED)


def listed(meta: obstore.ObjectMeta) -> ListedObject:
    """Return an object as obstore lists it."""
    return ListedObject(meta["path"], meta["size"], version_of(meta["e_tag"], meta["last_modified"]))


def version_of(etag: str | None, modified: datetime) -> str:
    """Return the version of an object."""
    return etag.strip('"') if etag else f"{MODIFIED}{modified.isoformat()}"


def cannot_list(root: str, error: StoreError, *, is_start: bool = False) -> Exception:
    """Return the error for a bucket that cannot be listed: of the user if it is refused at the start of a run."""
    if error.is_of_bucket:
        reason = f"there is no such bucket ({error})"
    elif error.is_refusal:
        reason = f"access is refused ({error}); for a public bucket, --source-anonymous"
    elif error.status is None:
        return StorageGone(f"{root} cannot be reached: {error}; run the same command again when it is back")
    else:
        reason = f"it cannot be listed ({error})"
    is_of_user = is_start and error.status is not None and error.status < SERVER_ERROR
    return (ConfigurationError if is_of_user else StorageGone)(f"{root}: {reason}")
