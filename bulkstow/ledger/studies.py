"""The studies of a ledger, counted at the end of a run."""

from __future__ import annotations

from bulkstow.ledger.look_ups import LookUps
from bulkstow.model import LedgerStudies, Outcome

_FAILURES = ", ".join(f"'{outcome}'" for outcome in Outcome if outcome.is_failure)
_IS_OPEN = f"outcome IN ({_FAILURES}) AND accepted IS NULL"

_STUDIES = f"""
    SELECT count(*), coalesce(sum(NOT is_open), 0), coalesce(sum(is_sent), 0),
        {", ".join(f"coalesce(sum(has_{outcome}), 0)" for outcome in Outcome)}
    FROM (
        SELECT max(is_open) AS is_open, max(is_sent) AS is_sent,
            {", ".join(f"max(outcome = '{outcome}') AS has_{outcome}" for outcome in Outcome)}
        FROM (
            SELECT DISTINCT study_uid, outcome, {_IS_OPEN} AS is_open, run = ? AND attempts > 0 AS is_sent
            FROM file WHERE destination = ? AND study_uid IS NOT NULL
        ) GROUP BY study_uid
    )"""  # noqa: S608 - only ? and constants
"""The inner DISTINCT keeps a row for each study and outcome; grouping all files at once sorts them, and takes twice as
long."""

_FILES = f"SELECT count(*), coalesce(sum(study_uid IS NULL AND {_IS_OPEN}), 0) FROM file WHERE destination = ?"  # noqa: S608


def count_studies(look_ups: LookUps, *, destination: int, run: int) -> LedgerStudies:
    """Count the studies of all files for a destination, found by this run or not. Raises LedgerError."""
    ((known, complete, sent, *by_outcome),) = look_ups.read(_STUDIES, (run, destination))
    ((files, failures_without),) = look_ups.read(_FILES, (destination,))
    return LedgerStudies(
        known=known,
        complete=complete,
        sent=sent,
        by_outcome=dict(zip(Outcome, by_outcome, strict=True)),
        files=files,
        failures_without=failures_without,
    )
