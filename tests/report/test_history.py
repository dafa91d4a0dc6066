"""The runs of ledgers."""

from __future__ import annotations

from typing import Any

import pytest

from bulkstow.ledger import RunRecord
from bulkstow.report import history
from bulkstow.report.history import history_of
from tests.report.samples import URL

DONE = {"complete": True}


def run(
    number: int, command: str = "upload", summary: Any = DONE, url: str = URL, ledger: str = "", **settings: object
) -> RunRecord:
    """Return a run that began in this minute."""
    version = "0.1.0" if command else ""
    return RunRecord(url, number, f"2026-11-29 21:{number:02}:00", command, version, settings, summary, ledger)


def test_runs_with_the_same_settings_are_one_series() -> None:
    """A nightly job is one series; other settings, another command or another server begin a new one."""
    runs = [run(1), run(2), run(3, concurrency="8"), run(4), run(5, url="http://other.example"), run(6, "verify")]
    found = history_of(runs)
    assert [(series.command, series.runs, series.settings) for series in found.series] == [
        ("upload", 2, {}),
        ("upload", 1, {"concurrency": "8"}),
        ("upload", 1, {}),
        ("upload", 1, {}),
        ("verify", 1, {}),
    ]
    assert (found.series[0].first_started_at, found.series[0].last_started_at) == (
        "2026-11-29 21:01:00",
        "2026-11-29 21:02:00",
    )
    assert (found.runs, found.first_started_at, found.last_started_at) == (
        6,
        "2026-11-29 21:01:00",
        "2026-11-29 21:06:00",
    )
    assert found.destinations == (URL, "http://other.example")
    assert [found.number for found in found.verifications] == [6]


def test_the_last_upload_of_each_ledger_counts() -> None:
    """A later upload covers the files an earlier one left out, but not those left out in another ledger."""
    shards = [run(1, ledger="1.db"), run(2, ledger="1.db", summary=None), run(1, ledger="2.db"), run(2, "verify")]
    assert [(one.ledger, one.number) for one in history_of(shards).last_uploads] == [("1.db", 2), ("2.db", 1)]


def test_only_the_latest_runs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the number of runs; all are counted."""
    monkeypatch.setattr(history, "SHOWN_SERIES", 2)
    monkeypatch.setattr(history, "SHOWN_VERIFICATIONS", 1)
    found = history_of(run(number, "verify", seed=number) for number in range(5))
    assert [series.settings["seed"] for series in found.series] == [3, 4]
    assert [one.number for one in found.verifications] == [4]
    assert found.runs == 5


def test_a_ledger_without_runs_has_a_history() -> None:
    """There is nothing in it."""
    found = history_of([])
    assert (found.runs, found.series, found.destinations, found.first_started_at) == (0, (), (), "")
