"""The metadata of an instance in DICOM JSON, and its bulk data.

The URI of bulk data is that of the instance, `/bulkdata/`, then the tag; within a sequence the tag, the number of the
item and the tag below (PS3.18 §10.4.1.1.2, Annex F). Everything here reads files with pydicom, and blocks.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from bulkstow.errors import HeadError
from bulkstow.server.message import FilePart, MadePart, Part

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import DataElement, RawDataElement

    Raw = RawDataElement | DataElement

INLINE_MOST_BYTES = 16 * 1024
"""The longest value in the metadata; a longer one is given by its URI.
Lookup tables, overlays and embedded documents are longer; values shown in a list of instances are not."""

PIXEL_DATA = (0x7FE00010, 0x7FE00008, 0x7FE00009)
"""Pixel Data, Float and Double Float Pixel Data: always given by their URI."""

DEFLATED = "1.2.840.10008.1.2.1.99"

UNDEFINED_LENGTH = 0xFFFFFFFF
"""The length of encapsulated pixel data (PS3.5 §7.1.2)."""

_ITEM = b"\xfe\xff\x00\xe0"
"""The tag of an item in little endian: pixel data in big endian is never encapsulated."""

BULK_PATH = re.compile(r"[0-9A-Fa-f]{8}(?:/[1-9][0-9]{0,8}/[0-9A-Fa-f]{8}){0,20}")
"""The path after `/bulkdata/`."""

Attribute = dict[str, object]
"""An attribute in DICOM JSON (PS3.18 §F.2.2)."""

_READING = Lock()


def document(path: Path, instance_url: str) -> bytes:
    """Return the metadata of the instance in a file, as a JSON object.

    Raises HeadError if pydicom cannot read it.
    """
    with reading(path) as dataset:
        found = _attributes(dataset, f"{instance_url}/bulkdata")
        return json.dumps(found, separators=(",", ":"), allow_nan=False).encode("ascii")


def transfer_syntax(path: Path) -> str:
    """Return the transfer syntax UID of a file. Raises HeadError if pydicom cannot read it."""
    with reading(path) as dataset:
        return str(dataset.file_meta.get("TransferSyntaxUID", ""))


def bulk_data(path: Path, bulk_path: str) -> Part | None:
    """Return the value at the end of a URI, None if there is none. Raises HeadError if pydicom cannot read the file."""
    with reading(path) as dataset:
        *above, last = bulk_path.split("/")
        for tag, number in zip(above[::2], above[1::2], strict=True):
            element = dataset.get(int(tag, 16))
            items = element.value if element is not None and element.VR == "SQ" else []
            if int(number) > len(items):
                return None
            dataset = items[int(number) - 1]
        raw = dataset.get_item(int(last, 16), keep_deferred=True)
        return None if raw is None else _value(raw, path)


@contextmanager
def reading(path: Path) -> Iterator[Dataset]:
    """Give the data set of a file; values longer than INLINE_MOST_BYTES are read only on access.

    Raises HeadError if pydicom raises anything, also within the block: damaged files make it raise any exception.
    """
    from pydicom import config, dcmread

    # pydicom's warnings of invalid values contain the values, which may be a patient's. The switch is global.
    with _READING:
        before, config.settings.reading_validation_mode = config.settings.reading_validation_mode, config.IGNORE
        try:
            dataset = dcmread(path, defer_size=INLINE_MOST_BYTES)
            if dataset.file_meta.get("TransferSyntaxUID") == DEFLATED:
                dataset = dcmread(path)  # offsets in the inflated bytes are not offsets in the file
            yield dataset
        except FileNotFoundError:
            raise
        except Exception as error:
            raise HeadError(f"pydicom cannot read it ({type(error).__name__})") from error
        finally:
            config.settings.reading_validation_mode = before


def on_disk(raw: Raw) -> tuple[int, int] | None:
    """Return the offset in the file and the length of a value that was not read; None if it was."""
    from pydicom.dataelem import RawDataElement

    if isinstance(raw, RawDataElement) and raw.value is None and raw.length > 0:
        return raw.value_tell, raw.length
    return None


def _attributes(dataset: Dataset, url: str) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {}
    for tag in dataset.keys():  # noqa: SIM118 - iterating over a data set reads every value
        raw = dataset.get_item(tag, keep_deferred=True)
        if raw is not None and tag.element:  # group lengths belong to the encoding
            found[f"{tag:08X}"] = _attribute(dataset, raw, f"{url}/{tag:08X}")
    if "00080005" in found:
        found["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}  # JSON is in UTF-8 (PS3.18 §F.2.2)
    return found


def _attribute(dataset: Dataset, raw: Raw, url: str) -> Attribute:
    from pydicom.filewriter import correct_ambiguous_vr_element

    vr = _vr(dataset, raw)
    if (raw.tag in PIXEL_DATA or _length(raw) > INLINE_MOST_BYTES) and vr != "SQ":
        return {"vr": vr, "BulkDataURI": url}
    try:
        element = dataset[raw.tag]
        if element.VR == "SQ":
            items = [_attributes(item, f"{url}/{number}") for number, item in enumerate(element.value, 1)]
            return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        correct_ambiguous_vr_element(element, dataset, dataset.original_encoding[1] is not False)
        written = element.to_json_dict(None, 0)
        if element.VR == "IS" and "Value" in written:
            values = element.value if element.VM > 1 else [element.value]
            written["Value"] = [_integer(str(value)) for value in values]
        written["Value"] = [_as_json(value) for value in written.get("Value", ())]
        json.dumps(written, allow_nan=False)
    except Exception:  # noqa: BLE001 - a value that its VR does not allow is given as bytes, and none is left out
        value = raw.value if isinstance(raw.value, bytes) else b""
        return {"vr": "UN", "InlineBinary": base64.b64encode(value).decode("ascii")}
    if not written["Value"]:
        del written["Value"]
    return written


def _integer(text: str) -> int | str:
    """Return a whole number, and any other text unchanged: pydicom would truncate a fraction."""
    return int(text) if re.fullmatch(r"\s*[+-]?[0-9]+\s*", text) else text


def _as_json(value: object) -> object:
    """Return a value for JSON: NaN and infinities are texts (PS3.18 §F.2.3)."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _length(raw: Raw) -> int:
    """Return the length of a value that has not been decoded, 0 of another."""
    place = on_disk(raw)
    return place[1] if place else len(raw.value) if isinstance(raw.value, bytes) else 0


