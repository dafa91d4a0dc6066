"""A ledger that a command only reads: the same answers as for a run, and nothing written."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bulkstow.errors import ConfigurationError, LedgerError
from bulkstow.ledger import EarlierRuns, Ledger, NotStored
from bulkstow.model import Candidate, FileResult, Instance, Outcome
from tests.archives import header

URL, OTHER = "http://one.example/rs", "http://two.example/rs"


def result(number: int, outcome: Outcome = Outcome.STORED, copy_of: str = "", accepted: str = "") -> FileResult:
    """Return the outcome of a file."""
    of_file = replace(header(number), modality="CT", study_date="20200102")
    return FileResult(
        Candidate(f"/a/{number}", 10 + number, number), of_file, outcome, "why", 1, copy_of, accepted=accepted
    )


RESULTS = [
    result(1),
    result(2, Outcome.REFUSED, accepted="known"),
    result(3, Outcome.REFUSED),
    result(4, Outcome.UNCONFIRMED),
    result(5, Outcome.SKIPPED, copy_of="/a/1"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a ledger with one destination."""
    with Ledger(tmp_path / "run.db", URL) as ledger:
        ledger.record(RESULTS)
    return tmp_path / "run.db"


def names(directory: Path) -> dict[str, bytes]:
    """Return all files of a directory with their content."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_answers_are_those_of_a_run(path: Path) -> None:
    """Look-ups and owners are the same as the next run's, which also sees changed and new files."""
    candidates = [r.candidate for r in RESULTS] + [Candidate("/a/1", 99, 1), Candidate("/a/9", 1, 1)]
    uids = [header(number).sop_instance_uid for number in range(9)]
    with EarlierRuns(path, URL) as earlier:
        looked_up, owners = earlier.look_ups.look_up(candidates), earlier.look_ups.owners(uids)
    with Ledger(path, URL) as ledger:
        assert looked_up == ledger.look_up(candidates)
        assert owners == ledger.owners(uids)
    assert owners == {uids[1]: [Instance(RESULTS[0].candidate, header(1))]}


def test_results_have_their_headers(path: Path) -> None:
    """The recorded outcome of a file has modality, study date and note."""
    with EarlierRuns(path, URL) as earlier:
        (found,) = earlier.look_ups.results([RESULTS[1].candidate])
    assert found == RESULTS[1]
    assert found.header is not None
    assert (found.header.modality, found.header.study_date) == ("CT", "20200102")


@pytest.mark.parametrize(
    ("found", "note"),
    [
        (replace(RESULTS[1], accepted="", reason="another"), "known"),
        (replace(RESULTS[1], accepted="", outcome=Outcome.UNREADABLE), ""),
        (replace(RESULTS[1], accepted="", candidate=Candidate("/a/2", 12, 3)), ""),
        (replace(RESULTS[2]), ""),
    ],
    ids=["same", "other outcome", "changed", "not accepted"],
)
def test_a_note_holds_for_an_outcome_of_a_file(path: Path, found: FileResult, note: str) -> None:
    """An accepted failure stays accepted while the file and the outcome are the same."""
    with EarlierRuns(path, URL) as earlier:
        assert earlier.look_ups.with_notes([found]) == [replace(found, accepted=note)]


def test_kinds_that_were_not_stored_are_counted(path: Path) -> None:
    """Refused and unconfirmed instances are counted by SOP class and transfer syntax, the most frequent first."""
    kind = header(1).sop_class_uid, header(1).transfer_syntax_uid
    with EarlierRuns(path, URL) as earlier:
        assert earlier.not_stored(9) == [
            NotStored(*kind, Outcome.REFUSED, 2),
            NotStored(*kind, Outcome.UNCONFIRMED, 1),
        ]
        assert len(earlier.not_stored(1)) == 1


@pytest.mark.parametrize("is_empty", [False, True], ids=["missing", "empty"])
def test_a_missing_ledger_counts_as_an_empty_one(tmp_path: Path, *, is_empty: bool) -> None:
    """No file is known, no destination is named, and nothing is created."""
    path = tmp_path / "run.db"
    if is_empty:
        path.touch()
    before = names(tmp_path)
    with EarlierRuns(path, None) as earlier:
        assert (earlier.url, earlier.latest_upload(), earlier.not_stored(9)) == (None, None, [])
        assert earlier.look_ups.look_up([RESULTS[0].candidate]) == [None]
    assert names(tmp_path) == before


def test_the_only_destination_needs_no_url(path: Path) -> None:
    """Without a URL the only destination is used; with several, a URL is required; an unknown URL has no files."""
    with EarlierRuns(path, None) as earlier:
        assert earlier.url == URL
        assert earlier.look_ups.look_up([RESULTS[0].candidate]) != [None]
    with Ledger(path, OTHER):
        pass
    with pytest.raises(ConfigurationError, match=r"has 2 destinations: choose one with --url, such as http://one"):
        EarlierRuns(path, None)
    for url, is_known in ((URL, True), (OTHER, False), ("http://three.example", False)):
        with EarlierRuns(path, url) as earlier:
            assert (earlier.look_ups.look_up([RESULTS[0].candidate]) != [None]) is is_known


def test_a_run_may_use_the_ledger_meanwhile(path: Path) -> None:
    """A ledger that a run has locked can be read, and its new rows are seen."""
    with Ledger(path, URL) as ledger, EarlierRuns(path, URL) as earlier:
        ledger.record([result(7)])
        (known,) = earlier.look_ups.look_up([result(7).candidate])
        assert known is not None
        assert not known.is_of_this_run


def test_an_older_ledger_is_read_as_if_upgraded(tmp_path: Path) -> None:
    """A ledger of schema 2 is read without being changed."""
    shutil.copyfile(Path(__file__).with_name("schema-2.sqlite"), tmp_path / "run.db")
    before = names(tmp_path)
    with EarlierRuns(tmp_path / "run.db", None) as earlier:
        assert earlier.url is not None
        assert earlier.latest_upload() is None
    assert names(tmp_path) == before


def test_something_else_is_refused(tmp_path: Path) -> None:
    """A file that is no ledger is an error."""
    (tmp_path / "run.db").write_text("not a ledger\n")
    with pytest.raises(LedgerError, match="file is not a database"):
        EarlierRuns(tmp_path / "run.db", None)


def test_the_latest_upload_that_sent_something_counts(path: Path) -> None:
    """Runs that were killed, sent nothing, verified, or sent elsewhere have no rate."""
    for url, command, summary in (
        (URL, "upload", {"delivered": 5}),
        (URL, "upload", {"delivered": 7}),
        (URL, "upload", {"delivered": 0}),
        (URL, "verify", {"delivered": 9}),
        (OTHER, "upload", {"delivered": 9}),
        (URL, "upload", None),
    ):
        with Ledger(path, url, command=command) as ledger:
            if summary is not None:
                ledger.end(summary)
    with EarlierRuns(path, URL) as earlier:
        latest = earlier.latest_upload()
    assert latest is not None
    assert latest.summary == {"delivered": 7}


def test_its_own_files_are_named(path: Path) -> None:
    """A plan leaves out the same files of the ledger as an upload."""
    with Ledger(path, URL) as ledger, EarlierRuns(path, URL) as earlier:
        assert earlier.files == ledger.files
