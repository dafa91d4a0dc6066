"""Reading heads: the number of reads, the reasons in a report, and files that are never skipped."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from bulkstow.errors import DamagedHead, HeadError
from bulkstow.model import Candidate, Header
from bulkstow.source import heads
from bulkstow.source.heads import NO_PREAMBLE, find_cut_off, read_instance
from tests.short_reads import shorten_reads
from tests.wire.test_part10 import (
    CT,
    DEFLATED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    PREAMBLE,
    SEQUENCE_END,
    UNDEFINED,
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


NOT_LOOKED_INTO = "which was not looked into: unpack it and send the files inside"


def written(directory: Path, data: bytes) -> str:
    """Return the path of a file with `data`."""
    path = directory / "IM000001"
    path.write_bytes(data)
    return str(path)


def read_header(path: str, *, size_bytes: int, accept_missing_preamble: bool = False) -> Header:
    """Return the header of the file at `path`."""
    candidate = Candidate(path, size_bytes, 0, by_link=True)
    return read_instance(candidate, accept_missing_preamble=accept_missing_preamble).header


def read(directory: Path, data: bytes, *, accept_missing_preamble: bool = False) -> Header:
    """Return the header of a file with `data`."""
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
    """Private values before the UIDs are skipped, long ones by the tolerant reader."""
    data = meta(EXPLICIT_LITTLE) + data_set(element(0x00091010, "OB", bytes(ahead_bytes)))
    assert read(tmp_path, data + bytes(5_000)) == header()


def test_a_conforming_file_costs_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual file is read once, one page of it, without further system calls."""
    reads: list[int] = []
    pread = os.pread

    def counted(file: int, size_bytes: int, at: int) -> bytes:
        reads.append(size_bytes)
        return pread(file, size_bytes, at)

    monkeypatch.setattr(os, "pread", counted)
    monkeypatch.setattr(heads, "_find", None)
    pixel_data = element(PIXEL_DATA, "OW", bytes(100_000))
    assert read(tmp_path, meta(EXPLICIT_LITTLE) + data_set() + pixel_data) == header()
    assert reads == [4_096]


def test_pydicom_is_not_imported() -> None:
    """Its import costs 220 ms, and no head needs it."""
    code = "import bulkstow.source.heads, sys; sys.exit('pydicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("longest_bytes", [1, 100])
def test_short_reads_are_no_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest_bytes: int
) -> None:
    """If the system returns less than requested, as with FUSE, every kind of head is read as usual."""
    shorten_reads(monkeypatch, longest_bytes)
    for syntax, body in (
        (EXPLICIT_LITTLE, data_set(element(0x00091010, "OB", bytes(5_000)))),
        (EXPLICIT_LITTLE, data_set(element(0x00091010, "OB", bytes(70_000)))),
        (DEFLATED, zlib.compress(data_set(), wbits=-15)),
        (EXPLICIT_BIG, BIG_DATA_SET),
    ):
        assert read(tmp_path, meta(syntax) + body + bytes(10)) == header(syntax)
    with pytest.raises(HeadError, match="a zip archive"):
        read(tmp_path, b"PK\x05\x06" + bytes(18))


def test_a_file_that_shrank_since_the_scan_is_cut_off(tmp_path: Path) -> None:
    """The end of the file is believed, not the size at the scan."""
    path = written(tmp_path, (meta(EXPLICIT_LITTLE) + data_set())[:-3])
    assert reason(path, size_bytes=1_000_000) == "cut off in its head"


@pytest.mark.parametrize("data", [b"", b"DI", bytes(131)], ids=["empty", "two bytes", "no magic"])
def test_a_file_that_lost_its_beginning_since_the_scan_is_damaged(tmp_path: Path, data: bytes) -> None:
    """It may have been an instance at the scan, so it is not skipped."""
    with pytest.raises(DamagedHead, match=f"^cannot be read: it ends after {len(data)} of 858 bytes$"):
        read_header(written(tmp_path, data), size_bytes=858)


