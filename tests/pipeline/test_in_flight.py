"""Deduplication: one file for each SOP instance is sent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from bulkstow.blocking import ReadLimit
from bulkstow.ledger import Ledger
from bulkstow.model import Candidate, FileResult, Instance, Outcome
from bulkstow.pipeline.comparison import compare
from bulkstow.pipeline.in_flight import FirstFileInFlight
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.source.files import FileSource
from tests.archives import candidate, write_instance

SAME = "a second copy of the SOP instance, same bytes: see "


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give a new ledger, open."""
    with Ledger(tmp_path / "run.db", "http://pacs") as opened:
        yield opened


@pytest.fixture
def in_flight(ledger: Ledger) -> Iterator[FirstFileInFlight]:
    """Give an empty set of claims."""
    with WorkerThreads(2) as threads:
        yield FirstFileInFlight(ledger, threads)


@pytest.fixture
def first(tmp_path: Path) -> Instance:
    """Give the first file of an instance."""
    return write_instance(tmp_path / "archive", 1)


def deduplicate(
    in_flight: FirstFileInFlight, instances: list[Instance]
) -> tuple[list[Instance], list[FileResult], list[Candidate]]:
    """Deduplicate instances."""
    return anyio.run(
        in_flight.deduplicate,
        instances,
        partial(compare, source=FileSource(), threads=in_flight._threads, limit=ReadLimit(60.0)),
    )


def copied(instance: Instance, name: str, *, other_bytes: bool = False) -> Instance:
    """Return a copy of an instance's file under another name, with one byte changed or none."""
    path = Path(instance.candidate.location).with_name(name)
    shutil.copy(instance.candidate.location, path)
    if other_bytes:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return Instance(candidate(path), instance.header)


def ended(instance: Instance, outcome: Outcome = Outcome.STORED) -> FileResult:
    """Return the result of an instance."""
    return FileResult(instance.candidate, instance.header, outcome)


def passed_over(copy: Instance, owner: Instance) -> FileResult:
    """Return the result of a copy."""
    location = owner.candidate.location
    return FileResult(copy.candidate, copy.header, Outcome.SKIPPED, SAME + location, copy_of=location)


def in_conflict(conflicting_file: Instance, owner: Instance, difference: str) -> FileResult:
    """Return the result of a file that differs from the sent one with its UID."""
    location = owner.candidate.location
    reason = f"the same SOP Instance UID as {location}, {difference}"
    return FileResult(conflicting_file.candidate, conflicting_file.header, Outcome.CONFLICT, reason, copy_of=location)


def test_each_instance_is_sent(in_flight: FirstFileInFlight, tmp_path: Path) -> None:
    """Different instances are all sent, in their order."""
    instances = [write_instance(tmp_path / "archive", number) for number in (3, 1, 2)]
    assert deduplicate(in_flight, instances) == (instances, [], [])
    assert deduplicate(in_flight, []) == ([], [], [])


DIFFERENCES = ["none", "other bytes", "longer", "other study", "other series", "other study, same bytes"]


def second(first: Instance, what: str) -> tuple[Instance, FileResult]:
    """Return a second file with the UID of the first, equal or different, and its result."""
    path = Path(first.candidate.location)
    elsewhere = replace(first.header, study_uid="2.25.7", series_uid="2.25.7.1")
    series = replace(first.header, series_uid="2.25.1.2")
    match what:
        case "none":
            copy = copied(first, "copy")
            return copy, passed_over(copy, first)
        case "other bytes":
            conflicting_file, difference = copied(first, "rival", other_bytes=True), "other bytes"
        case "longer":
            path.with_name("rival").write_bytes(path.read_bytes() + b"\0\0")
            conflicting_file, difference = Instance(candidate(path.with_name("rival")), first.header), "other bytes"
        case "other series":
            conflicting_file = replace(copied(first, "rival", other_bytes=True), header=series)
            difference = f"in another series ({first.header.series_uid})"
        case _:
            conflicting_file = replace(copied(first, "rival", other_bytes="same" not in what), header=elsewhere)
            difference = f"in another study ({first.header.study_uid})"
    return conflicting_file, in_conflict(conflicting_file, first, difference)


@pytest.mark.parametrize("what", DIFFERENCES)
@pytest.mark.parametrize("at_once", [True, False], ids=["in one list", "in the next list"])
def test_a_second_file_of_an_instance_in_flight(
    in_flight: FirstFileInFlight, first: Instance, what: str, at_once: bool
) -> None:
    """An equal one is a copy, one that differs is in conflict; the reason names the file that is sent instead."""
    conflicting_file, result = second(first, what)
    if at_once:
        assert deduplicate(in_flight, [first, conflicting_file]) == ([first], [result], [])
    else:
        deduplicate(in_flight, [first])
        assert deduplicate(in_flight, [conflicting_file]) == ([], [result], [])


