"""Read the head of a file: with the quick reader first, with the tolerant one if that declines.

Decides how much of a file is read, and whether it is an instance, certainly none (it is skipped), or one that cannot be
read (a failure). Does not judge whether a server accepts an instance, only whether it can be addressed. All functions
block and are called in worker threads.
"""

from __future__ import annotations

import os
import re
from typing import Literal

from bulkstow.errors import DamagedHead, HeadError
from bulkstow.model import Candidate, Header, Instance
from bulkstow.source.extents import open_bytes
from bulkstow.source.windows import ByteReader, FileWindow, InflatedWindow
from bulkstow.wire.archive_formats import DISC_IMAGE_MAGIC, DISC_IMAGE_MAGIC_AT, TAR_HEADER_BYTES, recognise
from bulkstow.wire.part10 import (
    DEFLATED,
    DICOMDIR,
    LONG_VRS,
    MEDIA_STORAGE_DIRECTORY,
    MEDIA_STORAGE_SOP_CLASS,
    META_AT,
    NOT_DICOM,
    SERIES,
    SHORT_VRS,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    TRANSFER_SYNTAX,
    Incomplete,
    has_magic,
    read_head,
)
from bulkstow.wire.pixel_data import PixelData, missing_pixel_data
from bulkstow.wire.steps import CUT_OFF, CutOff, run
from bulkstow.wire.study_attributes import MODALITY, STUDY_DATE
from bulkstow.wire.tolerant_reader import ReadResult, read_data_set, read_meta

EMPTY = "empty"
NO_PREAMBLE = "DICOM without preamble: --accept-missing-preamble sends it"
NO_MAGIC = "damaged: it holds DICOM elements, but does not begin with 128 bytes and 'DICM'"
NO_SOP_INSTANCE = "no SOP Instance UID"
NO_STUDY = "no Study Instance UID"

NOT_LOOKED_INTO = "which was not looked into: unpack it and send the files inside"

_REACHES_BYTES = (4 * 1024, 64 * 1024)
"""How far to read for each attempt. 4 KiB, a page, contains the head of 185 of those 188 files of pydicom and
pydicom-data that the quick reader accepts; 64 KiB suffices for private groups before group 0020. Beyond that, the
tolerant reader is cheaper, which seeks from element to element. Pixel data begin in the first 4 KiB of 128 of 143 of
these files, in the first 64 KiB of 142; a second read costs 10 µs."""

HEAD_BYTES = _REACHES_BYTES[-1]
"""The first bytes of a file by which `may_contain_instance` decides."""

_FIRST_GROUPS = (b"\x02\0", b"\x08\0", b"\0\x08")
"""The first bytes of a file without preamble: group 0002, or a data set's group 0008 in either byte order."""

_TRACE = re.compile(
    rb"\x02\0[\0-\x16]\0(?:UL\x04\0|OB\0\0|UI.\0)|"
    rb"(?:\x08\0\x18\0|\x20\0\x0d\0|\0\x08\0\x18|\0\x20\0\x0d)(?:UI..|.\0\0\0)[0-9]+\.",
    re.DOTALL,
)
"""An element of group 0002, a SOP Instance UID or a Study Instance UID, in a file whose beginning is lost."""

_LAST_FIRST_ELEMENT = 0x0018
"""The highest element with which a data set begins: (0008,0018)."""

_PROPER_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
"""A UID by PS3.5 §9.1; also with the forbidden leading zeros, which occur in archives."""


class ContainerHead(DamagedHead):
    """The head of an archive, or of a compressed file."""

    def __init__(self, format_name: str) -> None:
        super().__init__(f"{format_name}, {NOT_LOOKED_INTO}")
        self.format_name = format_name


def read_instance(
    candidate: Candidate, *, accept_missing_preamble: bool = False, skip_truncated: bool = False
) -> Instance:
    """Return the instance in a file that the scan found, with a note if its pixel data are cut off.

    With `accept_missing_preamble` a bare data set is accepted, too, if it has proper SOP Class, SOP Instance and Study
    Instance UIDs. PS3.10 §7.1 demands the preamble; Orthanc accepts files without. With `skip_truncated` the file is
    read to its last element, and one that is cut off counts as damaged.

    Raises:
        DamagedHead: it may be or contain an instance, but cannot be sent: it begins as DICOM but its head cannot be
            read to its end, it has no preamble, it is an archive. The text is the reason for the report.
        HeadError: there is nothing to send: it is empty, not DICOM, a DICOMDIR, or a data set that was read to its end
            and has no SOP Instance UID, or no Study Instance UID.
        OSError: the operating system cannot read it.
    """
    if candidate.content_bytes == 0:
        raise HeadError(EMPTY)
    # A file object would cost more than the read, as it gets the size, the position and a buffer first.
    content = open_bytes(candidate)
    try:
        return read_open_instance(
            content, candidate, accept_missing_preamble=accept_missing_preamble, skip_truncated=skip_truncated
        )
    finally:
        os.close(content.descriptor)


