"""The summary of a run: its figures, its times and its end."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from datetime import datetime

from bulkstow import __version__
from bulkstow.engine.job import Job
from bulkstow.errors import first_of
from bulkstow.model import Outcome, Summary
from bulkstow.policy.bottleneck import bottleneck
from bulkstow.policy.run_end import exit_status_of, stop_reason
from bulkstow.progress.tally import Tally


def summary_of(
    job: Job,
    tally: Tally,
    elapsed_s: float,
    *,
    complete: bool,
    is_running: bool = False,
    stopped_by: BaseException | None = None,
) -> Summary:
    """Return the summary of a run; if it is incomplete, `stopped_by` ended it, or a signal if that is None."""
    studies = tally.studies
    summary = Summary(
        destination=job.destination_name,
        outcomes={outcome: tally.outcomes[outcome] for outcome in Outcome},
        accepted=tally.accepted.total(),
        left_out={filter_.value: count for filter_, count in tally.left_out.items()},
        pruned_directories=tally.pruned_directories,
        disposed=tally.disposed,
        kept={reason: count for reason, count in tally.kept.most_common() if count},
        settled_before=tally.settled_before,
        delivered=tally.delivered,
        bytes_sent=tally.sent_bytes,
        requests=tally.requests,
        retries=tally.retries,
        elapsed_s=elapsed_s,
        concurrency=tally.concurrency,
        processes=1 + tally.senders,
        batch_bytes=tally.batch_limits.size_bytes,
        batch_instances=tally.batch_limits.instances,
        outage_s=tally.outage_s,
        server_requests_per_s=tally.server_requests_per_s,
        bottleneck=bottleneck(tally.usage),
        spent_s=tally.usage.by_name_s,
        empty_sources=tally.empty_sources,
        complete=complete,
        shard=None if job.settings.shard is None else str(job.settings.shard),
        studies=None if studies is None else studies.sent,
        studies_known=None if studies is None else studies.known,
        studies_complete=None if studies is None else studies.complete,
        ledger=str(job.settings.ledger),
        version=__version__,
        started_at=tally.started_at.isoformat(timespec="seconds"),
    )
    if is_running:
        return replace(summary, watching=tally.is_watching)
    if stopped_by is not None:
        stopped_by = first_of(stopped_by)
    is_success = not (summary.failures or summary.empty_sources)
    return replace(
        summary,
        ended_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        exit_status=exit_status_of(stopped_by, complete=summary.complete, is_success=is_success),
        stopped_because=stop_reason(stopped_by, complete=complete),
    )


def fields_of(summary: Summary) -> dict[str, object]:
    """Return a summary as values for JSON, with times to the millisecond."""
    spent_s = {name: round(duration_s, 3) for name, duration_s in summary.spent_s.items()}
    rounded = {"elapsed_s": round(summary.elapsed_s, 3), "outage_s": round(summary.outage_s, 3), "spent_s": spent_s}
    return {**dataclasses.asdict(summary), **rounded}