@pytest.mark.parametrize("what", DIFFERENCES)
def test_a_second_file_of_a_stored_instance(
    ledger: Ledger, in_flight: FirstFileInFlight, first: Instance, what: str
) -> None:
    """Files in the ledger count too, and the second file does not stay in memory as in flight."""
    ledger.record([ended(first)])
    conflicting_file, result = second(first, what)
    again = Instance(
        replace(conflicting_file.candidate, location=conflicting_file.candidate.location), conflicting_file.header
    )
    assert deduplicate(in_flight, [conflicting_file, again]) == ([], [result, result], [])
    assert deduplicate(in_flight, [again]) == ([], [result], [])


def test_a_file_equal_to_any_of_several_is_a_copy(
    ledger: Ledger, in_flight: FirstFileInFlight, first: Instance
) -> None:
    """If several files were sent for one UID, one equal file decides; else the conflict names the first by path."""
    sent = copied(first, "zz", other_bytes=True)
    ledger.record([ended(first), ended(sent)])
    copy, (third, result) = copied(sent, "zzz"), second(first, "longer")
    assert deduplicate(in_flight, [third, copy]) == ([], [result, passed_over(copy, sent)], [])


@pytest.mark.parametrize("what", ["other bytes", "longer", "other study"])
def test_a_conflict_with_a_stored_file_that_is_gone(
    ledger: Ledger, in_flight: FirstFileInFlight, first: Instance, what: str
) -> None:
    """Its row proves a difference in study, series or size; missing bytes prove nothing."""
    ledger.record([ended(first)])
    conflicting_file, result = second(first, what)
    Path(first.candidate.location).unlink()
    assert deduplicate(in_flight, [conflicting_file]) == (
        ([conflicting_file], [], []) if what == "other bytes" else ([], [result], [])
    )


@pytest.mark.parametrize("what", ["gone", "touched", "other file gone"])
def test_a_file_that_cannot_be_compared_is_a_failure(in_flight: FirstFileInFlight, first: Instance, what: str) -> None:
    """It is neither sent as well nor skipped as a copy; it is sent if the other file fails."""
    copy = copied(first, "copy")
    deduplicate(in_flight, [first])
    path, other = Path(first.candidate.location), f"cannot be compared with {first.candidate.location}, which has"
    match what:
        case "gone":
            Path(copy.candidate.location).unlink()
            expected = ("cannot be read: No such file or directory", "")
        case "touched":
            os.utime(path, ns=(0, 0))
            why = "that file is gone or has changed"
            expected = (f"{other} the same SOP Instance UID: {why}", os.fspath(path))
        case _:
            path.unlink()
            why = "that file is gone or has changed"
            expected = (f"{other} the same SOP Instance UID: {why}", os.fspath(path))
    fresh, (result,), _ = deduplicate(in_flight, [copy])
    assert (fresh, result.outcome) == ([], Outcome.UNREADABLE)
    assert (result.reason, result.copy_of) == expected


def test_a_file_after_an_unreadable_copy_is_compared(
    ledger: Ledger, in_flight: FirstFileInFlight, first: Instance
) -> None:
    """A copy that cannot be read leaves its claim to the next file, which is compared with the stored one."""
    ledger.record([ended(first)])
    gone, copy = copied(first, "a"), copied(first, "b")
    Path(gone.candidate.location).unlink()
    fresh, (unreadable, skipped), again = deduplicate(in_flight, [gone, copy])
    assert (fresh, again, unreadable.outcome) == ([], [], Outcome.UNREADABLE)
    assert skipped == passed_over(copy, first)


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.UNCONFIRMED, Outcome.UNREADABLE, Outcome.SKIPPED])
def test_a_failed_file_does_not_count(
    ledger: Ledger, in_flight: FirstFileInFlight, first: Instance, outcome: Outcome
) -> None:
    """A copy of a file that failed is sent."""
    ledger.record([ended(first, outcome)])
    copy = copied(first, "copy")
    assert deduplicate(in_flight, [copy]) == ([copy], [], [])


