"""Moving and deleting files after they are stored."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bulkstow.model import Candidate
from bulkstow.source.disposal import CHANGED, GONE, LINK, MEMBER, Disposal, Move, delete
from tests.archives import candidate


def plant(path: Path, content: bytes = b"pixels") -> Candidate:
    """Write a file and return its candidate, as a scan finds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return candidate(path)


def files(root: Path) -> dict[str, bytes]:
    """Return the content of all files below a directory by their relative paths."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Make an empty source."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """Return the directory to which files are moved; it is not there yet."""
    return tmp_path / "done"


def moving(source: Path, done: Path) -> Disposal:
    """Return a disposer that moves files of a source."""
    return Disposal([str(source)], Move(str(done), [str(source)]))


def refuse_rename(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    """Let the source be on a file system of its own."""
    rename = os.rename

    def to_another(old: str, new: str) -> None:
        if old.startswith(f"{source}/"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(old, new)

    monkeypatch.setattr("bulkstow.source.disposal.os.rename", to_another)


@pytest.mark.parametrize("is_other_file_system", [False, True])
def test_a_moved_file_keeps_its_path_content_and_time(
    source: Path, done: Path, monkeypatch: pytest.MonkeyPatch, *, is_other_file_system: bool
) -> None:
    """On the same file system and on another one; nothing else is left at either place."""
    if is_other_file_system:
        refuse_rename(monkeypatch, source)
    found = plant(source / "study" / "IM1", b"one")
    assert moving(source, done).dispose(found) == ""
    assert files(source) == {}
    assert files(done) == {"study/IM1": b"one"}
    assert (done / "study" / "IM1").stat().st_mtime_ns == found.version


def test_a_move_between_two_real_file_systems(source: Path) -> None:
    """From the temporary directory to /dev/shm, if that is another file system."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == source.stat().st_dev:
        pytest.skip("/dev/shm is no other file system")
    done = shm / f"bulkstow-test-{os.getpid()}"
    try:
        assert moving(source, done).dispose(plant(source / "IM1", bytes(1_000_000))) == ""
        assert files(done) == {"IM1": bytes(1_000_000)}
        assert files(source) == {}
    finally:
        for path in done.iterdir():
            path.unlink()
        done.rmdir()


@pytest.mark.parametrize("is_other_file_system", [False, True])
def test_a_move_overwrites_nothing(
    source: Path, done: Path, monkeypatch: pytest.MonkeyPatch, *, is_other_file_system: bool
) -> None:
    """Names that are taken get a number, whether the file there is another one or a directory."""
    if is_other_file_system:
        refuse_rename(monkeypatch, source)
    plant(done / "IM1", b"an older one")
    (done / "IM1~2").mkdir()
    assert moving(source, done).dispose(plant(source / "IM1", b"new")) == ""
    assert files(done) == {"IM1": b"an older one", "IM1~3": b"new"}


def test_a_move_that_was_killed_after_the_copy_leaves_one_file(source: Path, done: Path) -> None:
    """The next run finds the copy by size, time and content, and only removes the original."""
    found = plant(source / "IM1", b"one")
    plant(done / "IM1", b"one")
    os.utime(done / "IM1", ns=(0, int(found.version)))
    assert moving(source, done).dispose(found) == ""
    assert files(source) == {}
    assert files(done) == {"IM1": b"one"}


def test_a_move_that_was_killed_before_the_copy_was_whole_loses_nothing(source: Path, done: Path) -> None:
    """The empty file that holds the name, and a part of a copy, are not taken for the file."""
    plant(done / "IM1", b"")
    plant(done / ".IM1.12.part", b"o")
    assert moving(source, done).dispose(plant(source / "IM1", b"one")) == ""
    assert files(source) == {}
    assert files(done)["IM1~2"] == b"one"


def test_another_file_of_the_same_size_and_time_is_no_copy(source: Path, done: Path) -> None:
    """Slices often have one size, and a disc only even seconds: the bytes decide."""
    found = plant(source / "IM1", b"one")
    plant(done / "IM1", b"two")
    os.utime(done / "IM1", ns=(0, int(found.version)))
    assert moving(source, done).dispose(found) == ""
    assert files(done) == {"IM1": b"two", "IM1~2": b"one"}