def read_open_instance(
    content: ByteReader, candidate: Candidate, *, accept_missing_preamble: bool = False, skip_truncated: bool = False
) -> Instance:
    """Return the instance in an open file that is not empty, as `read_instance` does; the file stays open."""
    instance = _read(content, candidate, accept_missing_preamble=accept_missing_preamble)
    if skip_truncated and (truncation := instance.truncation or _find_cut_off(content)):
        raise DamagedHead(truncation)
    return instance


def find_cut_off(candidate: Candidate) -> str:
    """Return a note about the element in which a file is cut off; empty if it is whole, or that is unknown.

    Seeks from element to element, which takes several reads. Raises OSError.
    """
    content = open_bytes(candidate)
    try:
        return _find_cut_off(content)
    finally:
        os.close(content.descriptor)


def _find_cut_off(content: ByteReader) -> str:
    at = META_AT if has_magic(content.read(META_AT, 0)) else 0
    _, found = _find(content, at, to_end=True)
    return str(found.truncation or "")


def _read(content: ByteReader, candidate: Candidate, *, accept_missing_preamble: bool) -> Instance:
    size_bytes = candidate.size_bytes if candidate.extent is None else candidate.content_bytes
    data = b""
    for reach_bytes in _REACHES_BYTES:
        data += content.read(min(reach_bytes, size_bytes) - len(data), len(data))
        # A file that shrank since the scan ends before its size.
        whole = len(data) < reach_bytes or len(data) >= size_bytes
        if not has_magic(data):
            if len(data) < min(reach_bytes, size_bytes):
                raise DamagedHead(f"cannot be read: it ends after {len(data)} of {size_bytes} bytes")
            bare = _read_without_magic(content, data, accept_missing_preamble=accept_missing_preamble)
            return Instance(candidate, bare)
        outcome = read_head(data, whole=whole)
        if isinstance(outcome, Header):
            return Instance(candidate, outcome, _pixel_data_cut_off(content, data, size_bytes, outcome))
        if not isinstance(outcome, Incomplete):
            break
        if whole:
            raise DamagedHead(CUT_OFF)
        if outcome.needed_bytes > _REACHES_BYTES[-1]:
            break
    return Instance(candidate, _header(*_find(content, META_AT)))


def _pixel_data_cut_off(content: ByteReader, data: bytes, size_bytes: int, header: Header) -> str:
    """Return a note if pixel data that begin near the head are cut off, from the first bytes or a second read."""
    missing = missing_pixel_data(data, size_bytes, header.transfer_syntax_uid)
    reach_bytes = min(_REACHES_BYTES[-1], size_bytes)
    if missing is PixelData.OPEN and len(data) < reach_bytes:
        data += content.read(reach_bytes - len(data), len(data))
        missing = missing_pixel_data(data, size_bytes, header.transfer_syntax_uid)
    return str(missing) if isinstance(missing, CutOff) else ""


def _find(content: ByteReader, at: int, *, to_end: bool = False) -> tuple[ReadResult, ReadResult]:
    """Return what the tolerant reader finds in the file meta information at an offset, and in the data set after it.

    With `to_end` a deflated data set is not read, as it would be inflated to its end. Raises DamagedHead if it cannot
    be inflated.
    """
    size_bytes = content.size_bytes
    window = FileWindow(content, size_bytes)
    meta = run(read_meta(at, size_bytes), window)
    if meta.problem or meta.uids.get(MEDIA_STORAGE_SOP_CLASS) == MEDIA_STORAGE_DIRECTORY:
        return meta, ReadResult(problem=meta.problem)
    transfer_syntax_uid = meta.uids.get(TRANSFER_SYNTAX, "")
    if transfer_syntax_uid in DEFLATED and not _is_element(content.read(8, meta.end_at)):
        inflated = InflatedWindow(content, meta.end_at)
        found = ReadResult() if to_end else run(read_data_set(0, None, transfer_syntax_uid), inflated)
        return meta, found
    return meta, run(read_data_set(meta.end_at, size_bytes, transfer_syntax_uid, to_end=to_end), window)


