"""Deleted rows, and accepted failures."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bulkstow.errors import LedgerError
from bulkstow.ledger import Choice, Ledger, LedgerEditor, read_entries
from bulkstow.model import Candidate, FileResult, Outcome
from tests.archives import header

URL = "http://pacs.example/dicom-web"
OTHER = "http://other.example/dicom-web"
ODD = os.fsdecode(b"/archive/caf\xe9")

STUDY = header(1).study_uid
RESULTS = (
    FileResult(Candidate("/archive/1/a", 5, 1), header(1), Outcome.STORED, attempts=1),
    FileResult(Candidate("/archive/1/b", 5, 1), header(2), Outcome.REFUSED, "no", 1),
    FileResult(
        Candidate("/archive/2/a", 5, 1),
        replace(header(3), study_uid="2.25.9"),
        Outcome.MISSING,
        "gone",
        1,
        original=replace(header(3), study_uid="2.25.8"),
    ),
    FileResult(Candidate(ODD, 5, 1), None, Outcome.UNREADABLE, "cannot be read"),
    FileResult(Candidate("/archive/notes", 5, 1), None, Outcome.SKIPPED, "not DICOM"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Create a ledger with five rows, and one more at another destination."""
    with Ledger(tmp_path / "l.db", URL) as ledger:
        ledger.record(RESULTS)
    with Ledger(tmp_path / "l.db", OTHER) as ledger:
        ledger.record(RESULTS[1:2])
    return tmp_path / "l.db"


def outcomes(path: Path) -> list[tuple[str, str]]:
    """Return path and outcome of each row."""
    return sorted((e.result.candidate.location, e.result.outcome.value) for e in read_entries(path))


def notes(path: Path) -> dict[str, str]:
    """Return the notes of the accepted rows, by destination and path."""
    return {
        f"{e.destination}{e.result.candidate.location}": e.result.accepted
        for e in read_entries(path)
        if e.result.accepted
    }


@pytest.mark.parametrize(
    ("choice", "counts"),
    [
        (Choice(), {"stored": 1, "refused": 2, "missing": 1, "unreadable": 1, "skipped": 1}),
        (Choice(frozenset({Outcome.REFUSED, Outcome.MISSING})), {"refused": 2, "missing": 1}),
        (Choice(studies=frozenset({STUDY})), {"stored": 1, "refused": 2}),
        (Choice(studies=frozenset({"2.25.9"})), {"missing": 1}),
        (Choice(studies=frozenset({"2.25.8"})), {"missing": 1}),
        (Choice(studies=frozenset()), {}),
        (Choice(matches_path=lambda path: path == ODD), {"unreadable": 1}),
        (Choice(frozenset({Outcome.STORED}), frozenset({STUDY}), lambda path: "/1/" in path), {"stored": 1}),
        (Choice(frozenset({Outcome.STORED}), frozenset({"2.25.9"})), {}),
    ],
    ids=[
        "all",
        "outcomes",
        "studies",
        "an edited study",
        "its original",
        "no studies",
        "path",
        "all three",
        "contradiction",
    ],
)
def test_every_condition_must_choose_a_row(path: Path, choice: Choice, counts: dict[str, int]) -> None:
    """Rows of all destinations are chosen; forgetting deletes these and no others."""
    before = outcomes(path)
    with LedgerEditor(path) as editor:
        found = editor.choose(choice)
        assert {outcome.value: count for outcome, count in found.items()} == counts
        assert list(found) == [outcome for outcome in Outcome if outcome in found]
        editor.forget()
    assert len(outcomes(path)) == len(before) - sum(counts.values())
    assert set(outcomes(path)) <= set(before)


def test_a_forgotten_file_is_new(path: Path) -> None:
    """The next run finds nothing of it, and everything of the others."""
    with LedgerEditor(path) as editor:
        editor.choose(Choice(frozenset({Outcome.REFUSED})))
        editor.forget()
    with Ledger(path, URL) as ledger:
        stored, refused = ledger.look_up([result.candidate for result in RESULTS[:2]])
    assert (stored is not None, refused) == (True, None)


def test_only_failures_are_accepted(path: Path) -> None:
    """The note stands beside outcome and reason; a second note replaces the first; undoing removes it."""
    with LedgerEditor(path) as editor:
        editor.choose(Choice())
        editor.accept("known")
        editor.choose(Choice(frozenset({Outcome.UNREADABLE})))
        editor.accept("a broken\udcff disk")
    assert notes(path) == {
        f"{URL}/archive/1/b": "known",
        f"{OTHER}/archive/1/b": "known",
        f"{URL}/archive/2/a": "known",
        f"{URL}{ODD}": "a broken\\udcff disk",
    }
    with LedgerEditor(path) as editor:
        editor.choose(Choice(matches_path=lambda path: path != ODD))
        assert editor.count_accepted() == {Outcome.REFUSED: 2, Outcome.MISSING: 1}
        editor.unaccept()
        assert editor.choose(Choice())[Outcome.STORED] == 1
        assert editor.count_accepted() == {Outcome.UNREADABLE: 1}
    assert list(notes(path)) == [f"{URL}{ODD}"]


def test_choosing_changes_nothing(path: Path) -> None:
    """Rows are as before until they are forgotten or accepted."""
    before = list(read_entries(path))
    with LedgerEditor(path) as editor:
        editor.choose(Choice())
    assert list(read_entries(path)) == before


def test_a_run_and_a_change_exclude_each_other(path: Path) -> None:
    """A ledger in use cannot be changed, and a run cannot use a ledger that is being changed."""
    with Ledger(path, URL), pytest.raises(LedgerError, match="in use by another run"):
        LedgerEditor(path)
    with LedgerEditor(path), pytest.raises(LedgerError, match="in use by another run"):
        Ledger(path, URL)
    with Ledger(path, URL):
        pass


def test_a_missing_ledger_is_not_created(tmp_path: Path) -> None:
    """The error has its path."""
    with pytest.raises(LedgerError, match="no ledger at"):
        LedgerEditor(tmp_path / "gone.db")
    assert not list(tmp_path.iterdir())


def test_a_damaged_row_is_explained(path: Path) -> None:
    """An outcome that is never written is damage; nothing is changed."""
    with LedgerEditor(path) as editor:
        editor._connection.execute("UPDATE file SET outcome = 'lost' WHERE outcome = 'stored'")
        with pytest.raises(LedgerError, match="is damaged"):
            editor.choose(Choice())
