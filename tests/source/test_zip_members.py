"""Members of zip archives by several writers: each comes out as it went in, or has a reason."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import struct
import subprocess
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.errors import InstanceChanged
from bulkstow.model import Candidate, Coding, FileResult
from bulkstow.ports import Room
from bulkstow.source.member_lists import members_in_lists
from bulkstow.source.spool import Spool
from bulkstow.source.zip_members import zip_members
from bulkstow.wire.synthetic import part10
from bulkstow.wire.zip_records import IN_PARTS
from tests.archives import header
from tests.source.members import Drawn, content_of, draw, found

INSTANCES = {f"DICOM/IM{number}": part10(header(number), rows=50, columns=60, number=number) for number in range(5)}
"""Some 4 KB each."""


def pack(path: Path, contents: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive with Python's zipfile."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def members(path: Path, *, spool_bytes: int = 2**20, releases: bool = False) -> Drawn:
    """Draw the members of an archive."""
    spool = Spool(spool_bytes)
    container = found(path)
    lists = members_in_lists(container, spool, partial(zip_members, container))
    drawn = asyncio.run(draw(lists, spool, container, releases=releases))
    for candidate in drawn.candidates.values():
        drawn.contents[candidate.location] = content_of(candidate)
    spool.close()
    return drawn


def by_program(*command: str) -> Callable[[Path, Path], object]:
    """Return a writer that runs a program in the directory of the files; `ARCHIVE` is the archive's path."""

    def write(directory: Path, archive: Path) -> object:
        if shutil.which(command[0]) is None:
            pytest.skip(f"the program {command[0]} is not installed")
        words = [str(archive) if word == "ARCHIVE" else word for word in command]
        return subprocess.run(words, cwd=directory, check=True, capture_output=True)

    return write


