"""The ledger of a run: its records, look-ups, and errors."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bulkstow.errors import LedgerError
from bulkstow.ledger import (
    APPLICATION_ID,
    LOCK_SUFFIX,
    SCHEMA_VERSION,
    Entry,
    Known,
    Ledger,
    LedgerReader,
    read_entries,
)
from bulkstow.ledger.look_ups import FOUND_BY_VERIFY
from bulkstow.model import Candidate, FileResult, Instance, Outcome
from tests.archives import header

URL = "http://pacs/dicom-web"
OTHER_URL = "http://other/dicom-web"
SUCCESSES = {Outcome.STORED, Outcome.WARNED, Outcome.DUPLICATE}


def candidate(number: int, *, size_bytes: int = 100, version: int = 1) -> Candidate:
    """Return file `number`."""
    return Candidate(f"/archive/IM{number:04}", size_bytes, version)


def result(
    number: int, outcome: Outcome = Outcome.STORED, *, copy_of: int | None = None, reason: str = ""
) -> FileResult:
    """Return the result of file `number`."""
    owner = "" if copy_of is None else candidate(copy_of).location
    uid_of = number if copy_of is None else copy_of
    return FileResult(candidate(number), header(uid_of), outcome, reason, attempts=1, copy_of=owner)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a path for a ledger."""
    return tmp_path / "run.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    """Give a new ledger, open."""
    with Ledger(path, URL) as opened:
        yield opened


def test_a_new_ledger_is_empty(ledger: Ledger) -> None:
    """No file, no owner, no copy, no ceiling."""
    assert ledger.look_up([candidate(1), candidate(2)]) == [None, None]
    assert ledger.look_up([]) == []
    assert ledger.owners([]) == {}
    assert ledger.owners([header(1).sop_instance_uid]) == {}
    assert ledger.orphaned_copies(10) == []
    assert ledger.ceiling_bytes is None


@pytest.mark.parametrize("again", [None, *Outcome])
@pytest.mark.parametrize("outcome", Outcome)
def test_final_outcomes(ledger: Ledger, outcome: Outcome, again: Outcome | None) -> None:
    """Successes, refused, conflict and skipped are final until the user asks again; others are retried."""
    ledger.record([result(1, outcome)])
    (known,) = ledger.look_up([candidate(1)], [] if again is None else [again])
    final = SUCCESSES | {Outcome.REFUSED, Outcome.CONFLICT, Outcome.SKIPPED}
    assert known == Known(outcome, is_final=outcome in final and outcome is not again)


@pytest.mark.parametrize(
    "changed", [candidate(1, size_bytes=101), candidate(1, version=2)], ids=["other size", "other version"]
)
def test_a_file_that_changed_is_new(ledger: Ledger, changed: Candidate) -> None:
    """A file is known only if its size and time are unchanged."""
    ledger.record([result(1)])
    assert ledger.look_up([changed]) == [None]


def test_results_have_the_order_of_the_candidates(ledger: Ledger) -> None:
    """A list of the scan's length has a result for each file, in its order."""
    ledger.record(result(n, Outcome.REFUSED if n % 3 else Outcome.STORED) for n in range(0, 512, 2))
    known = ledger.look_up([candidate(n) for n in range(511, -1, -1)])
    expected = [None if n % 2 else (Outcome.REFUSED if n % 3 else Outcome.STORED) for n in range(511, -1, -1)]
    assert [k and k.outcome for k in known] == expected
    uids = [header(n).sop_instance_uid for n in range(512)]
    assert set(ledger.owners(uids)) == {uid for n, uid in enumerate(uids) if n % 6 == 0}


def test_the_last_outcome_counts(ledger: Ledger) -> None:
    """A file has one row, also within one call: the last."""
    ledger.record([result(1, Outcome.UNCONFIRMED)])
    ledger.record([result(1, Outcome.REFUSED), result(1, Outcome.STORED)])
    assert ledger.look_up([candidate(1)]) == [Known(Outcome.STORED, is_final=True)]


