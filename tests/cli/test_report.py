"""`bulkstow report`: the outcome of every file, for people and for programs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bulkstow.ledger import Ledger
from bulkstow.model import Candidate, FileResult, Header, Outcome
from tests.archives import header
from tests.cli.command import Ended, call, spawn, spawn_unread

URL = "http://pacs.example/dicom-web"

PLAIN = "/archive/study 1/IM1"
ODD = os.fsdecode(b"/archive/caf\xe9")
"""A name in Latin-1, which is not UTF-8."""
STEERING = "/archive/\x1b[2Jline\nend\t\x9b"
QUOTED = '/archive/a,"b"'

OUTCOMES = (
    FileResult(Candidate(PLAIN, 512, 1), header(1), Outcome.STORED, attempts=1),
    FileResult(Candidate(ODD, 513, 2), header(2), Outcome.REFUSED, "wrong class (0xA900)", attempts=2),
    FileResult(Candidate(STEERING, 514, 3), None, Outcome.SKIPPED, "not DICOM"),
    FileResult(Candidate(QUOTED, 515, 4), header(4), Outcome.UNCONFIRMED, "HTTP 500 (\x1b[31mno\x1b[0m)", attempts=5),
)


@pytest.fixture(autouse=True)
def _ledger(tmp_path: Path) -> None:
    """Create a ledger in the working directory."""
    with Ledger(tmp_path / "bulkstow.db", URL) as ledger:
        ledger.record(OUTCOMES)


def report(capsys: pytest.CaptureFixture[str], *words: str) -> Ended:
    """Run the command and check that it succeeds."""
    ended = call(capsys, "report", "bulkstow.db", *words)
    assert (ended.status, ended.err) == (0, "")
    return ended


def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """The table has a line for each file, in the order of paths, and the counts; names are escaped."""
    assert report(capsys).out.splitlines() == [
        "outcome      attempts  path: reason",
        r"skipped             0  /archive/\x1b[2Jline\nend\t\x9b: not DICOM",
        r'unconfirmed         5  /archive/a,"b": HTTP 500 (\x1b[31mno\x1b[0m)',
        r"refused             2  /archive/caf\udce9: wrong class (0xA900)",
        "stored              1  /archive/study 1/IM1",
        "1 skipped, 1 unconfirmed, 1 refused, 1 stored",
    ]


def test_a_line_of_json_for_each_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line has all keys, null for unknown values; os.fsencode returns the bytes of a path."""
    lines = [json.loads(line) for line in report(capsys, "--format", "jsonl").out.splitlines()]
    assert [os.fsencode(line["path"]) for line in lines] == [
        os.fsencode(path) for path in (STEERING, QUOTED, ODD, PLAIN)
    ]
    assert lines[2] == {
        "path": ODD,
        "sop_instance_uid": "2.25.1.1.2",
        "outcome": "refused",
        "reason": "wrong class (0xA900)",
        "attempts": 2,
        "size_bytes": 513,
        "study_uid": "2.25.1",
        "series_uid": "2.25.1.1",
        "destination": URL,
        "modality": None,
        "study_date": None,
        "recorded_at": lines[3]["recorded_at"],
        "sha256": None,
        "verified_level": None,
        "verified_at": None,
        "accepted": None,
        "original_sop_instance_uid": None,
        "original_study_uid": None,
        "original_series_uid": None,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", lines[3]["recorded_at"])
    assert (lines[0]["sop_instance_uid"], lines[0]["study_uid"], lines[0]["series_uid"]) == (None, None, None)
    assert lines[3]["reason"] == ""


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_lines_of_json_are_ascii(encoding: str) -> None:
    """JSON lines can be written in any locale."""
    ended = spawn("report", "bulkstow.db", "--format", "jsonl", environment={"PYTHONIOENCODING": encoding})
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.isascii()
    assert len(ended.out.splitlines()) == 4


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_csv_is_safe_to_open(encoding: str) -> None:
    """CSV has a header, and controls and undecodable bytes are escaped, in any locale."""
    ended = spawn("report", "bulkstow.db", "--format", "csv", environment={"PYTHONIOENCODING": encoding})
    assert (ended.status, ended.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(ended.out, newline="")))
    expected = [r"/archive/\x1b[2Jline\nend\t\x9b", QUOTED, r"/archive/caf\udce9", PLAIN]
    assert [row["path"] for row in rows] == expected
    assert [row["outcome"] for row in rows] == ["skipped", "unconfirmed", "refused", "stored"]
    assert list(rows[0]) == [*json.loads(_first_line_of_json())]
    assert rows[0]["sop_instance_uid"] == ""


