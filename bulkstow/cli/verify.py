"""`bulkstow verify`: compare the instances at the server with the ledger or a source."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from bulkstow import __version__
from bulkstow.cli.files import check_writable, write_whole
from bulkstow.cli.run_log import opened_log
from bulkstow.cli.streams import ReaderLeft, print_in_passing
from bulkstow.cli.upload import carry_out as upload_missing
from bulkstow.config import FILES, DestinationSettings, SelectionSettings, UploadSettings, VerificationSettings
from bulkstow.engine.job import Job
from bulkstow.engine.verify import VerificationJob, run
from bulkstow.errors import ConfigurationError
from bulkstow.printing import shown
from bulkstow.progress.background import BackgroundStream
from bulkstow.progress.log import Log, settings_of
from bulkstow.quantities import EVERY_STUDY, counted
from bulkstow.setting_types import Switch
from bulkstow.source_settings import SourceSettings
from bulkstow.verification.closing import closing
from bulkstow.verification.examine import Examined
from bulkstow.verification.lines import Lines, Notation
from bulkstow.verification.live import Live
from bulkstow.verification.repair import RepairLists
from bulkstow.verification.requests import RequestTally
from bulkstow.verification.run import Output, Outputs
from bulkstow.verification.summary import VerificationSummary, fields_of, summary_of
from bulkstow.verification.tally import VerificationTally


def verify(
    *sources: str,
    destination: DestinationSettings | None = None,
    settings: UploadSettings | None = None,
    selection: SelectionSettings | None = None,
    source: SourceSettings | None = None,
    verification: VerificationSettings | None = None,
    format: Notation = "table",  # noqa: A002 - the flag's name
    files_from: Annotated[str | None, Parameter(allow_leading_hyphen=True, group=FILES)] = None,
    null: Annotated[Switch, Parameter(alias="-0", group=FILES)] = False,
) -> int:
    """Compare the instances at the server with the ledger or a source, study by study, and record the results.

    Exit status: 0 every study complete, 1 some not, 2 wrong usage, 3 stopped by an error that no retry fixes, 130
    interrupted.

    Parameters
    ----------
    sources
        Directories (with everything below them) and files; without any, the files in the ledger.
    format
        A table of the studies that are not complete, or all studies as CSV or as one JSON object per line.
    files_from
        File with one more source per line, or '-' for standard input.
    null
        Names in --files-from end with NUL, as `find -print0` writes them.
    """
    job = VerificationJob(
        source=sources,
        destination=destination or DestinationSettings(),
        settings=settings or UploadSettings(),
        selection=selection or SelectionSettings(),
        source_settings=source or SourceSettings(),
        verification=verification or VerificationSettings(),
        files_from=files_from,
        null_separated=null,
    )
    with contextlib.closing(_Results(format, sys.stdout)) as lines:
        lines.begin()
        if not job.verification.repair:
            return _carry_out(job, lines, format)
        with tempfile.TemporaryDirectory(prefix="bulkstow-") as directory:
            lists = RepairLists(Path(directory))
            exit_status = _carry_out(job, lines, format, lists)
            return exit_status if exit_status != 1 or lists.is_empty else _repair(job, lists, lines, format)


class _Results(Lines):
    """Lines on standard output. If the reader closes the pipe, as `head` does, later lines are dropped, and the
    verification continues."""

    def begin(self) -> None:
        """Write the heading."""
        with contextlib.suppress(ReaderLeft):
            super().begin()

    def write(self, examined: Sequence[Examined]) -> None:
        """Write results."""
        with contextlib.suppress(ReaderLeft):
            super().write(examined)


def _repair(job: VerificationJob, lists: RepairLists, lines: Lines, notation: Notation) -> int:
    """Send the missing instances, verify their studies again, and return the exit status of both verifications."""
    if lost := lists.drop_lost_files():
        print(f"bulkstow: {counted(lost, 'file')} of missing instances cannot be sent: no such file", file=sys.stderr)
    settings = replace(job.settings, summary=None, shard=None, allow_empty=True)
    upload = Job(
        (),
        job.destination,
        settings,
        files_from=str(lists.files),
        null_separated=True,
        source_settings=job.source_settings,
    )
    if (exit_status := upload_missing(upload, sys.stderr)) not in (0, 1):
        return exit_status
    verification = replace(job.verification, repair=False, sample=EVERY_STUDY)
    again = replace(job, verification=verification, selection=replace(job.selection, studies=lists.studies))
    return _carry_out(again, lines, notation) or int(lists.has_other_failures)


def _carry_out(job: VerificationJob, lines: Lines, notation: Notation, *others: Output) -> int:
    """Run a verification, print its closing text, and return its exit status."""
    where = job.settings.summary
    if where not in (None, "-"):
        check_writable("--summary", Path(where))
    tally = VerificationTally()
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(contextlib.closing(BackgroundStream(sys.stderr)))
        live = Live(job.settings.progress, screen, tally)
        log: Log | None = None
        try:
            begin = {"destination": job.destination.root, **job.scope, **settings_of(job.settings)}
            log = opened_log(job.settings, begin, stack, live.say)
            summary = anyio.run(partial(run, job, tally, live, Outputs((lines, *others)), log=log))
        except BaseException as stop:
            summary = summary_of(
                job.destination.root,
                job.scope,
                tally,
                RequestTally(),
                version=__version__,
                complete=False,
                stopped_by=stop,
            )
            exit_status = _conclude(job, summary, lines, notation, screen, log)
            if isinstance(stop, KeyboardInterrupt):
                return exit_status
            raise
        return _conclude(job, summary, lines, notation, screen, log)


def _conclude(
    job: VerificationJob,
    summary: VerificationSummary,
    lines: Lines,
    notation: Notation,
    screen: BackgroundStream,
    log: Log | None,
) -> int:
    """Print and write the result of a run, and return its exit status: 2 if only the summary cannot be written."""
    figures = fields_of(summary)
    if log is not None:
        log.end_with(figures)
    screen.close()  # the following text comes after it
    lines.show()
    where = job.settings.summary
    is_out_free = notation == "table" and where != "-"
    if summary.complete or any(summary.states.values()):
        print_in_passing(closing(summary, job.settings.ledger), None if is_out_free else sys.stderr)
    text = json.dumps(figures)
    if where == "-":
        print_in_passing(text)
    elif where is not None:
        try:
            write_whole("--summary", Path(where), text + "\n")
        except ConfigurationError as error:
            print(f"bulkstow: {shown(str(error))}", file=sys.stderr)
            return summary.exit_status or error.exit_status
    return summary.exit_status
