"""The fast reader of heads, on literal bytes, pydicom's files and damaged bytes."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import data_store
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.errors import HeadError
from bulkstow.model import Header
from bulkstow.wire.part10 import Declined, Incomplete, has_magic, read_head

PREAMBLE = bytes(128) + b"DICM"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
CT = "1.2.840.10008.5.1.4.1.1.2"

UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset({"OB", "OW", "SQ", "UN", "UT"})
ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def element(tag: int, vr: str, value: bytes, *, explicit: bool = True, undefined: bool = False) -> bytes:
    """Return a little-endian element; a value of undefined length contains its delimiter."""
    length = UNDEFINED if undefined else len(value)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if not explicit:
        return head + struct.pack("<I", length) + value
    if vr in LONG_VRS:
        return head + vr.encode() + struct.pack("<HI", 0, length) + value
    return head + vr.encode() + struct.pack("<H", length) + value


def item(content: bytes, *, undefined: bool = False) -> bytes:
    """Return an item of a sequence (PS3.5 Table 7.5-1 and 7.5-2)."""
    if undefined:
        return struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED) + content + ITEM_END
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def uid(tag: int, value: str, *, explicit: bool = True) -> bytes:
    """Return an element that holds a UID, padded with NUL to even length (PS3.5 §9.1)."""
    return element(tag, "UI", value.encode("latin-1") + b"\0" * (len(value) % 2), explicit=explicit)


def meta(transfer_syntax: str, *, group_length: int | None = None, sop_class: str = CT) -> bytes:
    """Return preamble, magic and group 0002; the group length is right unless another is given."""
    rest = uid(0x00020002, sop_class) + uid(0x00020003, "1.2.3.999") + uid(0x00020010, transfer_syntax)
    rest = element(0x00020001, "OB", b"\0\1") + rest
    length = len(rest) if group_length is None else group_length
    return PREAMBLE + element(0x00020000, "UL", struct.pack("<I", length)) + rest


def data_set(before: bytes = b"", *, explicit: bool = True) -> bytes:
    """Return the four UIDs, and `before` in front of the study's."""
    return (
        uid(0x00080016, CT, explicit=explicit)
        + uid(0x00080018, "1.2.3.4", explicit=explicit)
        + before
        + uid(0x0020000D, "1.2.3", explicit=explicit)
        + uid(0x0020000E, "1.2.3.5", explicit=explicit)
    )


def header(transfer_syntax: str = EXPLICIT_LITTLE) -> Header:
    """Return the header of `data_set`."""
    return Header("1.2.3", "1.2.3.5", "1.2.3.4", CT, transfer_syntax)


def pydicom_header(data: bytes) -> Header:
    """Return what pydicom reads from the same bytes."""
    tags = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "StudyDate"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=tags)
        return Header(
            study_uid=read.StudyInstanceUID,
            series_uid=read.SeriesInstanceUID,
            sop_instance_uid=read.SOPInstanceUID,
            sop_class_uid=read.SOPClassUID,
            transfer_syntax_uid=read.file_meta.TransferSyntaxUID,
            modality=read.get("Modality") or "",
            study_date=(read.get("StudyDate") or "").replace(".", ""),
        )


def real_files() -> list[Path]:
    """Return the files of pydicom and of pydicom-data that are on this disk; nothing is downloaded."""
    assert pydicom.__file__
    roots = [Path(pydicom.__file__).parent / "data" / "test_files", Path(data_store.__file__).parent / "data"]
    return sorted(path for root in roots for path in root.rglob("*") if path.is_file())


# --- what it takes


@pytest.mark.parametrize("transfer_syntax", [EXPLICIT_LITTLE, JPEG_2000, "1.2.3.4.5.6"])
def test_every_syntax_that_is_not_listed_is_explicit_little_endian(transfer_syntax: str) -> None:
    """Encapsulated and private syntaxes are read as explicit little endian (PS3.5 Annex A)."""
    assert read_head(meta(transfer_syntax) + data_set(), whole=True) == header(transfer_syntax)


