"""Progress during a run."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.events import (
    BytesSent,
    Connecting,
    Event,
    FilesFound,
    LimitsChanged,
    OutageBegan,
    OutageEnded,
    Recorded,
    RequestStarted,
    RequestTimed,
    ScanEnded,
    SettledBefore,
)
from bulkstow.model import Batch, Candidate, FileResult, Outcome, RequestTiming
from bulkstow.policy.batching import BatchLimits
from bulkstow.policy.health import OutageCause
from bulkstow.progress.display import Bar, Display, Lines, Nothing, display
from bulkstow.progress.figures import Figures, files_done
from bulkstow.progress.tally import Tally
from bulkstow.progress.terminal import Panel, TimedLines, packed

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def tally(*events: Event) -> Tally:
    """Return the figures after these events."""
    tally = Tally()
    for event in events:
        tally.tell(event)
    return tally


def stored(count: int, outcome: Outcome = Outcome.STORED) -> Recorded:
    """Return the event of `count` results."""
    return Recorded(tuple(FileResult(Candidate(f"/{n}", 1, 0), None, outcome) for n in range(count)))


MIDWAY = (
    FilesFound(2000, 2000),
    SettledBefore({Outcome.STORED: 1000}),
    stored(234),
    BytesSent(3 * 2**20),
    RequestStarted(Batch(1, (), requests=1)),
)


class Clock:
    """A clock that only changes when it is set."""

    now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the clock of all displays."""
    clock = Clock()
    monkeypatch.setattr("bulkstow.progress.figures.time.monotonic", clock)
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
    """`auto` depends on the terminal; the other kinds do not."""
    shown = display(kind, stream)
    assert type(shown) is expected
    shown.close(tally())


def test_standard_error_is_where_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error is looked up when the display is created."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    display("auto").say("hello")
    assert stream.getvalue().endswith(" hello\n")


def test_a_line_has_its_time_and_all_figures(clock: Clock) -> None:
    """All figures are on one line of a log."""
    stream = io.StringIO()
    lines = Lines(TimedLines(stream))
    clock.now_s += 2
    lines.show(tally(*MIDWAY, stored(2, Outcome.REFUSED)))
    assert re.fullmatch(
        rf"{TIME} 2 failed, 1,236 of at least 2,000 files done, 236B of at least 2kB, at least 15s left, 1.57MB/s, "
        r"117 instances/s, 1 of 1 in flight, 1 retried, 2s\n",
        stream.getvalue(),
    )


def test_a_word_has_its_time_too() -> None:
    """A message is a line of the log."""
    stream = io.StringIO()
    Lines(TimedLines(stream)).say("stopping")
    assert re.fullmatch(rf"{TIME} stopping\n", stream.getvalue())


def test_the_last_line_has_the_last_figures() -> None:
    """Closing writes a final line."""
    stream = io.StringIO()
    lines = Lines(TimedLines(stream))
    lines.show(tally(FilesFound(1, 1)))
    lines.close(tally(FilesFound(1, 1), ScanEnded(), stored(1)))
    first, last = stream.getvalue().splitlines()
    assert "0 of at least 1 files done" in first
    assert "1 of 1 files done" in last


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((), "0 of at least 0 files done"),
        ((FilesFound(1000, 0),), "0 of at least 1,000 files done"),
        ((FilesFound(1000, 0), stored(7)), "7 of at least 1,000 files done"),
        ((FilesFound(1000, 0), stored(7), ScanEnded()), "7 of 1,000 files done"),
        ((ScanEnded(),), "0 of 0 files done"),
    ],
    ids=["begun", "found", "some done", "scan ended", "nothing there"],
)
def test_the_total_is_a_lower_bound_until_the_scan_ends(events: tuple[Event, ...], expected: str) -> None:
    """A total that may still grow is shown as a lower bound."""
    assert files_done(tally(*events)) == expected


def test_bars_are_drawn() -> None:
    """A terminal shows the progress with a bar and percent, and the figures below it."""
    terminal = Terminal()
    bar = Bar(Panel(terminal))
    bar.show(tally(FilesFound(200, 0), stored(50), BytesSent(2**20)))
    drawn = terminal.getvalue()
    assert re.search(r"0 failed \|█+. +\|  25%", drawn)
    assert "50 of at least 200 files done, 0B of at least 0B" in drawn
    bar.close(tally(FilesFound(200, 0), stored(200), ScanEnded()))
    assert re.search(r"0 failed \|█+\| 100%", terminal.getvalue())
    assert terminal.getvalue().endswith("\n")


def test_more_done_than_found_is_no_more_than_all() -> None:
    """The bar does not exceed 100 %, even if more is settled than found for a moment."""
    terminal = Terminal()
    bar = Bar(Panel(terminal))
    bar.show(tally(stored(3)))
    bar.close(tally(FilesFound(2, 0), stored(3)))
    assert {int(percent) for percent in re.findall(r"(\d+)%", terminal.getvalue())} <= {0, 100}


