"""Text of a server, converted to one short printable line for a report.

`error_text` extracts the error message from a body in JSON, HTML, XML or plain text. `printable` cleans and cuts any
other text of a server. `destination` masks credentials before a body comes here.

A server may quote the patient in its text ("PatientID 12345 …"), and reports and ledgers must not name patients. Values
behind the words patient ID, name and birth date, and words with a caret (a DICOM person name or an ID with its issuer,
PS3.5 §6.2), are replaced by ***. Other quotations cannot be told from technical terms, and stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bulkstow.wire.bounded import parse_json

ERROR_TEXT_CHARACTERS = 160
"""The longest text in characters, so that an error fits on one line of a report beside a path."""

ERROR_BODY_BYTES = 64 * 2**10
"""The part of an error's body that is read. Errors of servers have a few KiB, stack traces included."""

PADDING = " \t\r\n\0"
"""Characters around a value: the NUL that pads a UID (PS3.5 §6.2), and the white space of indented XML."""

_MASK = "***"

_WORD = re.compile(r"[^\s'\"=,;:()\[\]<>]+")
_PATIENT_VALUE = re.compile(
    r"(?P<name>\bpatient[\s_-]?(?:'s[\s_-])?(?:id|name|birth[\s_-]?date)\b['\")\]]*+\s*(?:(?:is|of|value|[=:])\s*)?)"
    r"(?:'[^']*'|\"[^\"]*\"|[\w.-]*\d[\w.-]*)",
    re.IGNORECASE,
)
"""A value is in quotes or contains a digit, so "PatientID is missing" is not masked."""

_TITLE = re.compile(r"<(?:\w+:)?(?:title|message)\b[^<>]{0,200}>([^<]{1,2000})", re.IGNORECASE)
"""The title of a page, or the Message of an object store's XML error; bounded, so that no body takes long."""

_HTML = re.compile(r"<!doctype\s+html|<html\b", re.IGNORECASE)

_HEADLINES = ("message", "errormessage", "error", "title", "httperror", "msg")
"""Orthanc, AWS: Message. dcm4chee: errorMessage. OAuth 2, Google: error. RFC 9457: title. Orthanc always: HttpError."""

_DETAILS = ("details", "detail", "error_description")
"""Orthanc: Details. RFC 9457: detail. OAuth 2 (RFC 6749 §5.2): error_description."""

_NESTED = ("error", "errors")
"""Google, Azure: {"error": {"message": …}}. JSON:API: {"errors": [{"title": …}]}."""


def text_of(body: bytes) -> str:
    """Return a body as text without padding; bytes that are not UTF-8 are replaced, so the rest can still be read."""
    return body.decode("utf-8-sig", "replace").strip(PADDING)


def is_html(text: str) -> bool:
    """Return whether a text is an HTML page, by its beginning."""
    return text.startswith("<") and _HTML.search(text, 0, 1000) is not None


def error_text(body: bytes) -> str:
    """Return the error message in a body, in at most 160 printable characters, or "" if there is none.

    That is the message and the details of a JSON object, the title of an HTML page, or the first line of plain text.
    Accepts any bytes and raises nothing.
    """
    text = text_of(body[:ERROR_BODY_BYTES])
    if text.startswith("<"):
        import html

        found = _TITLE.search(text)
        return printable(html.unescape(found[1])) if found else ""
    try:
        return printable(_complaint(parse_json(text)))
    except ValueError:
        is_cut = len(body) > ERROR_BODY_BYTES and text.startswith(("{", "["))
        return "" if is_cut else printable(text.partition("\n")[0])


def printable(text: str) -> str:
    """Return a text as one line of at most 160 printable characters, with values that may name a patient replaced."""
    # The slice bounds the time for a very long line.
    shown = "".join(character if character.isprintable() else " " for character in text[: 10 * ERROR_TEXT_CHARACTERS])
    without_names = _WORD.sub(lambda word: _MASK if "^" in word[0] else word[0], " ".join(shown.split()))
    return _PATIENT_VALUE.sub(rf"\g<name>{_MASK}", without_names)[:ERROR_TEXT_CHARACTERS].rstrip()


def _complaint(document: object) -> str:
    if isinstance(document, list) and document:
        document = document[0]
    if isinstance(document, str):
        return document
    if not isinstance(document, dict):
        return ""
    fields = {key.lower(): value for key, value in document.items()}
    for name in _NESTED:
        nested = fields.get(name)
        if isinstance(nested, list) and nested:
            nested = nested[0]
        if isinstance(nested, dict):
            fields |= {key.lower(): value for key, value in nested.items()}
        elif isinstance(nested, str):
            fields.setdefault("error", nested)
    headline = _first_text(fields, _HEADLINES)
    detail = _first_text(fields, _DETAILS)
    return ": ".join(dict.fromkeys(filter(None, (headline, detail))))


def _first_text(fields: Mapping[str, object], names: Iterable[str]) -> str:
    return next((value for name in names if isinstance(value := fields.get(name), str) and value.strip()), "")
