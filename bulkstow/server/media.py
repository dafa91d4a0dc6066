"""Media types of a store request and of its answer (PS3.18 §8.7, §10.5).

Owns what a request must call itself, and which notation is liked best. Refuses to answer: it returns words and names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bulkstow.errors import MultipartError
from bulkstow.model import StoreResponse
from bulkstow.wire.multipart_reader import read_content_type
from bulkstow.wire.store_response import to_json, to_xml

JSON = "application/dicom+json"
XML = "application/dicom+xml"

NOTATIONS: Mapping[str, Callable[[StoreResponse], bytes]] = {JSON: to_json, "application/json": to_json, XML: to_xml}
"""How an answer is written, by its media type."""

_ACCEPTED = {name: name for name in NOTATIONS} | {"application/*": JSON, "*/*": JSON}


def complaint(headers: Mapping[str, str]) -> str:
    """Return what is wrong with the media type of a store request, "" where it is right (PS3.18 §10.5.1, RFC 2387)."""
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
    """Return the media type of the answer: of those that we know, the one liked best (RFC 9110 §12.5.1)."""
    best, best_weight = None if accept.strip() else JSON, 0.0
    for entry in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        weight = next((_weight(text) for text in parameters if text.startswith("q=")), 1.0)
        if weight > best_weight and media_type in _ACCEPTED:
            best, best_weight = _ACCEPTED[media_type], weight
    return best


def _weight(parameter: str) -> float:
    try:
        return float(parameter.removeprefix("q="))
    except ValueError:
        return 0.0