def test_a_word_above_the_bars() -> None:
    """A message is on its own line, and the bar is drawn again below it."""
    terminal = Terminal()
    bar = Bar(Panel(terminal))
    bar.show(tally(FilesFound(2, 0)))
    bar.say("stopping")
    bar.close(tally(FilesFound(2, 0)))
    assert "stopping\n" in terminal.getvalue()
    assert "0 of at least 2 files done" in terminal.getvalue().partition("stopping\n")[2]


def test_nothing_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """`none` shows no messages either."""
    nothing = display("none")
    nothing.show(tally(*MIDWAY))
    nothing.say("stopping")
    nothing.close(tally(*MIDWAY))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["bar", "log"])
def test_an_outage_is_told(kind: Literal["bar", "log"]) -> None:
    """Every line during an outage shows it."""
    stream = Terminal()
    shown = display(kind, stream)
    began = OutageBegan(OutageCause.NO_ANSWER, 2.0, 1.0)
    shown.show(tally(began))
    assert "THE SERVER DOES NOT ANSWER" in stream.getvalue()
    shown.show(tally(OutageBegan(OutageCause.NO_ROOM, 2.0, 1.0)))
    assert "THE SERVER IS OUT OF SPACE" in stream.getvalue()
    before = len(stream.getvalue())
    shown.close(tally(began, OutageEnded(10.0)))
    assert "THE SERVER DOES NOT ANSWER" not in stream.getvalue()[before:]


def test_rates_are_of_the_last_seconds(clock: Clock) -> None:
    """Bytes and instances per second are those of the last seconds."""
    stream = io.StringIO()
    lines = Lines(TimedLines(stream))
    clock.now_s += 100
    lines.show(tally(stored(1000), BytesSent(2**30)))
    clock.now_s += 4
    lines.show(tally(stored(1040), BytesSent(2**30 + 8 * 2**20)))
    clock.now_s += 8
    lines.show(tally(stored(1040), BytesSent(2**30 + 8 * 2**20)))
    assert stream.getvalue().splitlines()[-1].endswith(" 0B/s, 0 instances/s, 0 in flight, 0 retried, 1m52s")


def test_how_many_requests_it_has_come_to_is_told() -> None:
    """The limit of requests is shown beside their number as soon as it is known."""
    figures, told = Figures(), tally(RequestStarted(Batch(1, ())))
    assert "1 in flight" in figures.line(told)
    told.tell(LimitsChanged(6, 8, BatchLimits(1, 1)))
    assert "1 of 6 in flight" in figures.line(told)


def test_never_more_are_under_way_than_may_be() -> None:
    """After a reduction of the limit, the number shown beside the requests in flight is not below theirs."""
    started = [RequestStarted(Batch(number, ())) for number in range(5)]
    assert "5 of 5 in flight" in Figures().line(tally(LimitsChanged(4, 8, BatchLimits(1, 1)), *started))


def test_what_it_waits_for_is_told(clock: Clock) -> None:
    """The bottleneck is shown as soon as requests have ended."""
    timing = RequestTiming(elapsed_s=1e6, connecting_s=0, reading_s=0, sending_s=1e5, waiting_s=9e5)
    figures, told = Figures(), tally()
    assert "bottleneck" not in figures.line(told)
    told.tell(RequestTimed(timing))
    clock.now_s += 1000.0
    assert "bottleneck: server" in figures.line(told)


def settled(size_bytes: int, count: int = 1) -> Recorded:
    """Return the event of stored files of this size."""
    return Recorded(tuple(FileResult(Candidate(f"/{n}", size_bytes, 0), None, Outcome.STORED) for n in range(count)))


def test_how_long_it_still_takes(clock: Clock) -> None:
    """By bytes or by files, whichever takes longer, at the recent rate; a lower bound until the scan ends.

    What an earlier run settled takes no time, and tells nothing of how fast it goes.
    """
    figures = Figures()
    told = tally(FilesFound(1000, 10_000), SettledBefore({Outcome.STORED: 500}, size_bytes=5000))
    assert "left" not in figures.line(told)
    clock.now_s += 10.0
    told.tell(settled(100, 10))
    assert ", at least 8m10s left, " in figures.line(told)  # 490 files at 1 a second, 4,000 bytes at 100
    told.tell(ScanEnded())
    assert ", 8m10s left, " in figures.line(told)
    told.tell(FilesFound(0, 990_000))
    assert ", 2h45m left, " in figures.line(told)  # 994,000 bytes
    told.tell(OutageBegan(OutageCause.NO_ANSWER, 1.0, 5.0))
    assert "left" not in figures.line(told)


