"""From a path to its `Header`: the quick reader first, pydicom for what that declines.

Owns how much of a file is read for its head, and the one place where pydicom's many ways to fail become a reason for
the report. Does not judge whether a server will like an instance, only whether it can be addressed. Everything here
blocks: it is meant for threads, many files to a hop.
"""

from __future__ import annotations

import logging
import os
import re
import struct
import threading
import warnings
from collections.abc import MutableSequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bulkstow.errors import DamagedHead, HeadError
from bulkstow.model import Header
from bulkstow.opening import open_file
from bulkstow.wire.part10 import (
    DICOMDIR,
    MEDIA_STORAGE_DIRECTORY,
    NOT_DICOM,
    Declined,
    Incomplete,
    has_magic,
    read_head,
)

if TYPE_CHECKING:
    from pydicom import Dataset

EMPTY = "empty"
CUT_OFF = "cut off in its head"
NO_PREAMBLE = "no preamble, perhaps DICOM all the same: --accept-missing-preamble sends it if so"
NO_SOP_INSTANCE = "no SOP Instance UID"
NO_STUDY = "no Study Instance UID"

_REACHES_BYTES = (4 * 1024, 64 * 1024, 1024 * 1024)
"""How far to read before the next look. 4 KiB, a page, holds the head of 185 of those 188 files of pydicom and
pydicom-data that the quick reader takes; 64 KiB suffices for private groups in front of group 0020. What lies further
on is cheaper for pydicom, which seeks from element to element."""

_LARGEST_VALUE_BYTES = 64 * 1024
"""What pydicom may hold of a value of undefined length that it only passes on its way."""

_FIRST_GROUPS = (b"\x02\0", b"\x08\0", b"\0\x08")
"""How a file without preamble begins: with group 0002, or with a data set's 0008 in either byte order. In anything
else pydicom would search, perhaps for gigabytes, what is not there."""

_MEDIA_STORAGE_SOP_CLASS = 0x0002_0002
_TRANSFER_SYNTAX = 0x0002_0010
_SOP_CLASS = 0x0008_0016
_SOP_INSTANCE = 0x0008_0018
_STUDY = 0x0020_000D
_SERIES = 0x0020_000E

_PROPER_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
"""PS3.5 §9.1, but for the leading zeros that it forbids and archives hold."""


def read_header(path: str, *, size_bytes: int, accept_missing_preamble: bool = False, by_link: bool = True) -> Header:
    """Return the `Header` of the file at `path`, which the scan found to be of `size_bytes`, perhaps `by_link`.

    With `accept_missing_preamble` a bare data set is taken, too, when pydicom finds proper SOP Class, SOP Instance and
    Study Instance UIDs in it. PS3.10 §7.1 demands the preamble; Orthanc does without.

    Raises:
        HeadError: the file is empty, not DICOM, a DICOMDIR, or cut off in its head; it has no SOP Instance UID, or no
            Study Instance UID; pydicom cannot make sense of it. The text is the reason for the report.
        OSError: the operating system does not let us read it.
    """
    if size_bytes == 0:
        raise HeadError(EMPTY)
    # A file object would cost more than the read: it asks for the size, the position and a buffer first.
    descriptor = open_file(path, by_link=by_link)
    try:
        found = _read_quickly(descriptor, size_bytes, accept_missing_preamble=accept_missing_preamble)
    finally:
        os.close(descriptor)
    return found if isinstance(found, Header) else read_with_pydicom(path, force=accept_missing_preamble)


def _read_quickly(descriptor: int, size_bytes: int, *, accept_missing_preamble: bool) -> Header | Declined | Incomplete:
    """Return what the quick reader makes of the file; `Incomplete` when the head ends beyond the last reach."""
    data = b""
    found = Incomplete(0)
    for reach_bytes in _REACHES_BYTES:
        if reach_bytes < found.needed_bytes:
            continue
        data += os.read(descriptor, reach_bytes - len(data))
        # A file that shrank since the scan is at its end before its size says so.
        whole = len(data) < reach_bytes or len(data) >= size_bytes
        if not has_magic(data) and data.startswith(_FIRST_GROUPS):
            if accept_missing_preamble:
                return Declined("no preamble")
            raise HeadError(NO_PREAMBLE)
        outcome = read_head(data, whole=whole)
        if not isinstance(outcome, Incomplete):
            return outcome
        if whole:
            raise DamagedHead(CUT_OFF)
        found = outcome
    return found