def _header(meta: ReadResult, found: ReadResult) -> Header:
    """Return the header of what was found; the server decides about a missing SOP Class or Series UID."""
    if meta.uids.get(MEDIA_STORAGE_SOP_CLASS) == MEDIA_STORAGE_DIRECTORY:
        raise HeadError(DICOMDIR)
    absent = "" if found.is_ordered else None
    header = Header(
        study_uid=found.uids.get(STUDY, ""),
        series_uid=found.uids.get(SERIES, ""),
        sop_instance_uid=found.uids.get(SOP_INSTANCE, ""),
        sop_class_uid=found.uids.get(SOP_CLASS, ""),
        transfer_syntax_uid=meta.uids.get(TRANSFER_SYNTAX, ""),
        modality=found.attributes.get(MODALITY, absent),
        study_date=found.attributes.get(STUDY_DATE, absent),
    )
    if header.sop_instance_uid and header.study_uid:
        return header
    if found.problem:
        raise DamagedHead(found.problem)
    missing = NO_STUDY if header.sop_instance_uid else NO_SOP_INSTANCE
    if found.highest_tag < STUDY:
        # Only a data set that was cut off between two elements ends here.
        raise DamagedHead(f"{missing}: the data set ends in front of group 0020")
    raise HeadError(missing)


def _read_without_magic(content: ByteReader, data: bytes, *, accept_missing_preamble: bool) -> Header:
    """Return the header of a bare data set, if it is accepted; only its elements show that it is DICOM."""
    if (known := recognise(data[:TAR_HEADER_BYTES])) is not None:
        if known.may_hold_instances:
            raise ContainerHead(known.name)
        raise HeadError(f"{NOT_DICOM}: {known.name}")
    try:
        meta, found = _find(content, 0)
        header = _header(meta, found)
    except HeadError as error:
        begins_as_data_set = _begins_as_data_set(data)
        if str(error) == DICOMDIR or (isinstance(error, DamagedHead) and begins_as_data_set):
            raise
        if not begins_as_data_set and _TRACE.search(data):
            raise DamagedHead(NO_MAGIC) from None
        if content.read(len(DISC_IMAGE_MAGIC), DISC_IMAGE_MAGIC_AT) == DISC_IMAGE_MAGIC:
            raise DamagedHead(f"a disc image, {NOT_LOOKED_INTO}") from None
        raise HeadError(NOT_DICOM) from None
    for tag in (SOP_CLASS, SOP_INSTANCE, STUDY):
        if not _PROPER_UID.fullmatch(found.uids.get(tag, "")):
            raise DamagedHead(f"damaged: without preamble, and ({tag >> 16:04X},{tag & 0xFFFF:04X}) is no UID")
    if not accept_missing_preamble:
        raise DamagedHead(NO_PREAMBLE)
    return header


def may_contain_instance(data: bytes) -> bool:
    """Return whether a file with these first HEAD_BYTES may be an instance, or contain some; otherwise it is no DICOM.

    For content that is expensive to read in full, such as a member of a compressed archive.
    """
    return (
        has_magic(data)
        or recognise(data[:TAR_HEADER_BYTES]) is not None
        or _begins_as_data_set(data)
        or _TRACE.search(data[: _REACHES_BYTES[0]]) is not None
        or data.startswith(DISC_IMAGE_MAGIC, DISC_IMAGE_MAGIC_AT)
    )


def _begins_as_data_set(data: bytes) -> bool:
    """Return whether a file without preamble begins with a first element of a data set or of group 0002."""
    if not data.startswith(_FIRST_GROUPS):
        return False
    order: Literal["big", "little"] = "big" if data.startswith(b"\0") else "little"
    number = int.from_bytes(data[2:4], order)
    return number <= _LAST_FIRST_ELEMENT and (_is_element(data) or 0 < int.from_bytes(data[4:8], order) < 2**16)


def _is_element(data: bytes) -> bool:
    return data[4:6] in SHORT_VRS or data[4:6] in LONG_VRS
