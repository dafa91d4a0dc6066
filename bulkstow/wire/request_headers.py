"""Request headers that a user adds: parses 'Name: value' lines, and refuses names that bulkstow sets itself.

Reading the lines is left to `config` (--header) and to `destination.http` (--header-file).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from bulkstow.errors import ConfigurationError

_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token (RFC 9110 §5.6.2)."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
"""Characters that a field's value must not contain (RFC 9110 §5.5); a tab is allowed."""

_BODY = "bulkstow sets it itself, from the body that it sends"
_CONNECTION = "it belongs to the connection, which bulkstow manages"
_PARTIAL = "the answer to such a request is not the whole answer"
_CONDITIONS = ("if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since")

_RESERVED = {
    "host": "it follows from --url",
    "accept-encoding": "bulkstow reads gzip and deflate, and says so itself",
    **dict.fromkeys(("expect", "trailer", "transfer-encoding"), _BODY),
    **dict.fromkeys(("connection", "http2-settings", "keep-alive", "te", "upgrade"), _CONNECTION),
    **dict.fromkeys(("range", *_CONDITIONS), _PARTIAL),
}

_RESERVED_PREFIXES = {
    "content-": _BODY,
    "proxy-": "a login for a proxy goes into the proxy's URL: https_proxy=http://USER:PASSWORD@HOST:PORT",
}


def parse_headers(lines: Iterable[str], setting: str) -> dict[str, str]:
    """Return the headers in `lines`, each 'Name: value', by name.

    Raises ConfigurationError for a line that is not a header, a name that bulkstow sets itself, and a name given twice.
    The message names the `setting` and repeats no value.
    """
    headers: dict[str, str] = {}
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or not _FIELD_NAME.fullmatch(name) or _CONTROL.search(value):
            # The line is named by its number, as it may be a secret without a header name.
            raise ConfigurationError(f"{setting} number {number}: expected 'Name: value' on one line")
        if reason := _reason_against(name.lower()):
            raise ConfigurationError(f"{setting} {name}: cannot be set, as {reason}")
        if name.lower() in seen:
            raise ConfigurationError(f"{setting} {name}: given twice; put both values into one, with a comma")
        seen.add(name.lower())
        headers[name] = value
    return headers


def has_header(headers: Iterable[str], name: str) -> bool:
    """Return whether a name is among these headers, ignoring case (RFC 9110 §5.1)."""
    return any(given.lower() == name.lower() for given in headers)


def _reason_against(name: str) -> str:
    """Return why a user may not set the header `name` (in lower case), or ""."""
    prefixed = (reason for prefix, reason in _RESERVED_PREFIXES.items() if name.startswith(prefix))
    return _RESERVED.get(name) or next(prefixed, "")
