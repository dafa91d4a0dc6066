"""Parses JSON and XML documents of a server in memory that is bounded by their length.

A parser makes an object of 60 to 230 bytes from three characters such as `{},`, so a document with far more brackets
than any real response is refused before it is parsed. The length of a document is bounded by the caller.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

CHARACTERS_PER_BRACKET = 10
"""The fewest characters per bracket, on average over a document.
The densest element of DICOM JSON, `"00081197":{"vr":"US","Value":[272]},`, has 18, of the Native DICOM Model 20. A
document at the bound takes 25 bytes of memory a character."""

FREE_BRACKETS = 1000
"""The number of brackets that any document may have, for short documents."""


def parse_json(text: str) -> object:
    """Return a parsed JSON document. Raises ValueError if it is malformed, too dense or nested too deeply."""
    _refuse_dense(text, "JSON", "{", "[")
    try:
        # Messages of servers contain raw line feeds, although RFC 8259 §7 forbids them.
        return json.loads(text, strict=False)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"broken JSON: {error}") from None


def parse_xml(text: str) -> Element:
    """Return the root of an XML document. Raises ValueError if it is malformed or too dense, or has a DTD or entity."""
    from defusedxml.ElementTree import ParseError, fromstring  # most servers respond in JSON

    _refuse_dense(text, "XML", "<")
    try:
        root: Element = fromstring(text, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    except (ParseError, ValueError) as error:
        raise ValueError(f"broken or forbidden XML: {error}") from None
    return root


def _refuse_dense(text: str, notation: str, *brackets: str) -> None:
    if sum(map(text.count, brackets)) > FREE_BRACKETS + len(text) // CHARACTERS_PER_BRACKET:
        raise ValueError(f"{notation} with too many brackets for its length")