def test_before_the_first_file_it_says_what_it_does() -> None:
    """The line shows the connecting with the URL of the user, then the scanning."""
    figures, told = Figures(), tally(Connecting("http://pacs.example/dicom-web"))
    assert figures.of(told)[:2] == ["0 failed", "connecting to http://pacs.example/dicom-web"]
    told.tell(LimitsChanged(4, 4, BatchLimits(1, 1)))
    assert figures.of(told)[:2] == ["0 failed", "scanning"]


@given(st.lists(st.text("abc ", min_size=1, max_size=70).filter(str.strip)), st.integers(1, 120))
def test_lines_are_as_narrow_as_the_terminal(parts: list[str], columns: int) -> None:
    """No line is too long, all words are kept in order, and a part that fits on a line is not broken."""
    lines = packed(parts, columns)
    assert all(len(line) <= columns for line in lines)
    assert "".join(lines).replace(",", "").replace(" ", "") == "".join(parts).replace(" ", "")
    whole = [" ".join(part.split()) for part in parts if len(part) <= columns]
    assert all(any(part in " ".join(line.split()) for line in lines) for part in whole)


class Screen(Terminal):
    """A terminal of some width with the features that bars need; `rows` is its content."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns, self.row, self.column = columns, 0, 0
        self.rows: list[str] = [""]

    def fileno(self) -> int:
        """Return a descriptor, for the terminal's size."""
        return 2

    def write(self, text: str, /) -> int:
        """Show text."""
        for code in re.findall(r"\x1b\[\w|.|\n|\r", text):
            match code:
                case "\r":
                    self.column = 0
                case "\n":
                    self._go_down()
                    self.column = 0  # as the terminal driver has it
                case "\x1b[A":
                    self.row -= 1
                case "\x1b[J":
                    self.rows = [*self.rows[: self.row], self.rows[self.row][: self.column]]
                case _:
                    if self.column == self.columns:
                        self._go_down()
                        self.column = 0
                    line = self.rows[self.row].ljust(self.column)
                    self.rows[self.row] = line[: self.column] + code + line[self.column + 1 :]
                    self.column += 1
        return len(text)

    def resize(self, columns: int) -> None:
        """Change the width: lines are wrapped, and the cursor stays on its character."""
        rows: list[str] = []
        for number, row in enumerate(self.rows):
            if number == self.row:
                cursor = len(rows) + self.column // columns
            text = row.rstrip()
            rows += [text[start : start + columns] for start in range(0, max(len(text), 1), columns)]
        self.columns, self.rows, self.row, self.column = columns, rows, cursor, self.column % columns

    def _go_down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")


LARGE: tuple[Event, ...] = (
    FilesFound(2_345_678, 3_450_000_000_000),
    settled(1_230_000_000_000),
    stored(1234, Outcome.REFUSED),
    LimitsChanged(32, 32, BatchLimits(1, 1)),
    *(RequestStarted(Batch(number, ())) for number in range(32)),
)


@pytest.mark.parametrize("widths", [[60], [100], [60, 40], [100, 60, 45], [60, 100]], ids=str)
def test_nothing_is_cut_off_and_nothing_stays_behind(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, widths: list[int]
) -> None:
    """Failures first, all figures on as many lines as they need; after a resize no half line is left, and at the end
    the cursor stands below."""
    screen = Screen(widths[0])
    monkeypatch.setattr("os.get_terminal_size", lambda _: os.terminal_size((screen.columns, 24)))
    screen.write("$ bulkstow\n")
    bar, told = Bar(Panel(screen)), tally(*LARGE)
    for columns in widths:
        if columns != screen.columns:
            screen.resize(columns)
        for _ in range(3):
            bar.show(told)
    bar.say("a word")
    bar.close(told)
    prompt, word, first, *texts, last = (row.rstrip() for row in screen.rows)
    assert (prompt, word, last) == ("$ bulkstow", "a word", "")
    assert re.fullmatch(r"1,234 failed \|█+. +\|  36%", first)
    assert (screen.row, screen.column) == (len(screen.rows) - 1, 0)
    joined = ", ".join(texts)
    for part in ("1,235 of at least 2,345,678 files done", "1.23TB of at least 3.45TB", "32 of 32 in flight"):
        assert part in joined
    assert all(len(text) < screen.columns for text in texts)
    assert joined.endswith("0 retried, 0ms")


def test_a_terminal_that_cannot_draw_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """TERM=dumb, as in editors, gets lines."""
    monkeypatch.setenv("TERM", "dumb")
    assert type(display("auto", Terminal())) is Lines


def test_there_is_no_colour() -> None:
    """The only escape sequences move the cursor and erase, with NO_COLOR and without."""
    terminal = Terminal()
    bar = Bar(Panel(terminal))
    bar.show(tally(*LARGE))
    bar.close(tally(*LARGE))
    assert set(re.findall(r"\x1b\[[^A-Za-z]*[A-Za-z]", terminal.getvalue())) <= {"\x1b[A", "\x1b[J"}
