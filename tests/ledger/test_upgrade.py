"""Ledgers of older schemas: reading, upgrading, and the kept copy."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bulkstow.errors import LedgerError
from bulkstow.ledger import SCHEMA_VERSION, Ledger, read_entries, recover
from bulkstow.ledger.rows import as_row
from bulkstow.model import Candidate, FileResult, Outcome
from tests.archives import candidate, header, write_instance
from tests.cli.command import call, served

URL = "http://pacs/dicom-web"

OLD_SCHEMA = """
CREATE TABLE destination (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE,
    ceiling_bytes INTEGER             -- the largest body to send there, learned from a 413
);
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    destination INTEGER NOT NULL REFERENCES destination,
    started_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE file (
    destination INTEGER NOT NULL REFERENCES destination,
    path BLOB NOT NULL,               -- bytes as the file system has them: a name need not be UTF-8
    size_bytes INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    study_uid TEXT, series_uid TEXT, sop_instance_uid TEXT, sop_class_uid TEXT, transfer_syntax_uid TEXT,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    copy_of BLOB,                     -- path of the file that stands for the same SOP instance
    run INTEGER NOT NULL REFERENCES run,  -- the run that found this out
    PRIMARY KEY (destination, path)
) WITHOUT ROWID;
CREATE INDEX file_by_instance ON file (destination, sop_instance_uid) WHERE sop_instance_uid IS NOT NULL;
CREATE INDEX file_by_copy ON file (destination, run) WHERE copy_of IS NOT NULL;
"""
"""The literal SQL of schemas 1 and 2."""

OLD_COLUMNS = (
    "path, size_bytes, modified_ns, study_uid, series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, "
    "outcome, reason, attempts, copy_of"
)


def old_row(result: FileResult) -> tuple[object, ...]:
    """Return the values of OLD_COLUMNS."""
    values = as_row(result)
    return values[:8] + values[10:14]


def write_old(path: Path, results: list[FileResult], url: str = URL, schema: int = 1) -> None:
    """Write a ledger of an older schema."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"PRAGMA journal_mode = WAL; PRAGMA application_id = {0x53544F57}; PRAGMA user_version = {schema}; "
            + OLD_SCHEMA
        )
        connection.execute("INSERT INTO destination (url) VALUES (?)", (url,))
        connection.execute("INSERT INTO run (destination) VALUES (1)")
        connection.executemany(
            f"INSERT INTO file (destination, run, {OLD_COLUMNS}) VALUES (1, 1{', ?' * 12})",
            map(old_row, results),
        )
        connection.commit()


STORED = FileResult(Candidate("/a/1", 100, 1), header(1), Outcome.STORED, attempts=1)
REFUSED = FileResult(Candidate("/a/2", 100, 1), header(2), Outcome.REFUSED, "A900", 1)
SKIPPED = FileResult(Candidate("/a/3", 100, 1), None, Outcome.SKIPPED, "no Study Instance UID")
COPY = FileResult(Candidate("/a/4", 100, 1), header(1), Outcome.SKIPPED, "a second copy, other bytes", copy_of="/a/1")
ROWS = [STORED, REFUSED, SKIPPED, COPY]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a ledger of schema 1."""
    write_old(tmp_path / "run.db", ROWS)
    return tmp_path / "run.db"


def rows(path: Path) -> list[FileResult]:
    """Return the outcomes in a report of a ledger."""
    return [entry.result for entry in read_entries(path)]


def version(path: Path) -> int:
    """Return a ledger's schema."""
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def test_only_skipped_files_are_read_again(path: Path) -> None:
    """Stored and refused files stay known; only the owner can read the copy of the old ledger."""
    with Ledger(path, URL) as ledger:
        known = ledger.look_up([row.candidate for row in ROWS])
        assert [k and (k.outcome, k.is_final) for k in known] == [
            (Outcome.STORED, True),
            (Outcome.REFUSED, True),
            None,
            None,
        ]
        kept = ledger.kept_copy
        assert kept == path.with_name("run.db-schema-1")
        assert os.fspath(kept) in ledger.files
    assert (version(path), version(kept)) == (SCHEMA_VERSION, 1)
    assert rows(kept) == ROWS
    assert kept.stat().st_mode & 0o777 == 0o600
    assert sorted(beside.name for beside in path.parent.iterdir()) == ["run.db", kept.name]


