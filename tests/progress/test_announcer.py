"""Claims about messages that are shown at once."""

from __future__ import annotations

import io
import re

import pytest

from bulkstow.events import (
    OutageBegan,
    OutageContinues,
    OutageEnded,
    Recorded,
    ScanEnded,
    SourceOutageBegan,
    SourceOutageEnded,
)
from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.policy.health import OutageCause
from bulkstow.progress.announcer import Announcer
from bulkstow.progress.display import Nothing, display


@pytest.mark.parametrize(
    ("cause", "words"),
    [(OutageCause.NO_ANSWER, "the server does not answer"), (OutageCause.NO_ROOM, "the server is out of space")],
)
def test_an_outage_is_shown_at_once(cause: OutageCause, words: str) -> None:
    """The start of an outage is shown with the time of the next attempt, and its end with its duration."""
    stream = io.StringIO()
    announcer = Announcer(display("log", stream).say)
    for event in (ScanEnded(), OutageBegan(cause, 2.0, 1.0), OutageContinues(cause, 3.0, 2.0), OutageEnded(31.0)):
        announcer.tell(event)
    began, ended = (line.partition(" ")[2] for line in stream.getvalue().splitlines())
    assert re.fullmatch(rf"{words}: sending stops, next attempt at \d\d:\d\d:\d\d", began)
    assert ended == "the server stores again after 31s: sending continues"


def test_an_outage_of_the_source_is_shown_as_such() -> None:
    """It is not confused with one of the destination."""
    said: list[str] = []
    announcer = Announcer(said.append)
    announcer.tell(SourceOutageBegan(2.0, 1.0))
    announcer.tell(SourceOutageEnded(31.0))
    assert re.fullmatch(r"the source does not answer: nothing more is read, next attempt at \d\d:\d\d:\d\d", said[0])
    assert said[1:] == ["the source answers again after 31s"]


def test_failures_are_said_as_they_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five failures are shown at once, then one every ten seconds with the number of the others; names are escaped."""
    now_s = 1000.0
    monkeypatch.setattr("bulkstow.progress.announcer.time.monotonic", lambda: now_s)
    said: list[str] = []

    class Saying(Nothing):
        def say(self, text: str) -> None:
            said.append(text)

    announcer = Announcer(Saying().say)

    def fail(count: int) -> None:
        failure = FileResult(Candidate("/a\x1b", 1, 0), None, Outcome.REFUSED, "no")
        announcer.tell(Recorded((failure, FileResult(Candidate("/b", 1, 0), None, Outcome.STORED)) * count))

    fail(7)
    assert said == ["refused /a\\x1b: no"] * 5
    now_s += 9.9
    fail(1)
    assert len(said) == 5
    now_s += 0.1
    fail(2)
    assert said[5:] == ["refused /a\\x1b: no (and 3 others since the last line)"]
    now_s += 10.0
    fail(1)
    assert said[6:] == ["refused /a\\x1b: no (and 1 other since the last line)"]
