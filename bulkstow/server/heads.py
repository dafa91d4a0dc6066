"""Whose instance a part is, by its first bytes.

Owns the choice between the quick reader and pydicom. Refuses to guess: a part without magic is not DICOM here, as for
most servers, and what is missing stays empty for `store` to judge.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from bulkstow.errors import HeadError
from bulkstow.model import Header
from bulkstow.wire.part10 import DICOMDIR, MEDIA_STORAGE_DIRECTORY, read_head

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement, RawDataElement

_UIDS = {"study_uid": 0x0020000D, "series_uid": 0x0020000E, "sop_instance_uid": 0x00080018, "sop_class_uid": 0x00080016}


def quick_header(head: bytes, *, whole: bool) -> Header | None:
    """Return the header, or None where it takes more bytes or `slow_header`; HeadError as `part10.read_head` has it."""
    found = read_head(head, whole=whole)
    return found if isinstance(found, Header) else None


def slow_header(head: bytes) -> Header:
    """Return what pydicom reads from the first bytes of a part; absent UIDs are empty. Takes a millisecond: blocks.

    HeadError: it reads nothing, a DICOMDIR, a UID that is cut off, or a deflated data set that is: that it cannot
    inflate.
    """
    from pydicom import dcmread

    try:
        dataset = dcmread(BytesIO(head), stop_before_pixels=True, specific_tags=list(_UIDS.values()))
        uids = {name: _raw_uid(dataset.get_item(tag)) for name, tag in _UIDS.items()}
        meta = dataset.file_meta
        transfer_syntax_uid = str(meta.get("TransferSyntaxUID", ""))
        media_class_uid = meta.get("MediaStorageSOPClassUID", "")
    except Exception as error:  # there is no end to what broken bytes make pydicom raise
        raise HeadError(f"pydicom cannot read it ({type(error).__name__})") from error
    if media_class_uid == MEDIA_STORAGE_DIRECTORY:
        raise HeadError(DICOMDIR)
    return Header(**uids, transfer_syntax_uid=transfer_syntax_uid)


def _raw_uid(element: RawDataElement | DataElement | None) -> str:
    # The raw value: pydicom warns of a UID that is none, and whether it is one is for `store` to say. At the end of
    # the bytes pydicom takes what is left for the value, and the beginning of a UID is another UID.
    if element is None:
        return ""
    value = element.value or b""
    if not isinstance(value, bytes):
        return str(value)
    if len(value) < getattr(element, "length", 0):
        raise EOFError
    return value.decode("ascii", "replace").rstrip("\0 ")
