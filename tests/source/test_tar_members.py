"""Members of tar archives: the same files as unpacked, in bounded memory and room, and a reason for all else."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import tarfile
import zlib
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.errors import DamagedHead
from bulkstow.model import Candidate, Coding, Container, Extent, FileResult
from bulkstow.ports import Members, Room
from bulkstow.source import forward, member_lists, staging
from bulkstow.source.compressed_members import compressed_members, open_compressed
from bulkstow.source.extents import open_bytes
from bulkstow.source.member_lists import extent_of, members_in_lists
from bulkstow.source.spool import CHUNK_BYTES, Spool
from bulkstow.source.tar_members import tar_members
from bulkstow.wire.synthetic import part10
from tests.archives import header
from tests.source.members import Drawn, content_of, draw, found

DICOM = bytes(128) + b"DICM"

pytestmark = pytest.mark.anyio


def members(container: Candidate, spool: Spool) -> Members:
    """Return the members of a tar archive; one that ends with gz is compressed."""
    if container.location.endswith("gz"):
        return members_in_lists(container, spool, partial(compressed_members, Container(container, "a gzip file")))
    return members_in_lists(container, spool, partial(tar_members, container))


async def drawn(path: Path, spool: Spool | None = None, *, releases: bool = False) -> Drawn:
    """Draw all members of an archive."""
    spool = spool or Spool(2**26)
    container = found(path)
    return await draw(members(container, spool), spool, container, releases=releases)


def tar(directory: Path, name: str, contents: dict[str, bytes | tarfile.TarInfo], **options: object) -> Path:
    """Write an archive, compressed if its name ends with gz; a header has no content."""
    path = directory / name
    with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as archive:
        for member, content in contents.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def of_type(name: str, type_: bytes) -> tarfile.TarInfo:
    """Return the header of a member."""
    info = tarfile.TarInfo(name)
    info.type = type_
    return info


@pytest.mark.parametrize("name", ["x.tar", "x.tgz"])
def test_members_are_the_files(name: str, tmp_path: Path) -> None:
    """Every file of a directory that tar packs is a member with the same bytes, with and without compression."""
    tree = tmp_path / "tree"
    names = ["IM1", "a/IM2", "a/b/IM3", "caf\udce9/IM 4", "n" * 200]
    for number, file in enumerate(names):
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).write_bytes(part10(header(number), rows=16, columns=16 * (number + 1), number=number))
    subprocess.run(["tar", "-caf", tmp_path / name, "-C", tree, "."], check=True)
    result = anyio.run(drawn, tmp_path / name)
    assert result.results == {}
    assert {file: content_of(member) for file, member in result.candidates.items()} == {
        file: (tree / file).read_bytes() for file in names
    }
    assert {member.size_bytes for member in result.candidates.values()} == {
        (tree / file).stat().st_size for file in names
    }


async def test_a_member_is_identified_by_its_place(tmp_path: Path) -> None:
    """The version of a member is that of the archive and the offset, and is the same compressed and not compressed."""
    contents: dict[str, bytes | tarfile.TarInfo] = {"IM1": DICOM, "IM2": DICOM}
    for name in ("x.tar", "x.tgz"):
        path = tar(tmp_path, name, contents)
        os.utime(path, ns=(5, 5))
        versions = [member.version for member in (await drawn(path)).candidates.values()]
        assert versions == ["5:512", "5:1536"]


async def test_members_of_a_plain_archive_stay_in_it(tmp_path: Path) -> None:
    """A member is a part of the archive's file, so nothing is in the spool; in lists of a bounded length."""
    path = tar(tmp_path, "x.tar", {f"IM{number}": DICOM for number in range(600)})
    spool = Spool(1)
    result = await drawn(path, spool)
    assert spool.used_bytes == 0
    assert result.lists == [256, 256, 88]
    extents = [member.extent for member in result.candidates.values()]
    assert {extent.path for extent in extents if extent} == {os.fspath(path)}


