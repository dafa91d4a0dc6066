"""Names of objects and errors of object stores: S3, Google Cloud Storage and Azure Blob Storage.

An error of the object-store library is a long text with the address of the request, which may have a signature, and
with the answer. Only the status, the code and the message of the answer are read from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from bulkstow.errors import ConfigurationError
from bulkstow.printing import shown

SCHEMES = ("s3", "gs", "az")
"""Of S3, Google Cloud Storage and Azure Blob Storage."""

ARCHIVE_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes of S3 whose objects are not readable before they are restored."""

_ARCHIVE_CODES = frozenset({"InvalidObjectState", "BlobArchived", "BlobBeingRehydrated"})
_BUCKET_CODES = frozenset({"NoSuchBucket", "ContainerNotFound", "InvalidBucketName", "ContainerBeingDeleted"})

_TOKEN_REQUEST = re.compile(
    r"token request|performing (?:GET|PUT) http://(?:169\.254\.|metadata\.)|credential", re.IGNORECASE
)
_STATUS = re.compile(r"status(?: code)?: (\d{3})\b")
_CODE = re.compile(r"<Code>\s*([^<]*?)\s*</Code>")
_MESSAGE = re.compile(r"<Message>\s*([^<\r\n]*)")
_TRANSPORT = re.compile(r" - HTTP error: ([^\r\n]*)")
_URL = re.compile(r"\w+://[^\s\"')]+")

_MOST_MESSAGE_CHARACTERS = 200
"""The most characters of a store's message in a report."""


@dataclass(frozen=True, slots=True)
class ObjectsName:
    """The objects that a user names: a whole bucket, one object, or everything below a prefix."""

    scheme: str
    bucket: str
    """Azure calls it a container."""
    prefix: str = ""
    """The beginning of the keys as it is written, without the slash after the bucket."""

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a name such as `s3://bucket/prefix`; nothing in it is decoded. Raises ConfigurationError."""
        scheme, separator, rest = name.partition("://")
        bucket, _, prefix = rest.partition("/")
        if not separator or scheme not in SCHEMES or not bucket:
            raise ConfigurationError(
                f"{name}: expected s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
            )
        if "@" in bucket:
            raise ConfigurationError(f"{scheme}://…: a name of objects has no login; see the README, Object stores")
        return cls(scheme, bucket, prefix)

    @property
    def root(self) -> str:
        """The beginning of the locations of all objects in the bucket."""
        return f"{self.scheme}://{self.bucket}"

    @property
    def directory(self) -> str:
        """The beginning of the keys below the prefix, which ends between two parts of a key."""
        return f"{self.prefix}/" if self.prefix and not self.prefix.endswith("/") else self.prefix

    def __str__(self) -> str:
        return f"{self.root}/{self.prefix}" if self.prefix else self.root


def unaddressable(key: str) -> str:
    """Return why obstore cannot ask for a key; empty if it can."""
    parts = key.split("/")
    if "" in parts:
        return "its key has an empty part between, before or after slashes"
    if "." in parts or ".." in parts:
        return "its key has a part '.' or '..'"
    if any(character < " " or character == "\x7f" for character in key):
        return "its key has a control character"
    return ""


@dataclass(frozen=True, slots=True)
class StoreError:
    """The response of an object store to a request that failed."""

    status: int | None
    """None if there was no answer."""
    code: str = ""
    message: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an error of obstore."""
        head = text.partition("\n\nDebug source:")[0]
        if _TOKEN_REQUEST.search(head.partition("status code")[0]):
            return cls(401, message="no login was found, or the service that gives one refuses it")
        status = _STATUS.search(head)
        if status is None:
            transport = _TRANSPORT.search(head)
            return cls.of(None, "", transport[1] if transport else head.partition("\n")[0])
        code, message = _CODE.search(head), _MESSAGE.search(head)
        return cls.of(int(status[1]), code[1] if code else "", message[1] if message else "")

    @classmethod
    def of(cls, status: int | None, code: str, message: str) -> Self:
        """Return an error with texts of bounded length that can be printed and have no address."""
        return cls(status, _short(code), _short(message))

    @property
    def is_archived(self) -> bool:
        """The object is in an archive."""
        return self.code in _ARCHIVE_CODES

    @property
    def is_of_bucket(self) -> bool:
        """There is no such bucket."""
        return self.code in _BUCKET_CODES

    @property
    def is_refusal(self) -> bool:
        """The login is refused, or it may not read this."""
        return self.status in (401, 403) and not self.is_archived

    def __str__(self) -> str:
        if self.status is None:
            return self.message or "no answer"
        words = ": ".join(word for word in (self.code, self.message) if word)
        return f"{self.status}, {words}" if words else str(self.status)


def _short(text: str) -> str:
    text = shown(_URL.sub("…", text)).strip()
    return text if len(text) <= _MOST_MESSAGE_CHARACTERS else f"{text[:_MOST_MESSAGE_CHARACTERS]}…"
