"""Archives in a source of files: recognised by content, looked into, and read again by the location of a member."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bulkstow.errors import DamagedHead, HeadError, InstanceChanged
from bulkstow.model import Candidate, Container, Header, Instance
from bulkstow.source.archives import Archives
from bulkstow.source.files import FileSource
from bulkstow.source.spool import Spool
from bulkstow.wire.synthetic import part10
from tests.archives import header, instance_in, write_instance
from tests.source.members import content_from, draw, found

INSTANCES = {f"DICOM/IM{number}": part10(header(number), rows=50, columns=60, number=number) for number in range(3)}


def zip_of(contents: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip archive."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return written.getvalue()


def tar_of(contents: dict[str, bytes]) -> bytes:
    """Return a tar archive."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def gzipped(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Return the contents, compressed one by one."""
    return {name: gzip.compress(content) for name, content in contents.items()}


KINDS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": zip_of,
    "deflated zip": lambda contents: zip_of(contents, zipfile.ZIP_DEFLATED),
    "bzip2 zip": lambda contents: zip_of(contents, zipfile.ZIP_BZIP2),
    "LZMA zip": lambda contents: zip_of(contents, zipfile.ZIP_LZMA),
    "tar": tar_of,
    "tar.gz": lambda contents: gzip.compress(tar_of(contents)),
    "tar.bz2": lambda contents: bz2.compress(tar_of(contents)),
    "tar.xz": lambda contents: lzma.compress(tar_of(contents)),
    "zip in zip": lambda contents: zip_of({"inner/a.zip": zip_of(contents)}),
    "deflated zip in zip": lambda contents: zip_of({"inner/a.zip": zip_of(contents, zipfile.ZIP_DEFLATED)}),
    "tar in zip": lambda contents: zip_of({"inner!/a.tar": tar_of(contents)}),
    "zip in tar": lambda contents: tar_of({"inner/a.zip": zip_of(contents)}),
    "tar.gz in zip": lambda contents: zip_of({"a.tar.gz": gzip.compress(tar_of(contents))}),
    "zip in deflated zip": lambda contents: zip_of({"a.zip": zip_of(contents)}, zipfile.ZIP_DEFLATED),
    "tar.gz in tar.gz": lambda contents: gzip.compress(tar_of({"a.tar.gz": gzip.compress(tar_of(contents))})),
    "gz in tar.gz": lambda contents: gzip.compress(tar_of(gzipped(contents))),
    "gz in tar": lambda contents: tar_of(gzipped(contents)),
    "gz in zip": lambda contents: zip_of(gzipped(contents), zipfile.ZIP_DEFLATED),
    "gz in bzip2 zip": lambda contents: zip_of(gzipped(contents), zipfile.ZIP_BZIP2),
    "zip in tar.gz": lambda contents: gzip.compress(tar_of({"a.zip": zip_of(contents)})),
}

READ_ONCE = {"zip in deflated zip", "zip in tar.gz"}
"""Archives in compressed data: their members are staged with them, and cannot be read again later."""


@pytest.fixture
def source() -> Iterator[FileSource]:
    """Give a source that looks into archives."""
    spool = Spool(2**22)
    files = FileSource(spool=spool, archives=Archives(spool))
    yield files
    files.close()
    assert spool.used_bytes == 0
    spool.close()


def members(source: FileSource, candidate: Candidate) -> dict[str, Candidate]:
    """Return the members of an archive, also those of archives in it, by location."""
    container = source.read_head(candidate)
    assert isinstance(container, Container)
    drawn = asyncio.run(draw(source.members(container), source._spool, candidate))
    assert not drawn.results
    instances: dict[str, Candidate] = {}
    for member in drawn.candidates.values():
        if isinstance(source.read_head(member), Container):
            instances |= members(source, member)
            source.release([member])
        else:
            instances[member.location] = member
    return instances


