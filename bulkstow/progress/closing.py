"""The closing text of a run: a table of outcomes, the first failures, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bulkstow.model import LedgerStudies, Outcome, Summary
from bulkstow.policy.bottleneck import Bottleneck
from bulkstow.printing import shown
from bulkstow.progress.tally import SHOWN_FAILURES, Tally
from bulkstow.quantities import counted, show_duration, show_size


def closing(summary: Summary, tally: Tally, ledger: Path) -> str:
    """Return the closing text of a run, several lines."""
    return "\n".join(_lines(summary, tally, ledger))


def _lines(summary: Summary, tally: Tally, ledger: Path) -> Iterator[str]:
    if summary.shard is not None:
        yield f"shard {summary.shard} of the source"
    if not any(summary.outcomes.values()):
        yield _no_outcomes(summary, tally)
    else:
        yield from _table(summary, tally)
    for reason, count in tally.skip_reasons.most_common():
        if count:
            yield f"  skipped {count:,}: {shown(reason)}"
    if summary.settled_before:
        yield f"  {summary.settled_before:,} of them by an earlier run: nothing was sent for them"
    yield from left_out_lines(summary.left_out, summary.pruned_directories)
    yield from _disposed(summary, tally)
    if tally.studies is not None and tally.studies.known and summary.complete:
        yield _arrived(tally.studies, summary)
    yield from _speed(summary, tally)
    report = f"bulkstow report {shown(shlex.quote(str(ledger)))}"
    failed = [outcome.value for outcome in Outcome if outcome.is_failure and summary.outcomes.get(outcome)]
    if failures := tally.first_failures:
        yield "first failures:"
        yield from (
            f"  {result.outcome} {shown(result.candidate.location)}: {shown(result.reason)}" for result in failures
        )
    yield from empty_source_lines(summary)
    if failed:
        name = "all failures" if summary.failures else "accepted failures"
        yield f"{name}: {report} --outcome {','.join(failed)}"
    if not summary.complete:
        yield "not complete: run the same command again to continue where it stopped"
    elif not failed:
        yield f"every file: {report}"


def _table(summary: Summary, tally: Tally) -> Iterator[str]:
    """Yield the number of files of each outcome, and of studies if the ledger has no other files."""
    studies = tally.studies
    has_studies = studies is not None and studies.known > 0 and studies.files == sum(summary.outcomes.values())
    by_outcome = studies.by_outcome if studies is not None and has_studies else {}
    yield f"{'outcome':<12} {'files':>11}" + (f" {'studies':>11}" if by_outcome else "")
    for outcome in Outcome:
        if count := summary.outcomes.get(outcome, 0):
            of_studies = f" {by_outcome[outcome]:>11,}" if by_outcome else ""
            accepted = f"  ({tally.accepted[outcome]:,} accepted)" if tally.accepted[outcome] else ""
            yield f"{outcome:<12} {count:>11,}{of_studies}{accepted}"


def _arrived(studies: LedgerStudies, summary: Summary) -> str:
    """Return the number of complete studies in words, and the numbers of files that it does not cover."""
    scope = " that was selected" if summary.left_out or summary.pruned_directories else ""
    scope += " in this shard" if summary.shard is not None else ""
    arrived = "arrived, or is accepted" if summary.accepted else "arrived"
    words = f"everything{scope} {arrived}: {studies.complete:,} of {counted(studies.known, 'study', 'studies')}"
    others = studies.files - sum(summary.outcomes.values())
    if others > 0:
        words += f", {counted(others, 'other file')} of the ledger included"
    if studies.failures_without:
        words += f"; {counted(studies.failures_without, 'failure')} of no known study"
    return words


def _senders(tally: Tally) -> str:
    if tally.senders_are_workers:
        return counted(tally.senders, "worker", "workers")
    return counted(1 + tally.senders, "process", "processes")


def left_out_lines(left_out: Mapping[str, int], pruned_directories: int) -> Iterator[str]:
    """Yield a line for the files that each filter left out, and one for the directories that were not entered."""
    by_filter = sorted(left_out.items(), key=lambda item: -item[1])
    files = sum(left_out.values())
    if files:
        yield f"left out {counted(files, 'file')}: {', '.join(f'{count:,} by --{name}' for name, count in by_filter)}"
    if pruned_directories:
        yield f"{counted(pruned_directories, 'directory', 'directories')} not entered because of --exclude"


def _disposed(summary: Summary, tally: Tally) -> Iterator[str]:
    """Yield a line for the files that were moved or deleted, and one for each reason of those that were not."""
    if summary.disposed:
        yield f"{tally.disposed_as} {counted(summary.disposed, 'file')}"
    for reason, count in summary.kept.items():
        yield f"  kept {count:,}: {shown(reason)}"


def _no_outcomes(summary: Summary, tally: Tally) -> str:
    if tally.found_files:
        return "no file has an outcome yet"
    if summary.left_out or summary.pruned_directories:
        return "nothing was selected: the filters leave out every file" if summary.complete else "nothing selected yet"
    if summary.shard is None or summary.empty_sources or not summary.complete:
        return "no files found"
    return "no file of the source is in this shard; if most shards have none, give another --shard-level"


def empty_source_lines(summary: Summary) -> Iterator[str]:
    """Yield a line for each of the first sources without any file, and one for the number of the others."""
    yield from empty_parts_lines(summary.empty_sources)


def empty_parts_lines(sources: Sequence[str]) -> Iterator[str]:
    """Yield a line for each of the first sources without any file, and one for the number of the others."""
    for source in sources[:SHOWN_FAILURES]:
        yield f"no file found in {shown(source)}: is it mounted, or the list empty? --allow-empty accepts this"
    if len(sources) > SHOWN_FAILURES:
        yield f"no file found in {len(sources) - SHOWN_FAILURES:,} more sources"


def _speed(summary: Summary, tally: Tally) -> Iterator[str]:
    requests = f"{counted(summary.requests, 'request')}, {counted(summary.retries, 'retry', 'retries')}"
    if summary.requests and summary.concurrency:
        requests += f", {summary.concurrency} at once"
        requests += f", up to {show_size(summary.batch_bytes)} each" if summary.batch_bytes else ""
        requests += f", from {_senders(tally)}" if tally.senders else ""
    per_s = tally.delivered / summary.elapsed_s if summary.elapsed_s else 0.0
    yield (
        f"{show_size(summary.bytes_sent)} in {requests}, "
        f"{show_duration(summary.elapsed_s)}, {per_s:,.0f} instances/s, "
        f"{show_size(summary.bytes_sent / summary.elapsed_s if summary.elapsed_s else 0)}/s"
    )
    if summary.outage_s:
        yield f"time without the server: {show_duration(summary.outage_s)}"
    if summary.bottleneck != Bottleneck.UNKNOWN:
        yield f"bottleneck: {Bottleneck(summary.bottleneck).meaning}"
    if summary.server_requests_per_s is not None:
        yield f"the server accepts about {summary.server_requests_per_s:.2g} requests per second, and rejects more"
