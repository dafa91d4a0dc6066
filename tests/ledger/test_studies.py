"""The studies of a ledger, counted at the end of a run."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.errors import LedgerError
from bulkstow.ledger import Choice, Ledger, LedgerEditor
from bulkstow.model import Candidate, FileResult, LedgerStudies, Outcome
from tests.archives import header

URL = "http://pacs.example/dicom-web"


def result(path: str, outcome: Outcome, study: int | None, *, attempts: int = 1) -> FileResult:
    """Return the outcome of a file."""
    uids = None if study is None else header(int(path[1:]), study=study)
    return FileResult(Candidate(path, 5, 1), uids, outcome, "", attempts)


def by_outcome(**counts: int) -> dict[Outcome, int]:
    """Return these counts, and 0 for the other outcomes."""
    return {outcome: counts.get(outcome.value, 0) for outcome in Outcome}


def test_a_study_is_complete_without_open_failures(tmp_path: Path) -> None:
    """Failures of no known study are counted apart; a study of an earlier run counts, and was not sent by this one."""
    with Ledger(tmp_path / "l.db", URL) as ledger:
        ledger.record([result("/1", Outcome.STORED, 1), result("/2", Outcome.REFUSED, 2)])
    with Ledger(tmp_path / "l.db", "http://other.example") as ledger:
        ledger.record([result("/1", Outcome.STORED, 9)])
        assert ledger.count_studies() == LedgerStudies(1, 1, 1, by_outcome(stored=1), 1, 0)
    with Ledger(tmp_path / "l.db", URL) as ledger:
        ledger.record(
            [
                result("/3", Outcome.DUPLICATE, 1),
                result("/4", Outcome.CONFLICT, 3, attempts=0),
                result("/5", Outcome.UNREADABLE, None),
                result("/6", Outcome.SKIPPED, None),
            ]
        )
        assert ledger.count_studies() == LedgerStudies(
            known=3,
            complete=1,
            sent=1,
            by_outcome=by_outcome(stored=1, duplicate=1, refused=1, conflict=1),
            files=6,
            failures_without=1,
        )


def test_an_accepted_failure_leaves_a_study_complete(tmp_path: Path) -> None:
    """The study still has its failure among the outcomes."""
    with Ledger(tmp_path / "l.db", URL) as ledger:
        ledger.record(
            [result("/1", Outcome.STORED, 1), result("/2", Outcome.REFUSED, 1), result("/3", Outcome.UNREADABLE, None)]
        )
    with LedgerEditor(tmp_path / "l.db") as editor:
        editor.choose(Choice())
        editor.accept("known")
    with Ledger(tmp_path / "l.db", URL) as ledger:
        found = ledger.count_studies()
    assert found == LedgerStudies(1, 1, 0, by_outcome(stored=1, refused=1), 3, 0)


def test_an_empty_ledger_has_no_studies(tmp_path: Path) -> None:
    """All figures are 0."""
    with Ledger(tmp_path / "l.db", URL) as ledger:
        assert ledger.count_studies() == LedgerStudies(by_outcome=by_outcome())


rows = st.lists(st.tuples(st.sampled_from(Outcome), st.sampled_from([None, 1, 2, 3]), st.integers(0, 1)), max_size=20)


@given(rows)
@settings(deadline=None)
def test_the_counts_are_those_of_the_rows(found: list[tuple[Outcome, int | None, int]]) -> None:
    """The counts equal a count of every row."""
    results = [
        result(f"/{number}", outcome, study or (1 if outcome.is_success else None), attempts=attempts)
        for number, (outcome, study, attempts) in enumerate(found)
    ]
    studies: dict[str, list[FileResult]] = defaultdict(list)
    for one in results:
        if one.header is not None:
            studies[one.header.study_uid].append(one)
    with tempfile.TemporaryDirectory() as directory, Ledger(Path(directory) / "l.db", URL) as ledger:
        ledger.record(results)
        counted = ledger.count_studies()
    assert counted == LedgerStudies(
        known=len(studies),
        complete=sum(not any(one.is_failure for one in of_study) for of_study in studies.values()),
        sent=sum(any(one.attempts for one in of_study) for of_study in studies.values()),
        by_outcome={
            outcome: sum(any(one.outcome is outcome for one in of_study) for of_study in studies.values())
            for outcome in Outcome
        },
        files=len(results),
        failures_without=sum(one.is_failure for one in results if one.header is None),
    )


def test_a_count_can_be_interrupted(tmp_path: Path) -> None:
    """The query ends with an error, and the ledger can be used afterwards."""
    with Ledger(tmp_path / "l.db", URL) as ledger:
        ledger.record([result(f"/{number}", Outcome.STORED, 1) for number in range(1000)])
        connection = ledger._look_ups._connection
        connection.set_progress_handler(ledger.interrupt, 100)  # in the middle of the query
        with pytest.raises(LedgerError, match="interrupted"):
            ledger.count_studies()
        connection.set_progress_handler(None, 0)
        assert ledger.count_studies().known == 1
