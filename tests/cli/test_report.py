"""`bulkstow report`: the outcome of every file, for people and for programs."""

from __future__ import annotations

import csv
import io
import json
import os
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
    }
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