@pytest.mark.parametrize(
    ("uid", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", r"'\t=1"),
        ("\r=1", r"'\r=1"),
        ("\uff1d1", "'\uff1d1"),
        ("1.2=3", "1.2=3"),
        ("\u202etxt", r"\u202etxt"),
        ("\x7f", r"\x7f"),
    ],
)
def test_no_cell_is_a_formula(capsys: pytest.CaptureFixture[str], tmp_path: Path, uid: str, cell: str) -> None:
    """Text of files and servers is not a formula in a spreadsheet; JSON lines contain it exactly."""
    (tmp_path / "bulkstow.db").unlink()
    odd = Header(uid, uid, uid, uid, uid)
    with Ledger(tmp_path / "bulkstow.db", URL) as ledger:
        ledger.record([FileResult(Candidate("/a", 5, 1), odd, Outcome.REFUSED, uid, 2)])
    (row,) = csv.DictReader(io.StringIO(report(capsys, "--format", "csv").out, newline=""))
    texts = {name: row[name] for name in ("sop_instance_uid", "study_uid", "series_uid", "reason")}
    assert texts == dict.fromkeys(texts, cell)
    assert (row["path"], row["attempts"], row["size_bytes"]) == ("/a", "2", "5")
    (line,) = report(capsys, "--format", "jsonl").out.splitlines()
    assert {json.loads(line)[name] for name in texts} == {uid}
    assert line.isprintable()


def _first_line_of_json() -> str:
    return spawn("report", "bulkstow.db", "--format", "jsonl").out.splitlines()[0]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("refused", [ODD]),
        ("refused,unconfirmed", [QUOTED, ODD]),
        (" stored , refused,", [ODD, PLAIN]),
        ("warned", []),
        ("", [STEERING, QUOTED, ODD, PLAIN]),
    ],
    ids=["one", "two", "spaces", "none such", "all"],
)
def test_only_some_outcomes(capsys: pytest.CaptureFixture[str], chosen: str, expected: list[str]) -> None:
    """--outcome selects one or several outcomes."""
    lines = report(capsys, "--format", "jsonl", "--outcome", chosen).out.splitlines()
    assert [json.loads(line)["path"] for line in lines] == expected


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ("warned", 'no file with outcome "warned"'),
        ("warned,conflict", 'no file with outcome "warned" or "conflict"'),
        ("", "no files"),
    ],
    ids=["one", "two", "all"],
)
def test_nothing_to_show(capsys: pytest.CaptureFixture[str], tmp_path: Path, chosen: str, words: str) -> None:
    """A table without rows names the requested outcomes."""
    (tmp_path / "bulkstow.db").unlink()
    with Ledger(tmp_path / "bulkstow.db", URL):
        pass
    assert report(capsys, "--outcome", chosen).out.splitlines()[-1] == words


@pytest.mark.parametrize("notation", ["table", "csv", "jsonl"])
@pytest.mark.parametrize("files", [1, 2000], ids=["short", "long"])
def test_a_closed_pipe_ends_it_quietly(tmp_path: Path, notation: str, files: int) -> None:
    """`bulkstow report … | head` prints no message, whether the rest fits into a buffer or not."""
    with Ledger(tmp_path / "bulkstow.db", URL) as ledger:
        ledger.record(FileResult(Candidate(f"/{n}", 1, 1), None, Outcome.SKIPPED, "empty") for n in range(files))
    ended = spawn_unread("report", "bulkstow.db", "--format", notation)
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_full_disk_is_told(unbuffered: str) -> None:
    """A report that cannot be written completely fails."""
    with Path("/dev/full").open("wb") as full:
        ended = spawn("report", "bulkstow.db", stdout=full.fileno(), environment={"PYTHONUNBUFFERED": unbuffered})
    assert ended.status == 2
    assert ended.err == "bulkstow: standard output cannot be written (No space left on device)\n"


