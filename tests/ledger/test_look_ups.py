"""Look-ups: the cost of one does not grow with the ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bulkstow.ledger import Ledger, LookUps
from bulkstow.model import Candidate, FileResult, Outcome
from tests.archives import header

ASKED = range(10)


def candidate(number: int) -> Candidate:
    """Return the candidate of a file."""
    return Candidate(f"/a/{number:06}", 10, number)


def steps_of(path: Path, rows: int, ask: Callable[[LookUps], object]) -> int:
    """Return how many hundred instructions of SQLite's machine a look-up takes in a ledger with so many files."""
    results = [FileResult(candidate(number), header(number), Outcome.STORED) for number in range(rows)]
    with Ledger(path, "url") as ledger:
        ledger.record(results)
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(count, 100)
        ask(LookUps(connection, path, destination=1, run=2))
    return steps


@pytest.mark.parametrize(
    "ask",
    [
        lambda look_ups: look_ups.look_up([candidate(number) for number in ASKED]),
        lambda look_ups: look_ups.owners([header(number).sop_instance_uid for number in ASKED]),
        lambda look_ups: look_ups.results([candidate(number) for number in ASKED]),
        lambda look_ups: look_ups.instances([candidate(number) for number in ASKED]),
        lambda look_ups: look_ups.with_notes([FileResult(candidate(n), None, Outcome.REFUSED) for n in ASKED]),
    ],
    ids=["look_up", "owners", "results", "instances", "with_notes"],
)
def test_a_look_up_reads_only_the_rows_of_its_files(ask: Callable[[LookUps], object], tmp_path: Path) -> None:
    """A hundred times the rows, and no more instructions: SQLite uses the keys that are asked for."""
    few, many = steps_of(tmp_path / "few.db", 50, ask), steps_of(tmp_path / "many.db", 5000, ask)
    assert many <= few + 2
