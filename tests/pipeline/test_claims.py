"""One file for each SOP instance."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bulkstow.ledger import Ledger
from bulkstow.model import Candidate, Fate, Instance, Outcome
from bulkstow.pipeline.claims import Claims
from tests.archives import candidate, write_instance

SAME = "a second copy of the SOP instance, same bytes: see "
OTHER = "a second copy of the SOP instance, other bytes: see "


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A new ledger, open."""
    with Ledger(tmp_path / "run.db", "http://pacs") as opened:
        yield opened


@pytest.fixture
def claims(ledger: Ledger) -> Claims:
    """Nothing claimed."""
    return Claims(ledger)


@pytest.fixture
def first(tmp_path: Path) -> Instance:
    """The first file of an instance."""
    return write_instance(tmp_path / "archive", 1)


def copied(instance: Instance, name: str, *, other_bytes: bool = False) -> Instance:
    """Return a copy of an instance's file under another name, with one byte changed or none."""
    path = Path(instance.candidate.location).with_name(name)
    shutil.copy(instance.candidate.location, path)
    if other_bytes:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return Instance(candidate(path), instance.header)


def ended(instance: Instance, fate: Fate = Fate.STORED) -> Outcome:
    """Return how an instance's way ended."""
    return Outcome(instance.candidate, instance.header, fate)


def passed_over(copy: Instance, owner: Instance, reason: str) -> Outcome:
    """Return the outcome of a copy."""
    location = owner.candidate.location
    return Outcome(copy.candidate, copy.header, Fate.SKIPPED, reason + location, copy_of=location)


def test_each_instance_is_sent(claims: Claims, tmp_path: Path) -> None:
    """Different instances stand for themselves, in their order."""
    instances = [write_instance(tmp_path / "archive", number) for number in (3, 1, 2)]
    assert claims.sort_out(instances) == (instances, [], [])
    assert claims.sort_out([]) == ([], [], [])


@pytest.mark.parametrize(("other_bytes", "reason"), [(False, SAME), (True, OTHER)], ids=["same", "other"])
@pytest.mark.parametrize("at_once", [True, False], ids=["in one list", "in the next list"])
def test_a_copy_of_what_is_under_way_is_passed_over(
    claims: Claims, first: Instance, other_bytes: bool, reason: str, at_once: bool
) -> None:
    """It is told whether the bytes are the same, and which file stands for it."""
    copy = copied(first, "copy", other_bytes=other_bytes)
    if at_once:
        fresh, copies, again = claims.sort_out([first, copy])
        assert fresh == [first]
    else:
        claims.sort_out([first])
        fresh, copies, again = claims.sort_out([copy])
        assert fresh == []
    assert copies == [passed_over(copy, first, reason)]
    assert again == []


@pytest.mark.parametrize(("other_bytes", "reason"), [(False, SAME), (True, OTHER)], ids=["same", "other"])
def test_a_copy_of_what_is_stored_is_passed_over(
    ledger: Ledger, claims: Claims, first: Instance, other_bytes: bool, reason: str
) -> None:
    """What the ledger has stands as well, and does not stay in memory as under way."""
    ledger.record([ended(first)])
    copy = copied(first, "copy", other_bytes=other_bytes)
    for seen in (copy, replace(copy, candidate=replace(copy.candidate))):
        assert claims.sort_out([seen]) == ([], [passed_over(copy, first, reason)], [])


@pytest.mark.parametrize("fate", [Fate.REFUSED, Fate.UNCONFIRMED, Fate.UNREADABLE, Fate.SKIPPED])
def test_what_did_not_arrive_stands_for_nothing(ledger: Ledger, claims: Claims, first: Instance, fate: Fate) -> None:
    """A copy of a file that failed has its own turn."""
    ledger.record([ended(first, fate)])
    copy = copied(first, "copy")
    assert claims.sort_out([copy]) == ([copy], [], [])


@pytest.mark.parametrize("what", ["gone", "grown", "touched"])
def test_a_stored_file_that_changed_stands_for_nothing(
    ledger: Ledger, claims: Claims, first: Instance, what: str
) -> None:
    """Nothing can be said of the bytes that were sent, so the copy is sent."""
    ledger.record([ended(first)])
    copy = copied(first, "copy")
    path = Path(first.candidate.location)
    match what:
        case "gone":
            path.unlink()
        case "grown":
            path.write_bytes(path.read_bytes() + b"\0\0")
            os.utime(path, ns=(0, first.candidate.modified_ns))
        case _:
            os.utime(path, ns=(0, first.candidate.modified_ns + 1))
    assert claims.sort_out([copy]) == ([copy], [], [])


def test_the_same_path_twice_is_no_copy(claims: Claims, first: Instance) -> None:
    """A source named twice brings a file again: it is neither sent nor recorded twice."""
    once_more = replace(first, candidate=replace(first.candidate))
    assert claims.sort_out([first, once_more]) == ([first], [], [once_more.candidate])
    assert claims.sort_out([once_more]) == ([], [], [once_more.candidate])


def test_a_file_that_is_sent_again_is_no_copy_of_itself(ledger: Ledger, claims: Claims, first: Instance) -> None:
    """What the ledger says of the same path, as it was then, does not keep it from being sent."""
    before = replace(first, candidate=replace(first.candidate, modified_ns=1))
    ledger.record([ended(before)])
    assert claims.sort_out([first]) == ([first], [], [])


def test_a_file_recorded_since_it_was_looked_up_is_not_sent_again(
    ledger: Ledger, claims: Claims, first: Instance
) -> None:
    """Named twice, and the first time came to its end in between: it is one file, and claims nothing."""
    ledger.record([ended(first)])
    assert claims.sort_out([first]) == ([], [], [first.candidate])
    copy = copied(first, "copy")
    assert claims.sort_out([copy])[0] == []


def test_a_claim_ends_with_its_outcome(claims: Claims, first: Instance) -> None:
    """Once released, and not stored, the next file of the instance claims it."""
    claims.sort_out([first])
    claims.release([ended(first, Fate.REFUSED)])
    copy = copied(first, "copy")
    assert claims.sort_out([copy]) == ([copy], [], [])


def test_outcomes_of_others_release_nothing(claims: Claims, first: Instance) -> None:
    """Neither a copy that was passed over nor a file without a header ends a claim."""
    claims.sort_out([first])
    copy = copied(first, "copy")
    _, copies, _ = claims.sort_out([copy])
    claims.release([*copies, Outcome(copy.candidate, None, Fate.UNREADABLE)])
    assert claims.sort_out([copy]) == ([], copies, [])


def test_a_stranger_is_released_without_harm(claims: Claims, first: Instance) -> None:
    """An outcome of what was never claimed is no error."""
    claims.release([ended(first)])


def test_copies_whose_paths_are_not_utf8_are_recorded(ledger: Ledger, claims: Claims, first: Instance) -> None:
    """The path in the reason does not keep the outcome out of the ledger."""
    location = os.fsdecode(os.path.join(os.path.dirname(os.fsencode(first.candidate.location)), b"M\xfcller"))  # noqa: PTH118, PTH120
    try:
        shutil.copy2(first.candidate.location, location)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    owner = Instance(Candidate(location, first.candidate.size_bytes, os.stat(location).st_mtime_ns), first.header)  # noqa: PTH116
    fresh, copies, _ = claims.sort_out([owner, first])
    assert fresh == [owner]
    ledger.record([ended(owner), *copies])
    (known,) = ledger.look_up([first.candidate])
    assert known is not None
    assert known.is_final
