"""The effect of each event on the figures of a run."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import pytest

from bulkstow.events import (
    BytesSent,
    CeilingLearned,
    Connecting,
    Disposed,
    Event,
    FilesFound,
    LedgerUpgraded,
    LeftOut,
    LimitsChanged,
    OutageBegan,
    OutageContinues,
    OutageEnded,
    Planned,
    Recorded,
    Reopened,
    RequestEnded,
    RequestStarted,
    RequestTimed,
    RetryScheduled,
    ScanEnded,
    SendersChanged,
    SendersMeasured,
    SettledBefore,
    SourceOutageBegan,
    SourceOutageEnded,
    StudiesCounted,
    StudyVerified,
    Vanished,
    Waited,
    Watching,
    WatchNote,
)
from bulkstow.model import Batch, Candidate, FileResult, Instance, LedgerStudies, Outcome, RequestTiming
from bulkstow.policy.batching import BatchLimits
from bulkstow.policy.bottleneck import Wait
from bulkstow.policy.health import OutageCause
from bulkstow.policy.selection import Filter
from bulkstow.policy.study_state import StudyResult, StudyState
from bulkstow.policy.work_items import Store
from bulkstow.progress.tally import SHOWN_FAILURES, Tally
from tests.archives import header

BATCH = Batch(1, (Instance(Candidate("/1", 100, 0), header(1)), Instance(Candidate("/2", 200, 0), header(2))))


def result(outcome: Outcome, reason: str = "", *, size_bytes: int = 100) -> FileResult:
    """Return the result of a file."""
    return FileResult(Candidate(f"/{outcome}", size_bytes, 0), None, outcome, reason)


CONFLICT = result(Outcome.CONFLICT, "other bytes")
COPY = result(Outcome.SKIPPED, "a copy: see /a")


def clocks(times_s: list[float], cpu_times_s: list[float]) -> object:
    """Return a replacement for the module `time` that shows these times one after the other."""
    return SimpleNamespace(monotonic=iter(times_s).__next__, process_time=iter(cpu_times_s).__next__)


def figures(tally: Tally) -> dict[str, object]:
    """Return the figures that differ from those of a new tally."""
    begun = vars(Tally())
    return {name: value for name, value in vars(tally).items() if name[0] != "_" and value != begun[name]}


CASES: list[tuple[str, list[Event], dict[str, object]]] = [
    ("found", [FilesFound(3, 600), FilesFound(2, 50)], {"found_files": 5, "found_bytes": 650}),
    ("found twice", [FilesFound(3, 600), FilesFound(-1, -100)], {"found_files": 2, "found_bytes": 500}),
    (
        "left out",
        [
            FilesFound(3, 600),
            FilesFound(-1, -100),
            LeftOut({Filter.MODALITY: 1}),
            LeftOut({Filter.MODALITY: 2, Filter.EXCLUDE: 4}),
            LeftOut({}, directories=3),
        ],
        {
            "found_files": 2,
            "found_bytes": 500,
            "left_out": Counter({Filter.MODALITY: 3, Filter.EXCLUDE: 4}),
            "pruned_directories": 3,
        },
    ),
    (
        "known",
        [SettledBefore({Outcome.STORED: 3, Outcome.SKIPPED: 1}), SettledBefore({Outcome.STORED: 1})],
        {"outcomes": Counter({Outcome.STORED: 4, Outcome.SKIPPED: 1}), "settled_before": 5},
    ),
    (
        "known failures",
        [
            SettledBefore(
                {Outcome.REFUSED: 1, Outcome.SKIPPED: 2},
                (result(Outcome.REFUSED, "no"), COPY, result(Outcome.SKIPPED, "empty")),
            )
        ],
        {
            "outcomes": Counter({Outcome.REFUSED: 1, Outcome.SKIPPED: 2}),
            "settled_before": 3,
            "skip_reasons": Counter({"a copy": 1, "empty": 1}),
            "failures": [result(Outcome.REFUSED, "no")],
        },
    ),
    (
        "moved",
        [
            Disposed("moved", 2),
            Disposed("moved", 0, (("/1", "refused"), ("/2", "gone"))),
            Disposed("moved", 1, (), {"gone": 1}),
        ],
        {"disposed": 3, "disposed_as": "moved", "kept": Counter({"refused": 1, "gone": 0})},
    ),
    ("gone", [FilesFound(3, 300), Vanished(("/1", "/2"), 200)], {"found_files": 1, "found_bytes": 100}),
    ("waiting", [Watching(is_waiting=True, pending=3), WatchNote("by scans")], {"is_watching": True, "pending": 3}),
    ("waits no longer", [Watching(is_waiting=True, pending=3), Watching(is_waiting=False)], {}),
    ("planned", [Planned(3, 600)], {}),
    ("verified", [StudyVerified(StudyResult("1.2", StudyState.COMPLETE, expected=3, found=3))], {}),
    ("scan ended", [ScanEnded()], {"scan_ended": True}),
    (
        "scans of two passes ended",  # each has all of them
        [ScanEnded(("/empty",)), ScanEnded(("/empty",))],
        {"scan_ended": True, "empty_sources": ("/empty",)},
    ),
    ("started", [RequestStarted(BATCH)], {"requests": 1, "requests_in_flight": 1}),
    (
        "started again",
        [RequestStarted(replace(BATCH, requests=2))],
        {"requests": 1, "retries": 1, "requests_in_flight": 1},
    ),
    (
        "ended",
        [RequestStarted(BATCH), RequestStarted(BATCH), RequestEnded(BATCH)],
        {"requests": 2, "requests_in_flight": 1},
    ),
    ("taken", [BytesSent(1000), BytesSent(24)], {"sent_bytes": 1024}),
    (
        "recorded",
        [Recorded((result(Outcome.STORED), result(Outcome.WARNED), result(Outcome.DUPLICATE)))],
        {"outcomes": Counter({Outcome.STORED: 1, Outcome.WARNED: 1, Outcome.DUPLICATE: 1}), "delivered": 3},
    ),
    (
        "recorded failures",
        [Recorded((result(Outcome.REFUSED, "no"), result(Outcome.UNCONFIRMED), result(Outcome.UNREADABLE)))],
        {
            "outcomes": Counter({Outcome.REFUSED: 1, Outcome.UNCONFIRMED: 1, Outcome.UNREADABLE: 1}),
            "failures": [result(Outcome.REFUSED, "no"), result(Outcome.UNCONFIRMED), result(Outcome.UNREADABLE)],
        },
    ),
    (
        "recorded skips",
        [Recorded((result(Outcome.SKIPPED, "empty"), COPY, result(Outcome.SKIPPED, "a copy: see /b")))],
        {"outcomes": Counter({Outcome.SKIPPED: 3}), "skip_reasons": Counter({"a copy": 2, "empty": 1})},
    ),
    (
        "reopened",
        [FilesFound(2, 200), Recorded((COPY, result(Outcome.STORED))), Reopened((COPY,))],
        {
            "found_files": 1,
            "found_bytes": 100,
            "outcomes": Counter({Outcome.STORED: 1, Outcome.SKIPPED: 0}),
            "delivered": 1,
        },
    ),
    (
        "reopened failure",
        [
            FilesFound(2, 200),
            Recorded((CONFLICT, result(Outcome.REFUSED))),
            Reopened((replace(CONFLICT, reason="as read"),)),
        ],
        {
            "found_files": 1,
            "found_bytes": 100,
            "outcomes": Counter({Outcome.CONFLICT: 0, Outcome.REFUSED: 1}),
            "failures": [result(Outcome.REFUSED)],
        },
    ),
    (
        "gone, then full",
        [OutageBegan(OutageCause.NO_ANSWER, 2.0, 1.0), OutageContinues(OutageCause.NO_ROOM, 3.0, math.inf)],
        {"outage": OutageCause.NO_ROOM, "next_attempt_s": math.inf},
    ),
    ("connecting", [Connecting("http://pacs.example")], {"connecting_to": "http://pacs.example"}),
    (
        "tuned",
        [Connecting("http://pacs.example"), LimitsChanged(8, 4, BatchLimits(2**20, 50), 10.0)],
        {
            "allowed_requests": 8,
            "concurrency": 4,
            "batch_limits": BatchLimits(2**20, 50),
            "server_requests_per_s": 10.0,
        },
    ),
    (
        "for the log",
        [
            CeilingLearned(5),
            RetryScheduled(Store(BATCH), 1.0, None),
            LedgerUpgraded("/run.db-schema-1"),
            SourceOutageBegan(2.0, 1.0),
            SourceOutageEnded(3.0),
        ],
        {},
    ),
    ("counted", [StudiesCounted(LedgerStudies(7, 6))], {"studies": LedgerStudies(7, 6)}),
    ("more processes", [SendersChanged(2)], {"senders": 2}),
    ("workers", [SendersChanged(2, are_workers=True)], {"senders": 2, "senders_are_workers": True}),
    ("back", [OutageBegan(OutageCause.NO_ANSWER, 2.0, 1.0), OutageEnded(10.0)], {}),
]


@pytest.mark.parametrize(("events", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_event_changes_its_figures(events: list[Event], expected: dict[str, object]) -> None:
    """Each event changes its own figures and no others."""
    tally = Tally()
    for event in events:
        tally.tell(event)
    assert figures(tally) == expected


def test_every_event_is_in_the_table() -> None:
    """Every kind of event has a row in the table."""
    timed = {RequestTimed, SendersMeasured, Waited}  # these are told by the clock, in a test of their own
    assert {type(event) for _, events, _ in CASES for event in events} == set(get_args(Event)) - timed


def test_only_the_first_failures_are_kept() -> None:
    """A run in which everything fails keeps a few failures of each outcome."""
    tally = Tally()
    for number in range(3 * SHOWN_FAILURES):
        tally.tell(Recorded((result(Outcome.REFUSED, str(number)), result(Outcome.UNREADABLE, str(number)))))
        tally.tell(SettledBefore({Outcome.REFUSED: 1}, (result(Outcome.REFUSED, "earlier"),)))
    kept = Counter(failure.outcome for failure in tally.failures)
    assert kept == Counter({Outcome.REFUSED: SHOWN_FAILURES, Outcome.UNREADABLE: SHOWN_FAILURES})
    assert tally.failed == 9 * SHOWN_FAILURES


def test_the_first_failures_are_of_each_outcome() -> None:
    """At least one failure of each outcome is kept, in the order of the table."""
    tally = Tally()
    tally.tell(
        SettledBefore({Outcome.CONFLICT: 9}, tuple(result(Outcome.CONFLICT, str(number)) for number in range(9)))
    )
    tally.tell(
        Recorded((result(Outcome.UNREADABLE, "late"), result(Outcome.REFUSED, "a"), result(Outcome.REFUSED, "b")))
    )
    shown = [(failure.outcome, failure.reason) for failure in tally.first_failures]
    assert shown == [
        (Outcome.REFUSED, "a"),
        (Outcome.REFUSED, "b"),
        (Outcome.CONFLICT, "0"),
        (Outcome.CONFLICT, "1"),
        (Outcome.UNREADABLE, "late"),
    ]


def test_what_an_earlier_run_settled_is_settled_but_not_delivered() -> None:
    """Results of an earlier run count as done and as failed, but not for the speed of this run."""
    tally = Tally()
    tally.tell(SettledBefore({Outcome.STORED: 3, Outcome.REFUSED: 2}))
    tally.tell(Recorded((result(Outcome.STORED),)))
    assert (tally.settled_files, tally.failed, tally.delivered, tally.settled_before) == (6, 2, 1, 5)
    assert tally.failures == []


def test_the_time_without_server_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past outages count with their duration, and the current one from its first failure."""
    monkeypatch.setattr("bulkstow.progress.tally.time", clocks([0.0, 100.0, 200.0, 203.0], [0.0]))
    tally = Tally()
    for event in (OutageBegan(OutageCause.NO_ANSWER, 2.0, 1.0), OutageEnded(10.0)):
        tally.tell(event)
    assert tally.outage_s == 10.0
    tally.tell(OutageBegan(OutageCause.NO_ROOM, 3600.0, 1.0))
    assert tally.outage_s == 10.0 + 3600.0 + 3.0


def test_usage_adds_up_events_and_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests' times and waits add up; elapsed and processor time count from the creation of the tally."""
    monkeypatch.setattr("bulkstow.progress.tally.time", clocks([100.0, 104.5], [7.0, 9.25]))
    tally = Tally()
    timing = RequestTiming(elapsed_s=3, connecting_s=0, reading_s=1, sending_s=1, waiting_s=1)
    for event in (RequestTimed(timing), RequestTimed(timing), Waited(Wait.STUDY, 2.0)):
        tally.tell(event)
    usage = tally.usage
    assert (usage.requests_s, usage.waiting_s, usage.study_limit_s, usage.nothing_to_send_s) == (6, 2, 2, 0)
    assert (usage.elapsed_s, usage.cpu_s) == (4.5, 2.25)
