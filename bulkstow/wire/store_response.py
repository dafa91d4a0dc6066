"""Parses and writes the body of a STOW-RS response: a Store Instances Response in JSON or XML.

Both notations are supported (PS3.18 Annex I): DICOM JSON (PS3.18 Annex F) and the Native DICOM Model (PS3.19 §A.1). XML
is first converted to the shape of DICOM JSON, so there is one reader and one writer.

The meaning is left to others: an instance that is listed both as stored and as failed is in both lists,
`server_profile` explains codes, `policy.settlement` compares UIDs with those that were sent, and `server_text` extracts
error messages. The Content-Type is ignored: Orthanc sends errors without one, and JSON as `text/plain`.

A malformed response can make an instance unacknowledged, never stored:

- a sequence that is not a list of items makes the whole response unreadable: it might list an instance as failed that
  another sequence lists as stored;
- an item that is not an object is read as an item without attributes: in the list of stored instances it names none,
  in the list of failed ones it still counts as a failure;
- a UID that is not text, and a code that is not a 16-bit number, count as absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bulkstow.errors import StoreResponseError
from bulkstow.model import Referenced, StoreResponse
from bulkstow.wire.bounded import parse_json, parse_xml
from bulkstow.wire.server_profile import DEFAULT, PrivateElement, ServerProfile
from bulkstow.wire.server_text import PADDING, is_html, printable, text_of

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_RETRIEVE_URL = "00081190"
_REFERENCED_SOP_SEQUENCE = "00081199"
_FAILED_SOP_SEQUENCE = "00081198"
_OTHER_FAILURES_SEQUENCE = "0008119A"
_SOP_CLASS_UID = "00081150"
_SOP_INSTANCE_UID = "00081155"
_WARNING_REASON = "00081196"
_FAILURE_REASON = "00081197"
_ERROR_COMMENT = "00000902"
_FAILED_ATTRIBUTES_SEQUENCE = "00741048"

_KEYWORDS = {
    _RETRIEVE_URL: "RetrieveURL",
    _REFERENCED_SOP_SEQUENCE: "ReferencedSOPSequence",
    _FAILED_SOP_SEQUENCE: "FailedSOPSequence",
    _OTHER_FAILURES_SEQUENCE: "OtherFailuresSequence",
    _SOP_CLASS_UID: "ReferencedSOPClassUID",
    _SOP_INSTANCE_UID: "ReferencedSOPInstanceUID",
    _WARNING_REASON: "WarningReason",
    _FAILURE_REASON: "FailureReason",
    _ERROR_COMMENT: "ErrorComment",
    _FAILED_ATTRIBUTES_SEQUENCE: "FailedAttributesSequence",
}
"""Keywords of tags (PS3.6), which the Native DICOM Model requires."""

_WORDLESS = frozenset({_RETRIEVE_URL, _SOP_CLASS_UID, _SOP_INSTANCE_UID, _WARNING_REASON, _FAILURE_REASON})
"""Tags without text. Nearly all items have no others, so their comment is not searched for."""

MOST_COMMENTS = 8
"""The most texts of one item that are read. Each has about 100 characters, and the report shows 160."""

_NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_DECIMAL = re.compile(r"[0-9]{1,5}")
_HEX = re.compile(r"0[xX][0-9A-Fa-f]{1,4}|(?=0|[0-9]*[A-Fa-f])[0-9A-Fa-f]{4}")
"""0xA700, A700, and 0110 as early Orthanc plugins wrote it; a decimal number has no leading zero."""

_Dataset = Mapping[str, object]
"""A received data set in the shape of DICOM JSON, from a tag to `{"vr": …, "Value": […]}`, not validated."""

_Attributes = dict[str, dict[str, Any]]
"""A data set to be written, in the same shape."""


def read(body: bytes, profile: ServerProfile = DEFAULT) -> StoreResponse:
    """Return the parsed body of a response; the first significant byte tells JSON from XML.

    `{}`, `[]` and a module with a RetrieveURL at most are empty answers; a list of modules is read as their sum.
    Raises StoreResponseError if the body is empty, plain text, an HTML page, a JSON scalar, an error document (JSON
    without any tag, XML of another root), malformed, too dense, nested too deeply, or has a DTD or a sequence that is
    not a list of items. Source: PS3.18 §10.5.3 and Table I.1-1.
    """
    datasets, private = _datasets(text_of(body)), profile.comments

    def listed(tag: str, reason: str) -> list[Referenced]:
        return [_referenced(item, reason, private) for item in _items(datasets, tag)]

    referenced = listed(_REFERENCED_SOP_SEQUENCE, _WARNING_REASON)
    return StoreResponse(
        stored=tuple(item for item in referenced if item.code is None),
        warned=tuple(item for item in referenced if item.code is not None),
        failed=tuple(listed(_FAILED_SOP_SEQUENCE, _FAILURE_REASON)),
        other_failures=tuple(listed(_OTHER_FAILURES_SEQUENCE, _FAILURE_REASON)),
        retrieve_url=next((url for dataset in datasets if (url := _string(dataset, _RETRIEVE_URL))), ""),
        comment=next((comment for dataset in datasets if (comment := _comment(dataset, private))), ""),
    )


def to_json(response: StoreResponse) -> bytes:
    """Return the response in DICOM JSON, UTF-8 (PS3.18 §F.2)."""
    return json.dumps(_module(response), separators=(",", ":")).encode("ascii")


def to_xml(response: StoreResponse) -> bytes:
    """Return the response in the Native DICOM Model, UTF-8 (PS3.19 §A.1). Texts may only contain XML characters."""
    attributes = "".join(_to_native(_module(response)))
    declaration = '<?xml version="1.0" encoding="UTF-8"?>'
    return f'{declaration}<NativeDicomModel xmlns="{_NAMESPACE}">{attributes}</NativeDicomModel>'.encode()


def _refusal(found: str) -> StoreResponseError:
    return StoreResponseError(f"expected a Store Instances Response, found {found}")


def _datasets(text: str) -> list[_Dataset]:
    if not text:
        raise _refusal("an empty body")
    try:
        if text[0] in "{[":
            document = parse_json(text)
            return [_tagged(part) for part in (document if isinstance(document, list) else [document])]
        if text[0] != "<":
            raise _refusal("plain text")
        if is_html(text):
            raise _refusal("an HTML page")
        return [_parsed_native(text)]
    except ValueError as error:
        raise _refusal(printable(str(error))) from None


def _tagged(part: object) -> _Dataset:
    if not isinstance(part, dict):
        raise _refusal("a JSON list that contains other values than objects")
    if part and not any(_TAG.fullmatch(key) for key in part):
        raise _refusal("a JSON object without any DICOM tag")
    return part


def _parsed_native(text: str) -> _Dataset:
    root = parse_xml(text)
    if not root.tag.endswith("NativeDicomModel"):
        raise _refusal("XML that is not a NativeDicomModel")
    try:
        return _from_native(root)
    except RecursionError:
        raise _refusal("XML nested too deeply") from None


def _from_native(parent: Element) -> _Dataset:
    # Only the end of a name is compared: dcm4chee and Orthanc leave out the namespace.
    return {
        attribute.get("tag", ""): {
            "Value": [_from_native(child) if child.tag.endswith("Item") else child.text for child in attribute]
        }
        for attribute in parent
    }


def _to_native(attributes: _Attributes) -> Iterator[str]:
    from html import escape

    for tag, element in attributes.items():
        yield f'<DicomAttribute tag="{tag}" vr="{element["vr"]}" keyword="{_KEYWORDS[tag]}">'
        for number, value in enumerate(element.get("Value", ()), start=1):
            if isinstance(value, dict):
                yield f'<Item number="{number}">{"".join(_to_native(value))}</Item>'
            else:
                yield f'<Value number="{number}">{escape(str(value), quote=False)}</Value>'
        yield "</DicomAttribute>"


def _items(datasets: Iterable[_Dataset], tag: str) -> Iterator[_Dataset]:
    for dataset in datasets:
        # OtherFailuresSequence is the only tag of the module with a letter.
        element = dataset.get(tag) or dataset.get(tag.lower())
        items = element.get("Value") if isinstance(element, dict) else element
        if not items:
            continue
        if not isinstance(items, list):
            raise _refusal(f"a {_KEYWORDS[tag]} that is not a list of items")
        yield from (item if isinstance(item, dict) else {} for item in items)


def _referenced(item: _Dataset, reason: str, private: Iterable[PrivateElement]) -> Referenced:
    uids = _string(item, _SOP_CLASS_UID), _string(item, _SOP_INSTANCE_UID)
    return Referenced(*uids, _code(item, reason), _comment(item, private))


def _comment(dataset: _Dataset, private: Iterable[PrivateElement]) -> str:
    """Return the server's comments: ErrorComment, private elements, and one text per failed attribute."""
    if dataset.keys() <= _WORDLESS:
        return ""
    details = [tag for tag in dataset if any(_is_element(tag, dataset, element) for element in private)]
    texts = [_string(dataset, tag) for tag in (_ERROR_COMMENT, *details)]
    if isinstance(element := dataset.get(_FAILED_ATTRIBUTES_SEQUENCE), dict):
        attributes = element.get("Value")
        for attribute in attributes[:MOST_COMMENTS] if isinstance(attributes, list) else ():
            texts += [_string(attribute, _ERROR_COMMENT)] if isinstance(attribute, dict) else []
    return printable("; ".join(dict.fromkeys(filter(None, texts))))


