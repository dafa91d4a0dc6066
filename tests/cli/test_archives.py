"""Archives on the command line: the same instances and reasons as from the files, and damage that stores nothing."""

from __future__ import annotations

import gzip
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bulkstow.ledger import read_entries
from bulkstow.server.storage import DiscardStorage
from tests.archives import header, write_instance
from tests.cli.command import call, served
from tests.source.test_archives import tar_of, zip_of

PACKED: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "x.zip": zip_of,
    "x.deflated.zip": lambda contents: zip_of(contents, zipfile.ZIP_DEFLATED),
    "x.lzma.zip": lambda contents: zip_of(contents, zipfile.ZIP_LZMA),
    "no suffix": lambda contents: zip_of({"inner": zip_of(contents, zipfile.ZIP_DEFLATED)}),
    "x.tar": tar_of,
    "x.tgz": lambda contents: gzip.compress(tar_of(contents)),
    "x.tgz.zip": lambda contents: zip_of({"x.tgz": gzip.compress(tar_of(contents))}),
}


def tree(directory: Path) -> dict[str, bytes]:
    """Write instances, a copy, one without preamble, and other files; return their contents by name."""
    for number in range(1, 13):
        write_instance(directory, number, rows=64, columns=64)
    contents = {path.name: path.read_bytes() for path in directory.iterdir()}
    contents |= {
        "copy": contents["IM001000001"],
        "conflict": contents["IM001000002"][:-1] + b"?",
        "bare": contents["IM001000003"][132:],
        "cut": contents["IM001000004"][:300],
        "empty": b"",
        "readme.txt": b"not DICOM at all\n",
        "damaged.zip": b"PK\3\4" + bytes(300),
        "office.docx": zip_of({"[Content_Types].xml": b""}),
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return contents


def outcomes(ledger: Path) -> dict[str, str]:
    """Return outcome and reason by the name of each file, without the location of a copy."""
    results = {entry.result.candidate.location.rpartition("/")[2]: entry.result for entry in read_entries(ledger)}
    return {name: f"{result.outcome}: {result.reason_kind}" for name, result in results.items()}


@pytest.mark.parametrize("kind", PACKED)
def test_an_archive_gives_what_its_files_give(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    """The same instances arrive, and the same files have the same reasons; a second run changes nothing."""
    contents = tree(tmp_path / "files")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / kind).write_bytes(PACKED[kind](contents))
    stored, found = [], []
    for source in ("files", "packed"):
        storage = DiscardStorage(remember=True)
        with served(storage) as url:
            words = (source, "--url", url, "--ledger", f"{source}.db", "--read-concurrency", "1")
            assert call(capsys, "upload", *words).status == 1
            before = storage.digests()
            call(capsys, "upload", *words)
            assert storage.digests() == before
        stored.append(storage.digests())
        found.append(outcomes(tmp_path / f"{source}.db"))
    is_nested = kind in ("no suffix", "x.tgz.zip")
    nested = "unreadable: a zip archive in an archive in an archive, which was not looked into"
    expected = found[0] | ({"damaged.zip": nested} if is_nested else {})
    assert found[1] == expected
    assert stored[1] == stored[0]
    assert header(12).sop_instance_uid in stored[0]


def test_what_is_settled_is_not_sent_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each member has its row in the ledger, so a second run sends the new ones only."""
    tree(tmp_path / "files")
    names = sorted(path for path in (tmp_path / "files").iterdir() if path.name.startswith("IM"))
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        for several in (names[:5], names):
            (tmp_path / "a.zip").write_bytes(zip_of({path.name: path.read_bytes() for path in several}))
            ended = call(capsys, "upload", "a.zip", "--url", url, "--ledger", "l.db")
            assert ended.status == 0
    assert "5 of them by an earlier run" in ended.out
    assert len(storage.digests()) == 12


@pytest.mark.parametrize("flags", [(), ("--processes", "2"), ("--chunked",)], ids=["sendfile", "processes", "chunked"])
@pytest.mark.parametrize("damage", ["checksum", "bytes", "length"])
def test_a_damaged_member_is_not_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, flags: tuple[str, ...]
) -> None:
    """Its damage shows while it is sent: the request ends before it is whole, and the other members go without it."""
    written = {f"IM{n}": write_instance(tmp_path / "f", n, rows=512, columns=512) for n in range(1, 9)}
    contents = {name: Path(instance.candidate.location).read_bytes() for name, instance in written.items()}
    noise = bytes(random.Random(1).choices(range(16), k=2**17))
    contents["IM3"] = contents["IM3"][: -len(noise)] + noise
    data = bytearray(zip_of(contents, zipfile.ZIP_DEFLATED))
    entry_at = data.rindex(b"IM3") - 46
    if damage == "checksum":
        data[entry_at + 16] ^= 1
    elif damage == "length":
        data[entry_at + 24] ^= 1
    else:
        data[data.index(b"IM3") + 50_000] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        ended = call(capsys, "upload", "a.zip", "--url", url, "--ledger", "l.db", *flags)
    assert ended.status == 1
    assert "a.zip!/IM3: damaged: " in ended.says
    assert set(storage.digests()) == {header(n).sop_instance_uid for n in (1, 2, 4, 5, 6, 7, 8)}
    found = outcomes(tmp_path / "l.db")
    assert [name for name, outcome in found.items() if not outcome.startswith("stored")] == ["IM3"]


def compressed_files(contents: dict[str, bytes]) -> bytes:
    """Return a compressed archive of compressed files."""
    return gzip.compress(tar_of({f"{name}.gz": gzip.compress(content, 1) for name, content in contents.items()}))


def archives_of_each(contents: dict[str, bytes]) -> bytes:
    """Return a compressed archive with a deflated archive for each file."""
    each = {f"{name}.zip": zip_of({name: content}, zipfile.ZIP_BZIP2) for name, content in contents.items()}
    return gzip.compress(tar_of(each))


def deflated_archive(contents: dict[str, bytes]) -> bytes:
    """Return a deflated archive in another one, with members that have to be staged."""
    return zip_of({"inner": zip_of(contents, zipfile.ZIP_LZMA)}, zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize("pack", [compressed_files, archives_of_each, deflated_archive])
def test_archives_in_the_spool_leave_room_for_their_members(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    """A spool that all of the members and archives would fill many times is enough."""
    contents = {}
    for number in range(1, 41):
        instance = write_instance(tmp_path / "f", number, rows=64, columns=64)
        contents[f"IM{number}"] = Path(instance.candidate.location).read_bytes()
    (tmp_path / "a").write_bytes(pack(contents))
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        ended = call(capsys, "upload", "a", "--url", url, "--ledger", "l.db", "--spool-bytes", "100KiB")
    assert ended.status == 0
    assert set(storage.digests()) == {header(number).sop_instance_uid for number in range(1, 41)}


@pytest.mark.parametrize("pack", [zip_of, PACKED["x.tgz"]])
def test_members_in_conflict_are_sent_after_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    """They are found again by their locations, also behind a link; a second pass has members without their archives."""
    content = Path(write_instance(tmp_path / "f", 1).candidate.location).read_bytes()
    other = Path(write_instance(tmp_path / "f", 2).candidate.location).read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(pack({"IM1": content}))
    (tmp_path / "b").write_bytes(pack({"IM1": content[:-1] + b"?", "IM2": other}))
    (tmp_path / "in" / "b").symlink_to(tmp_path / "b")
    words = ("upload", "in", "--ledger", "l.db", "--on-conflict", "send", "--archives", "only", "--follow-links")
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        ended = call(capsys, *words, "--url", url)
    assert ended.status == 1
    assert set(outcomes(tmp_path / "l.db").values()) == {
        "stored: ",
        "refused: the server has this SOP Instance UID, from …",
    }
    assert len(storage.digests()) == 2


@pytest.mark.parametrize("flags", [(), ("--processes", "2")], ids=["here", "processes"])
def test_the_newest_are_chosen_from_more_than_the_spool_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    """Nothing is sent before all files are known, so their content does not wait in the spool."""
    contents = {}
    for number in range(1, 21):
        instance = write_instance(tmp_path / "f", number, rows=64, columns=64)
        contents[f"IM{number}"] = Path(instance.candidate.location).read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tgz").write_bytes(gzip.compress(tar_of(contents)))
    (tmp_path / "in" / "IM20.gz").write_bytes(gzip.compress(contents["IM20"][:-1] + b"?"))
    words = ("upload", "in", "--ledger", "l.db", "--on-conflict", "newest", "--spool-bytes", "30KiB", *flags)
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        ended = call(capsys, *words, "--url", url)
        assert ended.status == 1
        found = outcomes(tmp_path / "l.db")
        assert found.pop("IM20").startswith("conflict: the same SOP Instance UID as")
        assert set(found.values()) == {"stored: "}
        assert call(capsys, *words, "--url", url).status == 1
        assert storage.received == 20
    assert set(storage.digests()) == {header(number).sop_instance_uid for number in range(1, 21)}


def test_an_archive_that_is_readable_now_is_no_failure_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An outcome from a run that could not look into it, or was told not to, ends with the run that does."""
    content = Path(write_instance(tmp_path / "f", 1).candidate.location).read_bytes()
    (tmp_path / "a.zip").write_bytes(zip_of({"IM1": content}))
    (tmp_path / "IM1.gz").write_bytes(gzip.compress(content))
    with served(DiscardStorage(remember=True)) as url:
        words = ("upload", "a.zip", "IM1.gz", "--url", url, "--ledger", "l.db")
        assert call(capsys, *words, "--archives", "no").status == 1
        assert set(outcomes(tmp_path / "l.db")) == {"a.zip", "IM1.gz"}
        ended = call(capsys, *words)
    assert ended.status == 0
    assert "failure" not in ended.out
    assert set(outcomes(tmp_path / "l.db")) == {"IM1", "IM1.gz"}


def test_a_spool_directory_that_is_not_there_is_an_error_of_the_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named before anything is read."""
    (tmp_path / "in").mkdir()
    ended = call(capsys, "upload", "in", "--url", "http://127.0.0.1:9", "--spool-directory", "nowhere")
    assert ended.status == 2
    assert "--spool-directory nowhere: not a directory that can be written" in ended.says
