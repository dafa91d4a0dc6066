"""The tolerant reader of heads, on literal bytes of non-conforming writers, as DCMTK reads them, and on damage."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.wire.elements import MOST_ELEMENTS
from bulkstow.wire.part10 import META_AT, SERIES, SOP_CLASS, SOP_INSTANCE, STUDY
from bulkstow.wire.steps import CutOff, Need, Steps
from bulkstow.wire.tolerant_reader import ReadResult, read_data_set, read_meta
from tests.wire.test_part10 import (
    CT,
    DECLINED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    data_set,
    element,
    heads_to_cut,
    item,
    meta,
    uid,
)

UIDS = {SOP_CLASS: CT, SOP_INSTANCE: "1.2.3.4", STUDY: "1.2.3", SERIES: "1.2.3.5"}


def fed(steps: Steps[ReadResult], data: bytes) -> tuple[ReadResult, list[Need]]:
    """Return a reader's result for `data`, and its requests; it is sent exactly the requested bytes."""
    needs: list[Need] = []
    answer: bytes | None = None
    try:
        need = next(steps)
        while True:
            needs.append(need)
            answer = None if need.offset > len(data) else data[need.offset : need.offset + need.size_bytes]
            need = steps.send(answer)
    except StopIteration as stop:
        found: ReadResult = stop.value
        return found, needs


def read(data: bytes, transfer_syntax: str = EXPLICIT_LITTLE, *, to_end: bool = False) -> ReadResult:
    """Return the result for a data set."""
    return fed(read_data_set(0, len(data), transfer_syntax, to_end=to_end), data)[0]


def odd(group: int, number: int, vr: bytes, value: bytes, *, long: bool = False) -> bytes:
    """Return an explicit little-endian element of any VR, with a length of 2 or 4 bytes."""
    head = struct.pack("<HH2s", group, number, vr)
    return head + struct.pack("<HI" if long else "<H", *((0, len(value)) if long else (len(value),))) + value


# --- value representations that nobody knows


@pytest.mark.parametrize("vr", [b"--", b"  ", b"??", b"\0\0", b"un", b"U\0", b"ZZ", b"\xff\xff", b"12"])
@pytest.mark.parametrize("long", [False, True], ids=["2 bytes", "4 bytes"])
@pytest.mark.parametrize("value", [b"", b"ab", b"x" * 84, bytes(1_000)], ids=len)
def test_an_unknown_vr_is_read_by_what_follows(vr: bytes, long: bool, value: bytes) -> None:
    """The UIDs after an unknown VR are found for both sizes of its length."""
    assert read(data_set(odd(0x10, 0x21B0, vr, value, long=long))).uids == UIDS


def test_a_literal_element_of_unknown_vr() -> None:
    """The UIDs after (0010,21B0) with the VR '--' and 84 bytes are found."""
    data = data_set(b"\x10\x00\xb0\x21\x2d\x2d\x54\x00" + b"no known allergies".ljust(84))
    assert read(data) == ReadResult(UIDS, len(data) - 16, STUDY)


@pytest.mark.parametrize("vr", [b"--", b"??", b"\0\0"])
def test_several_unknown_vrs_in_a_row(vr: bytes) -> None:
    """Two consecutive elements of unknown VR, in different groups, are read."""
    several = odd(0x10, 0x21B0, vr, b"a" * 84) + odd(0x10, 0x21C0, vr, b"") + odd(0x18, 0x15, vr, b"CHEST ")
    assert read(data_set(several)).uids == UIDS


def test_an_unknown_vr_within_items() -> None:
    """Unknown VRs are also read in items of undefined length."""
    inner = odd(9, 0x1010, b"--", b"abcd") + odd(9, 0x1011, b"ZZ", b"abcd", long=True)
    sequence = item(inner, undefined=True) + SEQUENCE_END
    assert read(data_set(element(0x00081140, "SQ", sequence, undefined=True))).uids == UIDS


def test_an_unknown_vr_of_undefined_length_holds_items() -> None:
    """A sequence with a future VR is skipped by its delimiters."""
    sequence = struct.pack("<HH2sHI", 9, 0x1010, b"ZZ", 0, UNDEFINED) + item(b"") + SEQUENCE_END
    assert read(data_set(sequence)).uids == UIDS


def test_nuls_between_elements() -> None:
    """Eight NULs are an empty element, as for DCMTK."""
    assert read(data_set(bytes(8))).uids == UIDS


def test_a_single_element_without_vr() -> None:
    """An element without VR among explicit ones is read."""
    assert read(data_set(element(0x00100020, "", b"1234", explicit=False))).uids == UIDS