@pytest.mark.parametrize("name", ["x.tar", "x.tgz"])
async def test_what_is_no_instance_has_a_reason(name: str, tmp_path: Path) -> None:
    """Links, devices, names that lead outside and empty files have reasons; a directory has none."""
    result = await drawn(
        tar(
            tmp_path,
            name,
            {
                "directory": of_type("directory", tarfile.DIRTYPE),
                "link": of_type("link", tarfile.SYMTYPE),
                "hard": of_type("hard", tarfile.LNKTYPE),
                "pipe": of_type("pipe", tarfile.FIFOTYPE),
                "continued": of_type("continued", b"M"),
                "/etc/IM1": DICOM,
                "a/../../IM2": DICOM,
                "C:\\IM3": DICOM,
                "empty": b"",
                "last": DICOM,
            },
        )
    )
    outside = "unreadable: its name leads out of the archive"
    assert result.reasons == {
        "link": "skipped: a symbolic link in an archive",
        "hard": "skipped: a hard link in an archive",
        "pipe": "skipped: a named pipe in an archive",
        "continued": "unreadable: the continuation of a file from another tar volume: join the volumes, or unpack them",
        "/etc/IM1": outside,
        "a/../../IM2": outside,
        "C:\\IM3": outside,
        "empty": "skipped: empty",
    }
    assert list(result.candidates) == ["last"]


@pytest.mark.parametrize("name", ["x.tar", "x.tgz"])
async def test_members_of_one_name_are_all_there(name: str, tmp_path: Path) -> None:
    """A member that unpacking would replace is another member, with a number after its name."""
    path = tmp_path / name
    with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as archive:
        for member, content in (("IM", b"1"), ("./IM", b"2"), ("IM#2", b"3"), ("IM", b"4")):
            info = tarfile.TarInfo(member)
            info.size = len(DICOM) + 1
            archive.addfile(info, io.BytesIO(DICOM + content))
    result = await drawn(path)
    contents = {member: content_of(candidate)[len(DICOM) :] for member, candidate in result.candidates.items()}
    assert contents == {"IM": b"1", "IM#2": b"2", "IM#2#2": b"3", "IM#3": b"4"}


async def test_only_what_may_be_an_instance_is_staged(tmp_path: Path) -> None:
    """A large text in a compressed archive takes no room; an archive, or DICOM without preamble, does."""
    bare = part10(header(1))[132:]
    zip_start = b"PK\x03\x04" + bytes(100)
    path = tar(tmp_path, "x.tgz", {"text": b"text" * 2**20, "bare": bare, "zip": zip_start, "IM1": DICOM})
    spool = Spool(2**16)
    result = await drawn(path, spool)
    assert result.reasons == {"text": "skipped: not DICOM"}
    assert list(result.candidates) == ["bare", "zip", "IM1"]
    assert spool.used_bytes < 2**14


async def test_a_member_larger_than_the_spool_is_a_failure(tmp_path: Path) -> None:
    """It is not staged, and the members after it are."""
    path = tar(tmp_path, "x.tgz", {"large": DICOM + bytes(2**20), "IM1": DICOM})
    result = await drawn(path, Spool(2**20))
    assert result.reasons == {"large": "unreadable: larger than half of the spool: --spool-bytes 1MiB"}
    assert list(result.candidates) == ["IM1"]


async def test_room_never_exceeds_the_spool(tmp_path: Path) -> None:
    """An archive of ten times the spool passes through it, if each list is released; all room is free at the end."""
    path = tar(tmp_path, "x.tgz", {f"IM{number}": DICOM + bytes(2**17) for number in range(80)})
    spool = Spool(2**20)
    result = await drawn(path, spool, releases=True)
    assert len(result.candidates) == 80
    assert 2**17 < result.most_used_bytes <= 2**20
    assert spool.used_bytes == 0


async def test_an_abandoned_archive_leaves_no_room_taken(tmp_path: Path) -> None:
    """Whenever the members are no longer drawn, staged contents that were not handed over are released."""
    path = tar(tmp_path, "x.tgz", {f"IM{number}": DICOM + bytes(2**20) for number in range(4)})
    container = found(path)
    for steps in range(6):
        spool = Spool(2**26)
        drawing = members(container, spool)
        for _ in range(steps):
            step = next(drawing, None)
            while isinstance(step, Room):
                await spool.reserve(step.size_bytes)
                step = next(drawing, None)
            for candidate in step or ():
                assert isinstance(candidate, Candidate)
                assert candidate.extent is not None
                spool.release(candidate.extent)
        drawing.close()
        assert spool.used_bytes == 0