def test_a_copy_that_fails_leaves_the_file_and_nothing_else(
    source: Path, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the file stays, with the system's reason, and no part of a copy is left."""
    refuse_rename(monkeypatch, source)

    def full(_source: str, target: str) -> None:
        Path(target).write_bytes(b"o")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("bulkstow.source.disposal.shutil.copyfile", full)
    assert moving(source, done).dispose(plant(source / "IM1", b"one")) == os.strerror(errno.ENOSPC)
    assert files(source) == {"IM1": b"one"}
    assert files(done) == {}


@pytest.mark.parametrize(("call", "is_other_file_system"), [("rename", False), ("unlink", True)])
def test_a_call_that_nfs_repeats_does_not_remove_the_moved_file(
    source: Path, done: Path, monkeypatch: pytest.MonkeyPatch, call: str, *, is_other_file_system: bool
) -> None:
    """If the response is lost, the call is repeated and finds no file; the moved file stays at its target."""
    if is_other_file_system:
        refuse_rename(monkeypatch, source)
    once = getattr(os, call)

    def twice(path: str, *others: str) -> None:
        once(path, *others)
        if path.startswith(f"{source}/"):
            once(path, *others)

    monkeypatch.setattr(f"bulkstow.source.disposal.os.{call}", twice)
    assert moving(source, done).dispose(plant(source / "IM1", b"one")) == GONE
    assert files(done) == {"IM1": b"one"}


def test_a_file_that_disappears_before_it_is_moved_leaves_nothing(
    source: Path, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The empty file that holds the name is removed."""
    rename = os.rename

    def after_removal(old: str, new: str) -> None:
        Path(old).unlink()
        rename(old, new)

    monkeypatch.setattr("bulkstow.source.disposal.os.rename", after_removal)
    assert moving(source, done).dispose(plant(source / "IM1", b"one")) == GONE
    assert files(done) == {}


def test_a_file_that_is_written_while_it_is_copied_stays(
    source: Path, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy would be a mixture of two contents."""
    refuse_rename(monkeypatch, source)
    copyfile = shutil.copyfile

    def written_meanwhile(path: str, target: str) -> None:
        copyfile(path, target)
        Path(path).write_bytes(b"two, longer")

    monkeypatch.setattr("bulkstow.source.disposal.shutil.copyfile", written_meanwhile)
    assert moving(source, done).dispose(plant(source / "IM1", b"one")) == "it changed while it was copied"
    assert files(source) == {"IM1": b"two, longer"}
    assert files(done) == {}


def _rewrite(path: Path) -> None:
    path.write_bytes(b"more pixels")


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


@pytest.mark.parametrize(
    ("change", "reason"), [(_rewrite, CHANGED), (_touch, CHANGED), (Path.unlink, GONE), (_link, LINK)]
)
def test_a_file_that_is_not_the_scanned_one_stays(
    source: Path, done: Path, change: Callable[[Path], None], reason: str
) -> None:
    """Other content, another time, a link in its place: the reason says why, and nothing is touched."""
    found = plant(source / "IM1")
    change(source / "IM1")
    before = files(source)
    for disposal_of in (moving(source, done), Disposal([str(source)], delete)):
        assert disposal_of.dispose(found) == reason
    assert files(source) == before
    assert not done.exists()


def test_a_member_of_an_archive_stays(source: Path) -> None:
    """The archive is not taken apart."""
    plant(source / "x.zip")
    assert Disposal([str(source)], delete).dispose(Candidate(f"{source}/x.zip!/IM1", 5, "crc32:00")) == MEMBER
    assert files(source) == {"x.zip": b"pixels"}


def test_sources_and_their_places(tmp_path: Path, done: Path) -> None:
    """Relative to the innermost source; a source that is a file keeps its name, and a file of no source its path."""
    outer, inner, single = tmp_path / "in", tmp_path / "in" / "deep", tmp_path / "one" / "IM9"
    roots = [str(outer), str(inner), str(single)]
    move = Disposal(roots, Move(str(done), roots))
    elsewhere = tmp_path / "elsewhere" / "IM8"
    for path in (outer / "a" / "IM1", inner / "b" / "IM2", single, elsewhere):
        assert move.dispose(plant(path)) == ""
    assert set(files(done)) == {"a/IM1", "b/IM2", "IM9", str(elsewhere).lstrip("/")}


def test_emptied_directories_are_removed_but_not_the_source(source: Path) -> None:
    """Directories above others go once they are empty; those with other files stay."""
    removing = Disposal([str(source)], delete)
    plant(source / "b" / "notes.txt")
    for path in ("a/1/x/IM1", "a/1/y/IM2", "b/c/IM3", "IM4"):
        assert removing.dispose(plant(source / path)) == ""
    removing.tidy(0)
    assert sorted(str(p.relative_to(source)) for p in source.rglob("*")) == ["b", "b/notes.txt"]


def test_a_directory_that_has_just_changed_stays_until_it_is_quiet(source: Path) -> None:
    """A sender may be about to write the next instance of the study there."""
    removing = Disposal([str(source)], delete)
    removing.dispose(plant(source / "study" / "IM1"))
    removing.tidy(600)
    assert (source / "study").is_dir()
    os.utime(source / "study", (1, 1))
    removing.tidy(600)
    assert not (source / "study").exists()