def test_implicit_little_endian() -> None:
    """A data set without VRs is read by its lengths."""
    data = meta(IMPLICIT_LITTLE) + data_set(explicit=False)
    assert read_head(data, whole=True) == header(IMPLICIT_LITTLE)


def test_a_memoryview_is_read() -> None:
    """A memoryview is read without a copy."""
    assert read_head(memoryview(meta(EXPLICIT_LITTLE) + data_set()), whole=True) == header()


def test_uids_are_those_of_the_data_set() -> None:
    """The SOP Instance UID is that of (0008,0018), even if (0002,0003) differs."""
    found = read_head(meta(EXPLICIT_LITTLE) + data_set(), whole=True)
    assert isinstance(found, Header)
    assert found.sop_instance_uid == "1.2.3.4"


@pytest.mark.parametrize("group_length", [0, 7, 4096, UNDEFINED])
def test_a_wrong_group_length_does_no_harm(group_length: int) -> None:
    """Group 0002 ends where another begins, even if (0002,0000) is wrong."""
    assert read_head(meta(EXPLICIT_LITTLE, group_length=group_length) + data_set(), whole=True) == header()


def test_an_absent_group_length_does_no_harm() -> None:
    """Group 0002 ends where another begins, even without (0002,0000)."""
    data = PREAMBLE + uid(0x00020010, EXPLICIT_LITTLE) + data_set()
    assert read_head(data, whole=True) == header()


@pytest.mark.parametrize("padding", [b"", b"\0", b" ", b"\0\0\0", b"  \0"])
def test_padding_is_no_part_of_a_uid(padding: bytes) -> None:
    """NULs and spaces behind a UID are stripped, as pydicom strips them."""
    data = meta(EXPLICIT_LITTLE) + uid(0x00080016, CT) + uid(0x00080018, "1.2.3.4")
    data += element(0x0020000D, "UI", b"1.2.3" + padding) + uid(0x0020000E, "1.2.3.5")
    assert read_head(data, whole=True) == header() == pydicom_header(data)


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("tail", [b"junk", b"\0", b" 9.9", b"\0 ."])
def test_a_nul_ends_a_uid(tail: bytes, explicit: bool) -> None:
    """A UID ends at its first NUL, as it does for servers."""
    value = b"1.2.3 \0" + tail
    syntax = EXPLICIT_LITTLE if explicit else IMPLICIT_LITTLE
    data = meta(syntax) + uid(0x00080016, CT, explicit=explicit) + uid(0x00080018, "1.2.3.4", explicit=explicit)
    data += element(0x0020000D, "UI", value + b" " * (len(value) % 2), explicit=explicit)
    data += uid(0x0020000E, "1.2.3.5", explicit=explicit)
    assert read_head(data, whole=True) == header(syntax)


def test_bytes_after_series_instance_uid_are_not_read() -> None:
    """Bytes after the Series Instance UID may be garbage or missing."""
    data = meta(EXPLICIT_LITTLE) + data_set()
    assert read_head(data + b"\xff" * 50, whole=False) == read_head(data, whole=False) == header()


@pytest.mark.parametrize("explicit", [True, False])
def test_sequences_nested_ten_thousand_deep(explicit: bool) -> None:
    """Sequences are skipped without recursion, also if they exceed pydicom's recursion limit."""
    depth = 10_000
    opening = element(0x00081140, "SQ", b"", explicit=explicit, undefined=True)
    nested = (opening + struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)) * depth + (ITEM_END + SEQUENCE_END) * depth
    syntax = EXPLICIT_LITTLE if explicit else IMPLICIT_LITTLE
    assert read_head(meta(syntax) + data_set(nested, explicit=explicit), whole=True) == header(syntax)


def test_uids_within_items_are_not_the_instances_own() -> None:
    """The SOP Instance UID of a referenced image is not taken for that of the file."""
    other = item(uid(0x00080018, "9.9.9") + uid(0x0020000D, "9.9"), undefined=True) + SEQUENCE_END
    data = meta(EXPLICIT_LITTLE) + data_set(element(0x00081140, "SQ", other, undefined=True))
    assert read_head(data, whole=True) == header()


# --- what it refuses


