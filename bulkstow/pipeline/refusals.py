"""The reason of a refused file that is cut off, if its head alone does not show that.

Only refused files are read again, to find their last element. Only the words of the report depend on it, so a file that
cannot be read, or takes long, is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio

from bulkstow.errors import HeadError
from bulkstow.model import Batch, Candidate, FileResult, Outcome
from bulkstow.pipeline.worker_threads import WorkerThreads, run_abandonable
from bulkstow.policy.work_items import with_truncation
from bulkstow.ports import Source

LONGEST_LOOK_S = 10.0
"""Time limit for all refused files of a request; each takes 0.6 ms if it is cached, and some reads otherwise."""


async def explain_refusals(
    results: Sequence[FileResult], batch: Batch, source: Source, threads: WorkerThreads
) -> list[FileResult]:
    """Return the outcomes of a batch; the reason of a refused file that is cut off says so."""
    known = {instance.candidate for instance in batch.instances if instance.truncation}
    refused = [o.candidate for o in results if o.outcome is Outcome.REFUSED and o.candidate not in known]
    notes: dict[Candidate, str] = {}
    if refused:
        with anyio.move_on_after(LONGEST_LOOK_S):
            notes = await run_abandonable(threads, _find_truncations, source, refused)
    return [replace(o, reason=with_truncation(o.reason, notes.get(o.candidate, ""))) if notes else o for o in results]


def _find_truncations(source: Source, candidates: Sequence[Candidate]) -> dict[Candidate, str]:
    notes: dict[Candidate, str] = {}
    for candidate in candidates:
        try:
            notes[candidate] = source.find_truncation(candidate)
        except (OSError, HeadError):
            continue
    return notes