def _is_element(tag: str, dataset: _Dataset, private: PrivateElement) -> bool:
    """Return whether a tag is that of a private element, in its creator's block (PS3.5 §7.8.1) or without a block."""
    if not tag.startswith(private.group) or not tag.endswith(private.element):
        return False
    block = tag[4:6]
    return block == "00" or _string(dataset, f"{private.group}00{block}") == private.creator


def _value(dataset: _Dataset, tag: str) -> object:
    # Called three times for each instance: matching a pattern would take three times as long.
    element = dataset.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _string(dataset: _Dataset, tag: str) -> str:
    value = _value(dataset, tag)
    return value.strip(PADDING) if isinstance(value, str) else ""


def _code(dataset: _Dataset, tag: str) -> int | None:
    """Return a reason code; None if it is absent or 0 (Success, PS3.7 §C.1.1).

    Digits are read as decimal, as a US is written in both notations; only text that cannot be decimal is hexadecimal.
    """
    value = _value(dataset, tag)
    if isinstance(value, str):
        text = value.strip(PADDING)
        value = int(text, 16) if _HEX.fullmatch(text) else int(text) if _DECIMAL.fullmatch(text) else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value <= 0xFFFF else None


def _module(response: StoreResponse) -> _Attributes:
    # RetrieveURL is Type 2: present, and empty if it is not known. The sequences are Type 1C: never empty.
    unknown_url = {_RETRIEVE_URL: {"vr": "UR"}}
    url = {_RETRIEVE_URL: {"vr": "UR", "Value": [response.retrieve_url]}} if response.retrieve_url else unknown_url
    # Tags ascend at every level (PS3.18 §F.2.2).
    sequences = {
        _FAILED_SOP_SEQUENCE: list(map(_failed, response.failed)),
        _REFERENCED_SOP_SEQUENCE: [
            _named(item) | unknown_url | _reason(item.code, _WARNING_REASON)
            for item in (*response.stored, *response.warned)
        ],
        _OTHER_FAILURES_SEQUENCE: list(map(_failed, response.other_failures)),
    }
    filled = {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}
    return _commented(response.comment) | url | filled


def _failed(item: Referenced) -> _Attributes:
    return _named(item) | _reason(item.code, _FAILURE_REASON)


def _named(item: Referenced) -> _Attributes:
    uids = {_SOP_CLASS_UID: item.sop_class_uid, _SOP_INSTANCE_UID: item.sop_instance_uid}
    return _commented(item.comment) | {tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids.items() if uid}


def _commented(comment: str) -> _Attributes:
    return {_ERROR_COMMENT: {"vr": "LO", "Value": [comment]}} if comment else {}


def _reason(code: int | None, tag: str) -> _Attributes:
    return {} if code is None else {tag: {"vr": "US", "Value": [code]}}