# --- reasons


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (b"\0", "not DICOM"),
        (b"%PDF-1.7" + bytes(5_000), "not DICOM"),
        (b"\x08\0\x16\0" + bytes(500), "not DICOM"),
        (bytes(5_000), "not DICOM"),
        (data_set(), NO_PREAMBLE),
        (meta(EXPLICIT_LITTLE, sop_class="1.2.840.10008.1.3.10"), "a DICOMDIR"),
        (meta(EXPLICIT_BIG, sop_class="1.2.840.10008.1.3.10") + BIG_DATA_SET, "a DICOMDIR"),
        (meta(EXPLICIT_LITTLE)[:-5], "cut off in its head"),
        (meta(EXPLICIT_LITTLE) + data_set()[:-5], "cut off in its head"),
        (meta(EXPLICIT_LITTLE) + data_set()[:40], "cut off in its head"),
        (meta(EXPLICIT_BIG) + BIG_DATA_SET[:-18], "cut off in its head"),
        (meta(EXPLICIT_BIG) + struct.pack(">HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF), "cut off in its head"),
        (meta(EXPLICIT_LITTLE), "no SOP Instance UID: the data set ends in front of group 0020"),
        (meta(EXPLICIT_LITTLE) + uid(0x00080016, CT) + uid(0x0020000D, "1.2"), "no SOP Instance UID"),
        (meta(EXPLICIT_LITTLE) + uid(0x00080018, "1.2.3.4") + uid(0x00280010, "1"), "no Study Instance UID"),
        (meta(EXPLICIT_LITTLE) + data_set().replace(b"1.2.3\0", b"      "), "no Study Instance UID"),
        (
            meta(EXPLICIT_LITTLE) + data_set().replace(b"1.2.3\0", b"\\1.23\0"),
            "damaged: (0020,000D) holds something else than a UID",
        ),
        (meta(EXPLICIT_LITTLE).replace(b"DICM", b"DICN") + data_set(), heads.NO_MAGIC),
        (meta(EXPLICIT_LITTLE).replace(b"DICM", b"") + data_set(), heads.NO_MAGIC),
        (meta(EXPLICIT_LITTLE)[20:] + data_set(), heads.NO_MAGIC),
        (meta(DEFLATED) + b"\xff" * 50, "damaged: its data set cannot be inflated"),
        (meta(DEFLATED) + zlib.compress(data_set(), wbits=-15)[:-9], "cut off in its head"),
        (gzip.compress(meta(EXPLICIT_LITTLE)), "a gzip file, " + NOT_LOOKED_INTO),
        (b"ustar".rjust(262, b"x") + bytes(250), "a tar archive, " + NOT_LOOKED_INTO),
        (bytes(32_768) + b"\x01CD001\x01" + bytes(2_041), "a disc image, " + NOT_LOOKED_INTO),
    ],
)
def test_the_reason_says_what_the_file_is(tmp_path: Path, data: bytes, expected: str) -> None:
    """Each kind of file that is no instance has its reason, from either reader."""
    assert reason(written(tmp_path, data), size_bytes=len(data)) == expected


@pytest.mark.parametrize("missing", ["sop_class_uid", "series_uid"])
def test_an_instance_without_class_or_series_is_the_servers_to_judge(tmp_path: Path, missing: str) -> None:
    """Only the UIDs that address an instance are required; others are empty in the header."""
    unwanted = {"sop_class_uid": uid(0x00080016, CT), "series_uid": uid(0x0020000E, "1.2.3.5")}[missing]
    found = read(tmp_path, meta(EXPLICIT_LITTLE) + data_set().replace(unwanted, b""))
    assert getattr(found, missing) == ""
    assert found.sop_instance_uid == "1.2.3.4"


def test_what_the_operating_system_refuses_stays_its_own_error(tmp_path: Path) -> None:
    """A missing file, or a directory in its place, raises OSError."""
    with pytest.raises(FileNotFoundError):
        read_header(str(tmp_path / "gone"), size_bytes=10)
    with pytest.raises(IsADirectoryError):
        read_header(str(tmp_path), size_bytes=10)


# --- what the quick reader declines


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
    """Rare encodings and unusual files have a header too."""
    assert read(tmp_path, meta(transfer_syntax) + body) == header(transfer_syntax)


def pydicom_uids(data: bytes) -> tuple[str, str] | None:
    """Return the Study and SOP Instance UID of a file that pydicom reads, with force, as an instance."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        tags = ["StudyInstanceUID", "SOPInstanceUID"]
        found = dcmread(io.BytesIO(data), force=True, stop_before_pixels=True, specific_tags=tags)
        # The raw value, ended as a server ends it: at a NUL, and of several the first.
        values = [found.get_item(tag).value or b"" for tag in (0x0020000D, 0x00080018)]
        study, instance = (value.partition(b"\0")[0].split(b"\\")[0].rstrip(b" ").decode("latin-1") for value in values)
        return (study, instance) if study and instance else None
    return None


def test_pydicom_agrees_on_every_file_that_it_brings_along() -> None:
    """Of pydicom's files every instance is one here, with the same UIDs; those without preamble are failures."""
    agreed = 0
    for path in real_files():
        found = result(str(path), path.stat().st_size, force=True)
        expected = pydicom_uids(path.read_bytes())
        assert (found if isinstance(found, tuple) else None) == expected, path.name
        agreed += expected is not None
    assert agreed > 200