def test_it_changes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A read-only ledger can be reported."""
    before = (tmp_path / "bulkstow.db").read_bytes()
    report(capsys)
    assert (tmp_path / "bulkstow.db").read_bytes() == before


def test_a_damaged_ledger_is_recovered(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """--recover shows the new ledger and its use; the new ledger can be reported."""
    content = bytearray((tmp_path / "bulkstow.db").read_bytes())
    content[:100] = bytes(100)
    (tmp_path / "bulkstow.db").write_bytes(content)
    refused = call(capsys, "report", "bulkstow.db")
    assert refused.status == 3
    (line,) = refused.err.splitlines()
    assert line.startswith("bulkstow: bulkstow.db cannot be used: file is not a database; give another file")
    assert "`bulkstow report --recover`" in line
    assert report(capsys, "--recover").out.splitlines() == [
        "4 files recovered to bulkstow-recovered.db",
        "use the new ledger for the next upload (--ledger): files that are missing in it are sent again",
    ]
    ended = call(capsys, "report", "bulkstow-recovered.db", "--format", "jsonl")
    assert len(ended.out.splitlines()) == len(OUTCOMES)


# --- several ledgers


@pytest.fixture
def second(tmp_path: Path) -> None:
    """Create the ledger of another shard, which has one file of the first, too."""
    with Ledger(tmp_path / "second.db", URL) as ledger:
        ledger.record(
            [
                FileResult(Candidate(ODD, 513, 2), header(2), Outcome.STORED, attempts=1),
                FileResult(Candidate("/archive/study 2/IM1", 520, 5), header(4), Outcome.DUPLICATE, attempts=1),
            ]
        )


@pytest.mark.usefixtures("second")
def test_several_ledgers_are_reported_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Each file is listed and counted once; instances that no run could compare are counted."""
    ended = call(capsys, "report", "bulkstow.db", "second.db")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "outcome      attempts  path: reason",
        r"skipped             0  /archive/\x1b[2Jline\nend\t\x9b: not DICOM",
        r'unconfirmed         5  /archive/a,"b": HTTP 500 (\x1b[31mno\x1b[0m)',
        r"stored              1  /archive/caf\udce9",
        "stored              1  /archive/study 1/IM1",
        "duplicate           1  /archive/study 2/IM1",
        "1 skipped, 1 unconfirmed, 2 stored, 1 duplicate",
        "from 2 ledgers",
        "1 SOP instance with files in several ledgers: no run has compared them",
    ]


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize("words", [("bulkstow.db", "second.db"), ("--ledger", "second.db", "--ledger", "bulkstow.db")])
def test_several_ledgers_for_programs(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    """CSV and JSON have nothing but the files; an outcome is that of all ledgers."""
    lines = call(capsys, "report", *words, "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == [
        "skipped",
        "unconfirmed",
        "stored",
        "stored",
        "duplicate",
    ]
    rows = list(csv.DictReader(io.StringIO(call(capsys, "report", *words, "--format", "csv").out, newline="")))
    assert [row["outcome"] for row in rows] == [json.loads(line)["outcome"] for line in lines]
    chosen = call(capsys, "report", *words, "--outcome", "refused")
    assert chosen.out.splitlines()[1:] == ['no file with outcome "refused"', "from 2 ledgers"]


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["bulkstow.db", "gone.db"], 3, "no ledger at gone.db"),
        (["bulkstow.db", "notes"], 3, "notes cannot be used: file is not a database"),
        (["bulkstow.db", "second.db", "--recover"], 2, "--recover: give one ledger at a time"),
    ],
)
def test_the_ledger_that_cannot_be_used_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], status: int, message: str
) -> None:
    """Nothing is printed of the others."""
    (tmp_path / "notes").write_text("hello")
    ended = call(capsys, "report", *words)
    assert (ended.status, ended.out) == (status, "")
    assert message in ended.err


