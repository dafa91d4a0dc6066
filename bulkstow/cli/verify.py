"""`bulkstow verify`: compare what the server has with the ledger."""

from __future__ import annotations

import contextlib
import json
import sys
from functools import partial
from pathlib import Path

import anyio

from bulkstow import __version__
from bulkstow.cli.files import check_writable, write_whole
from bulkstow.cli.streams import print_in_passing
from bulkstow.config import DestinationSettings, SelectionSettings, UploadSettings, VerificationSettings
from bulkstow.engine.verify import VerificationJob, run
from bulkstow.errors import ConfigurationError
from bulkstow.printing import shown
from bulkstow.progress.background import BackgroundStream
from bulkstow.verification.closing import closing
from bulkstow.verification.lines import Lines, Notation
from bulkstow.verification.live import Live
from bulkstow.verification.requests import RequestTally
from bulkstow.verification.summary import VerificationSummary, fields_of, summary_of
from bulkstow.verification.tally import VerificationTally


def verify(
    *,
    destination: DestinationSettings | None = None,
    settings: UploadSettings | None = None,
    selection: SelectionSettings | None = None,
    verification: VerificationSettings | None = None,
    format: Notation = "table",  # noqa: A002 - the flag's name
) -> int:
    """Compare what the server has with the ledger, study by study, and record what is confirmed and what is missing.

    Exit status: 0 every study complete, 1 some not, 2 wrong usage, 3 stopped by an error that no retry fixes, 130
    interrupted.

    Parameters
    ----------
    format
        A table of the studies that are not complete, or all studies as CSV or as one JSON object per line.
    """
    job = VerificationJob(
        destination=destination or DestinationSettings(),
        settings=settings or UploadSettings(),
        selection=selection or SelectionSettings(),
        verification=verification or VerificationSettings(),
    )
    where = job.settings.summary
    if where not in (None, "-"):
        check_writable("--summary", Path(where))
    tally = VerificationTally()
    lines = Lines(format, sys.stdout)
    lines.begin()
    with contextlib.closing(BackgroundStream(sys.stderr)) as screen:
        live = Live(job.settings.progress, screen, tally)
        try:
            summary = anyio.run(partial(run, job, tally, live, lines))
        except BaseException as stop:
            stopped = summary_of(
                job.destination.root,
                job.scope,
                tally,
                RequestTally(),
                version=__version__,
                complete=False,
                stopped_by=stop,
            )
            exit_status = _conclude(job, stopped, format, screen)
            if isinstance(stop, KeyboardInterrupt):
                return exit_status
            raise
        return _conclude(job, summary, format, screen)


def _conclude(job: VerificationJob, summary: VerificationSummary, notation: Notation, screen: BackgroundStream) -> int:
    """Print and write the result of a run, and return its exit status: 2 if only the summary cannot be written."""
    screen.close()  # the following text comes after it
    where = job.settings.summary
    is_out_free = notation == "table" and where != "-"
    if summary.states or summary.complete:
        print_in_passing(closing(summary, job.settings.ledger), None if is_out_free else sys.stderr)
    text = json.dumps(fields_of(summary))
    if where == "-":
        print_in_passing(text)
    elif where is not None:
        try:
            write_whole("--summary", Path(where), text + "\n")
        except ConfigurationError as error:
            print(f"bulkstow: {shown(str(error))}", file=sys.stderr)
            return summary.exit_status or error.exit_status
    return summary.exit_status
