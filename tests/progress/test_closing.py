"""The closing text of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bulkstow.events import Event, FilesFound, LeftOut, Recorded, SettledBefore, StudiesCounted
from bulkstow.model import Candidate, FileResult, LedgerStudies, Outcome, Summary
from bulkstow.policy.selection import Filter
from bulkstow.printing import shown
from bulkstow.progress.closing import closing
from bulkstow.progress.tally import Tally

LEDGER = Path("bulkstow.db")


def results(outcome: Outcome, count: int, reason: str = "", path: str = "/archive/IM") -> Recorded:
    """Return the event of `count` results."""
    return Recorded(tuple(FileResult(Candidate(f"{path}{n}", 100, 0), None, outcome, reason) for n in range(count)))


def words(
    *events: Event,
    ledger: Path = LEDGER,
    elapsed_s: float = 10.0,
    complete: bool = True,
    requests: int = 2,
    retries: int = 1,
    outage_s: float = 0.0,
    server_requests_per_s: float | None = None,
    shard: str | None = None,
    empty_sources: tuple[str, ...] = (),
) -> list[str]:
    """Return the lines after these events and two requests, one of them a retry, with 4 MiB."""
    tally = Tally()
    for event in events:
        tally.tell(event)
    summary = Summary(
        destination="http://pacs.example",
        outcomes={outcome: tally.outcomes[outcome] for outcome in Outcome},
        left_out={filter_.value: count for filter_, count in tally.left_out.items()},
        pruned_directories=tally.pruned_directories,
        accepted=tally.accepted.total(),
        settled_before=tally.settled_before,
        bytes_sent=4 * 2**20,
        requests=requests,
        retries=retries,
        elapsed_s=elapsed_s,
        concurrency=4,
        complete=complete,
        outage_s=outage_s,
        server_requests_per_s=server_requests_per_s,
        shard=shard,
        empty_sources=empty_sources,
    )
    return closing(summary, tally, ledger).splitlines()


def test_the_shard_is_named() -> None:
    """The first line has the shard; a shard without files is told apart from a source without files."""
    assert words(FilesFound(1, 0), results(Outcome.STORED, 1), shard="3/16")[0] == "shard 3/16 of the source"
    assert words(shard="3/16")[:2] == [
        "shard 3/16 of the source",
        "no file of the source is in this shard; if most shards have none, give another --shard-level",
    ]
    assert words(shard="3/16", empty_sources=("/archive",))[1] == "no files found"
    assert words(shard="3/16", complete=False)[1] == "no files found"


COUNTED = LedgerStudies(
    known=415, complete=412, sent=3, by_outcome=dict.fromkeys(Outcome, 2), files=1234, failures_without=0
)


def test_studies_are_counted() -> None:
    """The table has the studies of each outcome, and a line for how many of them everything arrived."""
    lines = words(FilesFound(1234, 0), results(Outcome.STORED, 1234), StudiesCounted(COUNTED))
    assert lines[:3] == [
        "outcome            files     studies",
        "stored             1,234           2",
        "everything arrived: 412 of 415 studies",
    ]


@pytest.mark.parametrize(
    ("studies", "changes", "line"),
    [
        (replace(COUNTED, known=1, complete=1), {}, "everything arrived: 1 of 1 study"),
        (
            replace(COUNTED, failures_without=8),
            {},
            "everything arrived: 412 of 415 studies; 8 failures of no known study",
        ),
        (COUNTED, {"shard": "3/16"}, "everything in this shard arrived: 412 of 415 studies"),
        (
            replace(COUNTED, files=1239),
            {},
            "everything arrived: 412 of 415 studies, 5 other files of the ledger included",
        ),
        (replace(COUNTED, known=0), {}, None),
        (COUNTED, {"complete": False}, None),
        (None, {}, None),
    ],
    ids=["one", "unknown", "shard", "other files", "no study", "incomplete", "not counted"],
)
def test_how_many_studies_arrived(studies: LedgerStudies | None, changes: dict[str, Any], line: str | None) -> None:
    """The text names included and unknown files; an incomplete run does not say that everything arrived."""
    lines = words(FilesFound(1234, 0), results(Outcome.STORED, 1234), StudiesCounted(studies), **changes)
    assert [found for found in lines if found.startswith("everything")] == ([] if line is None else [line])


def test_an_accepted_failure_has_not_arrived() -> None:
    """A study with accepted failures counts, and the text says so."""
    refused = results(Outcome.REFUSED, 4, "no")
    accepted = Recorded(tuple(replace(result, accepted="known") for result in refused.results))
    lines = words(FilesFound(1234, 0), results(Outcome.STORED, 1230), accepted, StudiesCounted(COUNTED))
    assert "everything arrived, or is accepted: 412 of 415 studies" in lines


def test_a_filter_limits_what_arrived() -> None:
    """Files that a filter left out may belong to the same studies."""
    left_out = LeftOut({Filter.MODALITY: 3})
    lines = words(results(Outcome.STORED, 1234), left_out, StudiesCounted(COUNTED))
    assert "everything that was selected arrived: 412 of 415 studies" in lines


def test_the_table_has_no_studies_of_other_files() -> None:
    """If the ledger has files that this run has not found, its studies are not those of the table."""
    studies = replace(COUNTED, files=1235)
    assert words(results(Outcome.STORED, 1234), StudiesCounted(studies))[:2] == [
        "outcome            files",
        "stored             1,234",
    ]


def test_accepted_failures_are_told_apart() -> None:
    """They are counted beside their outcome, and are not among the first failures."""
    (refused,) = results(Outcome.REFUSED, 1, "no").results
    noted = Recorded((replace(refused, accepted="known"),))
    lines = words(results(Outcome.STORED, 1), results(Outcome.REFUSED, 2, "no"), noted)
    assert lines[2] == "refused                3  (1 accepted)"
    assert lines[-1] == "all failures: bulkstow report bulkstow.db --outcome refused"
    assert len([line for line in lines if line.startswith("  refused /archive")]) == 2
    green = words(results(Outcome.STORED, 1), noted, StudiesCounted(replace(COUNTED, files=2)))
    assert green[2] == "refused                1           2  (1 accepted)"
    assert "first failures:" not in green
    assert green[-1] == "accepted failures: bulkstow report bulkstow.db --outcome refused"


def test_all_is_well() -> None:
    """The text has a table, the figures, and the command that lists every file."""
    assert words(FilesFound(1234, 0), results(Outcome.STORED, 1234)) == [
        "outcome            files",
        "stored             1,234",
        "4MiB in 2 requests, 1 retry, 4 at once, 10s, 123 instances/s, 419kB/s",
        "every file: bulkstow report bulkstow.db",
    ]


def test_time_without_server_is_told() -> None:
    """The time without the server is shown if there was an outage."""
    assert "time without the server: 31s" in words(results(Outcome.STORED, 1), outage_s=31.0)
    assert not any("without server" in line for line in words(results(Outcome.STORED, 1)))


def test_the_rate_that_a_server_accepts_is_told() -> None:
    """The rate that the server accepts is shown rounded, if it rejected more."""
    told = "the server accepts about 9.7 requests per second, and rejects more"
    assert told in words(results(Outcome.STORED, 1), server_requests_per_s=9.74)
    assert not any("the server accepts" in line for line in words(results(Outcome.STORED, 1)))


def test_failures_are_shown_and_the_way_to_the_rest() -> None:
    """The first five failures are shown with their reasons, and the command that lists all of these outcomes."""
    lines = words(
        results(Outcome.UNREADABLE, 1, "cut off"), results(Outcome.REFUSED, 7, "no"), results(Outcome.STORED, 2)
    )
    assert lines[:4] == [
        "outcome            files",
        "stored                 2",
        "refused                7",
        "unreadable             1",
    ]
    assert lines[5:] == [
        "first failures:",
        *(f"  refused /archive/IM{number}: no" for number in range(4)),
        "  unreadable /archive/IM0: cut off",
        "all failures: bulkstow report bulkstow.db --outcome refused,unreadable",
    ]


def test_failures_of_an_earlier_run_are_not_forgotten() -> None:
    """Failures of an earlier run are shown like those of this run, at most five, with the reasons for skipping."""
    (refused,) = results(Outcome.REFUSED, 1, "no").results
    skipped = results(Outcome.SKIPPED, 2, "\x1b[2Jodd: see /a").results
    lines = words(SettledBefore({Outcome.STORED: 5, Outcome.REFUSED: 1, Outcome.SKIPPED: 2}, (refused, *skipped)))
    assert "  8 of them by an earlier run: nothing was sent for them" in lines
    assert r"  skipped 2: \x1b[2Jodd" in lines
    assert lines[-3:] == [
        "first failures:",
        "  refused /archive/IM0: no",
        "all failures: bulkstow report bulkstow.db --outcome refused",
    ]


def test_skips_have_their_reasons() -> None:
    """Each reason for skipping is shown once, the most frequent first."""
    skips = (results(Outcome.SKIPPED, 2, "empty"), results(Outcome.SKIPPED, 3, "a second copy, same bytes: see /a"))
    lines = words(*skips)
    assert lines[1:4] == [
        "skipped                5",
        "  skipped 3: a second copy, same bytes",
        "  skipped 2: empty",
    ]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((), "no files found"),
        ((FilesFound(3, 30),), "no file has an outcome yet"),
        ((LeftOut({Filter.EXCLUDE: 1}),), "nothing was selected: the filters leave out every file"),
        ((LeftOut({}, 1),), "nothing was selected: the filters leave out every file"),
    ],
    ids=["nothing there", "stopped before", "left out", "directory left out"],
)
def test_nothing_was_done(events: tuple[Event, ...], expected: str) -> None:
    """A sentence replaces an empty table."""
    assert words(*events)[0] == expected


def test_files_that_were_left_out_are_counted_by_filter() -> None:
    """The filter that leaves out most comes first; directories are counted by themselves."""
    left_out = LeftOut({Filter.EXCLUDE: 34, Filter.MODALITY: 1200})
    lines = words(results(Outcome.STORED, 1), left_out, LeftOut({}, 2))
    assert lines[2:4] == [
        "left out 1,234 files: 1,200 by --modality, 34 by --exclude",
        "2 directories not entered because of --exclude",
    ]
    assert words(results(Outcome.STORED, 1), LeftOut({Filter.MIN_AGE: 1}))[2] == "left out 1 file: 1 by --min-age"
    assert words(LeftOut({Filter.EXCLUDE: 1}), complete=False)[0] == "nothing selected yet"


def test_an_incomplete_run_says_how_to_go_on() -> None:
    """The hint that the run is not complete comes last, without the command that lists every file."""
    lines = words(results(Outcome.STORED, 1), results(Outcome.REFUSED, 1, "no"), complete=False)
    assert lines[-2].startswith("all failures: ")
    assert lines[-1] == "not complete: run the same command again to continue where it stopped"
    assert "every file: bulkstow report bulkstow.db" not in words(results(Outcome.STORED, 1), complete=False)


@pytest.mark.parametrize(
    ("requests", "retries", "expected"),
    [(0, 0, "no requests, no retries"), (1, 0, "1 request, no retries"), (1234, 2, "1,234 requests, 2 retries")],
)
def test_numbers_of_requests_have_singular_and_plural(requests: int, retries: int, expected: str) -> None:
    """One request is singular."""
    assert any(f" in {expected}, " in line for line in words(requests=requests, retries=retries))


def test_no_time_is_no_division_by_zero() -> None:
    """A run may take no time by the clock."""
    assert "4MiB in 2 requests, 1 retry, 4 at once, 0ms, 0 instances/s, 0B/s" in words(elapsed_s=0.0)


def test_the_command_can_be_pasted() -> None:
    """A ledger with spaces in its name is quoted."""
    assert words(ledger=Path("my ledger.db"))[-1] == "every file: bulkstow report 'my ledger.db'"


def test_no_name_steers_the_terminal() -> None:
    """Paths, reasons (which may contain a link's target) and the ledger's name are escaped and can be encoded."""
    odd = "\x1b[2J\udcff\n"
    text = "\n".join(words(results(Outcome.UNREADABLE, 1, f"a link to nothing: {odd}", path=odd), ledger=Path(odd)))
    assert "\x1b" not in text
    assert r"  unreadable \x1b[2J\udcff\n0: a link to nothing: \x1b[2J\udcff\n" in text
    text.encode()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/archive/study 1/Übung/画像", "/archive/study 1/Übung/画像"),
        ("a\tb\nc\rd\x00e\x7f", r"a\tb\nc\rd\x00e\x7f"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("caf\udce9", r"caf\udce9"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("", ""),
    ],
    ids=["letters", "controls", "title", "C1", "bytes", "right to left", "empty"],
)
def test_paths_are_shown(path: str, expected: str) -> None:
    """Letters of all scripts are shown; characters that control a terminal are escaped."""
    assert shown(path) == expected
