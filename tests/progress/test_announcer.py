"""Claims about lines that are said as something happens."""

from __future__ import annotations

import io
import re

import pytest

from bulkstow.policy.health import OutageCause
from bulkstow.progress.announcer import Announcer
from bulkstow.progress.display import display
from bulkstow.progress.events import OutageBegan, OutageContinues, OutageEnded, ScanEnded


@pytest.mark.parametrize(
    ("cause", "words"),
    [(OutageCause.NO_ANSWER, "the server does not answer"), (OutageCause.NO_ROOM, "the server has no room")],
)
def test_an_outage_is_said_at_once(cause: OutageCause, words: str) -> None:
    """Its beginning with the time of the next attempt, its end with its length; attempts in between are not said."""
    stream = io.StringIO()
    announcer = Announcer(display("log", stream))
    for event in (ScanEnded(), OutageBegan(cause, 2.0, 1.0), OutageContinues(cause, 3.0, 2.0), OutageEnded(31.0)):
        announcer.tell(event)
    began, ended = (line.partition(" ")[2] for line in stream.getvalue().splitlines())
    assert re.fullmatch(rf"{words}: sending stops, next attempt at \d\d:\d\d:\d\d", began)
    assert ended == "the server stores again after 31s: sending continues"
