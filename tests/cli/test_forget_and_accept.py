"""`bulkstow forget` and `bulkstow accept`: the user's own changes of a ledger."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from bulkstow.ledger import Ledger, read_entries
from bulkstow.model import Candidate, FileResult, Outcome, StoreResponse
from bulkstow.wire.synthetic import part10
from tests.archives import header
from tests.cli.command import Ended, call, served

URL = "http://pacs.example/dicom-web"
RESULTS = (
    FileResult(Candidate("/archive/a/1", 512, 1), header(1), Outcome.STORED, attempts=1),
    FileResult(Candidate("/archive/a/2", 512, 1), header(2), Outcome.MISSING, "not on the server", 1),
    FileResult(Candidate("/archive/b/1", 512, 1), header(3), Outcome.REFUSED, "HTTP 400", 1),
    FileResult(Candidate("/archive/b/2", 512, 1), None, Outcome.UNREADABLE, "cannot be read: no"),
)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Create a ledger in the working directory."""
    with Ledger(tmp_path / "bulkstow.db", URL) as ledger:
        ledger.record(RESULTS)
    return tmp_path / "bulkstow.db"


def said(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Run a command, check that it succeeds, and return its lines."""
    ended = call(capsys, *words)
    assert (ended.status, ended.err) == (0, "")
    return ended.out.splitlines()


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("words", "line", "left"),
    [
        (["--outcome", "missing,refused"], "forgotten: 2 files (1 refused, 1 missing)", 2),
        (["--path", "b"], "forgotten: 2 files (1 refused, 1 unreadable)", 2),
        (["--path", "/archive/a/1", "--path", "b/2"], "forgotten: 2 files (1 stored, 1 unreadable)", 2),
        (["--path", "*2", "--outcome", "missing"], "forgotten: 1 file (1 missing)", 3),
        (["--studies", "list"], "forgotten: 3 files (1 stored, 1 refused, 1 missing)", 1),
        (["--all"], "forgotten: 4 files (1 stored, 1 refused, 1 missing, 1 unreadable)", 0),
        (["--outcome", "warned"], "forgotten: no files", 4),
        (["--all", "--dry-run"], "to forget: 4 files (1 stored, 1 refused, 1 missing, 1 unreadable)", 4),
    ],
)
def test_chosen_rows_are_forgotten(
    capsys: pytest.CaptureFixture[str], ledger: Path, words: list[str], line: str, left: int
) -> None:
    """The rows are counted by outcome; a dry run deletes nothing."""
    Path("list").write_text(f"{header(1).study_uid} # of the first study\n")
    assert said(capsys, "forget", "bulkstow.db", *words) == [line]
    assert len(list(read_entries(ledger))) == left


@pytest.mark.usefixtures("ledger")
def test_failures_are_accepted_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Other rows are counted as not applicable; reports show the note; --undo removes it."""
    assert said(capsys, "accept", "bulkstow.db", "--path", "/archive", "--note", "a phantom", "--dry-run") == [
        "to accept: 3 files (1 refused, 1 missing, 1 unreadable)",
        "1 more were chosen, and are no failures",
    ]
    assert said(
        capsys, "accept", "--ledger", "bulkstow.db", "--outcome", "refused,unreadable", "--note", " a phantom "
    ) == ["accepted: 2 files (1 refused, 1 unreadable)"]
    assert said(capsys, "report", "bulkstow.db")[3:] == [
        "refused             1  /archive/b/1: HTTP 400 (accepted: a phantom)",
        "unreadable          0  /archive/b/2: cannot be read: no (accepted: a phantom)",
        "1 stored, 1 missing, 1 refused, 1 unreadable (2 accepted)",
    ]
    assert said(capsys, "report", "bulkstow.db", "--by", "study")[-1] == "0 of 1 study complete"
    assert said(capsys, "accept", "bulkstow.db", "--path", "b/1", "--undo", "--dry-run") == [
        "to reopen: 1 file (1 refused)"
    ]
    assert said(capsys, "accept", "bulkstow.db", "--all", "--undo") == [
        "no longer accepted: 2 files (1 refused, 1 unreadable)"
    ]
    assert "accepted" not in said(capsys, "report", "bulkstow.db")[-1]


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["forget", "bulkstow.db"], 2, "nothing is chosen: give --outcome, --studies or --path, or --all"),
        (["forget", "bulkstow.db", "--all", "--path", "a"], 2, "--all contradicts --outcome, --studies and --path"),
        (["forget", "bulkstow.db", "--outcome", "lost"], 2, "--outcome 'lost': expected some of stored, "),
        (["forget", "bulkstow.db", "--studies", "gone"], 2, "--studies gone: cannot be read"),
        (["forget", "gone.db", "--all"], 3, "no ledger at gone.db"),
        (["accept", "bulkstow.db", "--all"], 2, "--note is missing: say why"),
        (["accept", "bulkstow.db", "--all", "--note", " "], 2, "--note is missing: say why"),
        (["accept", "bulkstow.db", "--all", "--note", "x", "--undo"], 2, "leave it out with --undo"),
        (["accept", "bulkstow.db", "--note", "x"], 2, "nothing is chosen"),
    ],
)
def test_a_wrong_use_changes_nothing(
    capsys: pytest.CaptureFixture[str], ledger: Path, words: list[str], status: int, message: str
) -> None:
    """A command that chooses nothing, or contradicts itself, is an error."""
    before = list(read_entries(ledger))
    ended = call(capsys, *words)
    assert (ended.status, ended.out) == (status, "")
    assert message in ended.err
    assert list(read_entries(ledger)) == before