@pytest.mark.parametrize("data", [b"", b"DICM", bytes(132), b"%PDF-1.7" + bytes(300), bytes(127) + b"DICM" + bytes(99)])
def test_without_the_magic_it_is_not_dicom(data: bytes) -> None:
    """A whole file without 'DICM' at byte 128 is not DICOM."""
    assert not has_magic(data)
    with pytest.raises(HeadError, match=r"^not DICOM$"):
        read_head(data, whole=True)


def test_a_dicomdir_is_known_by_its_media_storage_class() -> None:
    """(0002,0002) alone makes a file a DICOMDIR (PS3.10 §8.6)."""
    with pytest.raises(HeadError, match=r"^a DICOMDIR$"):
        read_head(meta(EXPLICIT_LITTLE, sop_class="1.2.840.10008.1.3.10") + data_set(), whole=True)


# --- what it declines

DECLINED = {
    "big endian": meta(EXPLICIT_BIG) + data_set(),
    "deflated": meta(DEFLATED) + data_set(),
    "no transfer syntax": PREAMBLE + uid(0x00020002, CT) + data_set(),
    "empty transfer syntax": meta("") + data_set(),
    "explicit announced, implicit written": meta(EXPLICIT_LITTLE) + data_set(explicit=False),
    "implicit announced, explicit written": meta(IMPLICIT_LITTLE) + data_set(),
    "implicit group 0002": PREAMBLE + uid(0x00020010, IMPLICIT_LITTLE, explicit=False) + data_set(),
    "tags out of order": meta(EXPLICIT_LITTLE) + uid(0x00080018, "1.2") + data_set(),
    "a tag twice": meta(EXPLICIT_LITTLE) + uid(0x00080016, CT) + data_set(),
    "group 0002 out of order": PREAMBLE + uid(0x00020010, JPEG_2000) + uid(0x00020002, CT) + data_set(),
    "an unknown VR": meta(EXPLICIT_LITTLE) + data_set(element(0x00090010, "ZZ", b"12")),
    "an unknown VR in an item": meta(EXPLICIT_LITTLE)
    + data_set(element(0x00081140, "SQ", item(element(0x00090010, "ZZ", b"12"), undefined=True), undefined=True)),
    "UN of undefined length": meta(EXPLICIT_LITTLE)
    + data_set(element(0x00091010, "UN", item(b"") + SEQUENCE_END, undefined=True)),
    "OB of undefined length in an item": meta(EXPLICIT_LITTLE)
    + data_set(
        element(0x00081140, "SQ", item(element(0x00091010, "OB", b"", undefined=True), undefined=True), undefined=True)
    ),
    "a sequence without items": meta(EXPLICIT_LITTLE)
    + data_set(element(0x00081140, "SQ", b"12345678", undefined=True)),
    "a UID of two values": meta(EXPLICIT_LITTLE) + data_set().replace(b"1.2.3.4", b"1.2\\3.4"),
    "a UID that is not ASCII": meta(EXPLICIT_LITTLE) + data_set().replace(b"1.2.3.4", b"1.2\xe9.4"),
    "a UID of another VR": meta(EXPLICIT_LITTLE) + data_set().replace(b"UI", b"LO", 2),
    "no SOP class": meta(EXPLICIT_LITTLE) + data_set().removeprefix(uid(0x00080016, CT)),
    "an empty study": meta(EXPLICIT_LITTLE) + data_set().replace(uid(0x0020000D, "1.2.3"), uid(0x0020000D, "")),
    "ends before the series": meta(EXPLICIT_LITTLE) + data_set()[:-16],
    "no data set": meta(EXPLICIT_LITTLE),
    "no data set, implicit": meta(IMPLICIT_LITTLE),
}


@pytest.mark.parametrize("data", DECLINED.values(), ids=DECLINED.keys())
def test_what_conforming_writers_do_not_write_is_declined(data: bytes) -> None:
    """Every unusual file is left to the tolerant reader."""
    assert isinstance(read_head(data, whole=True), Declined)


# --- bytes that end too early


