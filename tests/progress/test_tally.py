"""Counting: each event, and what it does to the figures."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest

from bulkstow.model import Batch, Candidate, Fate, Instance, Outcome, Spent
from bulkstow.policy.batching import BatchLimits
from bulkstow.policy.bottleneck import Wait
from bulkstow.policy.errands import Send
from bulkstow.policy.health import OutageCause
from bulkstow.progress.events import (
    CeilingLearned,
    Connecting,
    Counted,
    Ended,
    Event,
    Found,
    Known,
    OutageBegan,
    OutageContinues,
    OutageEnded,
    Recorded,
    Reopened,
    RetryScheduled,
    ScanEnded,
    Started,
    Taken,
    Timed,
    Tuned,
    Upgraded,
    Waited,
)
from bulkstow.progress.tally import SHOWN_FAILURES, Tally
from tests.archives import header

BATCH = Batch(1, (Instance(Candidate("/1", 100, 0), header(1)), Instance(Candidate("/2", 200, 0), header(2))))


def outcome(fate: Fate, reason: str = "", *, size_bytes: int = 100) -> Outcome:
    """Return an outcome."""
    return Outcome(Candidate(f"/{fate}", size_bytes, 0), None, fate, reason)


CONFLICT = outcome(Fate.CONFLICT, "other bytes")
COPY = outcome(Fate.SKIPPED, "a copy: see /a")


def figures(tally: Tally) -> dict[str, object]:
    """Return the figures that are not as they begin."""
    begun = vars(Tally())
    return {name: value for name, value in vars(tally).items() if name[0] != "_" and value != begun[name]}


CASES: list[tuple[str, list[Event], dict[str, object]]] = [
    ("found", [Found(3, 600), Found(2, 50)], {"found_files": 5, "found_bytes": 650}),
    ("found twice", [Found(3, 600), Found(-1, -100)], {"found_files": 2, "found_bytes": 500}),
    (
        "known",
        [Known({Fate.STORED: 3, Fate.SKIPPED: 1}), Known({Fate.STORED: 1})],
        {"outcomes": Counter({Fate.STORED: 4, Fate.SKIPPED: 1}), "settled_before": 5},
    ),
    (
        "known failures",
        [
            Known(
                {Fate.REFUSED: 1, Fate.SKIPPED: 2}, (outcome(Fate.REFUSED, "no"), COPY, outcome(Fate.SKIPPED, "empty"))
            )
        ],
        {
            "outcomes": Counter({Fate.REFUSED: 1, Fate.SKIPPED: 2}),
            "settled_before": 3,
            "skip_reasons": Counter({"a copy": 1, "empty": 1}),
            "failures": [outcome(Fate.REFUSED, "no")],
        },
    ),
    ("scan ended", [ScanEnded()], {"scan_ended": True}),
    ("started", [Started(BATCH)], {"requests": 1, "requests_in_flight": 1}),
    ("started again", [Started(replace(BATCH, requests=2))], {"requests": 1, "retries": 1, "requests_in_flight": 1}),
    ("ended", [Started(BATCH), Started(BATCH), Ended(BATCH)], {"requests": 2, "requests_in_flight": 1}),
    ("taken", [Taken(1000), Taken(24)], {"sent_bytes": 1024}),
    (
        "recorded",
        [Recorded((outcome(Fate.STORED), outcome(Fate.WARNED), outcome(Fate.DUPLICATE)))],
        {"outcomes": Counter({Fate.STORED: 1, Fate.WARNED: 1, Fate.DUPLICATE: 1}), "delivered": 3},
    ),
    (
        "recorded failures",
        [Recorded((outcome(Fate.REFUSED, "no"), outcome(Fate.UNCONFIRMED), outcome(Fate.UNREADABLE)))],
        {
            "outcomes": Counter({Fate.REFUSED: 1, Fate.UNCONFIRMED: 1, Fate.UNREADABLE: 1}),
            "failures": [outcome(Fate.REFUSED, "no"), outcome(Fate.UNCONFIRMED), outcome(Fate.UNREADABLE)],
        },
    ),
    (
        "recorded skips",
        [Recorded((outcome(Fate.SKIPPED, "empty"), COPY, outcome(Fate.SKIPPED, "a copy: see /b")))],
        {"outcomes": Counter({Fate.SKIPPED: 3}), "skip_reasons": Counter({"a copy": 2, "empty": 1})},
    ),
    (
        "reopened",
        [Found(2, 200), Recorded((COPY, outcome(Fate.STORED))), Reopened((COPY,))],
        {
            "found_files": 1,
            "found_bytes": 100,
            "outcomes": Counter({Fate.STORED: 1, Fate.SKIPPED: 0}),
            "delivered": 1,
        },
    ),
    (
        "reopened failure",
        [Found(2, 200), Recorded((CONFLICT, outcome(Fate.REFUSED))), Reopened((replace(CONFLICT, reason="as read"),))],
        {
            "found_files": 1,
            "found_bytes": 100,
            "outcomes": Counter({Fate.CONFLICT: 0, Fate.REFUSED: 1}),
            "failures": [outcome(Fate.REFUSED)],
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
        [Connecting("http://pacs.example"), Tuned(8, 4, BatchLimits(2**20, 50), 10.0)],
        {
            "allowed_requests": 8,
            "concurrency": 4,
            "batch_limits": BatchLimits(2**20, 50),
            "server_requests_per_s": 10.0,
        },
    ),
    ("for the log", [CeilingLearned(5), RetryScheduled(Send(BATCH), 1.0, None), Upgraded("/run.db-schema-1")], {}),
    ("counted", [Counted(7)], {"studies": 7}),
    ("back", [OutageBegan(OutageCause.NO_ANSWER, 2.0, 1.0), OutageEnded(10.0)], {}),
]


@pytest.mark.parametrize(("events", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_event_changes_its_figures(events: list[Event], expected: dict[str, object]) -> None:
    """And no others."""
    tally = Tally()
    for event in events:
        tally.tell(event)
    assert figures(tally) == expected


def test_every_event_is_in_the_table() -> None:
    """Whoever adds an event adds a row for it."""
    timed = {Timed, Waited}  # these are told by the clock, in a test of their own
    assert {type(event) for _, events, _ in CASES for event in events} == set(get_args(Event)) - timed


def test_only_the_first_failures_are_kept() -> None:
    """A run in which everything fails keeps a handful of each fate."""
    tally = Tally()
    for number in range(3 * SHOWN_FAILURES):
        tally.tell(Recorded((outcome(Fate.REFUSED, str(number)), outcome(Fate.UNREADABLE, str(number)))))
        tally.tell(Known({Fate.REFUSED: 1}, (outcome(Fate.REFUSED, "earlier"),)))
    kept = Counter(failure.fate for failure in tally.failures)
    assert kept == Counter({Fate.REFUSED: SHOWN_FAILURES, Fate.UNREADABLE: SHOWN_FAILURES})
    assert tally.failed == 9 * SHOWN_FAILURES


def test_the_first_failures_are_of_each_fate() -> None:
    """Many of one fate do not hide the only one of another; they come in the order of the table."""
    tally = Tally()
    tally.tell(Known({Fate.CONFLICT: 9}, tuple(outcome(Fate.CONFLICT, str(number)) for number in range(9))))
    tally.tell(Recorded((outcome(Fate.UNREADABLE, "late"), outcome(Fate.REFUSED, "a"), outcome(Fate.REFUSED, "b"))))
    shown = [(failure.fate, failure.reason) for failure in tally.first_failures]
    assert shown == [
        (Fate.REFUSED, "a"),
        (Fate.REFUSED, "b"),
        (Fate.CONFLICT, "0"),
        (Fate.CONFLICT, "1"),
        (Fate.UNREADABLE, "late"),
    ]


def test_what_an_earlier_run_settled_is_settled_but_not_delivered() -> None:
    """It counts as done and as failed, and not for the speed of this run."""
    tally = Tally()
    tally.tell(Known({Fate.STORED: 3, Fate.REFUSED: 2}))
    tally.tell(Recorded((outcome(Fate.STORED),)))
    assert (tally.settled_files, tally.failed, tally.delivered, tally.settled_before) == (6, 2, 1, 5)
    assert tally.failures == []


def test_the_time_without_server_adds_up() -> None:
    """Past outages by what they took, and one that goes on from its first failure."""
    tally = Tally()
    for event in (OutageBegan(OutageCause.NO_ANSWER, 2.0, 1.0), OutageEnded(10.0)):
        tally.tell(event)
    assert (tally.outage_s, tally.usage.outage_s) == (10.0, 10.0)
    tally.tell(OutageBegan(OutageCause.NO_ROOM, 3600.0, 1.0))
    assert 3610.0 <= tally.outage_s < 3620.0


def test_usage_is_what_was_told_and_the_clocks() -> None:
    """Requests' times and waits add up; the clock and the processor's time run from the tally's beginning."""
    tally = Tally()
    spent = Spent(elapsed_s=3, connecting_s=0, reading_s=1, sending_s=1, thinking_s=1)
    for event in (Timed(spent), Timed(spent), Waited(Wait.STUDY, 2.0)):
        tally.tell(event)
    usage = tally.usage
    assert (usage.requests_s, usage.thinking_s, usage.queued_s, usage.starved_s) == (6, 2, 2, 0)
    assert 0 <= usage.elapsed_s <= tally.usage.elapsed_s
    assert 0 <= usage.cpu_s <= tally.usage.cpu_s