def read_with_pydicom(path: str, *, force: bool) -> Header:
    """Return the `Header` that pydicom reads from the file at `path`; `force` admits files without preamble.

    A value that is not one UID counts as none. SOP Class and Series may be missing: there the server has the word.

    Raises:
        HeadError: as `read_header` does; an empty file is not DICOM here.
        OSError: the operating system does not let us read it.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        with _hush:
            dataset = dcmread(
                path,
                force=force,
                stop_before_pixels=True,
                specific_tags=[_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES],
                defer_size=_LARGEST_VALUE_BYTES,
            )
            return _header(dataset, dataset.file_meta, bare=dataset.preamble is None)
    except HeadError:
        raise
    except InvalidDicomError:
        raise HeadError(NOT_DICOM) from None
    except (EOFError, struct.error):
        raise DamagedHead(CUT_OFF) from None
    except OSError as error:
        # pydicom's own, of a sequence that ends too early, carries no number; the operating system's do.
        if error.errno is None:
            raise DamagedHead(CUT_OFF) from None
        raise
    except Exception as error:  # noqa: BLE001 - on broken bytes pydicom raises what its codecs and containers raise
        raise DamagedHead(f"pydicom cannot read its head: {type(error).__name__}") from None


def _header(dataset: Dataset, meta: Dataset, *, bare: bool) -> Header:
    """Return the `Header` of a data set; of a `bare` one, without preamble, the UIDs are all that speaks for DICOM."""
    if _uid(meta, _MEDIA_STORAGE_SOP_CLASS) == MEDIA_STORAGE_DIRECTORY:
        raise HeadError(DICOMDIR)
    header = Header(
        study_uid=_uid(dataset, _STUDY),
        series_uid=_uid(dataset, _SERIES),
        sop_instance_uid=_uid(dataset, _SOP_INSTANCE),
        sop_class_uid=_uid(dataset, _SOP_CLASS),
        transfer_syntax_uid=_uid(meta, _TRANSFER_SYNTAX),
    )
    claims = (header.sop_class_uid, header.sop_instance_uid, header.study_uid)
    if bare and not all(map(_PROPER_UID.fullmatch, claims)):
        raise HeadError(NOT_DICOM)
    if not header.sop_instance_uid:
        raise HeadError(NO_SOP_INSTANCE)
    if not header.study_uid:
        raise HeadError(NO_STUDY)
    return header


def _uid(dataset: Dataset, tag: int) -> str:
    """Return the UID of `tag`, empty where there is none; of several the first, which is what servers go by."""
    if tag not in dataset:
        return ""
    raw = dataset.get_item(tag)
    # Where a file ends within a value, pydicom takes what there is: a UID, but another one.
    if isinstance(raw.value, bytes) and len(raw.value) < getattr(raw, "length", 0):
        raise DamagedHead(CUT_OFF)
    value = dataset[tag].value
    if isinstance(value, MutableSequence) and value:
        value = value[0]
    return str(value) if isinstance(value, str) else ""


class _Hush:
    """Keeps pydicom's warnings and log lines from the user while any thread is within.

    The interpreter has one list of warning filters for all threads: whoever comes first changes it, whoever leaves
    last puts it back. Between them `warnings.catch_warnings` alone would lose the original.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._restore = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._within += 1
            if self._within == 1:
                self._restore.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module="pydicom")
                logger = logging.getLogger("pydicom")
                self._restore.callback(setattr, logger, "disabled", logger.disabled)
                logger.disabled = True

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0:
                self._restore.close()


_hush = _Hush()