def heads_to_cut() -> list[bytes]:
    """Return heads that use all features of the reader."""
    inner = element(0x00081140, "SQ", item(uid(0x00081155, "1.2")) + SEQUENCE_END, undefined=True)
    sequence = element(0x00081111, "SQ", item(inner + element(0x00091010, "OB", b"ab"), undefined=True) + SEQUENCE_END)
    open_sequence = element(0x00081115, "SQ", item(inner, undefined=True) + SEQUENCE_END, undefined=True)
    explicit = sequence + open_sequence + element(0x00091011, "UN", b"1234") + element(0x00100010, "PN", b"A^B ")
    implicit = element(
        0x00081115, "", item(uid(0x00081155, "1.2", explicit=False), undefined=True) + SEQUENCE_END,
        explicit=False, undefined=True,
    )  # fmt: skip
    return [
        meta(EXPLICIT_LITTLE) + data_set(explicit),
        meta(IMPLICIT_LITTLE) + data_set(implicit, explicit=False),
    ]


@pytest.mark.parametrize("data", heads_to_cut(), ids=["explicit", "implicit"])
def test_cut_anywhere_it_asks_for_more(data: bytes) -> None:
    """For any part of a file the result is the header or a request for more bytes than the part has."""
    assert read_head(data, whole=False) == pydicom_header(data)
    for size_bytes in range(len(data)):
        found = read_head(data[:size_bytes], whole=False)
        assert isinstance(found, Incomplete), size_bytes
        assert found.needed_bytes > size_bytes


@pytest.mark.parametrize("data", heads_to_cut(), ids=["explicit", "implicit"])
def test_a_whole_file_cut_anywhere_gives_no_header(data: bytes) -> None:
    """A truncated UID is never taken for a UID."""
    for size_bytes in range(132, len(data)):
        assert isinstance(read_head(data[:size_bytes], whole=True), Incomplete | Declined), size_bytes


def test_a_long_value_says_how_much_is_needed() -> None:
    """A long value before the UIDs is skipped by one request for more bytes."""
    data = meta(EXPLICIT_LITTLE) + data_set(element(0x00091010, "OB", bytes(300_000)))
    found = read_head(data[:4096], whole=False)
    assert isinstance(found, Incomplete)
    assert 300_000 < found.needed_bytes <= len(data)
    assert read_head(data[: found.needed_bytes + 64], whole=False) == header()


# --- pydicom agrees


def attributes(found: Header) -> tuple[str | None, str | None]:
    """Return the values that the comparison of headers leaves out."""
    return found.modality, found.study_date


def test_headers_of_pydicoms_files_equal_pydicoms() -> None:
    """On 188 of pydicom's 222 Part 10 files there is a header, always pydicom's, with modality and study date.

    20 of the others are big endian.
    """
    taken, declined, disagreed = 0, 0, []
    for path in real_files():
        data = path.read_bytes()
        try:
            found = read_head(data, whole=True)
        except HeadError:
            continue
        if isinstance(found, Header):
            taken += 1
            expected = pydicom_header(data)
            if found != expected or attributes(found) != attributes(expected):
                disagreed.append(path.name)
        else:
            declined += 1
    assert disagreed == []
    assert taken > 4 * declined


@pytest.mark.parametrize("explicit", [True, False])
def test_modality_and_study_date_are_read(explicit: bool) -> None:
    """They are in front of the UIDs of study and series, in either encoding; without them both are empty."""
    syntax = EXPLICIT_LITTLE if explicit else IMPLICIT_LITTLE
    before = element(0x00080020, "DA", b"20201231", explicit=explicit) + element(
        0x00080060, "CS", b"CT", explicit=explicit
    )
    found = read_head(meta(syntax) + data_set(before, explicit=explicit), whole=True)
    assert isinstance(found, Header)
    assert attributes(found) == ("CT", "20201231")
    found = read_head(meta(syntax) + data_set(explicit=explicit), whole=True)
    assert isinstance(found, Header)
    assert attributes(found) == ("", "")


@dataclass(frozen=True)
class Leaf:
    """A value of defined length."""

    vr: str
    value: bytes


@dataclass(frozen=True)
class Branch:
    """A sequence, with undefined or defined lengths of itself and its items."""

    undefined: bool
    items: tuple[tuple[bool, tuple[tuple[int, Node], ...]], ...]


