"""The changes of the ledger by a verification, as a table."""

from __future__ import annotations

import pytest

from bulkstow.model import Batch, Candidate, Instance, Outcome
from bulkstow.policy.conflicts import is_about_conflict, without_false_proof
from bulkstow.policy.findings import LEVELS, Change, Finding, KnownOutcome, change_of, is_confirmed_at
from bulkstow.policy.work_items import Query, Settlement, Store, results_of
from bulkstow.wire.server_profile import DEFAULT, ORTHANC
from tests.archives import header

DAY = "2026-11-29"
CONFLICT = "the server lists it as stored, but may have kept /b, which has the same SOP Instance UID"

STORED = KnownOutcome(Outcome.STORED)
MISSING = KnownOutcome(Outcome.MISSING, "not on the server")
WITH_SERVER = KnownOutcome(Outcome.CONFLICT, "other content at the server")
WITH_FILE = KnownOutcome(Outcome.CONFLICT, "as /b", has_other_file=True)

ROWS: list[tuple[KnownOutcome, Finding, Change | None]] = [
    (STORED, Finding.LISTED, Change("instances")),
    (STORED, Finding.EQUAL, Change("content")),
    (KnownOutcome(Outcome.WARNED), Finding.LISTED, Change("instances")),
    (KnownOutcome(Outcome.DUPLICATE), Finding.EQUAL, Change("content")),
    (KnownOutcome(Outcome.STORED, verified_level="instances"), Finding.LISTED, Change("instances")),
    (KnownOutcome(Outcome.STORED, verified_level="instances"), Finding.EQUAL, Change("content")),
    (KnownOutcome(Outcome.STORED, verified_level="content"), Finding.LISTED, None),
    (KnownOutcome(Outcome.STORED, verified_level="content"), Finding.EQUAL, Change("content")),
    (STORED, Finding.MISSING, Change("", Outcome.MISSING, f"not on the server on {DAY} (was stored)")),
    (
        KnownOutcome(Outcome.DUPLICATE, verified_level="content"),
        Finding.MISSING,
        Change("", Outcome.MISSING, f"not on the server on {DAY} (was duplicate)"),
    ),
    (STORED, Finding.DIFFERENT, Change("", Outcome.CONFLICT, f"other content at the server on {DAY}: (0010,0010)")),
    (MISSING, Finding.LISTED, Change("instances", Outcome.STORED, f"found by QIDO-RS on {DAY} (was missing)")),
    (MISSING, Finding.MISSING, None),
    (WITH_SERVER, Finding.LISTED, None),
    (WITH_SERVER, Finding.MISSING, Change("", Outcome.MISSING, f"not on the server on {DAY} (was conflict)")),
    (
        WITH_SERVER,
        Finding.EQUAL,
        Change("content", Outcome.STORED, f"found with the same content on {DAY} (was conflict)"),
    ),
    (WITH_FILE, Finding.LISTED, None),
    (WITH_FILE, Finding.MISSING, None),
    (WITH_FILE, Finding.DIFFERENT, None),
    (
        KnownOutcome(Outcome.UNCONFIRMED, "no answer"),
        Finding.LISTED,
        Change("instances", Outcome.STORED, f"found by QIDO-RS on {DAY} (was unconfirmed)"),
    ),
    (KnownOutcome(Outcome.UNCONFIRMED, CONFLICT), Finding.LISTED, None),
    (
        KnownOutcome(Outcome.UNCONFIRMED, CONFLICT),
        Finding.EQUAL,
        Change("content", Outcome.STORED, f"found with the same content on {DAY} (was unconfirmed)"),
    ),
    (KnownOutcome(Outcome.UNCONFIRMED, "no answer"), Finding.MISSING, None),
    (KnownOutcome(Outcome.REFUSED, "HTTP 400"), Finding.LISTED, None),
    (KnownOutcome(Outcome.REFUSED, "HTTP 400"), Finding.MISSING, None),
    (KnownOutcome(Outcome.SKIPPED, "a second copy", has_other_file=True), Finding.LISTED, None),
    (KnownOutcome(Outcome.SKIPPED, "a second copy", has_other_file=True), Finding.MISSING, None),
    (KnownOutcome(Outcome.UNREADABLE, "cut off"), Finding.MISSING, None),
]


@pytest.mark.parametrize(("known", "finding", "change"), ROWS)
def test_what_a_finding_changes(known: KnownOutcome, finding: Finding, change: Change | None) -> None:
    """Confirmed files get a level, lost ones the outcome missing, and a failure keeps its better reason."""
    assert change_of(known, finding, day=DAY, detail="(0010,0010)") == change


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("finding", Finding)
@pytest.mark.parametrize("has_other_file", [False, True])
def test_nothing_is_confirmed_that_is_no_success(outcome: Outcome, finding: Finding, has_other_file: bool) -> None:
    """A level is recorded only with an outcome that says that the server has the instance."""
    change = change_of(KnownOutcome(outcome, "a reason", has_other_file), finding, day=DAY)
    if change is not None:
        assert bool(change.level) == (change.outcome or outcome).is_success


def test_levels_are_ordered() -> None:
    """A higher level includes the lower ones; no level includes nothing."""
    order = [[is_confirmed_at(level, wanted) for wanted in LEVELS] for level in ("", *LEVELS)]
    assert order == [[False] * 3, [True, False, False], [True, True, False], [True] * 3]


@pytest.mark.parametrize("profile", [DEFAULT, ORTHANC], ids=["default", "orthanc"])
@pytest.mark.parametrize("is_query", [False, True])
def test_a_conflict_is_recognised_by_its_reason(profile: object, is_query: bool) -> None:
    """The reasons with which a file in conflict becomes unconfirmed are known, so that a list does not store it."""
    instance = Instance(Candidate("/a", 1, 1), header(1), conflicting_file="/b")
    batch = Batch(1, (instance,))
    item = Query(batch, "not named") if is_query else Store(batch)
    settlement = Settlement(results_of(batch, batch.instances, Outcome.STORED, ""))
    (result,) = without_false_proof(item, settlement, profile).results  # type: ignore[arg-type]
    assert is_about_conflict(result.reason) == (result.outcome is Outcome.UNCONFIRMED)
