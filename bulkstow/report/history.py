"""The runs in ledgers, for the page of the sign-off; runs with the same settings are grouped."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bulkstow.ledger import RunRecord

VERIFY = "verify"
"""The command of runs that compare with the server."""

SHOWN_SERIES = 30
"""Series of runs on the page, the latest ones; a nightly job with the same settings is one series."""

SHOWN_VERIFICATIONS = 30
"""Runs of `verify` on the page, the latest ones."""


@dataclass(frozen=True, slots=True)
class RunSeries:
    """Consecutive runs of the same command of the same version with the same settings to the same destination."""

    destination: str
    command: str
    version: str
    settings: Mapping[str, Any]
    runs: int
    first_started_at: str
    last_started_at: str
    unfinished: int
    """How many of them were interrupted, stopped or killed, or are still running."""


@dataclass(frozen=True, slots=True)
class History:
    """The runs of ledgers."""

    runs: int
    series: tuple[RunSeries, ...]
    """The latest ones."""
    verifications: tuple[RunRecord, ...]
    """The latest runs of `verify`."""
    destinations: tuple[str, ...]
    first_started_at: str
    """UTC; empty if there are no runs."""
    last_started_at: str
    last_uploads: tuple[RunRecord, ...]
    """The last upload of each ledger to each destination."""


def history_of(runs: Iterable[RunRecord]) -> History:
    """Return the history of runs in the order of each ledger; only the runs for the page are kept."""
    series: deque[RunSeries] = deque(maxlen=SHOWN_SERIES)
    verifications: deque[RunRecord] = deque(maxlen=SHOWN_VERIFICATIONS)
    last_uploads: dict[tuple[str, str], RunRecord] = {}
    destinations: dict[str, None] = {}
    count = 0
    first = last = ""
    for run in runs:
        count += 1
        first, last = min(first or run.started_at, run.started_at), max(last, run.started_at)
        destinations[run.destination] = None
        if run.command == VERIFY:
            verifications.append(run)
        else:
            last_uploads[run.ledger, run.destination] = run
        if series and _is_alike(series[-1], run):
            series.append(_extended(series.pop(), run))
        else:
            series.append(_begun(run))
    uploads = tuple(last_uploads.values())
    return History(count, tuple(series), tuple(verifications), tuple(destinations), first, last, uploads)


def has_finished(run: RunRecord) -> bool:
    """Return whether a run ended; rows of an older bulkstow do not record it."""
    return run.summary is not None and bool(run.summary.get("complete"))


def _is_alike(series: RunSeries, run: RunRecord) -> bool:
    before = (series.destination, series.command, series.version, series.settings)
    return before == (run.destination, run.command, run.version, run.settings)


def _begun(run: RunRecord) -> RunSeries:
    unfinished = int(bool(run.command) and not has_finished(run))
    return RunSeries(
        run.destination, run.command, run.version, run.settings, 1, run.started_at, run.started_at, unfinished
    )


def _extended(series: RunSeries, run: RunRecord) -> RunSeries:
    unfinished = series.unfinished + int(bool(run.command) and not has_finished(run))
    return replace(series, runs=series.runs + 1, last_started_at=run.started_at, unfinished=unfinished)
