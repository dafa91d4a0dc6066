"""The log of a run: a line for each request, failure, retry, outage and change of limits, for later analysis.

A line contains paths and UIDs, but no name or ID of a patient. The run never waits for the log: a thread writes the
lines (`background`), and if it fails the run continues.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from bulkstow.config import SelectionSettings, UploadSettings
from bulkstow.events import (
    CeilingLearned,
    Connecting,
    Disposed,
    Event,
    LedgerUpgraded,
    LimitsChanged,
    Outage,
    OutageBegan,
    OutageContinues,
    OutageEnded,
    Recorded,
    RequestEnded,
    RequestTimed,
    RetryScheduled,
    ScanEnded,
    SendersChanged,
    SourceOutageBegan,
    SourceOutageEnded,
    StudyVerified,
    Vanished,
    Watching,
    WatchNote,
)
from bulkstow.model import Batch, Exchange, FileResult, NoResponse, RequestTiming, Response, SourceChanged, Summary
from bulkstow.policy.work_items import Query
from bulkstow.progress.background import BackgroundStream

Fields = Mapping[str, object]

_BARE = re.compile(r"[\w.:/+@%-]+", re.ASCII)
"""A value that needs no quotes in the text notation."""


class Log:
    """Writes events as lines; calls `warn` once if they cannot be written."""

    def __init__(
        self, path: Path, notation: Literal["text", "json"], stream: BackgroundStream, warn: Callable[[str], None]
    ) -> None:
        self._path = path
        self._line = _as_json if notation == "json" else _as_words
        self._stream = stream
        self._warn = warn
        self._has_warned = False
        self._dropped = 0
        self._limits: Fields = {}
        self._pending = -1
        """Files that waited when the run last waited for changes."""
        self._timing: dict[int, RequestTiming] = {}
        """Timings of requests that are about to end, by the batch's number."""

    def begin(self, fields: Fields) -> None:
        """Write the settings of a run."""
        self._put("start", fields)

    def end(self, summary: Summary) -> None:
        """Write how a run ended."""
        results = {outcome.value: count for outcome, count in summary.outcomes.items() if count}
        reason = {"reason": summary.stopped_because} if summary.stopped_because else {}
        left_out = {"left_out": dict(summary.left_out)} if summary.left_out else {}
        self.end_with({"exit_status": summary.exit_status, **reason, **results, **left_out})

    def end_with(self, fields: Fields) -> None:
        """Write the end of a run with figures of another kind."""
        self._put("end", fields)

    def tell(self, event: Event) -> None:
        """Write the line of an event, if it has one."""
        match event:
            case RequestTimed(timing, Batch(number=number)):
                self._timing[number] = timing
            case RequestEnded(batch, exchange, elapsed_s):
                self._put("request", _request(batch, exchange, elapsed_s, self._timing.pop(batch.number, None)))
            case Recorded(results):
                for failure in (result for result in results if result.is_failure):
                    self._put("failure", _failure(failure))
            case RetryScheduled(item, delay_s, after):
                kind = "query" if isinstance(item, Query) else "store"
                what = {"batch": item.batch.number, "instances": len(item.batch.instances), "kind": kind}
                self._put("retry", {**what, "delay_s": _rounded(delay_s), **_ending(after)})
            case OutageBegan() | OutageContinues() | OutageEnded() | SourceOutageBegan() | SourceOutageEnded():
                self._put(*_outage(event))
            case LimitsChanged():
                self._put_limits(_limits(event))
            case CeilingLearned() | Connecting() | SendersChanged() | ScanEnded() | LedgerUpgraded() | WatchNote():
                self._put(*_change(event))
            case StudyVerified(result):
                self._put("study", dataclasses.asdict(result))
            case Disposed() | Vanished() | Watching():
                self._put_after(event)
            case _:
                pass

    def _put_after(self, event: Disposed | Vanished | Watching) -> None:
        match event:
            case Watching(is_waiting, pending):
                if is_waiting and pending != self._pending:  # a scan every minute that finds nothing is not logged
                    self._put("waiting", {"pending": pending})
                self._pending = pending if is_waiting else self._pending
            case Disposed(action, files, kept):
                if files:
                    self._put(action, {"files": files})
                for path, reason in kept:
                    self._put("kept", {"path": path, "reason": reason})
            case Vanished(locations):
                for path in locations:
                    self._put("gone", {"path": path})

    def _put_limits(self, limits: Fields) -> None:
        if limits != self._limits:  # rounded: the server's rate changes a little with every request
            self._limits = limits
            self._put("limits", limits)

    def _put(self, event: str, fields: Fields) -> None:
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        if self._stream.dropped != self._dropped:
            count, self._dropped = self._stream.dropped - self._dropped, self._stream.dropped
            self._stream.write(self._line({"time": now, "event": "dropped", "lines": count}))
        self._stream.write(self._line({"time": now, "event": event, **fields}))
        if self._stream.failure is not None and not self._has_warned:
            self._has_warned = True
            why = getattr(self._stream.failure, "strerror", None) or self._stream.failure
            self._warn(f"--log {self._path}: ends here, cannot be written ({why})")


