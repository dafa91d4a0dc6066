"""The result of comparing an instance at the server with its file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bulkstow.model import Instance, NoResponse, Response


@dataclass(frozen=True, slots=True)
class Identical:
    """The same bytes from the prefix 'DICM' on; the preamble before it does not count."""


@dataclass(frozen=True, slots=True)
class SameDataSet:
    """The same attributes with the same values, in other bytes."""

    note: str
    """The differences in the encoding, such as 'file meta information'."""


@dataclass(frozen=True, slots=True)
class Different:
    """At least one attribute differs, or only one of the two has it."""

    attributes: tuple[str, ...]
    """Tags with keywords, such as '(0010,0010) PatientName', and the path of attributes in sequences; never a value. At
    most MOST_ATTRIBUTES, then one text with the number of the others."""


@dataclass(frozen=True, slots=True)
class NotCompared:
    """Nothing is known: the file cannot be read or has changed, or a decoder is missing."""

    reason: str


ContentResult = Identical | SameDataSet | Different | NotCompared | Response | NoResponse
"""A Response is any status but 200 (404 and 410: the server does not have the instance). A NoResponse is a retrieval
without a usable answer; the request may be repeated."""


Tell = Callable[[Instance, ContentResult], Awaitable[bool]]
"""Takes the result of an instance, and returns False if no more results are needed."""


class ContentComparer(Protocol):
    """Compares instances at a server with their files."""

    async def compare(self, instance: Instance) -> ContentResult:
        """Retrieve an instance once, and compare it with the source's.

        Raises LoginRefused, DestinationRefused and StorageGone.
        """

    async def compare_series(self, instances: Sequence[Instance], tell: Tell) -> Response | NoResponse:
        """Retrieve a whole series once, and compare instances of it with the source's; all are of this series.

        `tell` gets the result of each instance that was received to its end, also if the response breaks off. There is
        no result if the server lacks the instance, sends another one, or sends it in an unusual form: compare such an
        instance alone. Raises the exceptions of `compare` and `tell`.
        """
