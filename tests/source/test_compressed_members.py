"""A single compressed file is one member with the identity of the file; a compressed tar archive has its members."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest
from pydicom.data import get_testdata_files

from bulkstow.errors import DamagedHead, HeadError
from bulkstow.model import Candidate, Container
from bulkstow.ports import Members
from bulkstow.source import compressed_members as module
from bulkstow.source import heads
from bulkstow.source.compressed_members import compressed_members, open_compressed
from bulkstow.source.extents import open_bytes
from bulkstow.source.heads import HEAD_BYTES, may_contain_instance, read_instance
from bulkstow.source.member_lists import members_in_lists
from bulkstow.source.spool import Spool
from bulkstow.wire.part10 import NOT_DICOM
from bulkstow.wire.synthetic import part10
from tests.archives import header
from tests.source.members import Drawn, content_of, draw, found

CONTENT = part10(header(1), rows=100, columns=1000)
COMPRESSED = gzip.compress(CONTENT, mtime=0)  # the same bytes in every run

pytestmark = pytest.mark.anyio


def members(container: Container, spool: Spool) -> Members:
    """Return the members of a compressed file."""
    return members_in_lists(container.candidate, spool, partial(compressed_members, container))


async def drawn(path: Path, format_name: str = "a gzip file", spool: Spool | None = None) -> Drawn:
    """Draw all members of a compressed file."""
    spool = spool or Spool(2**26)
    container = Container(found(path), format_name)
    return await draw(members(container, spool), spool, container.candidate)


@pytest.mark.parametrize(
    ("format_name", "compress"),
    [("a gzip file", gzip.compress), ("a bzip2 file", bz2.compress), ("an xz file", lzma.compress)],
)
async def test_a_compressed_file_is_one_member(
    format_name: str, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """Its content is that of the file that was compressed; location, size and version are those of the file."""
    path = tmp_path / "IM1.dcm.x"
    path.write_bytes(compress(CONTENT))
    result = await drawn(path, format_name)
    (member,) = result.candidates.values()
    assert member == found(path)
    assert content_of(member) == CONTENT
    assert read_instance(member).header == header(1)


@pytest.mark.parametrize("extra_bytes", [-1, 0, 1, 3 * 2**20])
async def test_a_file_larger_than_the_buffer_is_decompressed_twice(
    extra_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Around the size of the buffer and beyond it the content is the same, and the spool has no byte more."""
    monkeypatch.setattr(module, "_BUFFER_BYTES", 2**20)
    monkeypatch.setattr(module, "SKIP_BYTES", 2**20)
    content = CONTENT.ljust(2**20 + extra_bytes, b"\1")
    path = tmp_path / "IM1.dcm.gz"
    path.write_bytes(gzip.compress(content))
    spool = Spool(8 * len(content))
    result = await drawn(path, spool=spool)
    (member,) = result.candidates.values()
    assert content_of(member) == content
    assert member.extent is not None
    spool.release(member.extent)
    assert spool.used_bytes == 0
    assert result.lists.count(0) >= extra_bytes >> 20


async def test_a_file_larger_than_the_spool_is_a_failure(tmp_path: Path) -> None:
    """Whether it fits into the buffer or not, nothing of it is staged."""
    path = tmp_path / "IM1.dcm.gz"
    for size_bytes in (3 * 2**20, 9 * 2**20):
        path.write_bytes(gzip.compress(CONTENT.ljust(size_bytes, b"\1")))
        spool = Spool(2**21)
        result = await drawn(path, spool=spool)
        assert result.reasons == {"": "unreadable: larger than half of the spool: --spool-bytes 2MiB"}
        assert result.most_used_bytes == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(b"", mtime=0), "skipped: empty"),
        (gzip.compress(b"a log file\n" * 1000, mtime=0), "skipped: not DICOM"),
        (COMPRESSED[:-1], "unreadable: damaged: its gzip data are cut off"),
        (COMPRESSED[:-8] + bytes(8), "unreadable: damaged: its gzip data cannot be decompressed: "),
        (COMPRESSED + b"more", "unreadable: damaged: other bytes follow its gzip data"),
    ],
)
async def test_what_is_not_sent_has_a_reason(data: bytes, reason: str, tmp_path: Path) -> None:
    """Other files are skipped; a damaged one is a failure, and nothing of it is sent, as its end proves it whole."""
    path = tmp_path / "file.gz"
    path.write_bytes(data)
    result = await drawn(path)
    assert result.candidates == {}
    assert result.reasons[""].startswith(reason)


@pytest.mark.parametrize("option", ["-z", "-j", "-J", "--zstd"])
def test_compressed_archives_of_tar_are_read(option: str, tmp_path: Path) -> None:
    """An archive that GNU tar writes with each compression has its files as members."""
    if shutil.which("zstd") is None and option == "--zstd":
        pytest.skip("zstd is not installed")
    for number in range(3):
        (tmp_path / f"IM{number}").write_bytes(part10(header(number)))
    path = tmp_path / "x"
    subprocess.run(["tar", option, "-cf", path, "-C", tmp_path, "IM0", "IM1", "IM2"], check=True)
    formats = {"-z": "a gzip file", "-j": "a bzip2 file", "-J": "an xz file", "--zstd": "a zstd file"}
    result = anyio.run(drawn, path, formats[option])
    assert {name: content_of(member) for name, member in result.candidates.items()} == {
        f"IM{number}": part10(header(number)) for number in range(3)
    }


async def test_a_compressed_file_is_read_again(tmp_path: Path) -> None:
    """The content of a compressed file that the ledger knows is read without the spool."""
    path = tmp_path / "IM1.dcm.gz"
    path.write_bytes(gzip.compress(CONTENT))
    container = Container(found(path), "a gzip file")
    data = open_bytes(container.candidate)
    assert b"".join(open_compressed(container, data, os.fspath(path))) == CONTENT
    os.close(data.descriptor)


def test_what_can_be_sent_or_fails_is_never_left_out() -> None:
    """Each file of pydicom that `may_contain_instance` rules out is one that `read_instance` calls no DICOM."""
    ruled_out = 0
    for path in map(Path, get_testdata_files()):
        if path.is_file() and not may_contain_instance(path.read_bytes()[:HEAD_BYTES]):
            ruled_out += 1
            with pytest.raises(HeadError, match=NOT_DICOM):
                read_instance(found(path))
    assert ruled_out > 5


def test_a_disc_image_may_contain_instances(tmp_path: Path) -> None:
    """Its mark is the last one in the bytes that decide."""
    image = bytes(32_769) + b"CD001" + bytes(2**16)
    assert may_contain_instance(image[:HEAD_BYTES])
    path = tmp_path / "disc.iso"
    path.write_bytes(image)
    with pytest.raises(DamagedHead, match="a disc image"):
        read_instance(Candidate(os.fspath(path), len(image), 0))
    assert not may_contain_instance(bytes(HEAD_BYTES))
    assert heads.HEAD_BYTES > 32_774