def by_stream(directory: Path, archive: Path) -> object:
    """Write to a pipe: the headers are written before the lengths are known."""

    class Pipe(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            return file.write(data)

    with archive.open("wb") as file, zipfile.ZipFile(Pipe(), "w", zipfile.ZIP_DEFLATED) as written:
        for path in sorted(directory.rglob("*")):
            written.write(path, path.relative_to(directory))
    return None


def by_zip64(directory: Path, archive: Path) -> object:
    """Write all records in their large form."""
    with zipfile.ZipFile(archive, "w") as written:
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                with written.open(str(path.relative_to(directory)), "w", force_zip64=True) as member:
                    member.write(path.read_bytes())
    return None


@pytest.mark.parametrize(
    ("write", "codings"),
    [
        (by_program("zip", "-qr", "ARCHIVE", "."), {Coding.STORED, Coding.DEFLATE}),
        (by_program("zip", "-qr0", "ARCHIVE", "."), {Coding.STORED}),
        (by_program("zip", "-qrfd", "ARCHIVE", "."), {Coding.DEFLATE}),
        (by_program("sh", "-c", "zip -qr - . | cat > $0", "ARCHIVE"), {Coding.STORED, Coding.DEFLATE}),
        (by_program("zip", "-qr", "-fz", "ARCHIVE", "."), {Coding.STORED, Coding.DEFLATE}),
        (by_program("zip", "-qr", "-Z", "bzip2", "ARCHIVE", "."), {Coding.STORED}),
        (by_program("7zz", "a", "-tzip", "ARCHIVE", "."), {Coding.STORED, Coding.DEFLATE}),
        (by_program("7zz", "a", "-tzip", "-mm=LZMA", "ARCHIVE", "."), {Coding.STORED}),
        (by_program("7zz", "a", "-tzip", "-mm=BZip2", "ARCHIVE", "."), {Coding.STORED}),
        (by_program("7zz", "a", "-tzip", "-mm=xz", "ARCHIVE", "."), {Coding.STORED}),
        (by_program("bsdtar", "--format", "zip", "-cf", "ARCHIVE", "."), {Coding.STORED, Coding.DEFLATE}),
        (by_stream, {Coding.DEFLATE}),
        (by_zip64, {Coding.STORED}),
    ],
    ids=[
        "zip", "zip -0", "zip -fd", "zip -", "zip -fz", "zip bzip2", "7zz", "7zz LZMA", "7zz BZip2", "7zz xz",
        "bsdtar", "data descriptors", "zip64",
    ],
)  # fmt: skip
def test_members_come_out_as_they_went_in(
    tmp_path: Path, write: Callable[[Path, Path], object], codings: set[Coding]
) -> None:
    """Members of archives by each program have their bytes, and directories are left out."""
    directory = tmp_path / "files"
    for name, content in INSTANCES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    archive = tmp_path / "a.zip"
    write(directory, archive)
    drawn = members(archive)
    assert drawn.reasons == {}
    assert drawn.contents == {f"{archive}!/{name}": content for name, content in INSTANCES.items()}
    assert {c.extent.coding for c in drawn.candidates.values() if c.extent is not None} <= codings


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_method_of_zipfile_is_read(tmp_path: Path, method: int) -> None:
    """Stored and deflated members stay in the archive; the others, which may be instances, are staged."""
    contents = {**INSTANCES, "readme.txt": b"no instance" * 100}
    drawn = members(pack(tmp_path / "a.zip", contents, method), releases=False)
    is_staged = method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    assert drawn.reasons == ({"readme.txt": "skipped: not DICOM"} if is_staged else {})
    for name, candidate in drawn.candidates.items():
        assert candidate.extent is not None
        assert candidate.extent.is_spooled is is_staged
        assert candidate.version == f"crc32:{zlib.crc32(contents[name]):08X}"
        assert drawn.contents[candidate.location] == contents[name]


names = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(
    contents=st.dictionaries(names, st.binary(max_size=300), max_size=12),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    prefix=st.binary(max_size=50),
    comment=st.binary(max_size=50),
)
@settings(deadline=None)
def test_random_archives_equal_the_view_of_zipfile(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes], method: int, prefix: bytes, comment: bytes
) -> None:
    """Names, contents and versions are those of zipfile, also behind a program and in front of a comment."""
    path = tmp_path_factory.getbasetemp() / "random.zip"
    with path.open("wb") as file:
        file.write(prefix)
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
            archive.comment = comment
    drawn = members(path)
    with zipfile.ZipFile(path) as archive:
        expected = {info.filename: archive.read(info) for info in archive.infolist()}
    outside = {name for name in expected if name.startswith("\\") or name == ".." or name[1:2] == ":"}
    outside |= {name for name in expected if ".." in name.split("\\")}
    assert {name for name in drawn.results if drawn.reasons[name].startswith("unreadable")} == outside
    read = {name: drawn.contents[candidate.location] for name, candidate in drawn.candidates.items()}
    assert read == {name: content for name, content in expected.items() if name not in outside}


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (by_program("zip", "-qr", "-P", "secret", "ARCHIVE", "."), "unreadable: encrypted: it needs a password"),
        (by_program("7zz", "a", "-tzip", "-psecret", "-mem=AES256", "ARCHIVE", "."), "unreadable: encrypted: it needs"),
        (by_program("7zz", "a", "-tzip", "-mm=Deflate64", "ARCHIVE", "."), "unreadable: compressed by Deflate64"),
        (by_program("7zz", "a", "-tzip", "-mm=PPMd", "ARCHIVE", "."), "unreadable: compressed by PPMd"),
    ],
    ids=["ZipCrypto", "AES", "Deflate64", "PPMd"],
)
def test_what_cannot_be_read_has_a_reason(tmp_path: Path, write: Callable[[Path, Path], object], reason: str) -> None:
    """Encrypted members, and methods without a kept library, are failures whose reason says how to fix them."""
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "IM1").write_bytes(INSTANCES["DICOM/IM1"] * 3)
    write(directory, tmp_path / "a.zip")
    drawn = members(tmp_path / "a.zip")
    assert not drawn.candidates
    assert drawn.reasons["IM1"].startswith(reason)
    assert drawn.reasons["IM1"].endswith("and send the files inside")


@pytest.mark.parametrize("name", ["/etc/IM1", "../IM1", "a/../../IM1", "C:\\IM1", "..\\IM1", "\\\\server\\IM1"])
def test_a_name_that_leads_outside_is_not_taken(tmp_path: Path, name: str) -> None:
    """Neither absolute names nor those with '..' are read from archives of any system; the other members are."""
    drawn = members(pack(tmp_path / "a.zip", {name: INSTANCES["DICOM/IM1"], "IM2": INSTANCES["DICOM/IM2"]}))
    assert list(drawn.reasons.values()) == ["unreadable: its name leads out of the archive"]
    assert list(drawn.candidates) == ["IM2"]


