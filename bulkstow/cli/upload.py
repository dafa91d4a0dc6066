"""`bulkstow upload`: send an archive, say what became of it."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import time
from pathlib import Path
from typing import Annotated, TextIO

import anyio
from cyclopts import Parameter

from bulkstow.cli import INTERRUPTED
from bulkstow.cli.streams import print_in_passing
from bulkstow.config import DestinationSettings, Switch, UploadSettings
from bulkstow.engine.local import Job, run, summary_of
from bulkstow.errors import ConfigurationError, RunStopped
from bulkstow.model import Summary
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
    if not sources and files_from is None:
        raise ConfigurationError("nothing to send: name directories or files, or give --files-from")
    settings = settings or UploadSettings()
    job = Job(sources, destination or DestinationSettings(), settings, files_from, null)
    return carry_out(job)


def carry_out(job: Job, out: TextIO | None = None) -> int:
    """Run a job, print its closing words and return its exit status."""
    _check_summary(job.settings.summary)
    tally = Tally()
    shown = display(job.settings.progress)
    started_s = time.monotonic()
    try:
        summary = anyio.run(functools.partial(run, job, tally, shown))
    except RunStopped:
        if tally.found_files:
            _conclude(job, tally, summary_of(job, tally, time.monotonic() - started_s, complete=False), out)
        raise
    _conclude(job, tally, summary, out)
    if not summary.complete:
        return INTERRUPTED
    return 1 if summary.failures or summary.empty_sources else 0


def _check_summary(where: str | None) -> None:
    """Look whether the figures can be written before days are spent on them."""
    if where not in (None, "-"):
        path = Path(where)
        if path.is_dir() or not path.absolute().parent.is_dir():
            why = "a directory" if path.is_dir() else "no such directory"
            raise ConfigurationError(f"--summary {where}: cannot be written ({why})")


def _conclude(job: Job, tally: Tally, summary: Summary, out: TextIO | None) -> None:
    words = closing(summary, tally, job.settings.ledger)
    for line in empty_words(summary):
        print_in_passing(f"bulkstow: {line}", sys.stderr)
    where = job.settings.summary
    if where == "-":
        print(words, file=sys.stderr)
    print_in_passing(as_json(summary) if where == "-" else words, out)
    if where not in (None, "-"):
        try:
            Path(where).write_text(as_json(summary) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"--summary {where}: cannot be written ({error.strerror})") from error


def as_json(summary: Summary) -> str:
    """Return a summary as one JSON object."""
    spent_s = {name: round(duration_s, 3) for name, duration_s in summary.spent_s.items()}
    rounded = {"elapsed_s": round(summary.elapsed_s, 3), "outage_s": round(summary.outage_s, 3), "spent_s": spent_s}
    return json.dumps({**dataclasses.asdict(summary), **rounded})
