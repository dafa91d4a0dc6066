"""The summary of a verification: its figures, its times and its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from bulkstow.errors import first_of
from bulkstow.policy.run_end import exit_status_of, stop_reason
from bulkstow.policy.study_state import StudyState
from bulkstow.verification.requests import RequestTally
from bulkstow.verification.tally import VerificationTally


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationSummary:
    """The figures of a whole verification."""

    destination: str
    level: str
    sample: str
    seed: str
    studies: int
    """Studies that were to be verified."""
    studies_in_all: int
    """Studies that the sample was taken from."""
    states: Mapping[str, int]
    """Studies by state."""
    expected: int
    """Instances of the studies that have a state."""
    found: int
    missing: int
    different: int
    extra: int
    confirmed_before: int
    """Studies that an unfinished run had confirmed already."""
    listed_instead: int
    """Studies that were listed, because the server does not count their instances."""
    uncovered: int
    """Failures that belong to no study; they count as failures of the verification."""
    first_uncovered: tuple[str, ...]
    """The first of them in a source, with the reasons of the failures."""
    unknown_studies: int
    """Studies of `--studies` of which no instance is expected, without `--allow-empty`; they count likewise."""
    first_unknown_studies: tuple[str, ...]
    empty_sources: tuple[str, ...]
    """The first sources without any file, unless `--allow-empty` was given; they count as failures."""
    requests: int
    retries: int
    received_bytes: int
    elapsed_s: float
    waiting_s: float
    """The time in which at least one request was under way."""
    outage_s: float
    complete: bool
    """False if the run was interrupted or stopped."""
    version: str
    started_at: str
    ended_at: str
    exit_status: int
    stopped_because: str | None


def summary_of(
    destination: str,
    scope: Mapping[str, object],
    tally: VerificationTally,
    requests: RequestTally,
    *,
    version: str,
    complete: bool,
    stopped_by: BaseException | None = None,
) -> VerificationSummary:
    """Return the summary of a run; if it is incomplete, `stopped_by` ended it, or a signal if that is None."""
    stopped_by = None if stopped_by is None else first_of(stopped_by)
    return VerificationSummary(
        destination=destination,
        level=str(scope["level"]),
        sample=str(scope["sample"]),
        seed=str(scope["seed"]),
        studies=tally.studies,
        studies_in_all=tally.studies_in_all,
        states={state.value: tally.states[state] for state in StudyState},
        expected=tally.expected,
        found=tally.found,
        missing=tally.missing,
        different=tally.different,
        extra=tally.extra,
        confirmed_before=tally.confirmed_before,
        listed_instead=tally.listed_instead,
        uncovered=tally.uncovered,
        first_uncovered=tuple(f"{one.candidate.location}: {one.reason}" for one in tally.first_uncovered),
        unknown_studies=tally.unknown_studies,
        first_unknown_studies=tally.first_unknown_studies,
        empty_sources=tally.empty_sources,
        requests=requests.requests,
        retries=requests.retries,
        received_bytes=requests.received_bytes,
        elapsed_s=round(tally.elapsed_s, 3),
        waiting_s=round(requests.busy_s, 3),
        outage_s=round(tally.outage_s, 3),
        complete=complete and stopped_by is None,
        version=version,
        started_at=tally.started_at.isoformat(timespec="seconds"),
        ended_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        exit_status=exit_status_of(stopped_by, complete=complete, is_success=tally.is_all_complete),
        stopped_because=stop_reason(stopped_by, complete=complete),
    )


def fields_of(summary: VerificationSummary) -> dict[str, object]:
    """Return a summary as values for JSON."""
    return dataclasses.asdict(summary)
