"""The header of an instance, from the first bytes of its part.

Refuses to guess: a part without magic is not DICOM here, as for most servers, and an absent UID is empty, for `store`
to judge.
"""

from __future__ import annotations

import zlib

from bulkstow.errors import HeadError
from bulkstow.model import Header
from bulkstow.wire.part10 import (
    DEFLATED,
    DICOMDIR,
    MEDIA_STORAGE_DIRECTORY,
    MEDIA_STORAGE_SOP_CLASS,
    META_AT,
    NOT_DICOM,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    TRANSFER_SYNTAX,
    has_magic,
    read_head,
)
from bulkstow.wire.steps import MemoryWindow, run
from bulkstow.wire.tolerant_reader import ReadResult, read_data_set, read_meta

MOST_INFLATED_BYTES = 4 * 2**20
"""The most that is inflated of a data set; the longest head among pydicom's files has 35 KB."""

_UIDS = (STUDY, SERIES, SOP_INSTANCE, SOP_CLASS)


def quick_header(head: bytes, *, whole: bool) -> Header | None:
    """Return the header, or None if more bytes or `slow_header` are needed. Raises HeadError as `read_head` does."""
    found = read_head(head, whole=whole)
    return found if isinstance(found, Header) else None


def slow_header(head: bytes) -> Header:
    """Return the header as the tolerant reader finds it in the first bytes of a part; may take half a second.

    Raises HeadError if they are not DICOM, a DICOMDIR, or cannot be read as far as the four UIDs.
    """
    if not has_magic(head):
        raise HeadError(NOT_DICOM)
    window = MemoryWindow(head)
    meta = run(read_meta(META_AT, len(head)), window)
    if meta.problem:
        raise HeadError(meta.problem)
    if meta.uids.get(MEDIA_STORAGE_SOP_CLASS) == MEDIA_STORAGE_DIRECTORY:
        raise HeadError(DICOMDIR)
    transfer_syntax_uid = meta.uids.get(TRANSFER_SYNTAX, "")
    if transfer_syntax_uid in DEFLATED:
        found = _read_deflated(head[meta.end_at :], transfer_syntax_uid)
    else:
        found = run(read_data_set(meta.end_at, len(head), transfer_syntax_uid), window)
    if found.problem and any(tag not in found.uids for tag in _UIDS):
        raise HeadError(found.problem)
    study, series, instance, sop_class = (found.uids.get(tag, "") for tag in _UIDS)
    return Header(study, series, instance, sop_class, transfer_syntax_uid)


def _read_deflated(deflated: bytes, transfer_syntax_uid: str) -> ReadResult:
    try:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, MOST_INFLATED_BYTES)
    except zlib.error as error:
        raise HeadError("damaged: its data set cannot be inflated") from error
    return run(read_data_set(0, None, transfer_syntax_uid), MemoryWindow(inflated))
