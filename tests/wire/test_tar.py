"""The headers of tar archives by all programs are read as tarfile reads them, in bounded memory."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.errors import DamagedHead
from bulkstow.wire.tar import BLOCK_BYTES, Kind, TarHeaders, TarMember, is_zero

LONG = "directory/" * 20 + "name" * 30
"""320 characters: longer than the fields of any header."""

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def read_member(headers: TarHeaders, content: io.BytesIO, block: bytes) -> TarMember:
    """Return the member that begins with `block`."""
    steps = headers.read(block)
    try:
        size_bytes = next(steps)
        while True:
            size_bytes = steps.send(content.read(size_bytes))
    except StopIteration as stop:
        member: TarMember = stop.value
        return member


def members_of(data: bytes) -> Iterator[tuple[TarMember, bytes]]:
    """Yield the members of an archive with their content."""
    headers, content = TarHeaders(), io.BytesIO(data)
    while not is_zero(block := content.read(BLOCK_BYTES)):
        member = read_member(headers, content, block)
        yield member, content.read(member.stored_bytes)[: member.size_bytes]


def archive(*members: tarfile.TarInfo, tar_format: int = tarfile.PAX_FORMAT, content: bytes = b"content") -> bytes:
    """Return an archive of members that all have the same content, if any."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tar_format) as tar:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def info(name: str, type_: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    """Return the header of a member."""
    member = tarfile.TarInfo(name)
    member.type = type_
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def only(data: bytes) -> TarMember:
    """Return the only member."""
    ((member, _),) = members_of(data)
    return member


NAMES = st.text(
    st.characters(min_codepoint=1, exclude_categories=["Cs"], exclude_characters="/"), min_size=1, max_size=200
)


@settings(deadline=None)
@given(
    members=st.lists(st.tuples(NAMES, st.binary(max_size=1100)), max_size=5),
    tar_format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_members_are_those_of_tarfile(members: list[tuple[str, bytes]], tar_format: int) -> None:
    """Names, sizes and contents equal those that the standard library reads."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tar_format, encoding="utf-8", errors="surrogateescape") as tar:
        for name, content in members:
            tar.addfile(info(name, size=len(content)), io.BytesIO(content))
    with tarfile.open(fileobj=io.BytesIO(written.getvalue()), encoding="utf-8", errors="surrogateescape") as tar:
        expected = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    assert [(member.name, content) for member, content in members_of(written.getvalue())] == expected


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
@pytest.mark.parametrize("tar_format", ["v7", "oldgnu", "gnu", "ustar", "pax"])
def test_archives_of_programs_are_read(program: str, tar_format: str, tmp_path: Path) -> None:
    """Every format of GNU tar and bsdtar, with directories, names that are not UTF-8, and long ones if it has them."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    if program == "bsdtar" and tar_format in ("gnu", "oldgnu"):
        tar_format = "gnutar"
    names = [b"one", b"dir/two", b"dir/na\xefve", b"dir/" + b"n" * 90]
    if tar_format in ("gnu", "gnutar", "oldgnu", "pax"):
        names += [b"dir/" + b"l" * 200, b"dir/" + b"\xf6" * 150]
    for number, name in enumerate(names):
        path = tmp_path / "tree" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content " * number * 100)
    command = [program, f"--format={tar_format}", "-cf", "-", "-C", os.fspath(tmp_path / "tree"), "one", "dir"]
    data = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"}).stdout
    found = {member.name: content for member, content in members_of(data) if member.kind is Kind.FILE}
    assert found == {os.fsdecode(name): b"content " * number * 100 for number, name in enumerate(names)}
    directories = [member.name.rstrip("/") for member, _ in members_of(data) if member.kind is Kind.DIRECTORY]
    assert directories == ["dir"]


@pytest.mark.parametrize(
    ("type_", "kind", "reason"),
    [
        (tarfile.REGTYPE, Kind.FILE, ""),
        (tarfile.AREGTYPE, Kind.FILE, ""),
        (tarfile.CONTTYPE, Kind.FILE, ""),
        (b"Z", Kind.FILE, ""),  # POSIX: an unknown type is a file
        (tarfile.DIRTYPE, Kind.DIRECTORY, ""),
        (tarfile.LNKTYPE, Kind.LINK, "a hard link in an archive"),
        (tarfile.SYMTYPE, Kind.LINK, "a symbolic link in an archive"),
        (tarfile.CHRTYPE, Kind.LINK, "a device in an archive"),
        (tarfile.BLKTYPE, Kind.LINK, "a device in an archive"),
        (tarfile.FIFOTYPE, Kind.LINK, "a named pipe in an archive"),
        (b"V", Kind.LINK, "the label of a tar volume"),
    ],
)
def test_a_type_decides_the_kind(type_: bytes, kind: Kind, reason: str) -> None:
    """Each type of member has its kind and its reason."""
    member = only(archive(info("name", type_), tar_format=tarfile.USTAR_FORMAT))
    assert (member.kind, member.reason) == (kind, reason)


def test_old_directories_end_with_a_slash() -> None:
    """In v7 archives a directory is a file whose name ends with a slash, also if an extended header has its name."""
    for name in ("directory/", LONG + "/"):
        member = info(name, tarfile.AREGTYPE)
        data = bytearray(archive(member, tar_format=tarfile.GNU_FORMAT, content=b""))
        assert only(bytes(data)).kind is Kind.DIRECTORY


def test_a_size_above_8_gib_is_read() -> None:
    """The sizes in base 256 (GNU) and in an extended header (pax) have no limit of eleven octal digits."""
    for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        header = info("large", size=9 * 2**30).tobuf(tar_format)
        content = io.BytesIO(header)
        assert read_member(TarHeaders(), content, content.read(BLOCK_BYTES)).size_bytes == 9 * 2**30


def test_gnu_times_are_no_prefix() -> None:
    """An incremental archive of GNU tar keeps times in the bytes that are the prefix of a name in ustar."""
    block = bytearray(info("name").tobuf(tarfile.GNU_FORMAT))
    block[345:357] = b"14620410127\0"
    assert read_member(TarHeaders(), io.BytesIO(), with_checksum(block)).name == "name"


def with_checksum(block: bytearray) -> bytes:
    """Return a header with its right checksum."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_a_global_header_holds_for_all_members() -> None:
    """A pax global header gives defaults, which a member's own header overrides."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", pax_headers={"path": "default"}) as tar:
        tar.addfile(info("own"))
        tar.addfile(info("ignored" + LONG))
    assert [member.name for member, _ in members_of(data.getvalue())] == ["default", "ignored" + LONG]


@pytest.mark.parametrize("sparse_version", ["0.0", "0.1", "1.0", "gnu"])
def test_sparse_files_are_unsupported(sparse_version: str, tmp_path: Path) -> None:
    """Each form of GNU tar's sparse files is recognised, has its name, and the member after it is read."""
    with (tmp_path / "holes").open("wb") as file:
        for number in range(60):  # more parts than one header, and than one extension of it
            file.seek(number * 2**20)
            file.write(b"x" * 5000)
    (tmp_path / "next").write_bytes(b"next")
    kind = ["--format=gnu"] if sparse_version == "gnu" else ["--format=pax", f"--sparse-version={sparse_version}"]
    command = ["tar", "--sparse", *kind, "-cf", "-", "-C", os.fspath(tmp_path), "holes", "next"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    (holes, _), (after, content) = members_of(data)
    assert (holes.name, holes.kind) == ("holes", Kind.UNSUPPORTED)
    assert (after.name, content) == ("next", b"next")


def test_the_rest_of_a_volume_is_unsupported(tmp_path: Path) -> None:
    """The second part of a file in an archive of several volumes is no file of its own."""
    member = only(archive(info("name", b"M"), tar_format=tarfile.GNU_FORMAT))
    assert member.kind is Kind.UNSUPPORTED
    assert "another tar volume" in member.reason


RECORDS = (b"18 path=name2\n", b"x path=name\n", b"13 path name\n", b"99 path=n\n", b"12 path=name", b"3 =\n")


@pytest.mark.parametrize("records", RECORDS)
def test_wrong_pax_records_raise(records: bytes) -> None:
    """A record whose length or form is wrong is damage, not a name."""
    header = info("header", tarfile.XHDTYPE, size=len(records)).tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(DamagedHead, match="extended header"):
        only(header + records.ljust(BLOCK_BYTES, b"\0") + archive(info("name")))


@pytest.mark.parametrize("size", ["-1", "x", "1" * 21, "\u0663"])
def test_a_wrong_size_raises(size: str) -> None:
    """A size that is no number of bytes is damage."""
    with pytest.raises(DamagedHead, match="size"):
        only(archive(info("name", pax_headers={"size": size})))


def test_endless_extended_headers_raise() -> None:
    """Memory for the headers of one member is bounded: one long header, or many."""
    one = info("header", tarfile.XHDTYPE, size=2**21).tobuf(tarfile.USTAR_FORMAT) + bytes(2**21)
    several = info("header", tarfile.XHDTYPE, size=0).tobuf(tarfile.USTAR_FORMAT) * 3000
    for data in (one, several):
        with pytest.raises(DamagedHead, match="more than 1048576 bytes"):
            only(data)


@given(at=st.integers(0, BLOCK_BYTES - 1), flip=st.integers(1, 255))
def test_a_changed_header_raises(at: int, flip: int) -> None:
    """One changed byte in a header is noticed, or it is in the checksum's own padding."""
    data = bytearray(archive(info("name")))
    data[at] ^= flip
    try:
        member = only(bytes(data))
    except DamagedHead:
        return
    assert 148 <= at < 156
    assert member.name == "name"


@given(st.binary(min_size=BLOCK_BYTES, max_size=4 * BLOCK_BYTES))
def test_arbitrary_bytes_raise_or_are_members(data: bytes) -> None:
    """With any bytes nothing but DamagedHead is raised."""
    content = io.BytesIO(with_checksum(bytearray(data[:BLOCK_BYTES])) + data[BLOCK_BYTES:])
    try:
        read_member(TarHeaders(), content, content.read(BLOCK_BYTES))
    except DamagedHead:
        return


def test_an_archive_that_ends_in_a_header_is_cut_off() -> None:
    """Headers that end early raise."""
    data = archive(info(LONG))
    for size_bytes in (BLOCK_BYTES, BLOCK_BYTES + 100, 3 * BLOCK_BYTES - 1):
        with pytest.raises(DamagedHead, match="cut off"):
            only(data[:size_bytes])