def read_again(source: FileSource, known: Candidate) -> Header:
    """Return the header of a candidate from the ledger, which may have to be staged for that."""
    candidate, is_staged = known, False
    while isinstance(head := source.read_head(candidate), Container):
        drawn = asyncio.run(draw(source.members(head), source._spool, head.candidate))
        assert not drawn.results
        if is_staged:
            source.release([candidate])
        ((_, candidate),) = drawn.candidates.items()
        is_staged = True
        assert candidate == known
    if is_staged:
        source.release([candidate])
    return head.header


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_is_read_from_the_scan_and_from_the_ledger(source: FileSource, tmp_path: Path, kind: str) -> None:
    """A ledger has location, size and version: by these the same bytes are found again, and a change is noticed."""
    path = tmp_path / "x.dat"
    path.write_bytes(KINDS[kind](INSTANCES))
    contents = {}
    for location, member in members(source, found(path)).items():
        instance = instance_in(source, member)
        contents[location.rpartition("!/")[2]] = content_from(source, instance)
        assert source.verify(instance) == ""
        known = Instance(replace(member, extent=None, by_link=None), instance.header)
        if kind in READ_ONCE:
            with pytest.raises(InstanceChanged):
                content_from(source, known)
        else:
            assert content_from(source, known) == content_from(source, instance)
            assert read_again(source, known.candidate) == instance.header
            assert source.verify(known) == ""
            assert source.digest(known.candidate) == source.digest(replace(known.candidate))
            other = replace(known, candidate=replace(known.candidate, version="crc32:00000000", size_bytes=1))
            assert "changed" in source.verify(other)
            gone = replace(known, candidate=replace(known.candidate, location=location + "x", version="0"))
            with pytest.raises((InstanceChanged, OSError)):
                content_from(source, gone)
        source.release([member])
    assert contents == INSTANCES


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_file_is_its_only_member(
    source: FileSource, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    """It keeps its own location, size and version, so that the ledger knows it without decompressing it."""
    path = tmp_path / "IM1.dcm.gz"
    path.write_bytes(compress(INSTANCES["DICOM/IM1"]))
    candidate = found(path)
    (member,) = members(source, candidate).values()
    assert member == candidate
    instance = instance_in(source, member)
    assert instance.header == header(1)
    assert instance.size_bytes == len(INSTANCES["DICOM/IM1"])
    known = replace(instance, candidate=replace(candidate, by_link=None))
    assert content_from(source, instance) == content_from(source, known) == INSTANCES["DICOM/IM1"]
    assert source.verify(instance) == source.verify(known) == ""
    os.utime(path, ns=(1, 1))
    assert "changed" in source.verify(known)
    source.release([member])


def test_a_file_may_have_the_name_of_a_member(source: FileSource, tmp_path: Path) -> None:
    """A directory may be called 'x.zip!': its files are files."""
    written = write_instance(tmp_path / "x.zip!", 1)
    known = replace(written, candidate=replace(written.candidate, by_link=None))
    assert instance_in(source, known.candidate).header == header(1)
    assert content_from(source, known) == Path(written.candidate.location).read_bytes()
    assert source.verify(known) == ""
    zip_of(INSTANCES)
    (tmp_path / "y.zip").write_bytes(zip_of(INSTANCES))
    assert source.existing_parent(f"{tmp_path}/y.zip!/DICOM/IM1") == f"{tmp_path}/y.zip!"
    assert source.existing_parent(f"{tmp_path}/x.zip!/IM001000001") == f"{tmp_path}/x.zip!"
    assert source.existing_parent(f"{tmp_path}/z.zip!/IM001000001") == str(tmp_path)


def test_a_preamble_that_looks_like_an_archive_is_none(source: FileSource, tmp_path: Path) -> None:
    """A DICOM file may have anything in its first 128 bytes (PS3.10 §7.1)."""
    path = tmp_path / "IM1"
    path.write_bytes(b"PK\3\4" + INSTANCES["DICOM/IM1"][4:])
    instance = instance_in(source, found(path))
    assert instance.header == header(1)
    known = replace(instance, candidate=replace(instance.candidate, by_link=None))
    assert content_from(source, known) == path.read_bytes()


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (zip_of(INSTANCES), DamagedHead, "a zip archive, which was not looked into: --archives yes looks into it"),
        (gzip.compress(b"x"), DamagedHead, "a gzip file, which was not looked into: --archives yes looks into it"),
        (b"Rar!\x1a\7" + bytes(200), DamagedHead, "a rar archive, which was not looked into: unpack it and send"),
        (zip_of({"[Content_Types].xml": b""}), HeadError, "not DICOM: an office document or a program"),
    ],
    ids=["zip", "gzip", "rar", "office"],
)
def test_without_archives_the_reason_says_what_to_do(
    tmp_path: Path, data: bytes, error: type[HeadError], reason: str
) -> None:
    """A format that can be looked into names the setting; another has to be unpacked; a document is no failure."""
    path = tmp_path / "x"
    path.write_bytes(data)
    source = FileSource(archives=Archives(Spool(0), looks_into_files=False))
    with pytest.raises(error, match=reason):
        source.read_head(found(path))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("name", ["a" * 300, "/".join(["b" * 200] * 30), "line\nfeed", "caf\udce9", "x!/y"])
