"""From a path to a header: how much is read, what pydicom is asked, and the reasons that a report shows."""

from __future__ import annotations

import logging
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.errors import HeadError
from bulkstow.model import Header
from bulkstow.source import heads
from bulkstow.source.heads import NO_PREAMBLE, read_header, read_with_pydicom
from bulkstow.wire.part10 import NOT_DICOM
from tests.wire.test_part10 import (
    CT,
    DEFLATED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    PREAMBLE,
    SEQUENCE_END,
    data_set,
    element,
    header,
    heads_to_cut,
    item,
    meta,
    real_files,
    uid,
)

BIG_DATA_SET = b"".join(
    struct.pack(">HH2sH", tag >> 16, tag & 0xFFFF, b"UI", len(value)) + value
    for tag, value in (
        (0x00080016, CT.encode() + b"\0"),
        (0x00080018, b"1.2.3.4\0"),
        (0x0020000D, b"1.2.3\0"),
        (0x0020000E, b"1.2.3.5\0"),
    )
)


def written(directory: Path, data: bytes) -> str:
    """Return the path of a file that holds `data`."""
    path = directory / "IM000001"
    path.write_bytes(data)
    return str(path)


def read(directory: Path, data: bytes, *, accept_missing_preamble: bool = False) -> Header:
    """Return what is read from a file that holds `data`."""
    path = written(directory, data)
    return read_header(path, size_bytes=len(data), accept_missing_preamble=accept_missing_preamble)


def reason(path: str, *, size_bytes: int, accept_missing_preamble: bool = False) -> str:
    """Return why there is no header, or nothing if there is one."""
    try:
        read_header(path, size_bytes=size_bytes, accept_missing_preamble=accept_missing_preamble)
    except HeadError as error:
        return str(error)
    return ""


# --- how much is read


@pytest.mark.parametrize("ahead_bytes", [0, 3_700, 4_096, 60_000, 70_000, 900_000, 3_000_000])
def test_a_head_may_be_long(tmp_path: Path, ahead_bytes: int) -> None:
    """Private values in front of the UIDs are read past, by pydicom where there is more than a mebibyte of them."""
    data = meta(EXPLICIT_LITTLE) + data_set(element(0x00091010, "OB", bytes(ahead_bytes)))
    assert read(tmp_path, data + bytes(5_000)) == header()