@pytest.mark.usefixtures("second")
def test_several_ledgers_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable has one ledger per line."""
    monkeypatch.setenv("BULKSTOW_LEDGER", "bulkstow.db\nsecond.db")
    assert "2 stored" in call(capsys, "report").out


# --- by study, reason and modality


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """Create a ledger of two studies."""
    scan = replace(header(1), modality="CT", study_date="20200131")
    other = replace(header(2), study_uid="2.25.2", modality="SR", study_date="")
    with Ledger(tmp_path / "grouped.db", URL) as ledger:
        ledger.record(
            [
                FileResult(Candidate("/archive/1", 1000, 1), scan, Outcome.STORED, attempts=1),
                FileResult(Candidate("/archive/2", 1000, 1), replace(scan), Outcome.SKIPPED, "a second copy, same: /1"),
                FileResult(Candidate("/archive/3", 1000, 1), other, Outcome.REFUSED, "HTTP 400: =no", attempts=1),
            ]
        )
    return tmp_path / "grouped.db"


@pytest.mark.usefixtures("grouped")
def test_studies_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """The table has a line for each study, studies with failures first, and the number of complete ones."""
    ended = call(capsys, "report", "grouped.db", "--by", "study")
    assert (ended.status, ended.err) == (0, "")
    heading, first, second, total = ended.out.splitlines()
    assert heading.split() == [
        *("complete", "files", "stored", "failed", "conflicts", "missing", "accepted", "verified", "modality"),
        *("study", "date", "first", "outcome", "last", "outcome", "study"),
    ]
    assert first.split()[:10] == ["no", "1", "0", "1", "0", "0", "0", "0", "SR", "-"]
    assert second.split()[:10] == ["yes", "2", "1", "0", "0", "0", "0", "0", "CT", "2020-01-31"]
    assert (first.split()[-1], second.split()[-1]) == ("2.25.2", "2.25.1")
    assert total == "1 of 2 studies complete"


def rows_of(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[dict[str, str]], list[dict[str, object]]]:
    """Return the rows of a report as CSV and as JSON."""
    table = call(capsys, "report", *words, "--format", "csv").out
    lines = call(capsys, "report", *words, "--format", "jsonl").out.splitlines()
    return list(csv.DictReader(io.StringIO(table, newline=""))), [json.loads(line) for line in lines]


@pytest.mark.usefixtures("grouped")
def test_a_study_at_several_destinations_has_them(capsys: pytest.CaptureFixture[str], grouped: Path) -> None:
    """A line ends with the destination if there is more than one."""
    with Ledger(grouped, "http://other.example") as ledger:
        ledger.record([FileResult(Candidate("/archive/1", 1000, 1), header(1), Outcome.STORED, attempts=1)])
    lines = call(capsys, "report", "grouped.db", "--by", "study").out.splitlines()
    assert {tuple(line.split()[-2:]) for line in lines[1:-1]} == {
        ("2.25.2", URL),
        ("2.25.1", URL),
        ("2.25.1", "http://other.example"),
    }
    assert lines[-1] == "2 of 3 studies complete"


@pytest.mark.usefixtures("grouped")
def test_studies_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """CSV and JSON have the same columns; JSON has null for unknown values."""
    rows, lines = rows_of(capsys, "grouped.db", "--by", "study")
    assert [list(row) for row in rows] == [list(line) for line in lines]
    names = ("study_uid", "complete", "stored", "failed", "skipped")
    assert [tuple(line[name] for name in names) for line in lines] == [
        ("2.25.2", False, 0, 1, 0),
        ("2.25.1", True, 1, 0, 1),
    ]
    assert (lines[0]["study_date"], lines[1]["study_date"], lines[1]["verified_level"]) == (None, "2020-01-31", None)
    assert (rows[0]["complete"], rows[0]["study_date"], rows[1]["size_bytes"]) == ("false", "", "2000")


@pytest.mark.usefixtures("grouped")
def test_reasons_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Failures come first; a reason ends before the part about a single file; the path of one file is the example."""
    assert call(capsys, "report", "grouped.db", "--by", "reason").out.splitlines() == [
        "outcome          files  accepted   studies  reason; a file",
        "refused              1         0         1  HTTP 400; /archive/3",
        "skipped              1         0         1  a second copy, same; /archive/2",
        "stored               1         0         1  /archive/1",
    ]
    (line, *_) = call(capsys, "report", "grouped.db", "--by", "reason", "--format", "jsonl").out.splitlines()
    assert json.loads(line) == {
        "outcome": "refused",
        "reason": "HTTP 400",
        "files": 1,
        "studies": 1,
        "size_bytes": 1000,
        "accepted": 0,
        "example": "/archive/3",
    }


@pytest.mark.usefixtures("grouped")
def test_modalities_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """The most frequent modality comes first; a table has columns for the outcomes that occur, CSV for all."""
    assert call(capsys, "report", "grouped.db", "--by", "modality").out.splitlines() == [
        "modality     studies       files      size      stored     refused     skipped  accepted",
        "CT                 1           2       2kB           1           0           1         0",
        "SR                 1           1       1kB           0           1           0         0",
    ]
    (row, _), _ = rows_of(capsys, "grouped.db", "--by", "modality")
    assert list(row) == ["modality", "studies", "files", "size_bytes", *Outcome, "accepted"]