def test_any_name_of_a_member_is_found_again(source: FileSource, tmp_path: Path, kind: str, name: str) -> None:
    """A name may be longer than that of a file, and may look like that of an archive in an archive."""
    path = tmp_path / "x"
    if kind == "zip" and "\udce9" in name:
        path.write_bytes(KINDS[kind]({"caf_": INSTANCES["DICOM/IM1"]}).replace(b"caf_", b"caf\xe9"))
    else:
        path.write_bytes(KINDS[kind]({name: INSTANCES["DICOM/IM1"]}))
    ((location, member),) = members(source, found(path)).items()
    assert location == f"{path}!/{name}"
    known = Instance(replace(member, extent=None, by_link=None), header(1))
    assert content_from(source, known) == INSTANCES["DICOM/IM1"]
    path.unlink()
    with pytest.raises(InstanceChanged):
        content_from(source, known)
    source.release([member])


def test_a_name_ends_at_a_null_byte(source: FileSource, tmp_path: Path) -> None:
    """No file can have it, and unzip ends the name there, too."""
    path = tmp_path / "x.zip"
    path.write_bytes(zip_of({"IM1_x": INSTANCES["DICOM/IM1"], "IM1": b""}).replace(b"IM1_x", b"IM1\0x"))
    container = source.read_head(found(path))
    assert isinstance(container, Container)
    drawn = asyncio.run(draw(source.members(container), Spool(0), found(path)))
    assert list(drawn.candidates) == ["IM1", "IM1#2"]
    known = Instance(replace(drawn.candidates["IM1"], extent=None, by_link=None), header(1))
    assert content_from(source, known) == INSTANCES["DICOM/IM1"]


def test_an_archive_that_is_damaged_since_counts_as_a_change(source: FileSource, tmp_path: Path) -> None:
    """Comparing a member that the ledger knows with its archive returns a reason in every state of the archive."""
    path = tmp_path / "a.zip"
    known = Candidate(f"{path}!/DICOM/IM1", 100, "crc32:00000000")
    for content, reason in (
        (zip_of(INSTANCES)[:-10], "cut off: the directory at the end of the archive is missing"),
        (zip_of({"DICOM/IM2": b""}), "cannot be looked at again: it is no longer in its archive"),
        (zip_of({"DICOM/IM1": b"other"}), "changed: its archive has other content at its place"),
        (b"no archive", "cannot be looked at again: No such file or directory"),
    ):
        path.write_bytes(content)
        assert source.verify(Instance(known, header(1))) == reason