async def test_long_steps_show_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large member that is staged, one that is skipped, and zeros at the end come with empty lists."""
    monkeypatch.setattr(staging, "STEP_BYTES", 2**20)
    monkeypatch.setattr(forward, "SKIP_BYTES", 2**20)
    path = tar(tmp_path, "x.tgz", {"large": DICOM + bytes(2**23), "text": bytes(2**23)})
    result = await drawn(path)
    assert result.lists.count(0) >= 14
    zeros = tar(tmp_path, "zeros.tar", {"IM1": DICOM})
    os.truncate(zeros, 2**26)
    assert (await drawn(zeros)).lists[:2] == [1, 0]


@pytest.mark.parametrize("name", ["x.tar", "x.tgz"])
async def test_archives_one_after_the_other(name: str, tmp_path: Path) -> None:
    """The members of concatenated archives are all found, behind the mark of the first one's end."""
    first = tar(tmp_path, "1" + name, {"IM1": DICOM}).read_bytes()
    second = tar(tmp_path, "2" + name, {"IM2": DICOM}).read_bytes()
    (tmp_path / name).write_bytes(first + second)
    assert list((await drawn(tmp_path / name)).candidates) == ["IM1", "IM2"]


def damaged(data: bytes, damage: str) -> bytes:
    """Return an archive of three instances of 1 KiB, a header of 512 bytes each, with a damage."""
    changed = bytearray(data)
    if damage == "header":
        changed[2 * 1536 + 10] ^= 1
    elif damage == "garbage":
        changed += b"text" * 200
    return bytes(
        changed[: {"member": 2 * 1536 + 512 + 700, "end": 3 * 1536, "in a header": 2 * 1536 + 100}.get(damage)]
    )


@pytest.mark.parametrize("suffix", ["tar", "tgz"])
@pytest.mark.parametrize(
    ("damage", "reason", "members"),
    [
        ("header", "unreadable: damaged: the checksum of a member's header is wrong", 2),
        ("member", "unreadable: cut off: its last member is incomplete", 2),
        ("in a header", "unreadable: cut off: it has no end-of-archive mark", 2),
        ("end", "unreadable: cut off: it has no end-of-archive mark", 3),
        ("garbage", "unreadable: damaged: other bytes follow its last member", 3),
    ],
)
async def test_damage_comes_after_the_members_before_it(
    suffix: str, damage: str, reason: str, members: int, tmp_path: Path
) -> None:
    """The members in front of the damage are sent; the archive itself is a failure with the reason."""
    content = DICOM.ljust(1024, b"\1")
    data = damaged(tar(tmp_path, "whole.tar", {f"IM{n}": content for n in range(3)}).read_bytes(), damage)
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == "tgz" else data)
    result = await drawn(path)
    assert result.reasons == {"": reason}
    assert [content_of(member) for member in result.candidates.values()] == [content] * members