def test_a_conforming_file_does_not_need_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual file costs one short read."""
    monkeypatch.setattr(heads, "read_with_pydicom", None)
    assert read(tmp_path, meta(EXPLICIT_LITTLE) + data_set() + bytes(100_000)) == header()


def test_pydicom_is_imported_only_when_it_is_needed() -> None:
    """Its import costs 220 ms, which most runs need not pay."""
    code = "import bulkstow.source.heads, sys; sys.exit('pydicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_file_that_shrank_since_the_scan_is_cut_off(tmp_path: Path) -> None:
    """The size that the scan found is not believed against the end of the file."""
    path = written(tmp_path, (meta(EXPLICIT_LITTLE) + data_set())[:-3])
    assert reason(path, size_bytes=1_000_000) == "cut off in its head"


# --- reasons


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (b"\0", "not DICOM"),
        (b"%PDF-1.7" + bytes(5_000), "not DICOM"),
        (b"\x08\0\x16\0" + bytes(500), NO_PREAMBLE),
        (data_set(), NO_PREAMBLE),
        (meta(EXPLICIT_LITTLE, sop_class="1.2.840.10008.1.3.10"), "a DICOMDIR"),
        (meta(EXPLICIT_BIG, sop_class="1.2.840.10008.1.3.10") + BIG_DATA_SET, "a DICOMDIR"),
        (meta(EXPLICIT_LITTLE)[:-5], "cut off in its head"),
        (meta(EXPLICIT_LITTLE) + data_set()[:-5], "cut off in its head"),
        (meta(EXPLICIT_LITTLE) + data_set()[:40], "cut off in its head"),
        (meta(EXPLICIT_BIG) + BIG_DATA_SET[:-18], "cut off in its head"),
        (meta(EXPLICIT_BIG) + struct.pack(">HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF), "cut off in its head"),
        (meta(EXPLICIT_LITTLE), "no SOP Instance UID"),
        (meta(EXPLICIT_LITTLE) + uid(0x00080016, CT) + uid(0x0020000D, "1.2"), "no SOP Instance UID"),
        (meta(EXPLICIT_LITTLE) + uid(0x00080018, "1.2.3.4") + uid(0x00280010, "1"), "no Study Instance UID"),
        (meta(EXPLICIT_LITTLE) + data_set().replace(b"1.2.3\0", b"\\1.23\0"), "no Study Instance UID"),
        (meta(EXPLICIT_LITTLE) + data_set().replace(b"1.2.3\0", b"      "), "no Study Instance UID"),
    ],
)
def test_the_reason_says_what_the_file_is(tmp_path: Path, data: bytes, expected: str) -> None:
    """Each way of being no instance has its words, whoever of the two readers finds it."""
    assert reason(written(tmp_path, data), size_bytes=len(data)) == expected


def test_what_makes_pydicom_fail_is_one_line_of_reason(tmp_path: Path) -> None:
    """A broken deflate stream, or nesting beyond pydicom's recursion, is a reason and no traceback."""
    opening = struct.pack(">HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(">HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    for data in (meta(DEFLATED) + b"\xff" * 50, meta(EXPLICIT_BIG) + opening * 3_000):
        told = reason(written(tmp_path, data), size_bytes=len(data))
        assert told.startswith("pydicom cannot read its head: ")
        assert "\n" not in told


@pytest.mark.parametrize("missing", ["sop_class_uid", "series_uid"])
def test_an_instance_without_class_or_series_is_the_servers_to_judge(tmp_path: Path, missing: str) -> None:
    """Only what an instance is addressed by must be there; the rest is empty in the header."""
    unwanted = {"sop_class_uid": uid(0x00080016, CT), "series_uid": uid(0x0020000E, "1.2.3.5")}[missing]
    found = read(tmp_path, meta(EXPLICIT_LITTLE) + data_set().replace(unwanted, b""))
    assert getattr(found, missing) == ""
    assert found.sop_instance_uid == "1.2.3.4"


def test_what_the_operating_system_refuses_stays_its_own_error(tmp_path: Path) -> None:
    """A file that is gone, or a directory in its place, is no judgement on DICOM."""
    with pytest.raises(FileNotFoundError):
        read_header(str(tmp_path / "gone"), size_bytes=10)
    with pytest.raises(IsADirectoryError):
        read_header(str(tmp_path), size_bytes=10)
    with pytest.raises(IsADirectoryError):
        read_with_pydicom(str(tmp_path), force=False)


# --- pydicom has the last word


@pytest.mark.parametrize(
    ("transfer_syntax", "body"),
    [
        (EXPLICIT_BIG, BIG_DATA_SET),
        (DEFLATED, zlib.compress(data_set(), wbits=-15)),
        (EXPLICIT_LITTLE, data_set(explicit=False)),
        (IMPLICIT_LITTLE, data_set()),
        (EXPLICIT_LITTLE, data_set(element(0x00091010, "UN", item(b"") + SEQUENCE_END, undefined=True))),
        (EXPLICIT_LITTLE, uid(0x00200010, "1") + data_set()),
    ],
    ids=["big endian", "deflated", "in truth implicit", "in truth explicit", "UN of undefined length", "out of order"],
)
def test_what_the_quick_reader_declines_is_read(tmp_path: Path, transfer_syntax: str, body: bytes) -> None:
    """Rare encodings and odd writers' files have a header all the same."""
    assert read(tmp_path, meta(transfer_syntax) + body) == header(transfer_syntax)


def test_both_readers_agree_on_every_file_that_pydicom_brings_along() -> None:
    """Headers and reasons are the same by way of the quick reader and by pydicom alone."""
    disagreed = []
    for path in real_files():
        try:
            alone: Header | str = read_with_pydicom(str(path), force=False)
        except HeadError as error:
            alone = str(error)
        try:
            found: Header | str = read_header(str(path), size_bytes=path.stat().st_size)
        except HeadError as error:
            found = str(error)
        if found == NO_PREAMBLE:
            found = NOT_DICOM  # the quick reader looks closer, for a hint to the user
        if found != alone:
            disagreed.append((path.name, found, alone))
    assert disagreed == []


# --- files without preamble


@pytest.mark.parametrize(
    "data", [data_set(), data_set(explicit=False), BIG_DATA_SET, meta(EXPLICIT_LITTLE)[132:] + data_set()]
)
def test_a_bare_data_set_is_taken_on_demand_only(tmp_path: Path, data: bytes) -> None:
    """Without preamble and magic a file is passed over, with a word on how to send it."""
    with pytest.raises(HeadError, match=r"no preamble, .*--accept-missing-preamble sends it"):
        read(tmp_path, data)
    found = read(tmp_path, data, accept_missing_preamble=True)
    assert (found.study_uid, found.series_uid, found.sop_instance_uid, found.sop_class_uid) == (
        "1.2.3",
        "1.2.3.5",
        "1.2.3.4",
        CT,
    )


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7" + bytes(5_000),
        b"\x08\0" + bytes(5_000),
        data_set().replace(b"1.2.3\0", b"1.2.x\0"),
        data_set().removeprefix(uid(0x00080016, CT)),
    ],
    ids=["another format", "by chance like it", "no UID", "no SOP class"],
)
def test_a_bare_file_without_proper_uids_is_not_dicom(tmp_path: Path, data: bytes) -> None:
    """Where no magic vouches for a file, its UIDs must."""
    with pytest.raises(HeadError, match="not DICOM"):
        read(tmp_path, data, accept_missing_preamble=True)


def test_files_with_a_preamble_are_read_as_ever(tmp_path: Path) -> None:
    """To accept bare data sets changes nothing for the others."""
    assert read(tmp_path, meta(EXPLICIT_LITTLE) + data_set(), accept_missing_preamble=True) == header()


# --- silence


def test_pydicoms_warnings_and_log_lines_do_not_reach_the_user(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Read in many threads, files that pydicom warns of leave no trace, and the filters are as they were."""
    data = meta(EXPLICIT_LITTLE) + data_set(explicit=False)
    path = written(tmp_path, data)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: read_header(path, size_bytes=len(data)), range(200)))
    assert found == [header()] * 200
    assert list(warnings.filters) == before
    assert not caplog.records
    assert not logging.getLogger("pydicom").disabled


# --- bytes that nobody would write


@settings(max_examples=200, deadline=None)
@given(
    data=st.sampled_from([*heads_to_cut(), meta(EXPLICIT_BIG) + BIG_DATA_SET, PREAMBLE, data_set()]),
    mutations=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 4), st.binary(max_size=6)), max_size=6),
    force=st.booleans(),
)
def test_broken_files_raise_nothing_but_head_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, mutations: list[tuple[int, int, bytes]], force: bool
) -> None:
    """However a file is broken, there is a header or a reason."""
    for place, removed, inserted in mutations:
        at = place % (len(data) + 1)
        data = data[:at] + inserted + data[at + removed :]
    path = written(tmp_path_factory.getbasetemp(), data)
    assert "\n" not in reason(path, size_bytes=len(data), accept_missing_preamble=force)
    with suppress(HeadError):
        read_with_pydicom(path, force=force)
