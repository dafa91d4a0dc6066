"""Edits of heads, on literal bytes in every encoding."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.wire.edit_levels import Patch
from bulkstow.wire.edit_rules import (
    Action,
    AppendToUids,
    Attribute,
    Edits,
    Extend,
    Private,
    Regenerate,
    Remove,
    Rules,
    SetTo,
    Table,
)
from bulkstow.wire.edits import DataSetEdits, edit_data_set, read_file_meta
from bulkstow.wire.elements import EXPLICIT, IMPLICIT, Syntax
from bulkstow.wire.steps import MemoryWindow, Problem, run
from bulkstow.wire.uids import is_uid

PATIENT_NAME, PATIENT_ID, ISSUER = 0x0010_0010, 0x0010_0020, 0x0010_0021
ACCESSION_NUMBER, STUDY_ID, COMMENTS = 0x0008_0050, 0x0020_0010, 0x0020_4000
STUDY_SEQUENCE, ICONS = 0x0008_1110, 0x0088_0200
SOP_CLASS, SOP_INSTANCE, STUDY = 0x0008_0016, 0x0008_0018, 0x0020_000D
REFERENCED_CLASS, REFERENCED_INSTANCE = 0x0008_1150, 0x0008_1155
KEY = Regenerate(b"0123456789abcdef")
NEW = KEY.new_uid


@dataclass(frozen=True)
class Encoding:
    """Writes elements of one encoding."""

    syntax: Syntax

    def element(self, tag: int, vr: str, value: bytes, *, is_open: bool = False) -> bytes:
        """Return an element, with an undefined length if `is_open`."""
        order = ">" if self.syntax.is_big else "<"
        length = 0xFFFFFFFF if is_open else len(value)
        head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
        if not self.syntax.is_explicit or tag >> 16 == 0xFFFE:
            return head + struct.pack(f"{order}I", length) + value
        if vr in ("SQ", "OB", "OW", "UN", "UT"):
            return head + vr.encode() + struct.pack(f"{order}HI", 0, length) + value
        return head + vr.encode() + struct.pack(f"{order}H", length) + value

    def text(self, tag: int, vr: str, text: str, encoding: str = "ascii") -> bytes:
        """Return an element with a text, padded to an even length."""
        value = text.encode(encoding)
        return self.element(tag, vr, value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2))

    def number(self, tag: int, vr: str, number: int) -> bytes:
        """Return an element with a number."""
        code = {"UL": "I", "US": "H"}[vr]
        return self.element(tag, vr, struct.pack(f"{'>' if self.syntax.is_big else '<'}{code}", number))

    def sequence(self, tag: int, *items: bytes, is_open: bool, vr: str = "SQ") -> bytes:
        """Return a sequence and its items, with delimiters if `is_open`."""
        end = self.element(0xFFFE_E00D, "", b"") if is_open else b""
        content = b"".join(self.element(0xFFFE_E000, "", item + end, is_open=is_open) for item in items)
        end = self.element(0xFFFE_E0DD, "", b"") if is_open else b""
        return self.element(tag, vr, content + end, is_open=is_open)


LITTLE = Encoding(EXPLICIT)
ENCODINGS = [LITTLE, Encoding(IMPLICIT), Encoding(Syntax(is_explicit=True, is_big=True))]
NAMES = ["explicit", "implicit", "big endian"]
every_encoding = pytest.mark.parametrize("encoding", ENCODINGS, ids=NAMES)


def rules(actions: Mapping[Attribute, Action] | None = None, *tables: Table, **inner: Rules) -> Edits:
    """Return edits; `inner` has the rules of sequences by their names here."""
    sequences: dict[Attribute, Rules] = {{"studies": STUDY_SEQUENCE}[name]: each for name, each in inner.items()}
    return Edits(Rules(actions or {}, tables, sequences))


def result(edits: Edits, data: bytes, syntax: Syntax) -> DataSetEdits:
    """Return the edits of a data set."""
    return run(edit_data_set(edits, 0, len(data), syntax), MemoryWindow(data))


def patched(data: bytes, patches: tuple[Patch, ...] | list[Patch]) -> bytes:
    """Return the data after the patches, which must be in order and not overlap."""
    pieces, at = [], 0
    for patch in patches:
        assert patch.at >= at
        pieces += [data[at : patch.at], patch.data]
        at = patch.at + patch.size_bytes
    assert at <= len(data)
    return b"".join((*pieces, data[at:]))


def edited(edits: Edits, data: bytes, syntax: Syntax = EXPLICIT) -> bytes:
    """Return a data set after the edits."""
    return patched(data, result(edits, data, syntax).patches)


@every_encoding
def test_values_are_set_removed_and_extended(encoding: Encoding) -> None:
    """Every rule is applied where its attribute is; a public attribute that is absent is added in order."""
    text = encoding.text
    edits = rules(
        {
            ACCESSION_NUMBER: SetTo("NEW-ACCESSION"),
            PATIENT_NAME: Remove(),
            PATIENT_ID: Extend("N-", "-X"),
            ISSUER: SetTo("NORTH"),
            STUDY_ID: Extend("", "2"),
            COMMENTS: Remove(),
        }
    )
    before = b"".join(
        (
            text(ACCESSION_NUMBER, "SH", "A1"),
            text(PATIENT_NAME, "PN", "Doe^Jane"),
            text(PATIENT_ID, "LO", "123"),
            text(STUDY, "UI", "1.2.3"),
        )
    )
    after = b"".join(
        (
            text(ACCESSION_NUMBER, "SH", "NEW-ACCESSION"),
            text(PATIENT_ID, "LO", "N-123-X"),
            text(ISSUER, "LO", "NORTH"),
            text(STUDY, "UI", "1.2.3"),
        )
    )
    assert edited(edits, before, encoding.syntax) == after
    assert result(edits, before, encoding.syntax).values == {
        ACCESSION_NUMBER: "NEW-ACCESSION",
        PATIENT_NAME: "",
        PATIENT_ID: "N-123-X",
        ISSUER: "NORTH",
    }


@every_encoding
def test_several_added_attributes_are_in_order(encoding: Encoding) -> None:
    """Attributes that are added at one place, also at the end, have ascending tags."""
    edits = rules({COMMENTS: SetTo("b"), ISSUER: SetTo("c"), PATIENT_NAME: SetTo("a"), PATIENT_ID: SetTo("d")})
    before = encoding.text(ACCESSION_NUMBER, "SH", "1") + encoding.text(STUDY, "UI", "1.2.3")
    after = b"".join(
        (
            encoding.text(ACCESSION_NUMBER, "SH", "1"),
            encoding.text(PATIENT_NAME, "PN", "a"),
            encoding.text(PATIENT_ID, "LO", "d"),
            encoding.text(ISSUER, "LO", "c"),
            encoding.text(STUDY, "UI", "1.2.3"),
            encoding.text(COMMENTS, "LT", "b"),
        )
    )
    assert edited(edits, before, encoding.syntax) == after


@every_encoding
def test_a_value_that_is_as_it_should_be_is_no_edit(encoding: Encoding) -> None:
    """Setting the same value again changes no byte."""
    before = encoding.text(PATIENT_ID, "LO", "123") + encoding.number(0x0028_0010, "US", 16)
    assert result(rules({PATIENT_ID: SetTo("123"), 0x0028_0010: SetTo((16,))}), before, encoding.syntax).patches == ()


@every_encoding
def test_numbers_have_the_byte_order_of_the_file(encoding: Encoding) -> None:
    """A number is written as the transfer syntax wants it."""
    before = encoding.number(0x0028_0010, "US", 16)
    after = encoding.number(0x0028_0010, "US", 258)
    assert edited(rules({0x0028_0010: SetTo((258,))}), before, encoding.syntax) == after


@every_encoding
@pytest.mark.parametrize("is_open", [False, True])
def test_lengths_follow_in_sequences_and_groups(encoding: Encoding, is_open: bool) -> None:
    """The lengths of an item, its sequence and its group are those of the new content; other items stay."""
    text = encoding.text

    def data(accession: str) -> bytes:
        first = text(ACCESSION_NUMBER, "SH", accession) + text(REFERENCED_INSTANCE, "UI", "1.2")
        second = text(REFERENCED_INSTANCE, "UI", "1.3")
        group = encoding.sequence(STUDY_SEQUENCE, first, second, is_open=is_open)
        length = encoding.number(0x0008_0000, "UL", len(group))
        return length + group + encoding.number(0x0010_0000, "UL", 10) + text(PATIENT_ID, "LO", "12")

    edits = rules(studies=Rules({ACCESSION_NUMBER: Extend("LONGER-", "")}))
    assert edited(edits, data("77"), encoding.syntax) == data("LONGER-77")


@every_encoding
@pytest.mark.parametrize("is_open", [False, True])
def test_uids_are_mapped_wherever_they_identify_an_instance(encoding: Encoding, is_open: bool) -> None:
    """References follow in every sequence; SOP classes, UIDs of the standard and other values stay."""
    text = encoding.text

    def data(instance: str, reference: str, frame: str) -> bytes:
        inner = text(REFERENCED_CLASS, "UI", "1.2.9.4") + text(REFERENCED_INSTANCE, "UI", reference)
        nested = encoding.sequence(0x0008_1199, inner, is_open=not is_open)
        return b"".join(
            (
                text(SOP_CLASS, "UI", "1.2.840.10008.5.1.4.1.1.2"),
                text(SOP_INSTANCE, "UI", instance),
                encoding.sequence(0x0008_1115, nested, is_open=is_open),
                text(PATIENT_ID, "LO", "1.2.3"),
                text(STUDY, "UI", ""),
                text(0x0020_0052, "UI", frame),
                text(0x0020_0200, "UI", "1.2.840.10008.15.1.1"),
            )
        )

    edits = Edits(uids=KEY)
    before, after = data("1.2.3", "1.2.3", "1.7"), data(NEW("1.2.3"), NEW("1.2.3"), NEW("1.7"))
    assert edited(edits, before, encoding.syntax) == after
    assert result(edits, before, encoding.syntax).values[SOP_INSTANCE] == NEW("1.2.3")


def test_several_uids_in_one_value_are_mapped_each() -> None:
    """Failed SOP Instance UID List has many values."""
    before = LITTLE.text(0x0008_0058, "UI", "1.2\\1.2.840.10008.1.1\\1.3")
    after = LITTLE.text(0x0008_0058, "UI", f"{NEW('1.2')}\\1.2.840.10008.1.1\\{NEW('1.3')}")
    assert edited(Edits(uids=KEY), before) == after


def test_a_rule_of_its_own_comes_before_the_rule_for_uids() -> None:
    """An attribute with a rule is not mapped as well."""
    edits = Edits(Rules({STUDY: SetTo("1.9")}), KEY)
    before = LITTLE.text(SOP_INSTANCE, "UI", "1.2") + LITTLE.text(STUDY, "UI", "1.3")
    assert edited(edits, before) == LITTLE.text(SOP_INSTANCE, "UI", NEW("1.2")) + LITTLE.text(STUDY, "UI", "1.9")


def test_uids_of_unknown_vr_are_mapped() -> None:
    """A server that did not know an attribute wrote UN: a UID, or a sequence in implicit encoding (PS3.5 §6.2.2)."""
    implicit = ENCODINGS[1]

    def data(uid: str, reference: str) -> bytes:
        inner = implicit.text(REFERENCED_INSTANCE, "UI", reference)
        return LITTLE.sequence(0x0008_1115, inner, is_open=True, vr="UN") + LITTLE.text(0x0020_0052, "UN", uid)

    # The item headers of UN are those of either encoding.
    after = edited(Edits(uids=KEY), data("1.2.34", "1.2.35"))
    assert NEW("1.2.34").encode() in after
    assert NEW("1.2.35").encode() in after
    assert b"1.2.34" not in after
    assert b"1.2.35" not in after


def test_private_attributes_are_found_by_their_creator() -> None:
    """The block is where the creator has reserved it; another creator's attribute of the same number stays."""
    creators = LITTLE.text(0x0009_0010, "LO", "OTHER") + LITTLE.text(0x0009_0011, "LO", "ACME 1.0")
    other, ours = LITTLE.text(0x0009_1002, "LO", "stays"), LITTLE.text(0x0009_1102, "LO", "goes")
    uid = LITTLE.text(0x0009_1103, "UI", "1.2.3")
    edits = Edits(Rules({Private(9, "ACME 1.0", 2): Remove(), Private(9, "ABSENT", 3): SetTo("x")}), KEY)
    assert edited(edits, creators + other + ours + uid) == creators + other + uid
    edits = rules({Private(9, "ACME 1.0", 2): SetTo("new value")})
    after = creators + other + LITTLE.text(0x0009_1102, "LO", "new value") + uid
    assert edited(edits, creators + other + ours + uid) == after


