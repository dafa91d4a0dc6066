"""Media types of requests and of their answers (PS3.18 §8.7, §10.4, §10.5).

Checks the media type of a store request, and chooses that of its answer by the Accept header.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from bulkstow.errors import MultipartError
from bulkstow.model import StoreResponse
from bulkstow.wire.multipart_reader import ContentType, read_content_type
from bulkstow.wire.store_response import to_json, to_xml

JSON = "application/dicom+json"
XML = "application/dicom+xml"

JSON_NAMES = (JSON, "application/json")
"""The names of clients for DICOM JSON, the right one first."""

NOTATIONS: Mapping[str, Callable[[StoreResponse], bytes]] = {JSON: to_json, "application/json": to_json, XML: to_xml}
"""The functions that write an answer, by media type."""

_ACCEPTED = {name: name for name in NOTATIONS} | {"application/*": JSON, "*/*": JSON}


def type_error(headers: Mapping[str, str]) -> str:
    """Return the error in the media type of a store request, "" if there is none (PS3.18 §10.5.1, RFC 2387)."""
    encoding = headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() != "identity":
        return f"expected a body that is not encoded, found {encoding}"
    try:
        found = read_content_type(headers.get("Content-Type", ""))
    except MultipartError as error:
        return str(error)
    if found.media_type != "multipart/related" or found.parameters.get("type", "").lower() != "application/dicom":
        return 'expected multipart/related; type="application/dicom"'
    return ""


def notation_for(accept: str) -> str | None:
    """Return the media type of the answer: of the known ones, that with the highest weight (RFC 9110 §12.5.1)."""
    best, best_weight = None if accept.strip() else JSON, 0.0
    for entry in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        weight = next((_weight(text) for text in parameters if text.startswith("q=")), 1.0)
        if weight > best_weight and media_type in _ACCEPTED:
            best, best_weight = _ACCEPTED[media_type], weight
    return best


@dataclass(frozen=True, slots=True)
class Accepted:
    """The result of an Accept header for one kind of answer."""

    is_acceptable: bool
    transfer_syntaxes: frozenset[str] | None
    """The UIDs that are acceptable; None if all are."""


def accepted(accept: str, offered: str, part_type: str = "") -> Accepted:
    """Return whether an Accept header allows the media type `offered`, if it is multipart with parts of `part_type`.

    The most specific range decides (RFC 9110 §12.5.1); a malformed range is ignored. Without a header everything is
    acceptable (PS3.18 §8.7.5). A range without a transfer syntax allows that in which the instance is stored.
    """
    matching = [(range_, _closeness(range_, offered, part_type)) for range_ in _ranges(accept)]
    closest = max((closeness for _, closeness in matching), default=0)
    taken = [
        range_
        for range_, closeness in matching
        if closeness and closeness == closest and _weight(f"q={range_.parameters.get('q', '1')}") > 0
    ]
    named = [range_.parameters.get("transfer-syntax", "*") for range_ in taken]
    return Accepted(bool(taken), None if "*" in named else frozenset(named))


def _ranges(accept: str) -> Iterator[ContentType]:
    for entry in _ENTRY.findall(accept) if accept.strip() else ["*/*"]:
        with suppress(MultipartError):
            yield read_content_type(entry)


def _closeness(range_: ContentType, offered: str, part_type: str) -> int:
    """Return how specifically a range matches the offered type, 0 if it does not."""
    wanted_part = range_.parameters.get("type", "").lower()
    by_type = _matches(range_.media_type, offered)
    by_part = _matches(wanted_part, part_type) if part_type and wanted_part else 1
    return 4 * by_type + by_part + bool(wanted_part) if by_type and by_part else 0


def _matches(range_: str, media_type: str) -> int:
    """Return 3 for the same type, 2 for its main type with any subtype, 1 for any type, 0 for another."""
    return {media_type: 3, f"{media_type.partition('/')[0]}/*": 2, "*/*": 1}.get(range_, 0)


_ENTRY = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
"""A range of an Accept header: a comma in quotes is part of it."""


def _weight(parameter: str) -> float:
    try:
        return float(parameter.removeprefix("q="))
    except ValueError:
        return 0.0
