"""Reading a ledger for a report, in any directory, without leaving files."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bulkstow.errors import LedgerError
from bulkstow.ledger import Ledger, read_entries
from bulkstow.ledger.database import wal_of
from bulkstow.model import Candidate, FileResult, Outcome
from tests.archives import header

URL = "http://pacs/dicom-web"


def fill(path: Path, count: int = 3) -> list[FileResult]:
    """Make a ledger with some rows and return them."""
    results = [FileResult(Candidate(f"/a/{n:04}", n, n), header(n), Outcome.STORED, "", 1) for n in range(count)]
    with Ledger(path, URL) as ledger:
        ledger.record(results)
    return results


def read(path: Path) -> list[FileResult]:
    """Return all outcomes."""
    return [entry.result for entry in read_entries(path)]


def killed(directory: Path) -> tuple[Path, list[FileResult]]:
    """Return a ledger of a killed run: its rows are in the WAL."""
    with Ledger(directory / "run.db", URL) as ledger:
        results = [FileResult(Candidate("/a/1", 1, 1), header(1), Outcome.STORED, "", 1)]
        ledger.record(results)
        left = directory / "left"
        left.mkdir()
        for path in (directory / "run.db", wal_of(directory / "run.db")):
            shutil.copy(path, left)
    assert wal_of(left / "run.db").stat().st_size > 0
    return left / "run.db", results


@pytest.mark.parametrize("is_link", [False, True], ids=["file", "link"])
def test_nothing_is_left_beside_a_ledger(tmp_path: Path, is_link: bool) -> None:
    """After a run, and after a report of all or a part of it, only the ledger exists, readable by its owner only."""
    path = tmp_path / "real" / "run.db"
    path.parent.mkdir()
    shown = path
    if is_link:
        shown = tmp_path / "link.db"
        shown.symlink_to(path)
    expected = fill(shown)
    assert [beside.name for beside in path.parent.iterdir()] == ["run.db"]
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    assert read(shown) == expected
    entries = read_entries(shown)
    next(entries)
    entries.close()
    assert [beside.name for beside in path.parent.iterdir()] == ["run.db"]
    assert path.read_bytes() == before
    assert {beside.name for beside in tmp_path.iterdir()} == ({"real", "link.db"} if is_link else {"real"})


def test_files_beside_an_open_ledger_are_private(tmp_path: Path) -> None:
    """The WAL has the same content as the ledger."""
    with Ledger(tmp_path / "run.db", URL):
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("run.db", "run.db-wal", "run.db-shm", "run.db-lock"), 0o600)


def test_a_report_of_a_killed_run_has_all_its_rows(tmp_path: Path) -> None:
    """Rows in the WAL are read too."""
    path, expected = killed(tmp_path)
    assert read(path) == expected


READ = """
import os, sys
from pathlib import Path
from bulkstow.ledger import read_entries
os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    print(",".join(entry.result.candidate.location for entry in read_entries(Path(path))))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_report_in_a_read_only_directory(tmp_path: Path) -> None:
    """Another user with read access reads all of it: closed, with a left WAL, and during a run."""
    rest, left, live = (tmp_path / name for name in ("rest", "left", "live"))
    for directory in (rest, live):
        directory.mkdir()
    fill(rest / "run.db", 2)
    _, _ = killed(tmp_path)
    with Ledger(live / "run.db", URL) as ledger:
        ledger.record([FileResult(Candidate("/a/7", 1, 1), header(1), Outcome.STORED)])
        for directory in (rest, left, live):
            directory.chmod(0o755)
            for file in directory.iterdir():
                file.chmod(0o644)
        for parent in (tmp_path, *tmp_path.parents[:3]):
            parent.chmod(parent.stat().st_mode | 0o055)
        before = {path: path.read_bytes() for directory in (rest, left) for path in directory.iterdir()}
        ended = subprocess.run(
            [sys.executable, "-c", READ, *(str(d / "run.db") for d in (rest, left, live))],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"},
        )
    assert (ended.stdout, ended.stderr) == ("/a/0000,/a/0001\n/a/1\n/a/7\n", "")
    assert {path: path.read_bytes() for directory in (rest, left) for path in directory.iterdir()} == before


def test_a_run_that_begins_during_a_report_without_locks_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that changes while it is read as immutable raises an error, as the report could be inconsistent."""
    fill(tmp_path / "run.db")
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    entries = read_entries(tmp_path / "run.db")
    next(entries)
    with Ledger(tmp_path / "run.db", URL), pytest.raises(LedgerError, match=r"a run began while .* was read"):
        list(entries)


@pytest.mark.parametrize("how", ["foreign", "no database", "foreign in WAL mode"])
def test_nothing_is_left_beside_another_file(tmp_path: Path, how: str) -> None:
    """Neither a run nor a report leaves files, and the file does not change."""
    path = tmp_path / "run.db"
    if how == "no database":
        path.write_bytes(b"DICM" * 1000)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript("CREATE TABLE file (path TEXT)")
            if how == "foreign in WAL mode":
                connection.execute("PRAGMA journal_mode = WAL")
    before = path.read_bytes()
    for attempt in (lambda: Ledger(path, URL), lambda: read_entries(path)):
        with pytest.raises(LedgerError):
            attempt()
    assert [beside.name for beside in tmp_path.iterdir()] == ["run.db"]
    assert path.read_bytes() == before


def test_a_row_without_its_destination_is_damage(tmp_path: Path) -> None:
    """A row without its destination is not silently left out of a report."""
    fill(tmp_path / "run.db")
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
        connection.execute("UPDATE file SET destination = 9 WHERE size_bytes = 1")
        connection.commit()
    with pytest.raises(LedgerError, match=r"is damaged \(a row without its destination\): recover"):
        read(tmp_path / "run.db")
