"""The records of zip archives, by their bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.errors import DamagedHead
from bulkstow.wire.zip_records import (
    DEFLATED,
    IN_PARTS,
    STORED,
    End,
    Entry,
    content_offset,
    find_ends,
    places_of_end64,
    read_end64,
    read_entry,
)


def end(*, entries: int = 1, disk: int = 0, here: int | None = None, comment: bytes = b"") -> bytes:
    """Return an end of the directory (4.3.16), whose directory has 50 bytes at 100."""
    counts = (entries if here is None else here, entries)
    return struct.pack("<4s4H2LH", b"PK\5\6", disk, 0, *counts, 50, 100, len(comment)) + comment


def entry(
    name: bytes = b"IM1",
    *,
    size: int = 9,
    kept: int = 9,
    local: int = 0,
    extra: bytes = b"",
    system: int = 3,
    mode: int = 0,
) -> bytes:
    """Return an entry of the directory (4.3.12)."""
    lengths = (len(name), len(extra), 0, 0, 0)
    head = struct.pack(
        "<4s4B4HL2L5H2L", b"PK\1\2", 20, system, 20, 0, 0, 0, 0, 0, 7, kept, size, *lengths, mode << 16, local
    )
    return head + name + extra


def test_the_last_end_is_the_end() -> None:
    """A comment may contain another record; the one whose comment ends with the file comes first."""
    inner = end(entries=5)
    data = b"directory" + end(comment=b"before " + inner + b" after")
    first, second = find_ends(data, 1000)
    assert (first.entries, first.record_at) == (1, 1009)
    assert second.entries == 5
    assert list(find_ends(b"no such record", 0)) == []


@pytest.mark.parametrize("data", [end(disk=1), end(entries=5, here=3)])
def test_a_part_of_an_archive_is_named(data: bytes) -> None:
    """The end of an archive in several parts is not the end of its last part."""
    with pytest.raises(DamagedHead, match=IN_PARTS):
        next(find_ends(data, 0))


def test_the_end_of_a_large_archive() -> None:
    """A locator in front of the end leads to a record with 64 bits."""
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 2**40, 1)
    (found,) = find_ends(b"x" * 60 + locator + end(entries=65_535, disk=0xFFFF), 0)
    assert found.is_zip64
    assert places_of_end64(locator, 2**40 + 100) == (2**40, 2**40 + 44)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 70_000, 70_000, 2**33, 2**34)
    assert read_end64(end64, 5) == End(70_000, 2**33, 2**34, 5, is_zip64=True)
    assert read_end64(end64[:-1], 5) is None
    with pytest.raises(DamagedHead, match="several parts"):
        places_of_end64(struct.pack("<4sLQL", b"PK\6\7", 0, 0, 2), 0)


def test_numbers_of_64_bits_are_in_the_extra_field() -> None:
    """Only those that the entry leaves out are there, in a fixed order, behind other fields."""
    other = struct.pack("<2H3s", 0x5455, 3, b"abc")
    extra = other + struct.pack("<2H2Q", 1, 16, 2**33, 2**35)
    found = read_entry(entry(size=0xFFFFFFFF, kept=5, local=0xFFFFFFFF, extra=extra), 0)
    assert found is not None
    assert (found[0].size_bytes, found[0].kept_bytes, found[0].local_at) == (2**33, 5, 2**35)


@given(cut=st.integers(0, 200), data=st.binary(max_size=200))
def test_an_entry_is_whole_or_absent(cut: int, data: bytes) -> None:
    """Of fewer bytes than an entry has, nothing is returned; other bytes raise DamagedHead."""
    whole = entry(b"name", extra=b"\1\0\4\0abcd")
    found = read_entry(whole[:cut], 0)
    assert (found is None) is (cut < len(whole))
    try:
        read_entry(data, 0)
    except DamagedHead:
        assert not data.startswith(b"PK\1\2")


@pytest.mark.parametrize(
    ("flags", "method", "kept_bytes", "size_bytes", "problem"),
    [
        (0, STORED, 9, 9, ""),
        (0, DEFLATED, 10, 10_320, ""),
        (1, STORED, 9, 9, "encrypted: it needs a password"),
        (0x2001, STORED, 9, 9, "encrypted: its directory needs a password"),
        (0, 99, 9, 9, "encrypted: it needs a password"),
        (0, 77, 9, 9, "compressed by an unknown method (77)"),
        (0, STORED, 9, 10, "damaged: 9 bytes are stored, and 10 announced"),
        (0, DEFLATED, 10, 20_000, "damaged: 10 deflated bytes cannot be the 20000"),
    ],
)
def test_what_speaks_against_an_entry(flags: int, method: int, kept_bytes: int, size_bytes: int, problem: str) -> None:
    """Encryption, unknown methods and impossible sizes show in the directory."""
    found = Entry(b"IM1", flags, method, 0, kept_bytes, size_bytes, 0, 0).problem
    assert found.startswith(problem)
    assert bool(found) is bool(problem)


def test_kinds_of_entries() -> None:
    """A name with a slash at its end is a directory, unless it has content; links are links by a mode of Unix only."""
    kinds = {
        (b"a/", 0, 3, 0o40755): (True, False),
        (b"a/", 9, 3, 0o100644): (False, False),
        (b"a", 9, 3, 0o120777): (False, True),
        (b"a", 9, 0, 0o120777): (False, False),
    }
    for (name, size, system, mode), expected in kinds.items():
        found = read_entry(entry(name, size=size, kept=size, system=system, mode=mode), 0)
        assert found is not None
        assert (found[0].is_directory, found[0].is_link) == expected


@pytest.mark.parametrize(
    ("name", "method", "flags", "reason"),
    [
        (b"IM1", DEFLATED, 8, ""),
        (b"IM2", DEFLATED, 0, "its header is not the one"),
        (b"IM1", STORED, 0, "its header is not the one"),
        (b"IM1", DEFLATED, 1, "its header is not the one"),
    ],
)
def test_the_header_has_to_agree(name: bytes, method: int, flags: int, reason: str) -> None:
    """Name, method and encryption are those of the directory; the data begin behind a field of its own."""
    announced = Entry(b"IM1", 0, DEFLATED, 0, 9, 9, 0, 0)
    local = struct.pack("<4sH2H2H3L2H", b"PK\3\4", 20, flags, method, 0, 0, 0, 0, 0, len(name), 28) + name
    if reason:
        with pytest.raises(DamagedHead, match=reason):
            content_offset(local, announced)
    else:
        assert content_offset(local, announced) == 30 + 3 + 28
    with pytest.raises(DamagedHead, match="names a place"):
        content_offset(b"PK\1\2" + bytes(40), announced)
