"""Paths of DICOMweb resources (PS3.18 §10.4 to §10.6).

A UID from a file or a server's response is untrusted: it may contain `/`, `..`, `?` or `#`. Every UID in the path of a
URL is encoded here. Checking that a UID is valid is left to the server.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from bulkstow.model import Header

_SAFE_WHEN_ENCODED = re.compile(r"(?!\.{1,2}\Z)[^/\\%\x00-\x1f\x7f\ud800-\udfff]+")
"""Text that is one path segment when percent-encoded. Proxies and servers decode `%2F`, `%5C` and `%25` before they
split a path, and URL libraries read `%2E%2E` as `..` (WHATWG URL §4.4)."""


def is_segment(text: str) -> bool:
    """Return whether `text`, percent-encoded, is one segment of a path even if it is decoded more than once."""
    return _SAFE_WHEN_ENCODED.fullmatch(text) is not None


def resource_path(*segments: str) -> str:
    """Return the segments, each behind a `/` and percent-encoded (RFC 3986 §3.3).

    Raises ValueError for a segment that `is_segment` rejects.
    """
    for segment in segments:
        if not is_segment(segment):
            raise ValueError(f"{segment!r} cannot be a segment of a URL's path")
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


def instances_path(header: Header) -> str | None:
    """Return the path of the instances of a header's series (PS3.18 Table 10.6.1-1).

    It is the path of the study's instances if the Series Instance UID cannot be a segment, and None if the Study
    Instance UID cannot be one.
    """
    if not is_segment(header.study_uid):
        return None
    series = ("series", header.series_uid) if is_segment(header.series_uid) else ()
    return resource_path("studies", header.study_uid, *series, "instances")


def instance_path(header: Header) -> str | None:
    """Return the path of an instance (PS3.18 Table 10.4.1-1), None if one of its UIDs cannot be a segment."""
    uids = (header.study_uid, header.series_uid, header.sop_instance_uid)
    if not all(map(is_segment, uids)):
        return None
    study, series, instance = uids
    return resource_path("studies", study, "series", series, "instances", instance)


def series_path(header: Header) -> str | None:
    """Return the path of a series (PS3.18 Table 10.4.1-1), None if one of its UIDs cannot be a segment."""
    if not (is_segment(header.study_uid) and is_segment(header.series_uid)):
        return None
    return resource_path("studies", header.study_uid, "series", header.series_uid)
