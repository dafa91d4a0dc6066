"""What is seen while a run goes on."""

from __future__ import annotations

import io
import re
import sys
from typing import Literal

import pytest

from bulkstow.model import Batch, Candidate, Fate, Outcome, Spent
from bulkstow.policy.health import OutageCause
from bulkstow.progress.display import Bar, Display, Figures, Lines, Nothing, display, far
from bulkstow.progress.events import (
    Event,
    Found,
    Known,
    OutageBegan,
    OutageEnded,
    Recorded,
    ScanEnded,
    Started,
    Taken,
    Timed,
)
from bulkstow.progress.tally import Tally

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def tally(*events: Event) -> Tally:
    """Return the figures after these events."""
    tally = Tally()
    for event in events:
        tally.tell(event)
    return tally


def stored(count: int, fate: Fate = Fate.STORED) -> Recorded:
    """Return the event that tells of so many."""
    return Recorded(tuple(Outcome(Candidate(f"/{n}", 1, 0), None, fate) for n in range(count)))


MIDWAY = (Found(2000, 0), Known({Fate.STORED: 1000}), stored(234), Taken(3 * 2**20), Started(Batch(1, (), requests=1)))


class Clock:
    """A clock that stands still until it is set."""

    now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the clock of all displays."""
    clock = Clock()
    monkeypatch.setattr("bulkstow.progress.display.time.monotonic", clock)
    return clock


@pytest.mark.parametrize(
    ("kind", "stream", "expected"),
    [
        ("auto", Terminal(), Bar),
        ("auto", io.StringIO(), Lines),
        ("bar", io.StringIO(), Bar),
        ("log", Terminal(), Lines),
        ("none", Terminal(), Nothing),
    ],
    ids=["auto on a terminal", "auto elsewhere", "bar", "log", "none"],
)
def test_the_kind_that_was_chosen(
    kind: Literal["auto", "bar", "log", "none"], stream: io.StringIO, expected: type[Display]
) -> None:
    """`auto` looks whether there is a terminal; a choice is a choice."""
    shown = display(kind, stream)
    assert type(shown) is expected
    shown.close(tally())


def test_standard_error_is_where_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream is looked up when it is needed."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    display("auto").say("hello")
    assert stream.getvalue().endswith(" hello\n")


def test_a_line_has_its_time_and_all_figures(clock: Clock) -> None:
    """One line, for logs: how far, how much, how fast, what goes wrong."""
    stream = io.StringIO()
    lines = Lines(stream)
    clock.now_s += 2
    lines.show(tally(*MIDWAY, stored(2, Fate.REFUSED)))
    assert re.fullmatch(
        rf"{TIME} 1,236 of at least 2,000 files done; 3MiB sent, 1.57MB/s, 117 instances/s, "
        r"1 in flight, 1 retried, 2 failed, 2s\n",
        stream.getvalue(),
    )


def test_a_word_has_its_time_too() -> None:
    """What is said between the figures is a line like them."""
    stream = io.StringIO()
    Lines(stream).say("stopping")
    assert re.fullmatch(rf"{TIME} stopping\n", stream.getvalue())


def test_the_last_line_has_the_last_figures() -> None:
    """Closing writes once more."""
    stream = io.StringIO()
    lines = Lines(stream)
    lines.show(tally(Found(1, 1)))
    lines.close(tally(Found(1, 1), ScanEnded(), stored(1)))
    first, last = stream.getvalue().splitlines()
    assert "0 of at least 1 files done" in first
    assert "1 of 1 files done" in last


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((), "0 of at least 0 files done"),
        ((Found(1000, 0),), "0 of at least 1,000 files done"),
        ((Found(1000, 0), stored(7)), "7 of at least 1,000 files done"),
        ((Found(1000, 0), stored(7), ScanEnded()), "7 of 1,000 files done"),
        ((ScanEnded(),), "0 of 0 files done"),
    ],
    ids=["begun", "found", "some done", "scan ended", "nothing there"],
)
def test_the_total_is_a_lower_bound_until_the_scan_ends(events: tuple[Event, ...], expected: str) -> None:
    """A total that still grows says so."""
    assert far(tally(*events)) == expected


def test_bars_are_drawn() -> None:
    """Two lines on a terminal: how far with a bar and percent, and how fast."""
    terminal = Terminal()
    bar = Bar(terminal)
    bar.show(tally(Found(200, 0), stored(50), Taken(2**20)))
    drawn = terminal.getvalue()
    assert re.search(r"50 of at least 200 files done \|.*\|  25%", drawn)
    assert "1MiB sent, " in drawn
    bar.close(tally(Found(200, 0), stored(200), ScanEnded()))
    assert re.search(r"200 of 200 files done \|.*\| 100%", terminal.getvalue())
    assert terminal.getvalue().endswith("\n")


def test_more_done_than_found_is_no_more_than_all() -> None:
    """Copies found once more can make it so for a moment; a bar does not run over."""
    terminal = Terminal()
    bar = Bar(terminal)
    bar.show(tally(stored(3)))
    bar.close(tally(Found(2, 0), stored(3)))
    assert {int(percent) for percent in re.findall(r"(\d+)%", terminal.getvalue())} <= {0, 100}


def test_a_word_above_the_bars() -> None:
    """It stands on a line of its own, and the bars are drawn again below."""
    terminal = Terminal()
    bar = Bar(terminal)
    bar.show(tally(Found(2, 0)))
    bar.say("stopping")
    bar.close(tally(Found(2, 0)))
    assert "stopping\n" in terminal.getvalue()
    assert "0 of at least 2 files done" in terminal.getvalue().partition("stopping\n")[2]


def test_nothing_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """With `none`, not even words."""
    nothing = display("none")
    nothing.show(tally(*MIDWAY))
    nothing.say("stopping")
    nothing.close(tally(*MIDWAY))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [Bar, Lines])
def test_an_outage_is_told(kind: type[Bar | Lines]) -> None:
    """As long as the server is gone every line says so."""
    stream = Terminal()
    shown = kind(stream)
    began = OutageBegan(OutageCause.NO_ANSWER, 2.0, 1.0)
    shown.show(tally(began))
    assert "THE SERVER DOES NOT ANSWER" in stream.getvalue()
    shown.show(tally(OutageBegan(OutageCause.NO_ROOM, 2.0, 1.0)))
    assert "THE SERVER HAS NO ROOM" in stream.getvalue()
    before = len(stream.getvalue())
    shown.close(tally(began, OutageEnded(10.0)))
    assert "THE SERVER DOES NOT ANSWER" not in stream.getvalue()[before:]


def test_rates_are_of_the_last_seconds(clock: Clock) -> None:
    """What was long ago counts no more: bytes and instances per second, by the clock."""
    stream = io.StringIO()
    lines = Lines(stream)
    clock.now_s += 100
    lines.show(tally(stored(1000), Taken(2**30)))
    clock.now_s += 4
    lines.show(tally(stored(1040), Taken(2**30 + 8 * 2**20)))
    clock.now_s += 8
    lines.show(tally(stored(1040), Taken(2**30 + 8 * 2**20)))
    assert stream.getvalue().splitlines()[-1].endswith(" 0B/s, 0 instances/s, 0 in flight, 0 retried, 0 failed, 1m52s")


def test_how_many_requests_it_has_come_to_is_told() -> None:
    """As soon as it is known, beside how many are under way."""
    figures, told = Figures(), tally(Started(Batch(1, ())))
    assert "1 in flight" in figures.line(told)
    told.concurrency = 8
    assert "1 of 8 in flight" in figures.line(told)


def test_what_it_waits_for_is_told(clock: Clock) -> None:
    """As soon as requests have ended, the line says what they spent their time on."""
    spent = Spent(elapsed_s=1e6, connecting_s=0, reading_s=0, sending_s=1e5, thinking_s=9e5)
    figures, told = Figures(), tally()
    assert "waits for" not in figures.line(told)
    told.tell(Timed(spent))
    clock.now_s += 1000.0
    assert "waits for server" in figures.line(told)