def test_a_ledger_is_upgraded_once(path: Path) -> None:
    """Files that are skipped later stay settled, and the copy is not replaced."""
    with Ledger(path, URL) as ledger:
        ledger.record([SKIPPED])
    with Ledger(path, URL) as ledger:
        (known,) = ledger.look_up([SKIPPED.candidate])
        assert known is not None
        assert known.is_final
        assert ledger.kept_copy is None
    assert rows(path.with_name("run.db-schema-1")) == ROWS


def test_a_report_reads_schema_1_and_leaves_it_so(path: Path) -> None:
    """A report does not upgrade a ledger."""
    assert rows(path) == ROWS
    assert version(path) == 1
    assert [beside.name for beside in path.parent.iterdir()] == ["run.db"]


def test_without_a_copy_nothing_is_changed(path: Path) -> None:
    """If no copy can be kept, the ledger does not change, and the message names the obstacle."""
    path.with_name("run.db-schema-1").mkdir()
    with pytest.raises(LedgerError, match=r"run\.db-schema-1 .*move away the file in its place"):
        Ledger(path, URL)
    assert (rows(path), version(path)) == (ROWS, 1)


def test_rows_in_the_wal_of_a_killed_run_are_kept(path: Path, tmp_path: Path) -> None:
    """These rows are in the upgraded ledger and in the copy."""
    late = FileResult(Candidate("/a/5", 100, 1), header(5), Outcome.STORED, attempts=1)
    with closing(sqlite3.connect(path, isolation_level=None)) as killed:
        killed.execute(f"INSERT INTO file (destination, run, {OLD_COLUMNS}) VALUES (1, 1{', ?' * 12})", old_row(late))
        killed.execute("PRAGMA wal_autocheckpoint = 0")
        other = tmp_path / "other.db"
        for suffix in ("", "-wal"):
            other.with_name(other.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    with Ledger(other, URL) as ledger:
        kept = ledger.kept_copy
    assert kept is not None
    assert rows(other) == [STORED, REFUSED, late]
    assert rows(kept) == [*ROWS, late]


def test_a_recovered_ledger_of_schema_1_is_upgraded_too(path: Path) -> None:
    """Recovery leaves out the skipped rows, which are outdated."""
    recovered = recover(path)
    assert rows(recovered.path) == [STORED, REFUSED]
    with Ledger(recovered.path, URL) as ledger:
        assert ledger.look_up([SKIPPED.candidate, COPY.candidate]) == [None, None]
        assert ledger.kept_copy is None


def test_a_run_sends_what_the_older_bulkstow_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file skipped by mistake is sent, one with other content is in conflict, and stored files are not sent."""
    archive = tmp_path / "archive"
    stored, mistaken = write_instance(archive, 1), write_instance(archive, 2)
    other = archive / "other"
    other.write_bytes((archive / "IM001000001").read_bytes()[:-2] + b"\1\1")
    results = [
        FileResult(stored.candidate, stored.header, Outcome.STORED, attempts=1),
        FileResult(mistaken.candidate, None, Outcome.SKIPPED, "no Study Instance UID"),
        FileResult(candidate(other), stored.header, Outcome.SKIPPED, "other bytes", copy_of=stored.candidate.location),
    ]
    ledger, log = tmp_path / "run.db", tmp_path / "run.log"
    with served() as url:
        write_old(ledger, results, url)
        words = ("--url", url, "--ledger", str(ledger), "--log", str(log), "--progress", "log")
        ended = call(capsys, "upload", str(archive), *words)
    assert ended.status == 1
    assert f"a copy of it is kept in {ledger}-schema-1" in ended.err
    assert "ledger_upgrade" in log.read_text()
    assert {row.candidate.location: (row.outcome, row.attempts) for row in rows(ledger)} == {
        stored.candidate.location: (Outcome.STORED, 1),
        mistaken.candidate.location: (Outcome.STORED, 1),
        str(other): (Outcome.CONFLICT, 0),
    }
    assert "stored                 2 " in ended.out
    assert "in 1 request," in ended.out


SCHEMA_2 = Path(__file__).with_name("schema-2.sqlite")
"""A ledger that was written with schema 2."""

ROWS_2 = [
    FileResult(Candidate("/archive/IM1", 1000, 1764400000123456789), header(1), Outcome.STORED, "", 1),
    FileResult(Candidate("/archive/IM2", 2000, 1764400000123456790), header(2), Outcome.REFUSED, "A900", 2),
    FileResult(
        Candidate("/archive/copy", 1000, -1),
        header(1),
        Outcome.SKIPPED,
        "a second copy of the SOP instance, same bytes: see /archive/IM1",
        copy_of="/archive/IM1",
    ),
    FileResult(Candidate("/archive/n\udcff", 3000, 0), None, Outcome.UNREADABLE, "cannot be read: Input/output error"),
    FileResult(Candidate("/archive/notes.txt", 12, 2**63 - 1), None, Outcome.SKIPPED, "not DICOM"),
]


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """Give a ledger that was written with schema 2."""
    return Path(shutil.copy(SCHEMA_2, tmp_path / "run.db"))


def by_location(path: Path) -> list[FileResult]:
    """Return the rows in a report of a ledger, in the order of ROWS_2."""
    return sorted(rows(path), key=lambda row: os.fsencode(row.candidate.location).lower())


def sorted_2() -> list[FileResult]:
    """Return ROWS_2 in the same order."""
    return sorted(ROWS_2, key=lambda row: os.fsencode(row.candidate.location).lower())


def test_the_rows_of_schema_2_stay(real: Path) -> None:
    """After the upgrade every file has its outcome as before, and a copy of the old ledger is kept."""
    with Ledger(real, URL) as ledger:
        known = ledger.look_up([row.candidate for row in ROWS_2])
        assert [k and (k.outcome, k.is_final) for k in known] == [
            (Outcome.STORED, True),
            (Outcome.REFUSED, True),
            (Outcome.SKIPPED, True),
            (Outcome.UNREADABLE, False),
            (Outcome.SKIPPED, True),
        ]
        assert ledger.ceiling_bytes == 2**20
        kept = ledger.kept_copy
        assert kept == real.with_name("run.db-schema-2")
        assert os.fspath(kept) in ledger.files
    assert (version(real), version(kept)) == (SCHEMA_VERSION, 2)
    assert by_location(real) == by_location(kept) == sorted_2()
    with Ledger(real, URL) as ledger:
        assert ledger.kept_copy is None


def test_a_report_reads_schema_2_where_nothing_can_be_written(real: Path) -> None:
    """A report of a ledger on a read-only medium reads it as it is."""
    real.chmod(0o400)
    assert by_location(real) == sorted_2()
    assert version(real) == 2


@pytest.mark.parametrize("is_upgraded", [False, True])
def test_a_ledger_of_schema_2_is_recovered(real: Path, is_upgraded: bool) -> None:
    """All rows are recovered without the first page, because an upgrade leaves the tables on their pages."""
    if is_upgraded:
        Ledger(real, URL).__exit__(None, None, None)
    content = bytearray(real.read_bytes())
    content[100:4096] = bytes(3996)
    real.write_bytes(content)
    with pytest.raises(LedgerError):
        rows(real)
    recovered = recover(real)
    assert (recovered.files, recovered.left_out) == (5, 0)
    assert by_location(recovered.path) == sorted_2()
    assert version(recovered.path) == SCHEMA_VERSION


def test_schema_3_gets_columns_and_keeps_its_rows(tmp_path: Path) -> None:
    """After the upgrade the SQL equals that of a new ledger, and the values that were not known are unknown."""
    path = tmp_path / "run.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"PRAGMA application_id = {0x53544F57}; PRAGMA user_version = 3; "
            + OLD_SCHEMA.replace(" modified_ns", " version")
        )
        connection.execute("INSERT INTO destination (url) VALUES (?)", (URL,))
        connection.execute("INSERT INTO run (destination) VALUES (1)")
        columns = OLD_COLUMNS.replace(" modified_ns", " version")
        connection.executemany(
            f"INSERT INTO file (destination, run, {columns}) VALUES (1, 1{', ?' * 12})", map(old_row, ROWS)
        )
        connection.commit()
    assert rows(path) == ROWS
    with Ledger(path, URL) as ledger:
        assert ledger.kept_copy == path.with_name("run.db-schema-3")
    with Ledger(tmp_path / "new.db", URL):
        pass
    assert sql(path) == sql(tmp_path / "new.db")
    entries = list(read_entries(path))
    assert [entry.result for entry in entries] == ROWS
    assert all(entry.recorded_at_s is None and not entry.verified_level for entry in entries)
    assert [entry.result.header and entry.result.header.modality for entry in entries] == [None] * 4


SCHEMA_4 = """
ALTER TABLE file ADD COLUMN modality TEXT;
ALTER TABLE file ADD COLUMN study_date TEXT;
ALTER TABLE file ADD COLUMN sha256 BLOB;
ALTER TABLE file ADD COLUMN recorded_at_s INTEGER;
ALTER TABLE file ADD COLUMN verified_level TEXT;
ALTER TABLE file ADD COLUMN verified_at_s INTEGER;
ALTER TABLE file ADD COLUMN accepted TEXT;
ALTER TABLE run ADD COLUMN command TEXT;
ALTER TABLE run ADD COLUMN bulkstow_version TEXT;
ALTER TABLE run ADD COLUMN settings TEXT;
ALTER TABLE run ADD COLUMN summary TEXT;
"""
"""The literal SQL of schema 4, after that of schema 3."""


def test_schema_4_gets_columns_and_keeps_its_rows(tmp_path: Path) -> None:
    """After the upgrade the SQL equals that of a new ledger; verified and accepted results stay so."""
    path = tmp_path / "run.db"
    columns = f"{OLD_COLUMNS.replace(' modified_ns', ' version')}, modality, sha256, accepted, verified_level"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"PRAGMA application_id = {0x53544F57}; PRAGMA user_version = 4; "
            + OLD_SCHEMA.replace(" modified_ns", " version")
            + SCHEMA_4
        )
        connection.execute("INSERT INTO destination (url) VALUES (?)", (URL,))
        connection.execute("INSERT INTO run (destination, command) VALUES (1, 'upload')")
        connection.executemany(
            f"INSERT INTO file (destination, run, {columns}, verified_at_s) VALUES (1, 1{', ?' * 16}, 9)",
            [(*old_row(row), "CT", bytes(32), "known" if row is REFUSED else None, "content") for row in ROWS],
        )
        connection.commit()
    before = list(read_entries(path))
    assert [entry.result.accepted for entry in before] == ["", "known", "", ""]
    with Ledger(path, URL) as ledger:
        assert ledger.kept_copy == path.with_name("run.db-schema-4")
        edited = replace(STORED, candidate=Candidate("/a/9", 1, 1), sent_bytes=9, original=header(9))
        ledger.record([edited])
    with Ledger(tmp_path / "new.db", URL):
        pass
    assert sql(path) == sql(tmp_path / "new.db")
    assert list(read_entries(path))[:-1] == before
    assert rows(path)[-1] == edited


def sql(path: Path) -> list[tuple[str, ...]]:
    """Return the SQL of a database."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()


def test_a_run_sends_nothing_again_because_of_the_upgrade(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a ledger of schema 2 in which everything is stored, a run makes no request."""
    stored = [write_instance(tmp_path / "archive", number) for number in range(1, 4)]
    results = [FileResult(one.candidate, one.header, Outcome.STORED, attempts=1) for one in stored]
    ledger = tmp_path / "run.db"
    with served() as url:
        write_old(ledger, results, url, schema=2)
        ended = call(capsys, "upload", str(tmp_path / "archive"), "--url", url, "--ledger", str(ledger))
    assert ended.status == 0
    assert f"nothing is sent again; a copy of it is kept in {ledger}-schema-2" in ended.err
    assert "3 of them by an earlier run: nothing was sent for them" in ended.out
    assert [row.attempts for row in rows(ledger)] == [1, 1, 1]
