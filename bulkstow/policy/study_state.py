"""The state of a study at the destination: the expected instances compared with the instances of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

SHOWN_REASONS = 3
"""Reasons of single instances in the reason of a study; the ledger has them all."""


class StudyState(StrEnum):
    """The result of the verification of a study."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    """Some of its instances are missing."""
    ABSENT = "absent"
    """All of its instances are missing."""
    EXTRA = "extra"
    """Complete, and the server has more instances than expected."""
    DIFFERENT = "different"
    """No instance is missing, but the content of some differs."""
    UNKNOWN = "unknown"
    """The server could not be asked, or an instance could not be compared."""

    @property
    def is_complete(self) -> bool:
        """True if all expected instances have arrived."""
        return self in (StudyState.COMPLETE, StudyState.EXTRA)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """The result of one study."""

    study_uid: str
    state: StudyState
    expected: int
    """Instances that should be at the server."""
    found: int | None
    """The number of expected instances at the server; None if it is not known."""
    missing: tuple[str, ...] = ()
    """SOP Instance UIDs, as in the following fields."""
    different: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    reason: str = ""
    """The explanation of the state, if it needs one."""
    original_study_uid: str = ""
    """The UID of the study at the source, if an edit has changed it; of several the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The answers of the server about a study with listed instances."""

    expected: frozenset[str]
    tolerated: frozenset[str] = frozenset()
    """Instances that may be there or not: they were not selected, or their failure was accepted."""
    listed: frozenset[str]
    different: Mapping[str, str] = field(default_factory=dict)
    """The differences, by SOP Instance UID."""
    not_compared: Mapping[str, str] = field(default_factory=dict)
    """Why the content could not be compared, by SOP Instance UID."""


def judge_study(study_uid: str, evidence: Evidence) -> StudyResult:
    """Return the result of a study whose instances were listed."""
    missing = evidence.expected - evidence.listed
    extra = evidence.listed - evidence.expected - evidence.tolerated
    different = evidence.different.keys() - missing
    not_compared = {uid: why for uid, why in evidence.not_compared.items() if uid not in missing}
    if missing:
        state = StudyState.ABSENT if missing == evidence.expected else StudyState.INCOMPLETE
    elif different:
        state = StudyState.DIFFERENT
    elif not_compared:
        state = StudyState.UNKNOWN
    else:
        state = StudyState.EXTRA if extra else StudyState.COMPLETE
    return StudyResult(
        study_uid,
        state,
        expected=len(evidence.expected),
        found=len(evidence.expected) - len(missing),
        missing=tuple(sorted(missing)),
        different=tuple(sorted(different)),
        extra=tuple(sorted(extra)),
        reason=_reasons({uid: evidence.different[uid] for uid in different} | not_compared),
    )


def judge_count(study_uid: str, expected: int, tolerated: int, count: int) -> StudyResult:
    """Return the result of a study with this number of instances at the server; a number identifies no instance."""
    if not count:
        state, reason = StudyState.ABSENT, ""
    elif count < expected:
        state, reason = StudyState.INCOMPLETE, f"the server has {count:,} of {expected:,} instances"
    elif count > expected + tolerated:
        state, reason = StudyState.EXTRA, f"the server has {count:,} instances, {expected:,} are expected"
    else:
        state, reason = StudyState.COMPLETE, ""
    return StudyResult(study_uid, state, expected=expected, found=min(count, expected), reason=reason)


def unknown_study(study_uid: str, expected: int, reason: str) -> StudyResult:
    """Return the result of a study about which the server could not be asked."""
    return StudyResult(study_uid, StudyState.UNKNOWN, expected=expected, found=None, reason=reason)


def _reasons(by_uid: Mapping[str, str]) -> str:
    """Return the first reasons, the rest as a number."""
    parts = [f"{uid}: {by_uid[uid]}" for uid in sorted(by_uid)[:SHOWN_REASONS]]
    if len(by_uid) > SHOWN_REASONS:
        parts.append(f"and {len(by_uid) - SHOWN_REASONS:,} more")
    return "; ".join(parts)