def test_an_accepted_failure_stays_accepted_while_it_is_the_same(ledger: Ledger, path: Path) -> None:
    """The note is returned with the result, and is gone once the file or its outcome has changed."""
    refused = result(1, Outcome.REFUSED)
    assert ledger.record([refused, result(2)]) == [refused, result(2)]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE file SET accepted = 'known: no SOP class'")
    (known,) = ledger.look_up([candidate(1)])
    assert known is not None
    assert known.accepted == "known: no SOP class"
    again = ledger.record([refused, result(2)])
    assert [one.accepted for one in again] == ["known: no SOP class", ""]
    assert [one.is_failure for one in again] == [False, False]
    assert ledger.record([result(1, Outcome.UNCONFIRMED)])[0].accepted == ""
    assert ledger.record([refused])[0].is_failure


def test_a_digest_is_kept_while_the_file_is_the_same(ledger: Ledger, path: Path) -> None:
    """An outcome without a digest keeps the digest of the same file, and deletes the digest of a changed file."""
    digest = "ab" * 32
    ledger.record([replace(result(1), sha256=digest)])
    ledger.record([result(1, Outcome.UNCONFIRMED)])
    assert [entry.result.sha256 for entry in read_entries(path)] == [digest]
    changed = FileResult(candidate(1, version=2), header(1), Outcome.STORED)
    ledger.record([changed])
    assert [entry.result.sha256 for entry in read_entries(path)] == [""]


