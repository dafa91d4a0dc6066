"""Several ledgers as one: each file once, in order, with the row that counts."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.errors import LedgerError
from bulkstow.ledger import Entry, Ledger, LedgerReader, read_entries
from bulkstow.model import Candidate, FileResult, Header, Outcome
from tests.archives import header

URL = "http://pacs/dicom-web"
OTHER = "http://archive/dicom-web"


def result(
    path: str, outcome: Outcome, *, size_bytes: int = 5, version: int = 1, uids: Header | None = None, reason: str = ""
) -> FileResult:
    """Return an outcome of a file, with UIDs if it needs some."""
    uids = uids or (header(1) if outcome.is_success else None)
    return FileResult(Candidate(path, size_bytes, version), uids, outcome, reason, 1)


def write(path: Path, *results: FileResult, url: str = URL, at: str = "2026-11-29 10:00:00") -> Path:
    """Record outcomes in a ledger, by a run that started at some time."""
    with Ledger(path, url) as ledger:
        ledger.record(results)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE run SET started_at = ? WHERE id = (SELECT max(id) FROM run)", (at,))
    return path


def test_ledgers_of_shards_are_read_as_one(tmp_path: Path) -> None:
    """Entries come in the order of destination and path, whatever the order of ledgers and destinations in them."""
    one = write(tmp_path / "1.db", result("/a/2", Outcome.STORED), result("/a/4", Outcome.REFUSED))
    write(one, result("/b", Outcome.SKIPPED), url=OTHER)
    two = write(tmp_path / "2.db", result("/a/9", Outcome.STORED), url=OTHER)
    write(two, result("/a/1", Outcome.STORED), result("/a/3", Outcome.CONFLICT))
    empty = write(tmp_path / "3.db")
    expected = [
        (OTHER, "/a/9", "stored"),
        (OTHER, "/b", "skipped"),
        (URL, "/a/1", "stored"),
        (URL, "/a/2", "stored"),
        (URL, "/a/3", "conflict"),
        (URL, "/a/4", "refused"),
    ]
    for paths in ([one, two, empty], [empty, two, one]):
        found = [(e.destination, e.result.candidate.location, e.result.outcome.value) for e in read(paths)]
        assert found == expected
    assert read([one]) == read([one, one]) == list(read_entries(one))


def read(paths: list[Path], outcomes: Iterable[Outcome] = ()) -> list[Entry]:
    """Return the entries of ledgers."""
    with LedgerReader(paths) as reader:
        return list(reader.entries(outcomes))


def shared(*paths: Path) -> int:
    """Return the number of instances that no ledger has whole."""
    with LedgerReader(paths) as reader:
        return reader.count_shared_instances()


EARLY, LATE = "2026-11-29 10:00:00", "2026-11-29 11:00:00"
STORED, REFUSED, UNREADABLE = Outcome.STORED, Outcome.REFUSED, Outcome.UNREADABLE

DECISIONS = [
    # the rows of a file in three ledgers as (start of the run, outcome, version), the number of the one that counts
    ("a success counts", [(EARLY, REFUSED, 1), (LATE, STORED, 1)], 1),
    ("also if a later run failed", [(LATE, REFUSED, 1), (EARLY, STORED, 1)], 1),
    ("not if the file has changed since", [(LATE, REFUSED, 2), (EARLY, STORED, 1)], 0),
    ("nor if it was read with another content", [(EARLY, STORED, 2), (LATE, UNREADABLE, 3), (EARLY, REFUSED, 3)], 1),
    ("if a later run could not look at it", [(EARLY, STORED, 1), (LATE, UNREADABLE, 0)], 0),
    ("the latest failure", [(LATE, REFUSED, 1), (EARLY, Outcome.UNCONFIRMED, 1)], 0),
    ("the latest success", [(EARLY, STORED, 1), (LATE, Outcome.DUPLICATE, 1)], 1),
    ("a copy in one ledger was sent by another", [(LATE, Outcome.SKIPPED, 1), (EARLY, STORED, 1)], 1),
    ("in the same second the ledger named last", [(EARLY, REFUSED, 1), (EARLY, Outcome.CONFLICT, 1)], 1),
    ("no run could look at it", [(LATE, UNREADABLE, 0), (EARLY, UNREADABLE, 0)], 0),
]


@pytest.mark.parametrize(("rows", "counts"), [row[1:] for row in DECISIONS], ids=[row[0] for row in DECISIONS])
def test_a_file_in_several_ledgers_counts_once(
    tmp_path: Path, rows: list[tuple[str, Outcome, int]], counts: int
) -> None:
    """A success of the content that was seen last counts, otherwise the latest run."""
    results = [
        result("/a/x", outcome, size_bytes=5 if version else 0, version=version, reason=f"row {number}")
        for number, (_, outcome, version) in enumerate(rows)
    ]
    paths = [
        write(tmp_path / f"{number}.db", row, at=at)
        for number, (row, (at, *_)) in enumerate(zip(results, rows, strict=True))
    ]
    assert read(paths) == [Entry(URL, results[counts])]
    for outcome in Outcome:
        chosen = read(paths, [outcome])
        assert len(chosen) == (outcome is results[counts].outcome), "the filter takes the merged outcome"


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.integers(0, 12), st.sampled_from([STORED, REFUSED, Outcome.SKIPPED])), min_size=2, max_size=4
    )
)
def test_the_union_is_complete(tmp_path_factory: pytest.TempPathFactory, ledgers: list[dict[int, Outcome]]) -> None:
    """Every path of any ledger is listed once, sorted, and as stored if it is stored in any of them."""
    directory = tmp_path_factory.mktemp("ledgers")
    paths = [
        write(directory / f"{number}.db", *(result(f"/a/{name:02}", outcome) for name, outcome in rows.items()))
        for number, rows in enumerate(ledgers)
    ]
    found = {entry.result.candidate.location: entry.result.outcome for entry in read(paths)}
    assert list(found) == [f"/a/{name:02}" for name in sorted(set().union(*ledgers))]
    stored = {f"/a/{name:02}" for rows in ledgers for name, outcome in rows.items() if outcome is STORED}
    assert {path for path, outcome in found.items() if outcome is STORED} == stored


def test_instances_in_several_ledgers_are_counted(tmp_path: Path) -> None:
    """An instance counts if no ledger has all its paths; the same path of two ledgers is one file."""
    first = [
        result("/1/shared", STORED, uids=header(1)),
        result("/1/copy", Outcome.SKIPPED, uids=header(2)),
        result("/1/stored", STORED, uids=header(2)),
        result("/resharded", STORED, uids=header(3)),
        result("/no uid", Outcome.SKIPPED),
    ]
    second = [
        result("/2/shared", Outcome.DUPLICATE, uids=header(1)),
        result("/resharded", STORED, uids=header(3)),
        result("/2/own", STORED, uids=header(4)),
        result("/no uid either", Outcome.SKIPPED),
    ]
    paths = [write(tmp_path / "1.db", *first), write(tmp_path / "2.db", *second)]
    assert shared(*paths) == 1
    assert shared(paths[0]) == shared(paths[0], paths[0]) == 0
    assert shared(write(tmp_path / "all.db", *first, *second), *paths) == 0, "all.db compared them"
    paths.append(write(tmp_path / "3.db", result("/3/own", STORED, uids=header(4)), url=OTHER))
    assert shared(*paths) == 1, "another destination is another copy"


def test_instances_are_counted_once_for_a_destination(tmp_path: Path) -> None:
    """Several files of an instance count once, in one ledger and in several; another destination counts again."""
    seven, eight = header(7), header(8)
    one = write(
        tmp_path / "1.db", result("/a", STORED), result("/b", STORED), result("/c", Outcome.REFUSED, uids=seven)
    )
    two = write(tmp_path / "2.db", result("/c", STORED, uids=seven), result("/d", STORED, uids=eight))
    other = write(tmp_path / "3.db", result("/d", STORED, uids=eight), url=OTHER)
    for paths, count in (([one], 2), ([one, two], 3), ([one, two, other], 4)):
        with LedgerReader(paths) as reader:
            assert reader.count_instances() == count


def test_the_ledger_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The message has the path of the missing, foreign or damaged ledger of several."""
    whole = [write(tmp_path / f"{number}.db", result(f"/{number}", STORED)) for number in (1, 2)]
    (tmp_path / "notes.db").write_text("hello")
    damaged = write(tmp_path / "damaged.db", result("/d", STORED))
    with closing(sqlite3.connect(damaged)) as connection, connection:
        connection.execute("UPDATE file SET outcome = 'fine'")
    orphan = write(tmp_path / "orphan.db", result("/o", STORED))
    with closing(sqlite3.connect(orphan)) as connection, connection:
        connection.execute("DELETE FROM destination")
    lost = write(tmp_path / "lost.db", result("/l", STORED))
    with closing(sqlite3.connect(lost)) as connection, connection:
        connection.execute("DELETE FROM run")
    for name, why in (
        ("gone.db", "no ledger at {}"),
        ("notes.db", "{} cannot be used: file is not a database"),
        ("damaged.db", "the ledger {} is damaged"),
        ("orphan.db", "the ledger {} is damaged \\(a row without its destination"),
        ("lost.db", "the ledger {} is damaged \\(a row without its run"),
    ):
        with pytest.raises(LedgerError, match=why.format(tmp_path / name)):
            read([whole[0], tmp_path / name, whole[1]])


def test_nothing_is_left_beside_the_ledgers(tmp_path: Path) -> None:
    """SQLite's files are gone after the last entry, and if reading ends early."""
    paths = [write(tmp_path / f"{number}.db", result(f"/{number}", STORED)) for number in range(3)]
    read(paths)
    shared(*paths)
    with LedgerReader(paths) as reader:
        next(reader.entries())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.db", "1.db", "2.db"]


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Reading 20,000 rows takes as much memory as reading 2,000, within 1 MB; all of them would take 12 MB."""
    peaks_bytes = []
    for count in (2_000, 20_000):
        paths = [
            write(
                tmp_path / f"{count}-{shard}.db",
                *(result(f"/{n:06}", STORED, uids=header(n)) for n in range(shard, count, 4)),
            )
            for shard in range(4)
        ]
        tracemalloc.start()
        with LedgerReader(paths) as reader:
            assert sum(1 for _ in reader.entries()) == count
            assert reader.count_shared_instances() == 0
        peaks_bytes.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks_bytes[1] < peaks_bytes[0] + 1_000_000
