"""The closing text of a verification: studies by state, the comparison, and the next steps."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from bulkstow.policy.study_state import StudyState
from bulkstow.printing import shown
from bulkstow.quantities import counted, show_duration, show_size
from bulkstow.verification.summary import VerificationSummary

_VERIFIED = {
    "counts": "numbers of instances compared",
    "instances": "lists of instances compared",
    "content": "lists of instances and their content compared",
}


def closing(summary: VerificationSummary, ledger: Path) -> str:
    """Return the closing text, several lines."""
    return "\n".join(_lines(summary, ledger))


def _lines(summary: VerificationSummary, ledger: Path) -> Iterator[str]:
    if any(summary.states.values()):
        yield f"{'state':<12} {'studies':>11}"
        yield from (f"{state:<12} {count:>11,}" for state, count in summary.states.items() if count)
    elif summary.complete:
        yield "no studies to verify"
    yield (
        f"{summary.found:,} of {counted(summary.expected, 'instance')} found, level {summary.level}: "
        + (_VERIFIED[summary.level])
    )
    if summary.studies < summary.studies_in_all:
        yield (
            f"sample: {summary.studies:,} of {summary.studies_in_all:,} studies "
            f"(--sample {summary.sample} --seed {shown(shlex.quote(summary.seed))})"
        )
    if summary.confirmed_before:
        yield f"{counted(summary.confirmed_before, 'study', 'studies')} confirmed by an earlier, unfinished run"
    if summary.listed_instead:
        yield (
            f"{counted(summary.listed_instead, 'study', 'studies')} listed, "
            "because the server does not tell how many instances they have"
        )
    if summary.uncovered:
        yield f"not covered: {counted(summary.uncovered, 'failure')} of files that belong to no study"
        report = f"{_report(ledger)} --outcome unreadable; accept known ones with `bulkstow accept`"
        yield from (f"  {shown(line)}" for line in summary.first_uncovered or (report,))
    if summary.unknown_studies:
        count = counted(summary.unknown_studies, "study", "studies")
        yield f"not covered: {count} of --studies without a file to verify; --allow-empty accepts this"
        yield from (f"  {shown(uid)}" for uid in summary.first_unknown_studies)
    for source in summary.empty_sources:
        yield f"no file found in {shown(source)}: is it mounted, or the list empty? --allow-empty accepts this"
    yield _speed(summary)
    if summary.outage_s:
        yield f"time without the server: {show_duration(summary.outage_s)}"
    yield from _next(summary, ledger)


def _speed(summary: VerificationSummary) -> str:
    share = summary.waiting_s / summary.elapsed_s if summary.elapsed_s else 0.0
    return (
        f"{counted(summary.requests, 'request')}, {counted(summary.retries, 'retry', 'retries')}, "
        f"{show_size(summary.received_bytes)} received, {show_duration(summary.elapsed_s)}, "
        f"{share:.0%} of it with a request under way"
    )


def _next(summary: VerificationSummary, ledger: Path) -> Iterator[str]:
    if not summary.complete:
        yield "not complete: run the same command again to continue where it stopped"
        return
    states = summary.states
    if summary.level != "counts" and (states[StudyState.ABSENT] or states[StudyState.INCOMPLETE]):
        yield f"missing instances: {_report(ledger)} --outcome missing,unconfirmed,refused"
        yield "  the next upload sends them again, refused ones with --retry-failed"
    if summary.level == "counts":
        yield "counts identify no instance: nothing is recorded as verified"


def _report(ledger: Path) -> str:
    return f"bulkstow report {shown(shlex.quote(str(ledger)))}"
