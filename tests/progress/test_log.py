"""The log of a run: the line of each event."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any, Literal

import pytest

from bulkstow.config import UploadSettings
from bulkstow.events import (
    BytesSent,
    CeilingLearned,
    Connecting,
    Disposed,
    Event,
    LedgerUpgraded,
    LimitsChanged,
    OutageBegan,
    OutageContinues,
    OutageEnded,
    Recorded,
    RequestEnded,
    RequestStarted,
    RequestTimed,
    RetryScheduled,
    ScanEnded,
    SendersChanged,
    SourceOutageBegan,
    SourceOutageEnded,
    Vanished,
    Watching,
    WatchNote,
)
from bulkstow.model import (
    Batch,
    Candidate,
    Cause,
    FileResult,
    Instance,
    NoResponse,
    Outcome,
    RequestTiming,
    Response,
    SourceChanged,
)
from bulkstow.policy.batching import BatchLimits
from bulkstow.policy.health import OutageCause
from bulkstow.policy.work_items import Query, Store
from bulkstow.progress.background import BackgroundStream
from bulkstow.progress.log import Log, settings_of
from tests.archives import header

BATCH = Batch(
    7, (Instance(Candidate("/a", 100, 0), header(1)), Instance(Candidate("/b", 200, 0), header(2))), requests=1
)
REQUEST = {"batch": 7, "instances": 2, "size_bytes": 300, "attempt": 2}
SPENT = RequestTiming(
    2.0, connecting_s=0.1, reading_s=0.2, sending_s=0.3, waiting_s=0.4, throttled_s=0.5, receive_window_s=0.6
)
TIMINGS = {"connecting_s": 0.1, "reading_s": 0.2, "sending_s": 0.3, "waiting_s": 0.4, "throttled_s": 0.5}
TIMINGS |= {"receive_window_s": 0.6}
REFUSED = FileResult(Candidate("/a b\n\udcff", 100, 0), header(1), Outcome.REFUSED, "A900 no", attempts=3)


def log(*events: Event, notation: Literal["text", "json"] = "json") -> list[str]:
    """Return the lines of these events."""
    file = io.StringIO()
    stream = BackgroundStream(file)
    writer = Log(Path("run.log"), notation, stream, lambda _: None)
    for event in events:
        writer.tell(event)
    stream.close()
    return file.getvalue().splitlines()


CASES: list[tuple[list[Event], dict[str, Any] | None]] = [
    ([Connecting("http://pacs")], {"event": "connect", "url": "http://pacs"}),
    (
        [RequestEnded(BATCH, Response(200, b""), 1.23456)],
        {"event": "request", **REQUEST, "status": 200, "elapsed_s": 1.2346},
    ),
    (
        [RequestTimed(SPENT, BATCH), RequestEnded(BATCH, Response(503, b""), 2.0)],
        {"event": "request", **REQUEST, "status": 503, "elapsed_s": 2.0, **TIMINGS},
    ),
    (
        [RequestEnded(BATCH, NoResponse(Cause.STALLED, body_started=True, detail="why"), 2.0)],
        {"event": "request", **REQUEST, "error": "server took no bytes", "detail": "why", "elapsed_s": 2.0},
    ),
    (
        [RequestEnded(BATCH, SourceChanged({"1.2": "shorter"}), 2.0)],
        {"event": "request", **REQUEST, "error": "files changed", "changed": {"1.2": "shorter"}, "elapsed_s": 2.0},
    ),
    ([RequestEnded(BATCH)], {"event": "request", **REQUEST, "error": "cancelled", "elapsed_s": 0.0}),
    (
        [Recorded((REFUSED, FileResult(Candidate("/c", 1, 0), None, Outcome.STORED)))],
        {
            "event": "failure",
            "path": "/a b\n\udcff",
            "sop_instance_uid": header(1).sop_instance_uid,
            "outcome": "refused",
            "reason": "A900 no",
            "attempts": 3,
        },
    ),
    (
        [RetryScheduled(Store(BATCH), 0.5, Response(503, b""))],
        {"event": "retry", "batch": 7, "instances": 2, "kind": "store", "delay_s": 0.5, "status": 503},
    ),
    (
        [RetryScheduled(Query(BATCH, "lost"), 0.5, None)],
        {"event": "retry", "batch": 7, "instances": 2, "kind": "query", "delay_s": 0.5},
    ),
    (
        [OutageBegan(OutageCause.NO_ANSWER, 2.0, 1.0)],
        {"event": "outage_begin", "cause": OutageCause.NO_ANSWER.value, "lasted_s": 2.0, "next_attempt_in_s": 1.0},
    ),
    (
        [OutageContinues(OutageCause.NO_ROOM, 3.0, math.inf)],
        {"event": "outage", "cause": OutageCause.NO_ROOM.value, "lasted_s": 3.0},
    ),
    (
        [SourceOutageBegan(2.0, 1.0)],
        {"event": "source_outage_begin", "lasted_s": 2.0, "next_attempt_in_s": 1.0},
    ),
    ([SourceOutageEnded(9.0)], {"event": "source_outage_end", "duration_s": 9.0}),
    ([OutageEnded(9.0)], {"event": "outage_end", "duration_s": 9.0}),
    (
        [LimitsChanged(8, 4, BatchLimits(1024, 50))],
        {"event": "limits", "concurrency": 8, "settled_concurrency": 4, "batch_bytes": 1024, "batch_instances": 50},
    ),
    (
        [LimitsChanged(8, 4, BatchLimits(1024, None), rate_per_s) for rate_per_s in (12.34, 12.35)],
        {
            "event": "limits",
            "concurrency": 8,
            "settled_concurrency": 4,
            "batch_bytes": 1024,
            "batch_instances": None,
            "server_requests_per_s": 12.0,
        },
    ),
    ([CeilingLearned(1024)], {"event": "ceiling", "size_bytes": 1024}),
    ([SendersChanged(2)], {"event": "processes", "processes": 3}),
    ([SendersChanged(2, are_workers=True)], {"event": "workers", "workers": 2}),
    ([ScanEnded()], {"event": "scan_end"}),
    ([LedgerUpgraded("/k")], {"event": "ledger_upgrade", "kept_copy": "/k"}),
    ([ScanEnded(("/empty",))], {"event": "scan_end", "empty_sources": ["/empty"]}),
    ([Disposed("moved", 3)], {"event": "moved", "files": 3}),
    ([Disposed("moved", 0, (("/1", "refused"),))], {"event": "kept", "path": "/1", "reason": "refused"}),
    ([Vanished(("/1",), 5)], {"event": "gone", "path": "/1"}),
    ([WatchNote("by scans")], {"event": "watch", "note": "by scans"}),
    ([Watching(is_waiting=True, pending=2)], {"event": "waiting", "pending": 2}),
    ([Watching(is_waiting=False)], None),
    ([RequestStarted(BATCH), BytesSent(5)], None),
]


@pytest.mark.parametrize(("events", "expected"), CASES, ids=[type(events[-1]).__name__ for events, _ in CASES])
def test_each_event_makes_its_line(events: list[Event], expected: dict[str, Any] | None) -> None:
    """Each event has a JSON object with its time, or no line."""
    lines = [json.loads(line) for line in log(*events)]
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", line.pop("time"))
    assert lines == ([] if expected is None else [expected])


def test_text_values_are_on_one_line() -> None:
    """A text line has time, event, and values by name; spaces, controls and bytes that are not UTF-8 are quoted."""
    (line,) = log(Recorded((REFUSED,)), notation="text")
    assert re.fullmatch(
        r'\S+ failure path="/a b\\n\\udcff" sop_instance_uid=[0-9.]+ outcome=refused reason="A900 no" attempts=3', line
    )


def test_settings_are_told_without_secrets() -> None:
    """All settings are written as JSON values; those of the login belong to the destination, and are not written."""
    told = settings_of(UploadSettings(ledger=Path("l.db"), bandwidth=None))
    assert json.loads(json.dumps(told)) == told
    assert (told["ledger"], told["concurrency"], told["bandwidth"], told["retries"]) == ("l.db", "auto", None, 4)


def test_a_log_that_cannot_be_written_is_told_once() -> None:
    """A disk that is full ends the log, not the run."""

    class Full(io.StringIO):
        def write(self, text: str, /) -> int:
            raise OSError(28, "No space left on device")

    said: list[str] = []
    stream = BackgroundStream(Full())
    writer = Log(Path("run.log"), "text", stream, said.append)
    while stream.failure is None:
        writer.tell(ScanEnded())
    for _ in range(3):
        writer.tell(ScanEnded())
    stream.close()
    assert said == ["--log run.log: ends here, cannot be written (No space left on device)"]