async def test_damaged_compression_comes_after_the_members_before_it(tmp_path: Path) -> None:
    """A compressed archive that is cut off gives the members before that, and no part of one."""
    content = DICOM + os.urandom(2**19)
    path = tar(tmp_path, "x.tgz", {f"IM{n}": content for n in range(4)})
    os.truncate(path, path.stat().st_size * 3 // 4)
    spool = Spool(2**26)
    result = await drawn(path, spool, releases=True)
    assert result.reasons == {"": "unreadable: damaged: its gzip data are cut off"}
    assert list(result.candidates) == ["IM0", "IM1"] or list(result.candidates) == ["IM0", "IM1", "IM2"]
    assert spool.used_bytes == 0


@pytest.mark.parametrize("name", ["x.tar", "x.tgz"])
async def test_an_archive_that_changes_is_a_failure(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the archive's file changes while it is read, no member of the list under way is sent."""
    monkeypatch.setattr(member_lists, "MEMBERS_PER_LIST", 2)
    path = tar(tmp_path, name, {f"IM{n}": DICOM for n in range(6)})
    container, spool = found(path), Spool(2**26)
    drawing = members(container, spool)
    lists = []
    for step in drawing:
        if isinstance(step, Room):
            await spool.reserve(step.size_bytes)
        else:
            lists.append(step)
            os.utime(path, ns=(1, 1))
    assert [len(step) for step in lists] == [2, 1]
    assert "changed" in str(lists[1][0])


async def test_an_archive_that_has_gone_is_a_failure(tmp_path: Path) -> None:
    """The reason is that of the operating system."""
    path = tar(tmp_path, "x.tar", {"IM1": DICOM})
    container = found(path)
    path.unlink()
    result = await draw(members(container, Spool(1)), Spool(1), container)
    assert result.reasons == {"": "unreadable: cannot be read: No such file or directory"}


@pytest.mark.parametrize("suffix", ["tar", "tgz"])
async def test_an_archive_in_a_compressed_one_is_read_in_its_stream(suffix: str, tmp_path: Path) -> None:
    """Its members are found without a copy of it, with the identities that they have in any other case; damage of it is
    its own."""
    contents: dict[str, bytes | tarfile.TarInfo] = {f"IM{n}": DICOM + bytes([n]) for n in range(3)}
    inner = tar(tmp_path, f"inner.{suffix}", contents).read_bytes()
    path = tar(tmp_path, "x.tgz", {"inner": inner, "cut": inner[: min(1800, len(inner) * 3 // 4)], "IM4": DICOM})
    os.utime(path, ns=(5, 5))
    spool = Spool(2**10)
    result = await drawn(path, spool)
    assert [name for name in result.candidates if not name.startswith("cut")] == [
        "inner!/IM0",
        "inner!/IM1",
        "inner!/IM2",
        "IM4",
    ]
    assert {name: content_of(result.candidates[f"inner!/{name}"]) for name in contents} == contents
    assert [result.candidates[f"inner!/IM{n}"].version for n in range(3)] == ["5:512:512", "5:512:1536", "5:512:2560"]
    assert list(result.reasons) == ["cut"]
    container = found(path)
    for name, content in contents.items():
        data = open_bytes(container)
        location = f"{path}!/inner!/{name}"
        assert b"".join(open_compressed(Container(container, "a gzip file"), data, location)) == content
        os.close(data.descriptor)


async def test_an_archive_that_is_replaced_while_it_is_read_is_not_damaged(tmp_path: Path) -> None:
    """Members since the last list may be a mixture of both contents, so none of them is handed over."""
    noise = random.Random(1).randbytes(300_000)
    path = tar(tmp_path, "x.tgz", {f"IM{n}": DICOM + noise for n in range(3)})
    container, spool = found(path), Spool(700_000)
    drawing = members(container, spool)
    before, room = next(drawing), next(drawing)
    assert not isinstance(before, Room)
    assert isinstance(room, Room)
    (first,) = before
    assert isinstance(first, Candidate)
    spool.release(extent_of(first))
    await spool.reserve(room.size_bytes)
    with path.open("r+b") as archive:
        archive.seek(600_000)
        archive.write(bytes(100_000))
    os.utime(path, ns=(5, 5))
    (result,) = [item for step in drawing if not isinstance(step, Room) for item in step]
    assert isinstance(result, FileResult)
    assert result.candidate == container
    assert result.reason.startswith("changed while it was sent: ")
    assert spool.used_bytes == 0


async def test_a_spool_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The reason is not that of a damaged archive, and the members before it are there."""
    path = tar(tmp_path, "x.tgz", {"IM1": DICOM, "large": DICOM.ljust(CHUNK_BYTES + 1), "IM3": DICOM})
    with closing(Spool(2**26, tmp_path / "gone")) as spool:
        result = await drawn(path, spool)
        assert list(result.candidates) == ["IM1"]
        assert result.reasons == {"": "unreadable: the spool cannot be written: No such file or directory"}
        spool.release(extent_of(result.candidates["IM1"]))
        assert spool.used_bytes == 0


@pytest.mark.parametrize("suffix", ["tar", "tgz"])
async def test_archives_are_read_no_deeper_than_one_in_another(suffix: str, tmp_path: Path) -> None:
    """However deep an archive is nested, and one may even contain itself, only the outer two are read."""
    content = DICOM
    for depth in range(10):
        content = tar(tmp_path, f"deep.{suffix}", {f"{depth}": content, f"IM{depth}": DICOM}).read_bytes()
    result = await drawn(tar(tmp_path, "x.tgz", {"x": content}), Spool(2**20))
    assert list(result.candidates) == ["x!/IM9"]
    kind = {"tar": "a tar archive", "tgz": "a gzip file"}[suffix]
    assert result.reasons == {
        "x!/9": f"unreadable: {kind} in an archive in an archive, which was not looked into: unpack it and send the "
        "files inside"
    }


async def test_a_staged_archive_stays_until_its_members_are_released(tmp_path: Path) -> None:
    """Members of an archive that is in the spool are parts of it; in a plain archive they are parts of that one."""
    content = part10(header(1))
    inner = tar(tmp_path, "inner.tar", {f"IM{n}": content for n in range(3)}).read_bytes()
    spool = Spool(2**20)
    await spool.reserve(len(inner))
    kept = spool.begin(len(inner))
    kept.write(inner)
    container = Candidate("/x.zip!/inner.tar", len(inner), "crc32:1", extent=kept.finish())
    result = await draw(members(container, spool), spool, container)
    assert container.extent is not None
    spool.release(container.extent)
    assert [content_of(member) for member in result.candidates.values()] == [content] * 3
    assert result.candidates["IM0"].version == f"{container.version}:512"
    for member in result.candidates.values():
        assert member.extent is not None
        spool.release(member.extent)
    assert spool.used_bytes == 0
    path = tar(tmp_path, "outer.tar", {"inner.tar": inner})
    (container,) = (await drawn(path)).candidates.values()
    result = await draw(members(container, Spool(0)), Spool(0), container)
    assert [content_of(member) for member in result.candidates.values()] == [content] * 3


async def test_a_deflated_archive_is_read_as_a_stream(tmp_path: Path) -> None:
    """A tar archive that is deflated in another archive has its members staged, and its checksum compared."""
    data = tar(tmp_path, "inner.tar", {"IM1": DICOM}).read_bytes()
    compressor = zlib.compressobj(wbits=-15)
    deflated = compressor.compress(data) + compressor.flush()
    path = tmp_path / "outer.zip"
    path.write_bytes(deflated)
    status = path.stat()
    for crc32, reasons in (
        (zlib.crc32(data), {}),
        (1, {"": "unreadable: damaged: its CRC-32 is not the one in the archive"}),
    ):
        version = (status.st_size, status.st_mtime_ns)
        extent = Extent(os.fspath(path), 0, len(deflated), version, Coding.DEFLATE, len(data), crc32)
        container = Candidate(f"{path}!/inner.tar", len(data), "crc32:1", extent=extent)
        spool = Spool(2**20)
        result = await draw(members(container, spool), spool, container)
        assert content_of(result.candidates["IM1"]) == DICOM
        assert result.reasons == reasons


async def test_a_member_is_read_again_from_the_beginning(tmp_path: Path) -> None:
    """The content of any member of a compressed archive is found again by its location, also the second of a name."""
    path = tmp_path / "x.tgz"
    contents = {"IM1": DICOM + os.urandom(2**20), "IM2": DICOM + b"2", "IM2#2": DICOM + b"3"}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name.removesuffix("#2"))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    container = found(path)
    for name, content in contents.items():
        data = open_bytes(container)
        blocks = open_compressed(Container(container, "a gzip file"), data, f"{path}!/{name}")
        assert b"".join(blocks) == content
        os.close(data.descriptor)
    data = open_bytes(container)
    with pytest.raises(DamagedHead, match="no longer in its archive"):
        list(open_compressed(Container(container, "a gzip file"), data, f"{path}!/IM3"))
    os.close(data.descriptor)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=12),
    name=st.sampled_from(["x.tar", "x.tgz"]),
    spool_bytes=st.integers(10_400, 40_000),
)
async def test_every_archive_passes_through_every_spool(
    sizes: list[int], name: str, spool_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With all sizes of members and spool, all members have their bytes, and the spool is never exceeded."""
    directory = tmp_path_factory.getbasetemp()
    contents = {f"IM{n}": DICOM + bytes([n]) * size for n, size in enumerate(sizes)}
    path = tar(directory, name, dict(contents))
    container, spool = found(path), Spool(spool_bytes)
    seen = {}
    for step in members(container, spool):
        if isinstance(step, Room):
            await spool.reserve(step.size_bytes)
        else:
            for candidate in step:
                assert isinstance(candidate, Candidate)
                assert candidate.extent is not None
                seen[candidate.location.rpartition("/")[2]] = content_of(candidate)
                spool.release(candidate.extent)
        assert spool.used_bytes <= spool_bytes
    assert seen == contents
    assert spool.used_bytes == 0
