"""The changes of the ledger by a verification: pure decisions, one file at a time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from bulkstow.model import Outcome
from bulkstow.policy.conflicts import is_about_conflict

LEVELS = ("counts", "instances", "content")
"""From the weakest to the strongest; level counts identifies no instance."""


class Finding(Enum):
    """The finding about the instance of a file."""

    LISTED = "listed"
    """The server lists its SOP Instance UID."""
    EQUAL = "equal"
    """The server has the same content."""
    DIFFERENT = "different"
    """The server has other content under its SOP Instance UID."""
    MISSING = "missing"
    """The server does not have its SOP Instance UID."""


_LEVEL_OF = {Finding.LISTED: "instances", Finding.EQUAL: "content"}


@dataclass(frozen=True, slots=True)
class KnownOutcome:
    """The record of a file in the ledger."""

    outcome: Outcome
    reason: str = ""
    has_other_file: bool = False
    """It is a copy of another file, or in conflict with one."""
    verified_level: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a file's record: a level, another outcome, or both."""

    level: str
    """The level at which the instance is confirmed; empty if it is not."""
    outcome: Outcome | None = None
    """The new outcome; None if it stays, with its reason."""
    reason: str = ""


def is_confirmed_at(level: str, wanted: str) -> bool:
    """Return whether a level is as strong as another one, or stronger; an empty level is none."""
    return level in LEVELS and LEVELS.index(level) >= LEVELS.index(wanted)


def change_of(known: KnownOutcome, finding: Finding, *, day: str, detail: str = "") -> Change | None:
    """Return the change of the record by a finding; None if there is none.

    `day` is for the report; `detail` names the differences. A file that was not sent because of another file keeps its
    outcome, unless its content is found to be equal: the instance at the server is from the other file.
    """
    is_conflict_with_server = known.outcome is Outcome.CONFLICT and not known.has_other_file
    match finding:
        case Finding.MISSING:
            if known.outcome.is_success or is_conflict_with_server:
                reason = f"not on the server on {day} (was {known.outcome})"
                return Change("", Outcome.MISSING, reason)
            return None
        case Finding.DIFFERENT:
            if known.outcome in (Outcome.SKIPPED, Outcome.UNREADABLE, Outcome.REFUSED) or known.has_other_file:
                return None
            return Change("", Outcome.CONFLICT, f"other content at the server on {day}: {detail}")
        case Finding.LISTED | Finding.EQUAL:
            return _confirmed(known, finding, day)


def _confirmed(known: KnownOutcome, finding: Finding, day: str) -> Change | None:
    level = _LEVEL_OF[finding]
    if known.outcome.is_success:
        return None if known.verified_level != level and is_confirmed_at(known.verified_level, level) else Change(level)
    if known.outcome in (Outcome.SKIPPED, Outcome.UNREADABLE):
        return None
    if finding is Finding.EQUAL:
        return Change(level, Outcome.STORED, f"found with the same content on {day} (was {known.outcome})")
    is_unconfirmed = known.outcome is Outcome.UNCONFIRMED and not is_about_conflict(known.reason)
    if known.outcome is Outcome.MISSING or is_unconfirmed:
        return Change(level, Outcome.STORED, f"found by QIDO-RS on {day} (was {known.outcome})")
    return None
