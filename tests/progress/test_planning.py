"""Progress of a plan: its lines after some events."""

from __future__ import annotations

import io
import re

import pytest

from bulkstow.events import Event, FilesFound, LeftOut, Planned, Recorded, Reopened, ScanEnded, SettledBefore
from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.policy.selection import Filter
from bulkstow.progress.planning import Planning


def result(outcome: Outcome, accepted: str = "") -> FileResult:
    """Return an outcome."""
    return FileResult(Candidate("/a", 1, 1), None, outcome, "why", accepted=accepted)


CONFLICT = result(Outcome.CONFLICT)
AGAIN: list[Event] = [FilesFound(1, 1), Recorded((CONFLICT,)), Reopened((CONFLICT,))]
EVENTS: list[Event] = [
    FilesFound(10, 5000),
    Planned(3, 300),
    Recorded((result(Outcome.UNREADABLE), result(Outcome.UNREADABLE, "known"), result(Outcome.SKIPPED))),
    SettledBefore({Outcome.STORED: 2, Outcome.REFUSED: 1}, (result(Outcome.REFUSED),), 10),
]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], "0 failed, 0 of at least 0 files planned, at least 0B"),
        (EVENTS, "2 failed, 9 of at least 10 files planned, at least 5kB"),
        (
            [*EVENTS, FilesFound(1, 1), Recorded((CONFLICT,)), Reopened((CONFLICT,))],
            "2 failed, 9 of at least 10 files planned, at least 5kB",
        ),
        ([*EVENTS, FilesFound(-1, -1000), ScanEnded()], "2 failed, 9 of 9 files planned, 4kB"),
    ],
    ids=["begin", "scanning", "again", "scan ended"],
)
def test_a_line_has_the_figures(events: list[Event], expected: str) -> None:
    """Every file that has a place in the plan is counted, and accepted failures are none."""
    stream = io.StringIO()
    planning = Planning("log", stream)
    for event in events:
        planning.tell(event)
    planning.show()
    assert re.sub(r"^\S+ ", "", stream.getvalue()).startswith(expected)


def test_the_studies_that_were_asked_for_are_shown() -> None:
    """While the server is asked, the line has the number of studies asked for."""
    stream = io.StringIO()
    planning = Planning("log", stream)
    planning.begin_to_ask(40)
    planning.note_answer()
    planning.show()
    assert "asked the server for 1 of 40 studies" in stream.getvalue()


def test_what_the_plan_needs_is_kept() -> None:
    """Empty sources, files that filters leave out and directories are added up over all passes."""
    planning = Planning("none", io.StringIO())
    for event in (
        LeftOut({Filter.MODALITY: 2}),
        LeftOut({Filter.MODALITY: 1, Filter.EXCLUDE: 1}, 3),
        ScanEnded(("a",)),
    ):
        planning.tell(event)
    assert planning.left_out == {Filter.MODALITY: 3, Filter.EXCLUDE: 1}
    assert (planning.pruned_directories, planning.empty_sources) == (3, ("a",))


def test_nothing_is_shown_if_nothing_is_wanted() -> None:
    """With `none` neither figures nor messages are written."""
    stream = io.StringIO()
    planning = Planning("none", stream)
    planning.show()
    planning.say("something")
    planning.close()
    assert stream.getvalue() == ""