def _vr(dataset: Dataset, element: Raw) -> str:
    """Return the VR of an element, also if its tag allows two."""
    from pydicom.datadict import dictionary_VR
    from pydicom.errors import BytesLengthException

    vr = element.VR
    if vr is None:
        try:
            vr = dictionary_VR(element.tag)
        except (KeyError, BytesLengthException):
            return "UN"
    alternatives = str(vr).split(" or ")
    if "OW" in alternatives:
        return "OB" if dataset.get("BitsAllocated", 16) <= 8 and "OB" in alternatives else "OW"
    return alternatives[-1 if dataset.get("PixelRepresentation", 0) == 1 else 0]


def _value(raw: Raw, path: Path) -> Part | None:
    """Return the bytes of a value: from the file if it was not read, else from memory."""
    if place := on_disk(raw):
        offset_bytes, length = place
        size_bytes = _items_bytes(path, offset_bytes) if length == UNDEFINED_LENGTH else length
        return FilePart(path, size_bytes, offset_bytes)
    value = raw.value
    return MadePart(lambda: value) if isinstance(value, bytes) else None


def _items_bytes(path: Path, offset_bytes: int) -> int:
    """Return the length of the items of encapsulated pixel data, without the delimiter after them (PS3.5 §A.4)."""
    with path.open("rb") as file:
        file.seek(offset_bytes)
        while (head := file.read(8)).startswith(_ITEM) and len(head) == 8:
            file.seek(int.from_bytes(head[4:], "little"), os.SEEK_CUR)
        return file.tell() - len(head) - offset_bytes
