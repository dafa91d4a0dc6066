"""Decides which outcomes another pass may change in a run that watches its sources."""

from __future__ import annotations

from bulkstow.model import FileResult, Outcome

STORAGE_REASONS = (
    "cannot be read",
    "cannot be looked at",
    "cannot be compared",
    "a directory that cannot be listed",
    "no such file",
)
"""The beginnings of the reasons that the storage causes, and not the content of a file."""


def may_succeed_later(before: FileResult) -> bool:
    """Return whether an unchanged file may have another outcome later.

    Its storage or the server's answer failed, or it is a copy of a file that has changed since.
    """
    if before.outcome is Outcome.UNREADABLE:
        return before.reason.startswith(STORAGE_REASONS)
    return before.outcome is Outcome.UNCONFIRMED or (before.outcome is Outcome.SKIPPED and bool(before.copy_of))


def replaces(result: FileResult, before: FileResult | None) -> bool:
    """Return whether an outcome of the scan differs from the one that this run has recorded."""
    return before is None or (result.outcome, result.reason) != (before.outcome, before.reason)