# --- odd encodings


@pytest.mark.parametrize("transfer_syntax", ["", EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG, "1.2.3.4"])
@pytest.mark.parametrize("explicit", [True, False])
def test_the_first_element_shows_the_encoding(transfer_syntax: str, explicit: bool) -> None:
    """Explicit and implicit elements are distinguished for any announced syntax, and without one."""
    assert read(data_set(explicit=explicit), transfer_syntax).uids == UIDS


@pytest.mark.parametrize("name", sorted(DECLINED.keys() - {"empty transfer syntax"}))
def test_files_that_the_fast_reader_declines_have_a_result(name: str) -> None:
    """Every file has its UIDs, a problem, or a missing UID."""
    data = DECLINED[name]
    head, _ = fed(read_meta(META_AT, len(data)), data)
    found, _ = fed(read_data_set(head.end_at, len(data), EXPLICIT_LITTLE), data)
    assert found.problem or found.uids.keys() <= UIDS.keys()


@pytest.mark.parametrize("name", ["OB", "UN", "LO"])
def test_a_value_of_undefined_length_ends_at_its_delimiter(name: str) -> None:
    """A value without items is searched for its delimiter, also across two reads."""
    for size_bytes in (10, 65_535, 65_537, 200_000):
        private = struct.pack("<HH2s", 9, 0x1010, name.encode())
        private += struct.pack("<HI", 0, UNDEFINED) if name != "LO" else b""
        if name == "LO":
            private = struct.pack("<HHI", 9, 0x1010, UNDEFINED)
        found = read(data_set(private + b"x" * size_bytes + SEQUENCE_END, explicit=name != "LO"), IMPLICIT_LITTLE)
        assert found.uids == UIDS, size_bytes


@pytest.mark.parametrize("explicit", [True, False])
def test_a_sequence_of_unknown_vr_is_implicit_or_explicit(explicit: bool) -> None:
    """UN of undefined length contains implicit items (PS3.5 §6.2.2), or explicit ones of some writers."""
    inner = element(0x00081140, "SQ", item(uid(0x00081155, "1.2", explicit=explicit), undefined=True) + SEQUENCE_END,
                    explicit=explicit, undefined=True)  # fmt: skip
    unknown = element(0x00091010, "UN", item(inner, undefined=True) + SEQUENCE_END, undefined=True)
    assert read(data_set(unknown)).uids == UIDS


def test_fragments_are_passed_by_their_lengths() -> None:
    """Encapsulated data before the UIDs may contain the bytes of the delimiter."""
    fragments = item(b"") + item(SEQUENCE_END * 3) + SEQUENCE_END
    assert read(data_set(element(0x00091010, "OB", fragments, undefined=True))).uids == UIDS


def test_nested_sequences_need_no_recursion() -> None:
    """Sequences nested 20,000 deep are skipped."""
    opening = element(0x00081140, "SQ", b"", undefined=True) + struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
    assert read(data_set(opening * 20_000 + (ITEM_END + SEQUENCE_END) * 20_000)).uids == UIDS


def test_tags_in_any_order_are_found() -> None:
    """A UID out of order is found; if a tag occurs twice, the first counts, as with DCMTK."""
    elements = [uid(tag, value) for tag, value in UIDS.items()]
    assert read(b"".join(reversed(elements)) + uid(SERIES, "9.9")).uids == UIDS


def test_group_0002_ends_where_another_begins() -> None:
    """The file meta information is read with a wrong group length, and ends where the data set begins."""
    data = meta(EXPLICIT_LITTLE, group_length=7)
    found, _ = fed(read_meta(META_AT, len(data)), data + data_set())
    assert (found.end_at, found.problem) == (len(data), "")


# --- UIDs


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1.2.3\0junk", "1.2.3"),
        (b"1.2.3 \0 9", "1.2.3"),
        (b"1.2\\3.4", "1.2"),
        (b"1.2/../3", "1.2/../3"),
        (b"1.2\xe9", "1.2\xe9"),
    ],
)
def test_a_uid_is_read_as_by_servers(value: bytes, expected: str) -> None:
    """A UID ends at its first NUL; of several values the first counts; other characters are kept."""
    data = data_set().replace(uid(STUDY, "1.2.3"), element(STUDY, "UI", value))
    assert read(data).uids[STUDY] == expected


@pytest.mark.parametrize("value", [b"\0001.2.3", b"\\1.2.3", b" \0junk", b"1" * 2_000], ids=repr)
def test_a_value_that_is_no_uid_is_a_problem(value: bytes) -> None:
    """A value that is not a UID is a problem, not a missing UID."""
    assert read(data_set().replace(uid(STUDY, "1.2.3"), element(STUDY, "UI", value))).problem.startswith("damaged")


