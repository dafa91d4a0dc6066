"""Changes in directories, as the operating system reports them."""

from __future__ import annotations

import builtins
import os
import queue
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bulkstow.source.changes import NOT_INSTALLED, Changes, file_system_type, remote_type

PATIENCE_S = 30.0
"""Time after which a change counts as not told."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify")


class Heard:
    """The calls of `Changes`, in order."""

    def __init__(self) -> None:
        self.changes: queue.SimpleQueue[tuple[Sequence[str], Sequence[str]]] = queue.SimpleQueue()
        self.begins: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.ends: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.gone: set[str] = set()

    def changes_in(self, directory: Path) -> Changes:
        """Return an object that reports changes in a directory."""
        return Changes(
            [str(directory)],
            on_begin=lambda: self.begins.put(None),
            on_changes=self.take,
            on_end=self.ends.put,
        )

    def take(self, changed: Sequence[str], gone: Sequence[str]) -> None:
        """Take changes."""
        self.changes.put((changed, gone))

    def wait_for(self, *paths: Path) -> None:
        """Wait until all paths were told to be new or changed."""
        missing = set(map(str, paths))
        while missing:
            changed, gone = self.changes.get(timeout=PATIENCE_S)
            missing -= set(changed)
            self.gone |= set(gone)


def began(directory: Path, heard: Heard) -> Changes:
    """Watch a directory; return when the system reports changes in it."""
    changes = heard.changes_in(directory)
    changes.renew()
    heard.begins.get(timeout=PATIENCE_S)
    return changes


@pytest.fixture
def heard() -> Heard:
    """Give a listener."""
    return Heard()


@pytest.fixture
def watched(tmp_path: Path, heard: Heard) -> Iterator[Path]:
    """Watch a directory."""
    (tmp_path / "in").mkdir()
    changes = began(tmp_path / "in", heard)
    yield tmp_path / "in"
    changes.end()


@linux
def test_new_renamed_and_moved_files_are_told(watched: Path, tmp_path: Path, heard: Heard) -> None:
    """A file that is written, one that is renamed into place, and a directory that is moved in as a whole."""
    (watched / "new").write_bytes(b"1")
    heard.wait_for(watched / "new")
    (watched / "a.part").write_bytes(b"1")
    (watched / "a.part").rename(watched / "a")
    heard.wait_for(watched / "a")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "IM1").write_bytes(b"1")
    (tmp_path / "study").rename(watched / "study")
    heard.wait_for(watched / "study")
    (watched / "study" / "IM2").write_bytes(b"1")
    heard.wait_for(watched / "study" / "IM2")
    (watched / "new").unlink()
    (watched / "last").touch()
    heard.wait_for(watched / "last")
    assert str(watched / "new") in heard.gone


@linux
def test_a_directory_that_was_replaced_is_watched_anew(tmp_path: Path, heard: Heard) -> None:
    """As after a share was mounted there: `renew` finds out, and does nothing otherwise."""
    (tmp_path / "in").mkdir()
    changes = began(tmp_path / "in", heard)
    changes.renew()
    (tmp_path / "in").rename(tmp_path / "old")
    (tmp_path / "in").mkdir()
    changes.renew()
    heard.begins.get(timeout=PATIENCE_S)
    (tmp_path / "in" / "IM1").touch()
    heard.wait_for(tmp_path / "in" / "IM1")
    changes.end()


@linux
def test_a_name_that_is_not_utf_8_ends_it_with_a_reason(watched: Path, heard: Heard) -> None:
    """watchfiles gives up then; the reason tells, so that everything is scanned."""
    Path(os.fsdecode(os.fsencode(watched) + b"/\xff\xfe")).touch()
    assert "Unable to decode path" in heard.ends.get(timeout=PATIENCE_S)


def test_without_watchfiles_the_reason_says_what_to_install(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sources are scanned at intervals then."""
    import_module = builtins.__import__

    def missing(name: str, *others: object) -> object:
        if name == "watchfiles":
            raise ImportError
        return import_module(name, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    heard.changes_in(tmp_path).renew()
    assert heard.ends.get(timeout=PATIENCE_S) == NOT_INSTALLED


def test_a_limit_of_the_system_is_a_reason(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the number of directories that may be watched (fs.inotify.max_user_watches)."""
    watchfiles = pytest.importorskip("watchfiles")

    def limited(*_: object, **__: object) -> Iterator[object]:
        raise OSError("OS file watch limit reached.")

    monkeypatch.setattr(watchfiles, "watch", limited)
    heard.changes_in(tmp_path).renew()
    assert heard.ends.get(timeout=PATIENCE_S) == "OS file watch limit reached."


MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
35 21 0:40 / /mnt/pacs rw,relatime shared:20 - nfs4 nas:/export rw,vers=4.2
36 21 0:41 / /mnt/two\\040words rw,relatime - cifs //nas/share rw
37 35 8:2 / /mnt/pacs/local rw,relatime - xfs /dev/sdb1 rw
38 21 0:42 / /mnt/over rw,relatime - nfs nas:/x rw
39 38 0:43 / /mnt/over rw,relatime - tmpfs tmpfs rw
40 21 0:44 / /mnt/cloud rw,relatime - fuse.rclone remote: rw
a line of another kernel
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/archive", "ext4"),
        ("/mnt/pacs", "nfs4"),
        ("/mnt/pacs/a/b", "nfs4"),
        ("/mnt/pacsother", "ext4"),
        ("/mnt/two words/x", "cifs"),
        ("/mnt/pacs/local/x", "xfs"),
        ("/mnt/over/x", "tmpfs"),
    ],
)
def test_the_type_of_a_file_system(path: str, expected: str) -> None:
    """The innermost mount counts, and of several at one place the last."""
    assert file_system_type(path, MOUNTS) == expected


@pytest.mark.parametrize(
    ("place", "expected"), [("pacs", "nfs4"), ("cloud", "fuse.rclone"), ("pacs/local", ""), ("over", "")]
)
def test_remote_file_systems(tmp_path: Path, place: str, expected: str) -> None:
    """Network file systems and FUSE do not report changes by other computers."""
    assert remote_type(str(tmp_path / place), MOUNTS.replace("/mnt/", f"{tmp_path}/")) == expected
    assert remote_type(str(tmp_path / place), "") == ""