def test_names_are_kept_as_they_are(tmp_path: Path) -> None:
    """Backslashes, other encodings and control characters are part of a location, which can be turned into bytes."""
    raw = "DICOM\\é".encode("cp437")
    path = pack(tmp_path / "a.zip", {"DICOM\\e": b"1", "täst": b"2", "new\nline": b"3"})
    path.write_bytes(path.read_bytes().replace(b"DICOM\\e", raw))
    drawn = members(path)
    assert {os.fsencode(name) for name in drawn.candidates} == {raw, "täst".encode(), b"new\nline"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """The second and third of a name have its number; none replaces another."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for content in (b"first", b"second", b"third"):
            archive.writestr("IM1", content)
    drawn = members(path)
    contents = {name: drawn.contents[candidate.location] for name, candidate in drawn.candidates.items()}
    assert contents == {"IM1": b"first", "IM1#2": b"second", "IM1#3": b"third"}


def test_links_and_directories(tmp_path: Path) -> None:
    """A symbolic link is skipped with its reason; a directory is nothing."""
    directory = tmp_path / "files"
    (directory / "empty").mkdir(parents=True)
    (directory / "link").symlink_to("empty")
    by_program("zip", "-qry", "ARCHIVE", ".")(directory, tmp_path / "a.zip")
    drawn = members(tmp_path / "a.zip")
    assert drawn.reasons == {"link": "skipped: a symbolic link in an archive"}
    assert not drawn.candidates


def test_a_part_of_a_spanned_archive_is_named(tmp_path: Path) -> None:
    """The last part has the directory of all; the reason says why it cannot be read."""
    (tmp_path / "IM1").write_bytes(os.urandom(150_000))
    by_program("zip", "-q", "-s", "64k", "ARCHIVE", "IM1")(tmp_path, tmp_path / "a.zip")
    (reason,) = members(tmp_path / "a.zip").reasons.values()
    assert reason == f"unreadable: {IN_PARTS}"


def changed(path: Path, change: Callable[[bytearray], object]) -> Path:
    """Change the bytes of an archive."""
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def entry_at(data: bytearray, number: int) -> int:
    """Return where an entry of the directory begins."""
    at = -1
    for _ in range(number + 1):
        at = data.index(b"PK\1\2", at + 1)
    return at


def put(offset: int, form: str, value: int, *, entry: int = 1) -> Callable[[bytearray], object]:
    """Return a change to a field of an entry of the directory."""
    return lambda data: struct.pack_into(form, data, entry_at(data, entry) + offset, value)


def put_count(count: int) -> Callable[[bytearray], object]:
    """Return a change to the number of entries that the end announces."""
    return lambda data: struct.pack_into("<HH", data, len(data) - 14, count, count)


@pytest.mark.parametrize(
    ("change", "readable", "reasons"),
    [
        (put(24, "<L", 77), 2, {"IM1": "unreadable: damaged: 10 bytes are stored, and 77 announced"}),
        (put(10, "<H", 77), 2, {"IM1": "unreadable: compressed by an unknown method (77)"}),
        (put(10, "<H", 8), 2, {"IM1": "unreadable: damaged: its header is not the one"}),
        (put(42, "<L", 3), 2, {"IM1": "unreadable: damaged: the archive's directory names a place"}),
        (put(42, "<L", 10**6), 2, {"IM1": "unreadable: damaged: the archive's directory names a place"}),
        (put(46, "B", 0x58), 2, {"XM1": "unreadable: damaged: its header is not the one"}),
        (put(0, "<L", 0), 1, {"": "unreadable: damaged: its directory makes no sense"}),
        (put(28, "<H", 60_000), 1, {"": "unreadable: damaged: its directory is cut off"}),
        (lambda data: data.__delitem__(slice(-5, None)), 0, {"": "unreadable: cut off: the directory at the end"}),
        (lambda data: data.__delitem__(slice(0, 60)), 0, {"": "unreadable: damaged, or cut off in front"}),
        (put_count(9), 3, {"": "unreadable: damaged: its directory has 3 of the 9"}),
        (lambda data: data.extend(b"trailing bytes"), 3, {}),
    ],
    ids=[
        "size", "unknown method", "other method", "no header", "no place", "other name", "no entry", "long name",
        "no end", "no beginning", "count", "trailing bytes",
    ],
)  # fmt: skip
def test_damage_has_a_reason(
    tmp_path: Path, change: Callable[[bytearray], object], readable: int, reasons: dict[str, str]
) -> None:
    """A damaged member is a failure of its own; damage of the directory is one of the archive, after the found ones."""
    path = changed(pack(tmp_path / "a.zip", {f"IM{number}": b"0123456789" for number in range(3)}), change)
    drawn = members(path)
    assert len(drawn.candidates) == readable
    assert drawn.reasons.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert drawn.reasons[name].startswith(reason)


def test_deflated_bytes_cannot_be_more_than_deflate_makes(tmp_path: Path) -> None:
    """An announced size that no deflated data can have is refused before anything is inflated."""
    path = pack(tmp_path / "a.zip", {"IM1": bytes(10**6)}, zipfile.ZIP_DEFLATED)
    assert list(members(path).candidates) == ["IM1"]
    changed(path, put(24, "<L", 2**31, entry=0))
    assert "cannot be the 2147483648 that are announced" in members(path).reasons["IM1"]


def test_members_that_overlap_end_the_archive(tmp_path: Path) -> None:
    """Many entries for the same data are a bomb: the first is read, the others are one failure of the archive."""
    path = pack(tmp_path / "a.zip", {"IM1": b"x" * 100, "IM2": b"x" * 100, "IM3": b"y"})
    data = path.read_bytes()
    at = data.index(b"PK\1\2")
    second = data.index(b"PK\1\2", at + 1)
    entry = data[at:second]
    directory = entry * 3 + data[second : data.index(b"PK\5\6")]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 5, 5, len(directory), at, 0)
    path.write_bytes(data[:at] + directory + end)
    drawn = members(path)
    assert list(drawn.candidates) == ["IM1"]
    assert drawn.reasons == {"": "unreadable: damaged, or a zip bomb: its members overlap"}


def test_a_member_that_is_damaged_is_never_whole(tmp_path: Path) -> None:
    """A deflated member whose bytes have changed is found, and its content ends with the reason."""
    path = pack(tmp_path / "a.zip", {"IM1": INSTANCES["DICOM/IM1"]}, zipfile.ZIP_DEFLATED)
    changed(path, lambda data: data.__setitem__(80, data[80] ^ 1))
    container, spool = found(path), Spool(1000)
    drawn = asyncio.run(draw(members_in_lists(container, spool, partial(zip_members, container)), spool, container))
    with pytest.raises(InstanceChanged, match="damaged"):
        content_of(drawn.candidates["IM1"])


@given(
    at=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.integers(0, 10**6), method=st.sampled_from([0, 8, 14])
)
@settings(deadline=None, max_examples=200)
def test_any_damage_ends_in_an_outcome(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int, cut: int, method: int
) -> None:
    """With any wrong byte and any end of the archive, members or reasons come, and deflated bytes are right."""
    path = pack(tmp_path_factory.getbasetemp() / "damaged.zip", INSTANCES, method)
    data = bytearray(path.read_bytes())
    data[at % len(data)] = value
    if cut < len(data):
        del data[cut:]
    path.write_bytes(data)
    container, spool = found(path), Spool(2**20)
    drawn = asyncio.run(draw(members_in_lists(container, spool, partial(zip_members, container)), spool, container))
    right = set(INSTANCES.values())
    for candidate in drawn.candidates.values():
        with suppress(InstanceChanged):
            assert method == zipfile.ZIP_STORED or content_of(candidate) in right
    spool.close()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("inner_method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_in_an_archive(tmp_path: Path, method: int, inner_method: int) -> None:
    """A stored one is read in place; another is staged, and released with the last of its members."""
    inner = pack(tmp_path / "inner.zip", INSTANCES, inner_method)
    outer = pack(tmp_path / "outer.zip", {"inner.zip": inner.read_bytes()}, method)
    container, spool = found(outer), Spool(2**20)
    drawn = asyncio.run(draw(members_in_lists(container, spool, partial(zip_members, container)), spool, container))
    nested = drawn.candidates["inner.zip"]
    lists = members_in_lists(nested, spool, partial(zip_members, nested))
    drawn = asyncio.run(draw(lists, spool, nested))
    assert drawn.reasons == {}
    assert {name: content_of(candidate) for name, candidate in drawn.candidates.items()} == INSTANCES
    assert (spool.used_bytes == 0) is (method == zipfile.ZIP_STORED)
    for candidate in (nested, *drawn.candidates.values()):
        if candidate.extent is not None:
            spool.release(candidate.extent)
    assert spool.used_bytes == 0
    spool.close()


def test_an_archive_that_changes_meanwhile_is_read_no_further(tmp_path: Path) -> None:
    """The list that was read while it changed is not handed over."""
    path = pack(tmp_path / "a.zip", {f"IM{number}": b"0123456789" for number in range(600)})
    container, spool = found(path), Spool(1000)
    lists = members_in_lists(container, spool, partial(zip_members, container))
    first = next(lists)
    assert not isinstance(first, Room)
    assert all(isinstance(each, Candidate) for each in first)
    os.utime(path, ns=(1, 1))
    (rest,) = lists
    assert not isinstance(rest, Room)
    (result,) = rest
    assert isinstance(result, FileResult)
    assert "changed" in result.reason


def test_memory_does_not_grow_with_the_members(tmp_path: Path) -> None:
    """The directory is read in blocks; of each member a number remains, so that another of its name is noticed."""
    peaks = []
    for count in (1_000, 30_000):
        path = pack(tmp_path / "a.zip", {f"DICOM/PATIENT/STUDY/SERIES/IM{number:07}": b"" for number in range(count)})
        container, spool = found(path), Spool(1000)
        tracemalloc.start()
        lists = members_in_lists(container, spool, partial(zip_members, container))
        listed = sum(len(each) for each in lists if not isinstance(each, Room))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert listed == count
    assert peaks[1] - peaks[0] < 30_000 * 40