@pytest.mark.parametrize("value", [b"", b"\0\0", b"    "])
def test_a_blank_uid_is_none(value: bytes) -> None:
    """A blank UID counts as absent."""
    assert STUDY not in read(data_set().replace(uid(STUDY, "1.2.3"), element(STUDY, "UI", value))).uids


# --- damage, and bounds


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (data_set(odd(9, 0x1010, b"--", b"x" * 9)[:-3]), "damaged: its head makes no sense at byte 50"),
        (data_set(element(0x00091010, "OB", b"")[:8] + b"\xfe\xff\xff\xff"), "cut off in its head"),
        (data_set(element(0x00091010, "OB", b"x" * 90_000, undefined=True)), "cut off in its head"),
        (
            data_set(element(0x00081140, "SQ", b"", undefined=True) + item(b"", undefined=True)[:8]),
            "cut off in its head",
        ),
        (data_set(ITEM_END), "damaged: its head makes no sense at byte 50"),
        (data_set(bytes(16)), "damaged: its head makes no sense at byte 50"),
        (data_set()[:-20], "cut off in its head"),
    ],
)
def test_damage_is_a_problem(data: bytes, problem: str) -> None:
    """Damage is a problem with its position."""
    found = read(data)
    assert found.problem.startswith(problem)
    assert STUDY not in found.uids


def test_elements_are_counted() -> None:
    """The number of elements is limited."""
    found = read(data_set(element(0x00090010, "LO", b"") * (MOST_ELEMENTS + 1)))
    assert found.problem == "its head is too long: more than 200000 elements"


def test_values_are_not_read() -> None:
    """A gigabyte before the UIDs is skipped by its length."""
    head = struct.pack("<HH2sHI", 9, 0x1010, b"OB", 0, 2**30)
    behind = data_set()
    steps = read_data_set(0, len(head) + 2**30 + len(behind), EXPLICIT_LITTLE)
    need = next(steps)
    asked_bytes = 0
    try:
        while True:
            asked_bytes += need.size_bytes
            at = need.offset - len(head) - 2**30
            answer = head[need.offset :] if at < 0 else behind[at : at + need.size_bytes]
            need = steps.send(answer[: need.size_bytes])
    except StopIteration as stop:
        found: ReadResult = stop.value
    assert found.uids == UIDS
    assert asked_bytes < 1_000


@pytest.mark.parametrize("data", heads_to_cut(), ids=["explicit", "implicit"])
def test_cut_anywhere_a_head_is_a_problem_or_ends_early(data: bytes) -> None:
    """In a file that is cut anywhere, no part of a UID is taken for the UID, and a missing study has a problem."""
    whole, _ = fed(read_data_set(fed(read_meta(META_AT, len(data)), data)[0].end_at, len(data), ""), data)
    for size_bytes in range(META_AT, len(data)):
        cut = data[:size_bytes]
        head, _ = fed(read_meta(META_AT, size_bytes), cut)
        found = head
        if not head.problem:
            found, _ = fed(read_data_set(head.end_at, size_bytes, ""), cut)
            assert found.uids.items() <= whole.uids.items()
        assert found.problem or found.highest_tag < SERIES, size_bytes


def test_the_element_in_which_the_data_end_is_told() -> None:
    """Reading a data set to its end returns how much of its last value is missing."""
    pixel_data = element(0x7FE00010, "OW", bytes(1_000))
    assert read((data_set() + pixel_data)[:-300], to_end=True).truncation == CutOff(0x7FE00010, 1_000, 300)
    assert read((data_set() + pixel_data), to_end=True).truncation is None
    fragments = data_set() + element(0x7FE00010, "OB", item(b"") + item(b"abcd") + SEQUENCE_END, undefined=True)
    assert read(fragments, to_end=True).truncation is None
    assert read(fragments[:-9], to_end=True).truncation == CutOff(0x7FE00010)
    assert read(fragments[:-8], to_end=True).truncation == CutOff(0x7FE00010)
    assert read(data_set() + b"\x28\0\x10", to_end=True).truncation == CutOff()
    assert read(data_set() + pixel_data + b"\0", to_end=True).truncation is None


@given(st.binary(max_size=300), st.sampled_from([b"", data_set()[:50], data_set()]), st.booleans())
def test_any_bytes_come_to_an_end(tail: bytes, lead: bytes, to_end: bool) -> None:
    """Any bytes have a result and raise nothing."""
    assert isinstance(read(lead + tail, "", to_end=to_end), ReadResult)
