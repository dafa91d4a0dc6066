"""The parts of the sign-off page about the runs: verifications with their levels, uploads with their settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bulkstow.ledger import RunRecord
from bulkstow.pages.markup import Table, note, tag, text
from bulkstow.quantities import counted
from bulkstow.report.aggregate import Aggregate
from bulkstow.report.fields import as_time
from bulkstow.report.history import History, has_finished
from bulkstow.report.rows import OutcomeRow
from bulkstow.report.writing import UNKNOWN

_OF_INSTANCES = ("expected", "found", "missing", "different", "extra")
"""Sums of instances in the summary of a verification."""

SHOWN_VALUES = 20
"""Values of one setting that are shown, such as sources: a shell may expand a pattern to thousands."""


def verification(counts: Aggregate, history: History, outcomes: list[OutcomeRow]) -> Iterator[str]:
    """Return the verified files by level, and the runs of `verify`, the latest first."""
    levels = counts.by_level()
    if levels:
        stored = sum(row.files for row in outcomes if row.outcome.is_success)
        cells = (
            (
                row.level,
                f"{row.files:,}",
                f"{row.files / max(stored, 1):.1%}",
                _time(row.first_at_s),
                _time(row.last_at_s),
            )
            for row in levels
        )
        headings = ("level", "files", "of the stored", "first", "last")
        yield Table(headings, tuple(cells)).markup("levels of verification")
    else:
        yield tag("p", "No instance has been verified.")
    if history.verifications:
        headings = ("started", "level", "sample", "seed", "result")
        runs = tuple(map(_verification_cells, reversed(history.verifications)))
        yield Table(headings, runs, words=("result",)).markup("runs of verify")


def _time(at_s: int | None) -> str:
    return as_time(at_s) or UNKNOWN


def _verification_cells(run: RunRecord) -> tuple[str, ...]:
    settings = (str(run.settings.get(name) or UNKNOWN) for name in ("level", "sample", "seed"))
    return utc(run.started_at), *settings, _result(run)


def _result(run: RunRecord) -> str:
    """Return the result of a verification in words: its studies by state, and its sums of instances."""
    if run.summary is None:
        return "did not finish"
    figures = {name: value for name, value in run.summary.items() if isinstance(value, int)}
    states = run.summary.get("states")
    by_state = states.items() if isinstance(states, Mapping) else ()
    studies = ", ".join(f"{count:,} {state}" for state, count in by_state if count)
    instances = ", ".join(f"{figures[name]:,} {name}" for name in _OF_INSTANCES if name in figures)
    words = (
        "" if has_finished(run) else "did not finish",
        f"{figures.get('studies', 0):,} of {figures.get('studies_in_all', 0):,} studies: {studies or 'none'}",
        instances and f"instances: {instances}",
    )
    return "; ".join(filter(None, words))


def runs_and_settings(history: History) -> Iterator[str]:
    """Return the runs with their versions and settings, the latest first."""
    if not history.series:
        yield tag("p", "There are no runs.")
        return
    shown = sum(series.runs for series in history.series)
    if shown < history.runs:
        yield note(f"The latest {shown:,} of {history.runs:,} runs.")
    for series in reversed(history.series):
        command = series.command or "upload by an older bulkstow"
        span = utc(series.first_started_at)
        if series.runs > 1:
            span = f"{counted(series.runs, 'run')}, {span} to {utc(series.last_started_at)}"
        unfinished = f", {series.unfinished:,} not finished" if series.unfinished else ""
        version = f", version {series.version}" if series.version else ""
        yield tag("h3", text(f"{command}: {span}{unfinished}{version}"))
        yield tag("p", text("to "), tag("code", text(series.destination)))
        if series.settings:
            yield tag("p", tag("code", text(_settings(series.settings))), class_="settings")


def _settings(settings: Mapping[str, Any]) -> str:
    """Return the settings in words, without unset ones; zero is a set value."""
    return ", ".join(
        f"{name} = {_setting(value)}"
        for name, value in settings.items()
        if value is not None and value is not False and value not in ("", [], {})
    )


def _setting(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    more = f" and {len(value) - SHOWN_VALUES:,} more" if len(value) > SHOWN_VALUES else ""
    return " ".join(map(str, value[:SHOWN_VALUES])) + more


def utc(sqlite_time: str) -> str:
    """Return a time of SQLite in the notation of the others."""
    return f"{sqlite_time.replace(' ', 'T')}Z"
