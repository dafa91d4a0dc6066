"""Rows of reports on many files: by study, reason, modality, outcome and level of verification."""

from __future__ import annotations

from dataclasses import dataclass

from bulkstow.model import Outcome

LEVELS = ("counts", "instances", "content")
"""Levels of a verification, the lowest first."""


@dataclass(frozen=True, slots=True)
class StudyRow:
    """The files of a study at a destination."""

    destination: str
    study_uid: str
    """Empty for files of no known study."""
    modality: str
    """The modalities of its files, separated by commas; empty if none is known."""
    study_date: str
    """YYYYMMDD; empty if it is not known."""
    files: int
    size_bytes: int
    stored: int
    """Files that the server has: stored, warned and duplicate."""
    failed: int
    """Files that are refused, unconfirmed or unreadable, the accepted ones included."""
    conflicts: int
    missing: int
    skipped: int
    accepted: int
    """How many of the failures, conflicts and missing files a user has accepted."""
    verified: int
    """Files whose instance `verify` found on the server."""
    verified_level: str
    """The lowest level at which it did; empty if it has verified none."""
    first_at_s: int | None
    """When the first of the outcomes was recorded; None if it is not known."""
    last_at_s: int | None
    is_complete: bool
    """No file has a failure that is not accepted."""


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """The files with the same outcome for the same kind of reason."""

    outcome: Outcome
    reason: str
    files: int
    size_bytes: int
    accepted: int
    studies: int
    example: str
    """The path of one of the files."""


@dataclass(frozen=True, slots=True)
class ModalityRow:
    """The files of a modality."""

    modality: str | None
    """Empty if the files have none; None if it is not known."""
    studies: int
    files: int
    size_bytes: int
    accepted: int
    outcomes: dict[Outcome, int]


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """The files with an outcome."""

    outcome: Outcome
    files: int
    size_bytes: int
    studies: int
    accepted: int


@dataclass(frozen=True, slots=True)
class LevelRow:
    """The files that `verify` has confirmed at a level."""

    level: str
    files: int
    first_at_s: int
    last_at_s: int


@dataclass(frozen=True, slots=True)
class StudyCounts:
    """The number of studies, each counted once for a destination."""

    studies: int
    complete: int
    """Studies without a failure that is not accepted."""
    verified: int
    """Complete studies of which every stored file is verified, at any level."""