Node = Leaf | Branch

PRIVATE_TAGS = st.builds(
    lambda group, number: group << 16 | number, st.sampled_from([9, 0x11, 0x19]), st.integers(0x1000, 0xFFFF)
)
LEAVES = st.builds(
    Leaf,
    st.sampled_from(["LO", "CS", "US", "UI", "OB", "OW", "UN", "UT"]),
    st.binary(max_size=20).map(lambda value: value + b" " * (len(value) % 2)),
)


def branches(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    """Return sequences whose items contain `nodes`."""
    content = st.lists(st.tuples(PRIVATE_TAGS, nodes), max_size=3).map(tuple)
    items = st.lists(st.tuples(st.booleans(), content), max_size=3).map(tuple)
    return st.builds(Branch, st.booleans(), items)


NODES: st.SearchStrategy[Node] = st.recursive(LEAVES, branches, max_leaves=12)
UIDS = st.from_regex(r"[1-9][0-9]{0,6}(\.[1-9][0-9]{0,8}){1,5}", fullmatch=True)


def encoded(tag: int, node: Node, *, explicit: bool) -> bytes:
    """Return the bytes of a generated element."""
    if isinstance(node, Leaf):
        return element(tag, node.vr, node.value, explicit=explicit)
    content = b"".join(
        item(b"".join(encoded(inner, value, explicit=explicit) for inner, value in values), undefined=undefined)
        for undefined, values in node.items
    )
    ending = SEQUENCE_END if node.undefined else b""
    return element(tag, "SQ", content + ending, explicit=explicit, undefined=node.undefined)


@given(
    explicit=st.booleans(),
    elements=st.dictionaries(PRIVATE_TAGS, NODES, max_size=6),
    uids=st.tuples(UIDS, UIDS, UIDS, UIDS),
    group_length=st.none() | st.integers(0, UNDEFINED),
)
def test_headers_of_conforming_files_equal_pydicoms(
    explicit: bool, elements: dict[int, Node], uids: tuple[str, str, str, str], group_length: int | None
) -> None:
    """Private elements, long VRs and nested sequences of either kind of length are read as by pydicom."""
    data = meta(EXPLICIT_LITTLE if explicit else IMPLICIT_LITTLE, group_length=group_length)
    data += uid(0x00080016, uids[0], explicit=explicit) + uid(0x00080018, uids[1], explicit=explicit)
    data += b"".join(encoded(tag, node, explicit=explicit) for tag, node in sorted(elements.items()))
    data += uid(0x0020000D, uids[2], explicit=explicit) + uid(0x0020000E, uids[3], explicit=explicit)
    found = read_head(data, whole=True)
    assert isinstance(found, Header)
    assert found == pydicom_header(data)


# --- bytes that nobody would write


def read_or_refuse(data: bytes, *, whole: bool) -> None:
    """Read a head, and accept any documented result."""
    try:
        found = read_head(data, whole=whole)
    except HeadError:
        return
    assert isinstance(found, Header | Incomplete | Declined)
    if isinstance(found, Incomplete):
        assert found.needed_bytes > len(data)


@given(
    st.binary(max_size=400),
    st.sampled_from([b"", PREAMBLE, meta(EXPLICIT_LITTLE), meta(IMPLICIT_LITTLE)]),
    st.booleans(),
)
def test_random_bytes_raise_nothing_but_head_error(tail: bytes, lead: bytes, whole: bool) -> None:
    """Any bytes lead to a result or a HeadError."""
    read_or_refuse(lead + tail, whole=whole)


@given(
    st.sampled_from(heads_to_cut()),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 4), st.binary(max_size=6)), min_size=1, max_size=6),
    st.booleans(),
)
def test_mutated_heads_raise_nothing_but_head_error(
    data: bytes, mutations: list[tuple[int, int, bytes]], whole: bool
) -> None:
    """Overwritten, removed and inserted bytes lead to a result or a HeadError."""
    for place, removed, inserted in mutations:
        at = 132 + place % (len(data) - 132) if len(data) > 132 else 0
        data = data[:at] + inserted + data[at + removed :]
    read_or_refuse(data, whole=whole)