def test_pixel_data_and_everything_behind_them_stay() -> None:
    """Pixel data of an icon are passed over, those of the instance and digital signatures are not read at all."""
    fragments = LITTLE.element(0xFFFE_E000, "", b"") + LITTLE.element(0xFFFE_E000, "", b"1.2.3\0") * 2
    icon = LITTLE.element(0x7FE0_0010, "OB", fragments + LITTLE.element(0xFFFE_E0DD, "", b""), is_open=True)
    tail = LITTLE.element(0x7FE0_0010, "OW", bytes(64)) + LITTLE.text(0xFFFA_0010, "UI", "1.2") + b"\xfc\xff broken"

    def data(uid: str) -> bytes:
        return LITTLE.text(SOP_INSTANCE, "UI", uid) + LITTLE.sequence(ICONS, icon, is_open=False) + tail

    assert edited(Edits(uids=KEY), data("1.2.3")) == data(NEW("1.2.3"))


@pytest.mark.parametrize(
    ("name", "encoding", "text"),
    [
        ("ISO_IR 100", "latin-1", "Müller^Jürgen"),
        ("ISO_IR 192", "utf-8", "Müller^山田"),
        ("GB18030", "gb18030", "王^小东"),
        ("", "ascii", "Mueller"),
    ],
)
def test_text_has_the_character_set_of_the_instance(name: str, encoding: str, text: str) -> None:
    """A new text is written in it, and an old one is read in it."""
    head = LITTLE.text(0x0008_0005, "CS", name)
    before = head + LITTLE.text(PATIENT_NAME, "PN", text, encoding)
    after = head + LITTLE.text(PATIENT_NAME, "PN", f"X{text}Y", encoding)
    assert edited(rules({PATIENT_NAME: Extend("X", "Y")}), before) == after
    assert edited(rules({PATIENT_NAME: SetTo(f"X{text}Y")}), before) == after