@pytest.mark.parametrize("what", ["gone", "grown", "touched"])
def test_a_stored_file_that_changed_does_not_count(
    ledger: Ledger, in_flight: FirstFileInFlight, first: Instance, what: str
) -> None:
    """The sent bytes are unknown, so the copy is sent."""
    ledger.record([ended(first)])
    copy = copied(first, "copy")
    path = Path(first.candidate.location)
    modified_ns = path.stat().st_mtime_ns
    match what:
        case "gone":
            path.unlink()
        case "grown":
            path.write_bytes(path.read_bytes() + b"\0\0")
            os.utime(path, ns=(0, modified_ns))
        case _:
            os.utime(path, ns=(0, modified_ns + 1))
    assert deduplicate(in_flight, [copy]) == ([copy], [], [])


def test_the_same_path_twice_is_no_copy(in_flight: FirstFileInFlight, first: Instance) -> None:
    """A source named twice brings a file again: it is neither sent nor recorded twice."""
    once_more = replace(first, candidate=replace(first.candidate))
    assert deduplicate(in_flight, [first, once_more]) == ([first], [], [once_more.candidate])
    assert deduplicate(in_flight, [once_more]) == ([], [], [once_more.candidate])


def test_a_file_that_is_sent_again_is_no_copy_of_itself(
    ledger: Ledger, in_flight: FirstFileInFlight, first: Instance
) -> None:
    """Its own earlier row in the ledger does not keep a file from being sent."""
    before = replace(first, candidate=replace(first.candidate, version=1))
    ledger.record([ended(before)])
    assert deduplicate(in_flight, [first]) == ([first], [], [])


def test_a_file_recorded_since_it_was_looked_up_is_not_sent_again(
    ledger: Ledger, in_flight: FirstFileInFlight, first: Instance
) -> None:
    """A file that is named twice, and was recorded in between, claims nothing."""
    ledger.record([ended(first)])
    assert deduplicate(in_flight, [first]) == ([], [], [first.candidate])
    copy = copied(first, "copy")
    assert deduplicate(in_flight, [copy])[0] == []


def test_a_claim_ends_with_its_outcome(in_flight: FirstFileInFlight, first: Instance) -> None:
    """Once released, and not stored, the next file of the instance claims it."""
    deduplicate(in_flight, [first])
    in_flight.release([ended(first, Outcome.REFUSED)])
    copy = copied(first, "copy")
    assert deduplicate(in_flight, [copy]) == ([copy], [], [])


def test_outcomes_of_others_release_nothing(in_flight: FirstFileInFlight, first: Instance) -> None:
    """Neither a skipped copy nor a file without a header ends a claim."""
    deduplicate(in_flight, [first])
    copy = copied(first, "copy")
    _, copies, _ = deduplicate(in_flight, [copy])
    in_flight.release([*copies, FileResult(copy.candidate, None, Outcome.UNREADABLE)])
    assert deduplicate(in_flight, [copy]) == ([], copies, [])


def test_releasing_an_unclaimed_file_is_no_error(in_flight: FirstFileInFlight, first: Instance) -> None:
    """Releasing a file that was never claimed is no error."""
    in_flight.release([ended(first)])


def test_copies_whose_paths_are_not_utf8_are_recorded(
    ledger: Ledger, in_flight: FirstFileInFlight, first: Instance
) -> None:
    """The path in the reason does not keep the outcome out of the ledger."""
    location = os.fsdecode(os.path.join(os.path.dirname(os.fsencode(first.candidate.location)), b"M\xfcller"))  # noqa: PTH118, PTH120
    try:
        shutil.copy2(first.candidate.location, location)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    owner = Instance(Candidate(location, first.candidate.size_bytes, os.stat(location).st_mtime_ns), first.header)  # noqa: PTH116
    fresh, copies, _ = deduplicate(in_flight, [owner, first])
    assert fresh == [owner]
    ledger.record([ended(owner), *copies])
    (known,) = ledger.look_up([first.candidate])
    assert known is not None
    assert known.is_final


def test_a_file_whose_instance_was_found_with_other_content_is_sent_with_a_warning(
    in_flight: FirstFileInFlight, ledger: Ledger, first: Instance
) -> None:
    """After `verify` has found other content at the server, a list with the UID proves nothing about this file."""
    ledger.record([ended(first, Outcome.CONFLICT)])
    expected = replace(first, conflicting_file="the instance that verify found there")
    assert deduplicate(in_flight, [first]) == ([expected], [], [])


def test_another_file_of_an_instance_with_other_content_is_sent_with_a_warning(
    in_flight: FirstFileInFlight, ledger: Ledger, first: Instance
) -> None:
    """A list proves nothing about a new file with the UID of a file that `verify` found different."""
    ledger.record([ended(first, Outcome.CONFLICT)])
    other = copied(first, "other", other_bytes=True)
    (sent,), _, _ = deduplicate(in_flight, [other])
    assert sent == replace(other, conflicting_file="the instance that verify found there")
