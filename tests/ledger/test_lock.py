"""The lock of a ledger: one owner, and no file left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bulkstow.errors import LedgerError
from bulkstow.ledger.lock import LOCK_SUFFIX, Lock


def test_it_is_removed_when_it_is_released(tmp_path: Path) -> None:
    """Only its owner may read it, and it is removed."""
    lock = Lock(tmp_path / "run.db")
    (made,) = tmp_path.iterdir()
    assert (made.name, made.stat().st_mode & 0o777) == ("run.db" + LOCK_SUFFIX, 0o600)
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_left_by_a_killed_run_is_taken_over(tmp_path: Path) -> None:
    """An unlocked file is no lock."""
    (tmp_path / ("run.db" + LOCK_SUFFIX)).touch()
    Lock(tmp_path / "run.db").release()
    assert list(tmp_path.iterdir()) == []


def test_a_removed_lock_that_was_open_is_not_acquired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the owner removes the file between opening and locking, the lock is acquired again, and excludes others."""
    first = Lock(tmp_path / "run.db")
    real_open, opened = os.open, []

    def open_and_lose(path: str, flags: int, mode: int = 0o777) -> int:
        descriptor = real_open(path, flags, mode)
        opened.append(descriptor)
        if len(opened) == 1:
            first.release()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    second = Lock(tmp_path / "run.db")
    assert len(opened) == 2
    with pytest.raises(LedgerError, match="in use by another run"):
        Lock(tmp_path / "run.db")
    second.release()


def test_a_lock_of_another_is_not_removed(tmp_path: Path) -> None:
    """A file that has replaced the lock belongs to another run."""
    lock = Lock(tmp_path / "run.db")
    path = tmp_path / ("run.db" + LOCK_SUFFIX)
    path.unlink()
    path.write_text("another's")
    lock.release()
    assert path.read_text() == "another's"


@pytest.mark.parametrize(
    ("parent", "why"),
    [
        ("missing", "the ledger's directory .*/missing does not exist: make it, or give another --ledger"),
        ("file", "the ledger's directory .*/file is not a directory: give another --ledger"),
    ],
)
def test_a_directory_that_cannot_have_it(tmp_path: Path, parent: str, why: str) -> None:
    """The message names the directory and its fault."""
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=why):
        Lock(tmp_path / parent / "run.db")


_HOLDER = """
import sys
import time
from pathlib import Path

{preamble}
from bulkstow.ledger.lock import Lock

held = Lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("preamble", ["", 'sys.modules["fcntl"] = None'], ids=["flock", "without fcntl"])
def test_the_lock_of_a_killed_run(tmp_path: Path, preamble: str) -> None:
    """Another process is excluded only while the owner lives."""
    holder = [sys.executable, "-W", "ignore", "-c", _HOLDER.format(preamble=preamble), str(tmp_path / "run.db")]
    with subprocess.Popen(holder, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        second = subprocess.run(holder, capture_output=True, text=True, check=False)
        assert "run.db is in use by another run: wait for it, or give another --ledger" in second.stderr
        first.kill()
    with subprocess.Popen(holder, stdout=subprocess.PIPE, text=True) as third:
        assert third.stdout is not None
        assert third.stdout.readline() == "held\n"
        third.kill()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message asks for a local disk."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(LedgerError, match=r"run\.db cannot be locked: No locks available; put it on a local disk"):
        Lock(tmp_path / "run.db")