def result(path: str, size_bytes: int, *, force: bool) -> tuple[str, str] | HeadError:
    """Return the study and SOP instance UID of a file, or why it has none."""
    try:
        found = read_header(path, size_bytes=size_bytes, accept_missing_preamble=force)
    except HeadError as error:
        return error
    return found.study_uid, found.sop_instance_uid


ODD_ELEMENTS = [
    b"\x10\0\xb0\x21--\x04\0abcd",
    b"\x10\0\xb0\x21  \x02\0ab",
    b"\x08\0\x05\0??\0\0\2\0\0\0ab",
    element(0x00091010, "UN", item(b"") + SEQUENCE_END, undefined=True),
    element(0x00091010, "OB", b"junk" + SEQUENCE_END, undefined=True),
    bytes(8),
]


@st.composite
def mutated_files(draw: st.DrawFn) -> bytes:
    """Return a real file with bytes of its head flipped, cut out, put in, or with its end cut off."""
    data = bytearray(draw(st.sampled_from(SMALL_FILES)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, min(len(data), 1_200) - 1))
        match draw(st.sampled_from(["flip", "cut", "insert", "overwrite", "end"])):
            case "flip":
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at : at + draw(st.sampled_from([1, 2, 4, 8, 20]))]
            case "insert":
                data[at:at] = draw(st.sampled_from(ODD_ELEMENTS) | st.binary(min_size=1, max_size=6))
            case "overwrite":
                data[at : at + 4] = draw(st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\xfe\xff\xff\xff"]))
            case _:
                del data[draw(st.integers(1, len(data))) :]
        data = data or bytearray(1)
    return bytes(data)


SMALL_FILES = [path.read_bytes() for path in real_files() if 0 < path.stat().st_size < 20_000]


@settings(max_examples=300, deadline=None)
@given(data=mutated_files(), force=st.booleans())
@example(data=meta(EXPLICIT_LITTLE) + data_set(ODD_ELEMENTS[0]), force=False)
@example(data=b"\x01" + BIG_DATA_SET[1:], force=False)
@example(data=b"\x08" + BIG_DATA_SET[1:], force=False)
@example(data=meta(EXPLICIT_LITTLE)[24:] + data_set(), force=False)
@example(data=ODD_ELEMENTS[3] + b"\x09" + data_set(explicit=False)[1:], force=False)
def test_no_instance_is_skipped(tmp_path_factory: pytest.TempPathFactory, data: bytes, force: bool) -> None:
    """A mutated head that pydicom reads as an instance is sent with the same UIDs, or is a failure."""
    path = written(tmp_path_factory.getbasetemp(), data)
    found = result(path, len(data), force=force)
    if (expected := pydicom_uids(data)) is not None and not isinstance(found, DamagedHead):
        assert found == expected or (str(found) == "a DICOMDIR" and is_dicomdir(data))


def is_dicomdir(data: bytes) -> bool:
    """Return whether pydicom sees a DICOMDIR, too."""
    meta_information = dcmread(io.BytesIO(data), force=True, specific_tags=[]).file_meta
    return str(meta_information.get("MediaStorageSOPClassUID")) == "1.2.840.10008.1.3.10"


# --- bounds, whatever a file holds


def hostile_files(directory: Path) -> Iterator[Path]:
    """Write files that would take much memory, or time, if their lengths were believed."""

    def made(name: str, data: bytes, *, hole_bytes: int = 0, behind: bytes = b"") -> Path:
        path = directory / name
        with path.open("wb") as file:
            file.write(data)
            file.seek(hole_bytes, os.SEEK_CUR)
            file.write(behind or b"\0")
        return path

    unknown = struct.pack("<HH2sHI", 9, 0x1010, b"UN", 0, UNDEFINED)
    nested = element(0x00081140, "SQ", b"", undefined=True) + struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
    bomb = zlib.compressobj(wbits=-15)
    private = struct.pack("<HH2sHI", 9, 0x1010, b"OB", 0, 2**27)
    deflated = bomb.compress(data_set()[:50] + private) + bomb.compress(bytes(2**27)) + bomb.flush()
    start = meta(EXPLICIT_LITTLE) + data_set()[:50]
    yield made("bomb", meta(DEFLATED) + deflated)
    yield made("undefined", start + unknown, hole_bytes=2**30, behind=SEQUENCE_END + data_set()[50:])
    yield made("items", start + unknown + b"\xfe\xff\0\xe0\0\0\0\x40", hole_bytes=2**30, behind=SEQUENCE_END)
    yield made("nested", start + nested * 120_000)
    yield made("long", start + element(0x00091010, "OB", b"")[:8] + b"\xfe\xff\xff\xff" + bytes(50))
    yield made("tiny", start + element(0x00090010, "LO", b"") * 500_000)
    numbers = (struct.pack("<HH", 0x11 + 2 * (number // 4_000), number % 4_000) for number in range(200_000))
    yield made("odd", start + b"".join(tag + b"--\4\0abcd" for tag in numbers))
    yield made("zeros", start, hole_bytes=2**30)
    yield made("uid", meta(EXPLICIT_LITTLE) + element(0x00080018, "UN", b"")[:8] + b"\0\0\0\x40", hole_bytes=2**30)
    yield made("bare", b"\x08\0\x05\0", hole_bytes=2**30)


def test_memory_is_bounded_whatever_a_file_holds(tmp_path: Path) -> None:
    """Eight concurrent readers accept none of the hostile files, and the process takes less than 100 MB."""
    paths = list(hostile_files(tmp_path))
    ended = subprocess.run([sys.executable, "-c", READ_ALL, *map(str, paths)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    *reasons, peak_kb = ended.stdout.splitlines()
    assert reasons == [
        "its head is too long: more than 64 MiB to look at",
        "its head is too long: more than 64 MiB to look at",
        "no Study Instance UID: the data set ends in front of group 0020",
        "its head is too long: more than 200000 elements",
        "cut off in its head",
        "its head is too long: more than 200000 elements",
        "its head is too long: more than 200000 elements",
        "damaged: its head makes no sense at byte 288",
        "cut off in its head",
        "not DICOM",
    ]
    assert int(peak_kb) < 100_000


READ_ALL = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from bulkstow.errors import HeadError
from bulkstow.model import Candidate
from bulkstow.source.heads import read_instance

def reason(path):
    try:
        return read_instance(Candidate(path, os.path.getsize(path), 0)).header
    except HeadError as error:
        return error

with ThreadPoolExecutor(8) as threads:
    print(*threads.map(reason, sys.argv[1:]), sep="\\n")
status = Path("/proc/self/status")
peak = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")] if status.exists() else ["0 0 kB"]
print(peak[0].split()[1])
"""


# --- files that are cut off behind their head

PIXEL_DATA = 0x7FE00010


@pytest.mark.parametrize(
    ("syntax", "body", "expected"),
    [
        (EXPLICIT_LITTLE, data_set() + element(PIXEL_DATA, "OW", bytes(9_000)), "7 of 9000 bytes missing"),
        (
            EXPLICIT_LITTLE,
            data_set() + element(0x00291010, "OB", bytes(90_000)) + element(PIXEL_DATA, "OW", bytes(9_000)),
            "7 of 9000 bytes missing",
        ),
        (
            EXPLICIT_LITTLE,
            data_set() + element(PIXEL_DATA, "OB", item(b"") + item(bytes(90)) * 99 + SEQUENCE_END, undefined=True),
            "its end is missing",
        ),
        (
            EXPLICIT_BIG,
            BIG_DATA_SET + struct.pack(">HH2sHI", 0x7FE0, 0x10, b"OW", 0, 50) + bytes(50),
            "7 of 50 bytes missing",
        ),
    ],
    ids=["in reach", "out of reach", "encapsulated", "big endian"],
)
def test_a_file_that_is_cut_off_is_found(tmp_path: Path, syntax: str, body: bytes, expected: str) -> None:
    """Reading to its last element shows where; it is still an instance, unless truncated files are skipped."""
    whole = meta(syntax) + body
    for data, told in ((whole, ""), (whole[:-7], f"pixel data cut off: {expected}")):
        candidate = Candidate(written(tmp_path, data), len(data), 0)
        assert find_cut_off(candidate) == told
        assert read_instance(candidate).truncation in ("", told)
        if told:
            with pytest.raises(DamagedHead, match=f"^{told}$"):
                read_instance(candidate, skip_truncated=True)
        else:
            assert read_instance(candidate, skip_truncated=True).header == header(syntax)


@pytest.mark.parametrize("private_bytes", [0, 5_000, 60_000])
def test_the_beginning_tells_of_pixel_data_in_reach(tmp_path: Path, private_bytes: int) -> None:
    """Cut-off pixel data that begin in the first 64 KiB are found without seeking from element to element."""
    private = element(0x00291010, "OB", bytes(private_bytes))
    data = (meta(EXPLICIT_LITTLE) + data_set() + private + element(PIXEL_DATA, "OW", bytes(9_000)))[:-7]
    instance = read_instance(Candidate(written(tmp_path, data), len(data), 0))
    assert instance.truncation == "pixel data cut off: 7 of 9000 bytes missing"


def test_another_last_element_is_named(tmp_path: Path) -> None:
    """A report that is cut off has no pixel data."""
    data = (meta(EXPLICIT_LITTLE) + data_set() + element(0x0040A730, "SQ", item(uid(0x00081155, "1.2"))))[:-3]
    assert (
        find_cut_off(Candidate(written(tmp_path, data), len(data), 0))
        == "cut off in (0040,A730): 3 of 20 bytes missing"
    )


# --- files without preamble


@pytest.mark.parametrize(
    "data", [data_set(), data_set(explicit=False), BIG_DATA_SET, meta(EXPLICIT_LITTLE)[132:] + data_set()]
)
def test_a_bare_data_set_is_accepted_on_demand_only(tmp_path: Path, data: bytes) -> None:
    """Some servers accept a file without preamble: it is a failure, with a hint at the option that sends it."""
    with pytest.raises(DamagedHead, match=r"^DICOM without preamble: --accept-missing-preamble sends it$"):
        read(tmp_path, data)
    found = read(tmp_path, data, accept_missing_preamble=True)
    assert (found.study_uid, found.series_uid, found.sop_instance_uid, found.sop_class_uid) == (
        "1.2.3",
        "1.2.3.5",
        "1.2.3.4",
        CT,
    )


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"%PDF-1.7" + bytes(5_000), "not DICOM"),
        (b"\x08\0" + bytes(5_000), "not DICOM"),
        (data_set().replace(b"1.2.3\0", b"1.2.x\0"), "damaged: without preamble, and (0020,000D) is no UID"),
        (data_set().removeprefix(uid(0x00080016, CT)), "damaged: without preamble, and (0008,0016) is no UID"),
        (data_set()[:-20], "cut off in its head"),
        (meta(EXPLICIT_LITTLE, sop_class="1.2.840.10008.1.3.10")[132:] + data_set(), "a DICOMDIR"),
    ],
)
def test_a_bare_file_without_proper_uids_is_not_sent(tmp_path: Path, data: bytes, force: bool, expected: str) -> None:
    """A file without magic needs proper UIDs."""
    assert reason(written(tmp_path, data), size_bytes=len(data), accept_missing_preamble=force) == expected


@pytest.mark.parametrize("lead", [b"PK\x03\x04", b"\x1f\x8b\x08", b"II*\0", b"7z\xbc\xaf\x27\x1c", b"\x08\0\x05\0CS"])
def test_a_preamble_may_have_any_content(tmp_path: Path, lead: bytes) -> None:
    """A file that begins as another format, and has 'DICM' at its offset, is DICOM (PS3.10 §7.1)."""
    assert read(tmp_path, lead + (meta(EXPLICIT_LITTLE) + data_set())[len(lead) :]) == header()


def test_office_documents_are_skipped(tmp_path: Path) -> None:
    """An office document, which is a zip, is not DICOM, and no failure."""
    path = tmp_path / "letter.docx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    with pytest.raises(HeadError, match=r"^not DICOM: an office document") as caught:
        read_header(str(path), size_bytes=path.stat().st_size)
    assert not isinstance(caught.value, DamagedHead)


def test_files_with_a_preamble_are_read_as_usual(tmp_path: Path) -> None:
    """Accepting bare data sets changes nothing for other files."""
    assert read(tmp_path, meta(EXPLICIT_LITTLE) + data_set(), accept_missing_preamble=True) == header()


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