def test_an_item_may_have_a_character_set_of_its_own() -> None:
    """It holds in the item; the next item has that of the data set."""
    items = [
        LITTLE.text(0x0008_0005, "CS", "ISO_IR 192") + LITTLE.text(ACCESSION_NUMBER, "SH", "1"),
        LITTLE.text(ACCESSION_NUMBER, "SH", "1"),
    ]
    before = LITTLE.text(0x0008_0005, "CS", "ISO_IR 100") + LITTLE.sequence(STUDY_SEQUENCE, *items, is_open=True)
    after = edited(rules(studies=Rules({ACCESSION_NUMBER: SetTo("ü")})), before)
    assert after.count("ü".encode()) == 1
    assert after.count("ü ".encode("latin-1")) == 1


IDS = Table("ids.csv", PATIENT_ID, (PATIENT_ID, ISSUER), {"1": ("N1", "NORTH"), "2": ("N2", "")}, keeps_missing=False)


def test_a_table_sets_several_attributes_by_one() -> None:
    """Also those that come before it, or are absent; padding is no part of the old value."""
    table = Table("ids.csv", PATIENT_ID, (ACCESSION_NUMBER, PATIENT_ID), {"1": ("ACC", "N1")}, keeps_missing=True)
    before = LITTLE.text(SOP_INSTANCE, "UI", "1.2") + LITTLE.text(PATIENT_ID, "LO", "1")
    after = b"".join(
        (
            LITTLE.text(SOP_INSTANCE, "UI", "1.2"),
            LITTLE.text(ACCESSION_NUMBER, "SH", "ACC"),
            LITTLE.text(PATIENT_ID, "LO", "N1"),
        )
    )
    assert edited(rules({}, table), before) == after
    other = LITTLE.text(PATIENT_ID, "LO", "3")
    assert edited(rules({}, table), other) == other
    assert edited(rules({}, IDS), LITTLE.text(PATIENT_ID, "LO", "2")) == (
        LITTLE.text(PATIENT_ID, "LO", "N2") + LITTLE.text(ISSUER, "LO", "")
    )