def test_a_new_outcome_is_not_verified(ledger: Ledger, path: Path) -> None:
    """Level and time of a verification belong to an outcome, which has its own time."""
    before_s = int(time.time())
    ledger.record([result(1)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE file SET verified_level = 'instances', verified_at_s = 1700000000")
    (entry,) = read_entries(path)
    assert (entry.verified_level, entry.verified_at_s) == ("instances", 1700000000)
    assert entry.recorded_at_s is not None
    assert before_s <= entry.recorded_at_s <= time.time()
    ledger.record([result(1)])
    (entry,) = read_entries(path)
    assert (entry.verified_level, entry.verified_at_s) == ("", None)


def test_runs_are_kept_with_settings_and_summary(path: Path) -> None:
    """A run that was killed has no summary; the runs come in their order."""
    with Ledger(path, URL, version="1.2", settings={"concurrency": "auto"}) as ledger:
        ledger.end({"exit_status": 0})
    with Ledger(path, OTHER_URL, command="verify"):
        pass
    with LedgerReader([path]) as reader:
        first, second = reader.runs()
    assert (first.destination, first.number, first.command, first.version) == (URL, 1, "upload", "1.2")
    assert (first.settings, first.summary) == ({"concurrency": "auto"}, {"exit_status": 0})
    assert (second.destination, second.number, second.command, second.settings) == (OTHER_URL, 2, "verify", {})
    assert second.summary is None


def test_the_settings_of_the_last_upload_are_known(path: Path) -> None:
    """Those of a verification, of another destination, or of a run of an older bulkstow do not count."""
    with Ledger(path, URL, settings={"edits": "1"}) as ledger:
        assert ledger.settings_before("upload") is None
    with Ledger(path, URL, command="verify", settings={"edits": "2"}):
        pass
    with Ledger(path, OTHER_URL, settings={"edits": "3"}):
        pass
    with Ledger(path, URL, settings={"edits": "4"}) as ledger:
        assert ledger.settings_before("upload") == {"edits": "1"}
        assert ledger.settings_before("verify") == {"edits": "2"}


def test_heads_are_those_of_readable_files(ledger: Ledger) -> None:
    """Heads have modality and study date, for any outcome; a file without a head, or without a row, has none."""
    head = replace(header(1), modality="CT", study_date="20200101")
    ledger.record([replace(result(1, Outcome.REFUSED), header=head), replace(result(2, Outcome.SKIPPED), header=None)])
    known = ledger.instances([candidate(1), candidate(2), candidate(3)])
    assert known == {candidate(1).location: Instance(candidate(1), head)}
    assert [(one.header.modality, one.header.study_date) for one in known.values()] == [("CT", "20200101")]


def test_a_file_that_can_no_longer_be_read_keeps_its_head(ledger: Ledger) -> None:
    """Its instance is still known; a file that was replaced by something else has no head."""
    ledger.record([result(1, Outcome.STORED), result(2, Outcome.STORED)])
    for number, outcome in ((1, Outcome.UNREADABLE), (2, Outcome.SKIPPED)):
        gone = Candidate(candidate(number).location, 0, 0)
        ledger.record([FileResult(gone, None, outcome, "gone")])
    known = ledger.instances([candidate(1), candidate(2)])
    assert {location: one.header for location, one in known.items()} == {candidate(1).location: header(1)}


@pytest.mark.parametrize("outcome", Outcome)
def test_an_owner_is_a_file_whose_instance_the_server_has(ledger: Ledger, outcome: Outcome) -> None:
    """Failed and skipped files do not count; a conflict without another file is one with the server's own content."""
    ledger.record([result(1, outcome)])
    uid = header(1).sop_instance_uid
    owner = Instance(candidate(1), header(1), conflicting_file="" if outcome in SUCCESSES else FOUND_BY_VERIFY)
    is_one = outcome in SUCCESSES or outcome is Outcome.CONFLICT
    assert ledger.owners([uid, "2.25.9"]) == ({uid: [owner]} if is_one else {})


def test_an_owner_has_what_was_sent_and_what_the_source_has(ledger: Ledger) -> None:
    """Of an edited instance the ledger knows the UIDs of both, and the size that was sent."""
    original = replace(header(1), study_uid="1.2", sop_instance_uid="1.2.3")
    ledger.record([replace(result(1), sent_bytes=777, original=original)])
    uid = header(1).sop_instance_uid
    assert ledger.owners([uid]) == {uid: [Instance(candidate(1), header(1), sent_bytes=777, original=original)]}


def test_an_edited_file_that_can_no_longer_be_read_keeps_its_original_uids(ledger: Ledger) -> None:
    """They belong to the head, which is kept too."""
    original = replace(header(1), sop_instance_uid="1.2.3")
    ledger.record([replace(result(1), sent_bytes=777, original=original)])
    ledger.record([FileResult(Candidate(candidate(1).location, 0, 0), None, Outcome.UNREADABLE, "gone")])
    (entry,) = read_entries(ledger.path)
    assert (entry.result.header, entry.result.original, entry.result.sent_bytes) == (header(1), original, 777)


def test_a_conflict_with_another_file_is_no_owner(ledger: Ledger) -> None:
    """The server has the other file."""
    ledger.record([replace(result(1, Outcome.CONFLICT), copy_of="/other")])
    assert ledger.owners([header(1).sop_instance_uid]) == {}


def test_each_file_that_was_sent_for_one_uid_is_an_owner(ledger: Ledger) -> None:
    """In the order of their paths, each with its study and series."""
    elsewhere = replace(header(1), study_uid="2.25.7")
    ledger.record([result(3), replace(result(2), header=elsewhere), replace(result(1), outcome=Outcome.REFUSED)])
    ledger.record([replace(result(3), header=header(1))])
    owners = [Instance(candidate(2), elsewhere), Instance(candidate(3), header(1))]
    assert ledger.owners([header(1).sop_instance_uid]) == {header(1).sop_instance_uid: owners}


@pytest.mark.parametrize("kind", [Outcome.SKIPPED, Outcome.CONFLICT])
@pytest.mark.parametrize("outcome", [None, *Outcome])
def test_a_copy_is_final_while_its_owner_is_on_the_server(
    ledger: Ledger, outcome: Outcome | None, kind: Outcome
) -> None:
    """A copy of what failed, or of what a crash left without a row, is not settled; nor is a file in conflict with it.

    Each is looked at again when the user asks for its kind.
    """
    ledger.record([result(2, kind, copy_of=1), *([] if outcome is None else [result(1, outcome)])])
    stands = outcome in SUCCESSES
    assert ledger.look_up([candidate(2)]) == [Known(kind, is_final=stands)]
    assert ledger.look_up([candidate(2)], [kind]) == [Known(kind, is_final=False)]


def test_orphaned_copies_are_those_of_files_that_failed(ledger: Ledger) -> None:
    """In the order of their paths, up to a limit; without those of files that are stored or not settled yet."""
    ledger.record([result(1, Outcome.STORED), result(2, Outcome.REFUSED), result(3, Outcome.UNREADABLE)])
    owners = {14: 1, 13: 2, 12: 3, 11: 2, 10: 99}
    copies = {n: result(n, Outcome.SKIPPED, copy_of=owner) for n, owner in owners.items()}
    ledger.record(copies.values())
    assert ledger.orphaned_copies(10) == [copies[11], copies[12], copies[13]]
    assert ledger.orphaned_copies(2) == [copies[11], copies[12]]
    ledger.record([result(11, Outcome.STORED)])
    assert ledger.orphaned_copies(10) == [copies[12], copies[13]]


def test_orphaned_copies_are_those_of_this_run(path: Path) -> None:
    """Copies of an earlier run may be in another archive, so only this run's copies are sent at its end."""
    copy = result(2, Outcome.SKIPPED, copy_of=1)
    with Ledger(path, URL) as first:
        first.record([result(1, Outcome.REFUSED), copy])
    with Ledger(path, URL) as second:
        assert second.orphaned_copies(10) == []
        second.record([copy])
        assert second.orphaned_copies(10) == [copy]


def test_conflicts_are_the_first_of_each_uid_in_this_run(path: Path) -> None:
    """In the order of their paths, up to a limit, for any outcome of the other file; without earlier runs."""
    with Ledger(path, URL) as first:
        first.record([result(1), result(9, Outcome.CONFLICT, copy_of=1)])
    conflicts = [result(n, Outcome.CONFLICT, copy_of=owner) for n, owner in ((13, 2), (12, 2), (11, 1), (10, 1))]
    with Ledger(path, URL) as second:
        second.record([*conflicts, result(2), result(3, Outcome.SKIPPED, copy_of=1)])
        assert second.conflicts(10) == [conflicts[3], conflicts[1]]
        assert second.conflicts(1) == [conflicts[3]]
        second.record([result(10, Outcome.STORED)])
        assert second.conflicts(10) == [conflicts[2], conflicts[1]]


def test_two_destinations_in_one_ledger_do_not_mix(path: Path) -> None:
    """Neither the files of a server nor its ceiling apply to another one."""
    uid = header(1).sop_instance_uid
    with Ledger(path, URL) as first:
        first.record([result(1), result(2, Outcome.REFUSED), result(3, Outcome.SKIPPED, copy_of=2)])
        first.learn_ceiling(2**20)
    with Ledger(path, "http://other/dicom-web") as second:
        assert second.look_up([candidate(1)]) == [None]
        assert second.owners([uid]) == {}
        assert second.orphaned_copies(10) == []
        assert second.ceiling_bytes is None
        second.record([result(1, Outcome.REFUSED)])
    with Ledger(path, URL) as first:
        assert first.look_up([candidate(1)]) == [Known(Outcome.STORED, is_final=True)]
        assert first.ceiling_bytes == 2**20
    assert [(e.destination, e.result.outcome) for e in read_entries(path) if e.result.candidate == candidate(1)] == [
        ("http://other/dicom-web", Outcome.REFUSED),
        (URL, Outcome.STORED),
    ]


def test_a_ceiling_is_remembered(path: Path) -> None:
    """It applies at once, and in the next run."""
    with Ledger(path, URL) as ledger:
        ledger.learn_ceiling(8 * 2**20)
        ledger.learn_ceiling(4 * 2**20)
        assert ledger.ceiling_bytes == 4 * 2**20
    with Ledger(path, URL) as ledger:
        assert ledger.ceiling_bytes == 4 * 2**20


FULL = FileResult(candidate(1), header(1), Outcome.WARNED, "B000 coerced", attempts=3)


@pytest.mark.parametrize(
    "kept",
    [
        FULL,
        replace(FULL, header=None, outcome=Outcome.SKIPPED, reason="not DICOM", attempts=0),
        replace(FULL, outcome=Outcome.SKIPPED, copy_of="/archive/IM0002"),
        replace(FULL, candidate=Candidate(os.fsdecode(b"/archive/M\xfcller\xff"), 0, -1)),
        replace(FULL, copy_of=os.fsdecode(b"/archive/\xff\xfe")),
        replace(FULL, sent_bytes=1234, original=replace(header(1), sop_instance_uid="1.2.3", series_uid="1.2")),
        replace(FULL, candidate=Candidate("/archive/\u00fcber \u5f71\u50cf\n'; DROP TABLE file", 2**62, 2**62)),
    ],
    ids=["whole", "no header", "copy", "path not UTF-8", "copy of a path not UTF-8", "edited", "odd path"],
)
def test_outcomes_round_trip(ledger: Ledger, kept: FileResult) -> None:
    """A report and the next run read the recorded outcomes."""
    ledger.record([kept])
    assert list(read_entries(ledger.path)) == [Entry(URL, kept)]
    (known,) = ledger.look_up([kept.candidate])
    assert known is not None
    assert known.outcome is kept.outcome


def test_a_reason_that_holds_a_path_is_kept_readable(ledger: Ledger) -> None:
    """A path that is not UTF-8 in a reason does not end the run; its other bytes are escaped."""
    ledger.record([result(1, Outcome.SKIPPED, reason=f"see {os.fsdecode(bytes([0x2F, 0xFF]))}")])
    assert [entry.result.reason for entry in read_entries(ledger.path)] == [r"see /\udcff"]


VERSIONS = ["007", "7", 'W/"1"', "", "\udcff", "1e3"]


@pytest.mark.parametrize("version", VERSIONS)
def test_versions_that_are_texts_are_compared_exactly(ledger: Ledger, version: str) -> None:
    """An ETag of digits is no number: it is kept as a text, and every other text or number is another version."""
    kept = replace(candidate(1), version=version)
    ledger.record([FileResult(kept, header(1), Outcome.STORED)])
    (known,) = ledger.look_up([kept])
    assert known is not None
    assert known.is_final
    assert [entry.result.candidate for entry in read_entries(ledger.path)] == [kept]
    versions: list[int | str] = [*VERSIONS, 7, 1000]
    others = [replace(kept, version=other) for other in versions if other != version]
    assert [ledger.look_up([other]) for other in others] == [[None]] * len(others)


@pytest.mark.parametrize("version", [2**63, 10**20, -(2**63) - 1], ids=["2262", "5138", "1677"])
def test_times_beyond_64_bits_do_not_end_the_run(ledger: Ledger, version: int) -> None:
    """A damaged file system may have files of any year; they are recorded and found again."""
    odd = candidate(1, version=version)
    ledger.record([replace(result(1), candidate=odd)])
    assert ledger.look_up([odd]) == [Known(Outcome.STORED, is_final=True)]


def test_a_report_reads_during_a_run(ledger: Ledger) -> None:
    """A report has recorded outcomes at once, and does not block the writer."""
    ledger.record(result(n) for n in (3, 1, 2))
    entries = read_entries(ledger.path)
    assert next(entries).result == result(1)
    ledger.record([result(4)])
    assert [entry.result.candidate for entry in entries] == [candidate(2), candidate(3)]
    assert len(list(read_entries(ledger.path))) == 4


def test_a_report_may_have_some_outcomes_only(ledger: Ledger) -> None:
    """It has the chosen outcomes, in the order of the paths."""
    ledger.record(result(n, outcome) for n, outcome in enumerate(reversed(Outcome)))
    chosen = [entry.result.outcome for entry in read_entries(ledger.path, [Outcome.REFUSED, Outcome.STORED])]
    assert chosen == [Outcome.REFUSED, Outcome.STORED]


def test_a_second_run_is_kept_out_while_the_first_is_open(path: Path) -> None:
    """The same ledger opens again only after it is closed; the first run continues."""
    with Ledger(path, URL) as first:
        with pytest.raises(LedgerError, match=r"run\.db is in use by another run: wait for it, or give another"):
            Ledger(path, URL)
        first.record([result(1)])
    with Ledger(path, URL) as second:
        assert second.look_up([candidate(1)]) == [Known(Outcome.STORED, is_final=True)]


def test_a_run_that_raises_closes_its_ledger(path: Path) -> None:
    """An error that ends a run does not keep out the next one."""
    with pytest.raises(RuntimeError), Ledger(path, URL):
        raise RuntimeError
    with Ledger(path, URL):
        pass


def test_its_own_files_are_listed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan can exclude the ledger under any path."""
    monkeypatch.chdir(path.parent)
    with Ledger(Path(path.name), URL) as ledger:
        ledger.record([result(1)])
        assert {os.fspath(beside) for beside in path.parent.iterdir()} <= ledger.files
        assert os.fspath(path) in ledger.files


def foreign(path: Path, *, application: int, version: int) -> None:
    """Make a database of another program, or of another version of bulkstow."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"PRAGMA application_id = {application}; PRAGMA user_version = {version}; CREATE TABLE file (path TEXT)"
        )


def spoil(path: Path, how: str) -> None:
    """Put something other than a ledger at its path."""
    match how:
        case "other application":
            foreign(path, application=1, version=SCHEMA_VERSION)
        case "no application":
            foreign(path, application=0, version=0)
        case "newer":
            foreign(path, application=APPLICATION_ID, version=SCHEMA_VERSION + 1)
        case "no database":
            path.write_bytes(b"DICM" * 1000)
        case "directory":
            path.mkdir()
        case _:
            pass


REFUSALS = {
    "other application": r"run\.db is a database, but not bulkstow's ledger: give another file with --ledger",
    "no application": r"run\.db is a database, but not bulkstow's ledger",
    "newer": rf"has schema {SCHEMA_VERSION + 1}, this bulkstow reads schemas up to {SCHEMA_VERSION}: use the bulkstow",
    "no database": r"run\.db cannot be used: file is not a database",
    "directory": r"run\.db cannot be used: unable to open database file",
}


@pytest.mark.parametrize("how", REFUSALS)
def test_other_files_are_refused_and_not_changed(path: Path, how: str) -> None:
    """The message describes the file, which does not change, and the lock is released."""
    spoil(path, how)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(LedgerError, match=REFUSALS[how]):
        Ledger(path, URL)
    assert before == (None if path.is_dir() else path.read_bytes())
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with Ledger(path, URL):
        pass


@pytest.mark.parametrize("how", [how for how in REFUSALS if how != "directory"])
def test_a_report_of_another_file_is_refused(path: Path, how: str) -> None:
    """It has the same message, and no line is written."""
    spoil(path, how)
    with pytest.raises(LedgerError, match=REFUSALS[how]):
        read_entries(path)


@pytest.mark.parametrize("how", ["nothing", "directory"])
def test_a_report_of_nothing_is_refused(path: Path, how: str) -> None:
    """Reading does not create a ledger."""
    spoil(path, how)
    with pytest.raises(
        LedgerError, match=r"no ledger at .*run\.db: give the file that `bulkstow upload --ledger` wrote"
    ):
        read_entries(path)
    assert path.is_dir() == path.exists()


@pytest.mark.parametrize("what", ["deleted", "replaced", "moved away", "without its WAL"])
def test_a_ledger_that_is_removed_during_the_run_stops_it(path: Path, what: str) -> None:
    """Nothing more is recorded in a removed file, and the end of the run reports it."""
    ledger = Ledger(path, URL)
    ledger.record([result(1)])
    match what:
        case "deleted":
            path.unlink()
        case "moved away":
            path.rename(path.with_name("away.db"))
        case "without its WAL":
            path.with_name("run.db-wal").unlink()
        case _:
            other = path.with_name("other.db")
            with Ledger(other, URL):
                pass
            other.replace(path)
    why = r"the ledger .*run\.db was deleted or replaced while the run went on, so nothing more can be recorded"
    with pytest.raises(LedgerError, match=why):
        ledger.record([result(2)])
    with pytest.raises(LedgerError, match=why):
        ledger.learn_ceiling(2**20)
    with pytest.raises(LedgerError, match=why), ledger:
        pass
    with pytest.raises(RuntimeError), ledger:
        raise RuntimeError


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_directory_is_refused(tmp_path: Path) -> None:
    """Without a ledger nothing is sent."""
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(LedgerError, match=r"cannot write the ledger's lock .*: Permission denied"):
            Ledger(tmp_path / "run.db", URL)
    finally:
        tmp_path.chmod(0o700)


def test_a_ledger_that_can_no_longer_be_written_stops_the_run(ledger: Ledger) -> None:
    """SQLite's error becomes one line, and the failed transaction has no effect."""
    with closing(sqlite3.connect(ledger.path)) as another:
        another.executescript(
            "CREATE TRIGGER full BEFORE INSERT ON file WHEN NEW.attempts = 13 "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    with pytest.raises(LedgerError, match=r"the ledger .*run\.db cannot be used: database or disk is full"):
        ledger.record([result(1), replace(result(2), attempts=13)])
    assert ledger.look_up([candidate(1)]) == [None]
    ledger.record([result(1)])
    assert ledger.look_up([candidate(1)]) == [Known(Outcome.STORED, is_final=True)]


FILES = st.integers(0, 5)
OUTCOMES = st.sampled_from(Outcome)


class LedgerMachine(RuleBasedStateMachine):
    """Successive runs, compared with a ledger in a dict."""

    @initialize()
    def first_run(self) -> None:
        """The first run makes the ledger."""
        self.directory = Path(tempfile.mkdtemp())
        self.ledger = Ledger(self.directory / "run.db", URL)
        self.on_disk = {n: candidate(n) for n in range(6)}
        self.rows: dict[str, FileResult] = {}
        self.run = 1
        self.run_of: dict[str, int] = {}
        """The run that recorded each row."""
        self.seen_changed: set[str] = set()
        """Files that the current run found changed since they were recorded."""
        self.recorded_now: set[str] = set()
        self.clock = 1

    @rule(numbers=st.lists(FILES, min_size=1, max_size=4), outcome=OUTCOMES)
    def settle_files(self, numbers: list[int], outcome: Outcome) -> None:
        """Record outcomes of the current files."""
        results = [FileResult(self.on_disk[n], header(n % 3), outcome, "why", 1) for n in numbers]
        self.ledger.record(results)
        self.rows |= {o.candidate.location: o for o in results}
        self.run_of |= {o.candidate.location: self.run for o in results}
        self.recorded_now |= {o.candidate.location for o in results}

    @rule(number=FILES, owner=FILES, outcome=st.sampled_from([Outcome.SKIPPED, Outcome.CONFLICT]))
    def pass_over_a_copy(self, number: int, owner: int, outcome: Outcome) -> None:
        """Record a copy of another file."""
        if number != owner:
            location = self.on_disk[owner].location
            copy = FileResult(self.on_disk[number], header(owner % 3), outcome, "copy", 0, location)
            self.ledger.record([copy])
            self.rows[copy.candidate.location] = copy
            self.run_of[copy.candidate.location] = self.run
            self.recorded_now.add(copy.candidate.location)

    @rule(number=FILES, grows=st.booleans())
    def change_a_file(self, number: int, grows: bool) -> None:
        """Change a file."""
        self.clock += 1
        old = self.on_disk[number]
        self.on_disk[number] = (
            replace(old, size_bytes=old.size_bytes + 1) if grows else replace(old, version=self.clock)
        )

    @rule()
    def run_again(self) -> None:
        """End a run normally, and begin another."""
        self.ledger.__exit__(None, None, None)
        self.ledger = Ledger(self.directory / "run.db", URL)
        self.next_run()

    def next_run(self) -> None:
        """Begin a run in the dict."""
        self.run += 1
        self.recorded_now = set()
        self.seen_changed = set()

    @rule()
    def crash(self) -> None:
        """Kill the process: its files stay, and its lock is released."""
        after = Path(tempfile.mkdtemp(dir=self.directory))
        for beside in self.directory.glob("run.db*"):
            if not beside.name.endswith(("-shm", LOCK_SUFFIX)):
                shutil.copy(beside, after)
        self.ledger.__exit__(None, None, None)
        self.ledger = Ledger(after / "run.db", URL)
        self.directory = after
        self.next_run()

    def has(self, location: str) -> bool:
        """Return whether the server has a file, by the dict."""
        return location in self.rows and self.rows[location].outcome in SUCCESSES

    @invariant()
    def knows_what_it_should(self) -> None:
        """Rows of unchanged files are found, those of changed ones are not.

        A copy is settled while the server has the other file as it was: not sent again by a later run, nor changed.
        """
        files = list(self.on_disk.values())
        self.seen_changed |= {
            file.location for file in files if (row := self.rows.get(file.location)) and row.candidate != file
        }
        for file, known in zip(files, self.ledger.look_up(files), strict=True):
            row = self.rows.get(file.location)
            if row is None or row.candidate != file:
                assert known is None
            else:
                stands = not row.copy_of or (
                    self.has(row.copy_of)
                    and self.run_of[row.copy_of] <= self.run_of[file.location]
                    and row.copy_of not in self.seen_changed
                )
                aside = row.outcome in (Outcome.SKIPPED, Outcome.CONFLICT)
                final = row.outcome in SUCCESSES or row.outcome is Outcome.REFUSED or (aside and stands)
                assert known == Known(row.outcome, final, row.reason)

    @invariant()
    def names_owners_and_orphans(self) -> None:
        """Owners are on the server, or it has other content; orphans are this run's copies of files with other rows."""
        overwritten = [row for row in self.rows.values() if row.outcome is Outcome.CONFLICT and not row.copy_of]
        stored = [row for row in self.rows.values() if row.outcome in SUCCESSES or row in overwritten]
        uids = [header(n).sop_instance_uid for n in range(3)]
        owners = self.ledger.owners(uids)
        assert set(owners) == {row.header.sop_instance_uid for row in stored if row.header}
        assert all(
            owner.candidate in [row.candidate for row in stored] for several in owners.values() for owner in several
        )
        orphans = [r for r in self.rows.values() if r.copy_of in self.rows and not self.has(r.copy_of)]
        of_this_run = [row for row in orphans if row.candidate.location in self.recorded_now]
        in_order = sorted(of_this_run, key=lambda row: row.candidate.location)
        assert self.ledger.orphaned_copies(100) == in_order

    @invariant()
    def reports_all_rows(self) -> None:
        """A report has each row, unchanged."""
        expected = sorted(self.rows.values(), key=lambda row: row.candidate.location)
        assert [entry.result for entry in read_entries(self.ledger.path)] == expected

    def teardown(self) -> None:
        """Remove all files."""
        self.ledger.__exit__(None, None, None)
        root = self.directory
        while root.parent != Path(tempfile.gettempdir()):
            root = root.parent
        shutil.rmtree(root)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("owners", "file_by_instance"),
        ("orphaned_copies", "file_by_copy"),
        ("conflicts", "file_by_copy"),
        ("look_up", "PRIMARY KEY"),
    ],
)
def test_no_query_reads_the_whole_ledger(tmp_path: Path, query: str, index: str) -> None:
    """Each query of a run uses an index: its cost does not grow with the archive."""
    asked: list[str] = []
    with Ledger(tmp_path / "run.db", URL) as ledger:
        ledger._look_ups._connection.set_trace_callback(asked.append)
        match query:
            case "owners":
                ledger.owners(["1.2.3"])
            case "orphaned_copies":
                ledger.orphaned_copies(10)
            case "conflicts":
                ledger.conflicts(10)
            case _:
                ledger.look_up([candidate(1)])
        ledger._look_ups._connection.set_trace_callback(None)
        plan = " ".join(str(row[3]) for row in ledger._look_ups._connection.execute(f"EXPLAIN QUERY PLAN {asked[0]}"))
    assert index in plan
    assert "SCAN" not in plan
    assert "(destination=?)" not in plan