# --- a nightly run


class Refuses:
    """A fault that refuses one instance, in any request."""

    def __init__(self, uid: str) -> None:
        self._uid = uid

    async def before(self, request: web.Request, number: int) -> None:
        """Do nothing."""

    async def after(self, request: web.Request, number: int, response: StoreResponse) -> StoreResponse:
        """Report the instance as failed."""
        refused = tuple(replace(item, code=0x0122) for item in response.stored if item.sop_instance_uid == self._uid)
        stored = tuple(item for item in response.stored if item.sop_instance_uid != self._uid)
        return replace(response, stored=stored, failed=response.failed + refused)


def nightly(capsys: pytest.CaptureFixture[str], url: str) -> Ended:
    """Send the archive."""
    return call(capsys, "upload", "archive", "--url", url, "--ledger", "l.db", "--progress", "none")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Create an archive with a good file, one without preamble, a refused file, and two files in conflict."""
    directory = tmp_path / "archive"
    directory.mkdir()
    (directory / "good").write_bytes(part10(header(1), rows=4, columns=4))
    (directory / "headless").write_bytes(part10(header(2), rows=4, columns=4)[132:])
    (directory / "one").write_bytes(part10(header(3), rows=4, columns=4, number=1))
    (directory / "other").write_bytes(part10(header(3), rows=4, columns=4, number=2))
    (directory / "refused").write_bytes(part10(header(4), rows=4, columns=4))
    return directory


def test_a_nightly_run_is_green_again(capsys: pytest.CaptureFixture[str], archive: Path) -> None:
    """Accepted failures end no run with 1 and are still listed; a new failure does, and so does a changed file."""
    with served(fault=Refuses(header(4).sop_instance_uid)) as url:
        first = nightly(capsys, url)
        assert first.status == 1
        assert all(f"{outcome:<12} {1:>11}" in first.out for outcome in ("refused", "conflict", "unreadable"))
        assert said(capsys, "accept", "l.db", "--all", "--note", "known since May") == [
            "accepted: 3 files (1 refused, 1 conflict, 1 unreadable)",
            "2 more were chosen, and are no failures",
        ]
        for _ in range(2):  # a run that looks at a file again keeps the note
            green = nightly(capsys, url)
            assert green.status == 0
            assert "first failures:" not in green.out
        accepted = said(capsys, "report", "l.db", "--outcome", "refused,conflict,unreadable")
        assert [line.endswith("(accepted: known since May)") for line in accepted[1:-1]] == [True] * 3
        (archive / "headless too").write_bytes(part10(header(5), rows=4, columns=4)[132:])
        assert nightly(capsys, url).status == 1
        assert said(capsys, "accept", "l.db", "--path", "headless too", "--note", "as the other")[0].startswith(
            "accepted: 1"
        )
        assert nightly(capsys, url).status == 0
        (archive / "refused").write_bytes(part10(header(4), rows=5, columns=4))
        changed = nightly(capsys, url)
        assert changed.status == 1
        assert f"refused {archive / 'refused'}" in changed.out


def test_what_was_forgotten_is_sent_again(capsys: pytest.CaptureFixture[str], archive: Path) -> None:
    """Only the refused file is sent again, without --retry-failed."""
    with served(fault=Refuses(header(4).sop_instance_uid)) as url:
        nightly(capsys, url)
        assert " in no requests, " in nightly(capsys, url).out
        assert said(capsys, "forget", "l.db", "--outcome", "refused") == ["forgotten: 1 file (1 refused)"]
        again = nightly(capsys, url)
        assert " in 1 request, " in again.out
        assert "  3 of them by an earlier run" in again.out


OTHER = "http://other.example/dicom-web"


@pytest.mark.parametrize("command", [["forget"], ["accept", "--note", "known"], ["accept", "--undo"]])
def test_one_of_several_servers_is_chosen(capsys: pytest.CaptureFixture[str], ledger: Path, command: list[str]) -> None:
    """Rows of a server that the user does not mean stay as they are: without --url nothing is changed."""
    with Ledger(ledger, OTHER) as other:
        other.record(replace(result, accepted="before") for result in RESULTS)
    words = (*command, "bulkstow.db", "--all")
    before = list(read_entries(ledger))
    ended = call(capsys, *words)
    assert (ended.status, ended.out) == (2, "")
    assert f"the ledger bulkstow.db has 2 destinations: choose one with --url, such as {OTHER}" in ended.err
    ended = call(capsys, *words, "--url", "http://third.example")
    assert (ended.status, "the ledger bulkstow.db has no files for it, only for" in ended.err) == (2, True)
    assert list(read_entries(ledger)) == before
    said(capsys, *words, "--url", f"{OTHER}/")
    left = list(read_entries(ledger))
    assert [entry for entry in left if entry.destination == URL] == [e for e in before if e.destination == URL]
    assert left != before


@pytest.mark.parametrize("command", ["forget", "accept --undo", "accept --note known"])
def test_a_dry_run_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    """A ledger of an older schema is not upgraded by a dry run, and one that a run uses can be counted."""
    old = Path(__file__).parent.parent / "ledger" / "schema-2.sqlite"
    shutil.copyfile(old, "old.db")
    said(capsys, *command.split(), "old.db", "--all", "--dry-run")
    assert [path.name for path in tmp_path.iterdir()] == ["old.db"]
    assert Path("old.db").read_bytes() == old.read_bytes()
    with Ledger(tmp_path / "used.db", URL) as used:
        used.record(RESULTS)
        said(capsys, *command.split(), "used.db", "--all", "--dry-run")
