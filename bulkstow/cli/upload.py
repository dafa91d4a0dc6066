"""`bulkstow upload`: send an archive, say what became of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import sys
import time
from pathlib import Path
from typing import Annotated, TextIO

import anyio
from cyclopts import Parameter

from bulkstow.cli.files import check_writable, is_replaceable, write_whole
from bulkstow.cli.streams import print_in_passing
from bulkstow.config import DestinationSettings, Switch, UploadSettings
from bulkstow.engine.job import Job
from bulkstow.engine.local import run
from bulkstow.engine.summary import summary_of
from bulkstow.errors import INTERRUPTED, ConfigurationError
from bulkstow.model import Summary
from bulkstow.progress.background import BackgroundStream
from bulkstow.progress.closing import closing, empty_words
from bulkstow.progress.display import display
from bulkstow.progress.tally import Tally


def upload(
    *sources: str,
    destination: DestinationSettings | None = None,
    settings: UploadSettings | None = None,
    files_from: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    null: Annotated[Switch, Parameter(alias="-0")] = False,
) -> int:
    """Send an archive; run it again to go on where it stopped.

    Exit status: 0 everything stored (or skipped), 1 some failed, 2 wrong usage, 3 stopped by what no retry mends,
    130 interrupted.

    Parameters
    ----------
    sources
        Directories (with all below them) and files.
    files_from
        File with one more source a line; '-' is standard input.
    null
        Names in that file end with NUL, as `find -print0` writes them.
    """
    job = Job(
        sources, destination or DestinationSettings(), settings or UploadSettings(), files_from, null_separated=null
    )
    return carry_out(job)


def carry_out(job: Job, out: TextIO | None = None) -> int:
    """Run a job, print its closing words and return its exit status.

    The file of `--summary` says from the beginning that the run is not complete, so that what a killed run leaves there
    is never the last one's.
    """
    tally = Tally()
    started_s = time.monotonic()
    _begin_summary(job, tally)
    try:
        if not job.sources and job.files_from is None:
            raise ConfigurationError("nothing to send: name directories or files, or give --files-from")
        with contextlib.closing(BackgroundStream(sys.stderr)) as stream:
            shown = display(job.settings.progress, stream)
            summary = anyio.run(functools.partial(run, job, tally, shown))
    except BaseException as stop:
        elapsed_s = time.monotonic() - started_s
        stopped = summary_of(job, tally, elapsed_s, complete=False, stopped_by=stop)
        exit_status = _conclude(job, tally, stopped, out)
        if isinstance(stop, KeyboardInterrupt):
            return exit_status
        raise
    return _conclude(job, tally, summary, out)


def _begin_summary(job: Job, tally: Tally) -> None:
    if (path := _summary_path(job)) is None:
        return
    check_writable("--summary", path)
    if is_replaceable(path):
        write_whole("--summary", path, as_json(summary_of(job, tally, 0.0, complete=False, is_running=True)) + "\n")


def _summary_path(job: Job) -> Path | None:
    where = job.settings.summary
    return None if where in (None, "-") else Path(where)


def _conclude(job: Job, tally: Tally, summary: Summary, out: TextIO | None) -> int:
    """Say and write how a run ended and return its exit status: 2 where only its summary cannot be written."""
    is_to_be_read = job.settings.summary == "-"
    if tally.found_files or summary.complete or summary.exit_status == INTERRUPTED:
        words = closing(summary, tally, job.settings.ledger)
        for line in empty_words(summary):
            print_in_passing(f"bulkstow: {line}", sys.stderr)
        print_in_passing(words, sys.stderr if is_to_be_read else out)
    if is_to_be_read:
        print_in_passing(as_json(summary), out)
    exit_status = summary.exit_status or 0
    if (path := _summary_path(job)) is not None:
        try:
            write_whole("--summary", path, as_json(summary) + "\n")
        except ConfigurationError as error:
            print(f"bulkstow: {error}", file=sys.stderr)
            return exit_status or error.exit_status
    return exit_status


def as_json(summary: Summary) -> str:
    """Return a summary as one JSON object."""
    spent_s = {name: round(duration_s, 3) for name, duration_s in summary.spent_s.items()}
    rounded = {"elapsed_s": round(summary.elapsed_s, 3), "outage_s": round(summary.outage_s, 3), "spent_s": spent_s}
    return json.dumps({**dataclasses.asdict(summary), **rounded})