@pytest.mark.usefixtures("grouped")
def test_groups_of_several_ledgers_and_of_some_outcomes(capsys: pytest.CaptureFixture[str]) -> None:
    """Several ledgers count as one. Of a study with such files all files count, else only files of such outcomes."""
    words = ("report", "grouped.db", "bulkstow.db", "--outcome", "stored", "--by")
    lines = call(capsys, *words, "study").out.splitlines()
    assert (lines[1].split()[:4], lines[1].split()[-1]) == (["no", "5", "2", "2"], "2.25.1")
    assert lines[2:] == ["0 of 1 study complete", "from 2 ledgers"]
    assert call(capsys, *words, "reason").out.splitlines()[1].split()[:4] == ["stored", "2", "0", "1"]


@pytest.mark.usefixtures("grouped")
def test_a_reader_that_goes_away_is_no_error() -> None:
    """`report --by study | head -1` ends without a traceback, as the report of files does."""
    ended, files = (spawn_unread("report", "grouped.db", *words) for words in (("--by", "study"), ()))
    assert (ended.status, ended.err) == (files.status, files.err)


def test_an_older_row_has_no_study_of_a_file_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Files of no known study have a line, and do not count as a study."""
    lines = call(capsys, "report", "bulkstow.db", "--by", "study", "--outcome", "skipped").out.splitlines()
    assert lines[1].endswith("(files of no known study)")
    assert lines[2] == "no studies"


# --- the page for the sign-off


@pytest.mark.usefixtures("grouped")
def test_the_page_and_its_tables_are_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The page names the tables with their SHA-256, and so does the output; only the owner can read them."""
    ended = call(capsys, "report", "grouped.db", "--html", "migration.html")
    assert (ended.status, ended.err) == (0, "")
    page, studies, files = (tmp_path / f"migration{end}" for end in (".html", "-studies.csv", "-files.csv"))
    digests = [hashlib.sha256(table.read_bytes()).hexdigest() for table in (studies, files)]
    assert ended.out.splitlines() == [
        "the page: migration.html",
        f"the table of studies: migration-studies.csv (SHA-256 {digests[0]})",
        f"the table of files: migration-files.csv (SHA-256 {digests[1]})",
    ]
    source = page.read_text(encoding="utf-8")
    assert all(digest in source for digest in digests)
    assert "1 of 2 studies complete" in source
    rows = list(csv.DictReader(io.StringIO(files.read_text("utf-8"), newline="")))
    assert [row["path"] for row in rows] == ["/archive/1", "/archive/2", "/archive/3"]
    assert len(studies.read_text("utf-8").splitlines()) == 3
    assert [path.stat().st_mode & 0o777 for path in (page, studies, files)] == [0o600] * 3


@pytest.mark.usefixtures("grouped")
@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--html", "m.html", "--by", "study"], 2, "--html: the page has all files; leave out --by, --outcome and"),
        (["--html", "gone/m.html"], 2, "--html gone/m.html: cannot be written (no such directory)"),
        (["--html", "."], 2, "--html .: cannot be written (a directory)"),
        (["--by", "patient"], 2, "Invalid value"),
    ],
)
def test_a_page_that_cannot_be_written_is_told(
    capsys: pytest.CaptureFixture[str], words: list[str], status: int, message: str
) -> None:
    """Nothing is written."""
    ended = call(capsys, "report", "grouped.db", *words)
    assert (ended.status, ended.out) == (status, "")
    assert message in ended.err
    assert not list(Path().glob("m*"))


def test_a_damaged_ledger_leaves_no_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A row that is found damaged on the way ends the report; no file is left behind."""
    with closing(sqlite3.connect(tmp_path / "bulkstow.db")) as database:
        database.execute("UPDATE file SET outcome = 'lost' WHERE outcome = 'stored'")
        database.commit()
    ended = call(capsys, "report", "bulkstow.db", "--html", "m.html")
    assert (ended.status, ended.out) == (3, "")
    assert "is damaged" in ended.err
    assert not list(tmp_path.glob("*m*.csv*"))
    assert not (tmp_path / "m.html").exists()