LATIN = LITTLE.text(0x0008_0005, "CS", "ISO_IR 100")


@pytest.mark.parametrize(
    ("edits", "data", "reason"),
    [
        (
            rules({PATIENT_ID: SetTo("山")}),
            LATIN + LITTLE.text(PATIENT_ID, "LO", "SECRET"),
            "character set of the inst",
        ),
        (rules({PATIENT_ID: Extend("x" * 60, "")}), LITTLE.text(PATIENT_ID, "LO", "SECRET"), "PatientID would have"),
        (
            rules({STUDY_ID: Extend("N-", "")}),
            LITTLE.text(STUDY_ID, "SH", "SECRET-8901234567"),
            "that SH does not allow",
        ),
        (
            rules({PATIENT_ID: Extend("N-", "")}),
            LITTLE.element(PATIENT_ID, "LO", b"SECRET\xe9 "),
            "not in its character",
        ),
        (rules({}, IDS), LITTLE.text(PATIENT_ID, "LO", "SECRET"), r"PatientID is not in ids\.csv"),
        (rules({}, IDS), LITTLE.text(STUDY, "UI", "1.2"), r"PatientID is not in ids\.csv"),
        (Edits(uids=AppendToUids(".1")), LITTLE.text(STUDY, "UI", "1." + "2" * 62), "UID of more than 64 characters"),
        (Edits(uids=AppendToUids(".1")), LITTLE.text(STUDY, "UI", "SECRET"), "others than digits and dots"),
        (
            rules({PATIENT_ID: SetTo("x")}),
            LITTLE.sequence(PATIENT_ID, is_open=False),
            "a text, which SQ does not allow",
        ),
        (rules({PATIENT_ID: SetTo("x")}), LITTLE.text(PATIENT_ID, "LO", "SECRET")[:-2], "cut off"),
        (rules({STUDY_ID: SetTo("x")}), LITTLE.text(PATIENT_ID, "LO", "SECRET") + b"\xff" * 20, "makes no sense"),
    ],
)
def test_an_edit_that_would_make_it_invalid_is_a_problem(edits: Edits, data: bytes, reason: str) -> None:
    """The reason names the attribute, and quotes no value."""
    with pytest.raises(Problem, match=reason) as raised:
        edited(edits, data)
    assert "SECRET" not in str(raised.value)