def settings_of(settings: UploadSettings | SelectionSettings) -> dict[str, object]:
    """Return settings by name, as text if JSON has no type for them, without the fields that `repr` leaves out."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings) if field.repr}
    return {name: _as_json_value(value) for name, value in values.items()}


def _as_json_value(value: object) -> object:
    if isinstance(value, tuple):
        return [_as_json_value(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _request(batch: Batch, exchange: Exchange | None, elapsed_s: float, timing: RequestTiming | None) -> Fields:
    what = {
        "batch": batch.number,
        "instances": len(batch.instances),
        "size_bytes": batch.size_bytes,
        "attempt": batch.requests + 1,
    }
    timings: Fields = {}
    if timing is not None:
        timings = {name: _rounded(value) for name, value in dataclasses.asdict(timing).items() if name != "elapsed_s"}
    return {**what, **(_ending(exchange) or {"error": "cancelled"}), "elapsed_s": _rounded(elapsed_s), **timings}


def _failure(failure: FileResult) -> Fields:
    uid = {"sop_instance_uid": failure.header.sop_instance_uid} if failure.header else {}
    why = {"outcome": failure.outcome.value, "reason": failure.reason, "attempts": failure.attempts}
    return {"path": failure.candidate.location, **uid, **why}


def _ending(exchange: Exchange | None) -> Fields:
    match exchange:
        case Response(status=status):
            return {"status": status}
        case NoResponse(cause=cause, detail=detail):
            return {"error": cause.value, **({"detail": detail} if detail else {})}
        case SourceChanged(changed=changed):
            return {"error": "files changed", "changed": dict(changed)}
        case None:
            return {}


def _outage(event: Outage | SourceOutageBegan | SourceOutageEnded) -> tuple[str, Fields]:
    match event:
        case SourceOutageBegan(lasted_s, next_s):
            return "source_outage_begin", {"lasted_s": _rounded(lasted_s), "next_attempt_in_s": _rounded(next_s)}
        case SourceOutageEnded(duration_s):
            return "source_outage_end", {"duration_s": _rounded(duration_s)}
        case OutageBegan(cause, lasted_s, next_s):
            name = "outage_begin"
        case OutageContinues(cause, lasted_s, next_s):
            name = "outage"
        case OutageEnded(duration_s):
            return "outage_end", {"duration_s": _rounded(duration_s)}
    at = {"next_attempt_in_s": _rounded(next_s)} if next_s < math.inf else {}
    return name, {"cause": cause.value, "lasted_s": _rounded(lasted_s), **at}


def _change(
    event: CeilingLearned | Connecting | SendersChanged | ScanEnded | LedgerUpgraded | WatchNote,
) -> tuple[str, Fields]:
    match event:
        case WatchNote(text):
            return "watch", {"note": text}
        case ScanEnded(empty_sources):
            return "scan_end", {"empty_sources": list(empty_sources)} if empty_sources else {}
        case LedgerUpgraded(kept_copy):
            return "ledger_upgrade", {"kept_copy": kept_copy}
        case CeilingLearned(size_bytes):
            return "ceiling", {"size_bytes": size_bytes}
        case Connecting(url):
            return "connect", {"url": url}
        case SendersChanged(senders, are_workers):
            return ("workers", {"workers": senders}) if are_workers else ("processes", {"processes": 1 + senders})


def _limits(tuned: LimitsChanged) -> Fields:
    rate_per_s = tuned.server_requests_per_s
    return {
        "concurrency": tuned.concurrency,
        "settled_concurrency": tuned.settled_concurrency,
        "batch_bytes": tuned.batch_limits.size_bytes,
        "batch_instances": tuned.batch_limits.instances,
        **({} if rate_per_s is None else {"server_requests_per_s": float(f"{rate_per_s:.2g}")}),
    }


def _rounded(duration_s: float) -> float:
    return round(duration_s, 4)


def _as_json(fields: Fields) -> str:
    return json.dumps(fields) + "\n"


def _as_words(fields: Fields) -> str:
    time, event, *others = fields.items()
    words = [f"{name}={_word(value)}" for name, value in others]
    return " ".join([str(time[1]), str(event[1]), *words]) + "\n"


def _word(value: object) -> str:
    """Return a value without spaces and control characters, in JSON notation unless it is a bare word."""
    return value if isinstance(value, str) and _BARE.fullmatch(value) else json.dumps(value)