def test_file_meta_information_follows() -> None:
    """(0002,0003) gets the new UID, and (0002,0000) the new length; an absent UID is added."""

    def meta(uid: str) -> bytes:
        rest = LITTLE.text(0x0002_0002, "UI", "1.2") + (LITTLE.text(0x0002_0003, "UI", uid) if uid else b"")
        rest += LITTLE.text(0x0002_0010, "UI", "1.2.840.10008.1.2.1")
        return LITTLE.number(0x0002_0000, "UL", len(rest)) + rest

    for before in (meta("1.2.3"), meta("")):
        found = run(read_file_meta(0, len(before)), MemoryWindow(before))
        patches = run(found.edit("1.2.3.4.5"), MemoryWindow(before))
        assert patched(before, patches) == meta("1.2.3.4.5")


@given(st.text("0123456789.", min_size=1, max_size=80), st.binary(min_size=16, max_size=40))
def test_a_new_uid_is_valid_and_depends_on_the_key(uid: str, key: bytes) -> None:
    """It is a UUID below 2.25, the same for the same key, and another for another one."""
    new = Regenerate(key).new_uid(uid)
    assert is_uid(new)
    root, _, number = new.rpartition(".")
    assert root == "2.25"
    assert not number.startswith("0")
    assert int(number) < 2**128
    assert new == Regenerate(key).new_uid(uid)
    assert new != Regenerate(key + b"1").new_uid(uid)
    assert new != Regenerate(key).new_uid(uid + "1")


def test_the_new_uids_of_a_key_stay_what_they_are() -> None:
    """A later bulkstow must give the same UIDs: HMAC-SHA256, with the version and variant bits of a UUID."""
    assert NEW("1.2.840.113619.2.55") == "2.25.102973755929303825875175226494940871197"


def test_the_key_is_not_shown() -> None:
    """A representation of the edits has no key and no row of a table."""
    shown = repr(Edits(Rules(tables=(IDS,)), KEY))
    assert "0123456789abcdef" not in shown
    assert "N1" not in shown
