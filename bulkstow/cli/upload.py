"""`bulkstow upload`: send an archive and report the outcome."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, TextIO

import anyio
from cyclopts import Parameter

from bulkstow import __version__
from bulkstow.cli.files import check_writable, is_replaceable, write_whole
from bulkstow.cli.run_log import opened_log
from bulkstow.cli.streams import print_in_passing
from bulkstow.config import FILES, OUTPUT, DestinationSettings, SelectionSettings, UploadSettings
from bulkstow.engine.job import Job
from bulkstow.engine.local import run
from bulkstow.engine.summary import fields_of, summary_of
from bulkstow.errors import INTERRUPTED, ConfigurationError
from bulkstow.model import Summary
from bulkstow.printing import shown
from bulkstow.progress.background import BackgroundStream
from bulkstow.progress.closing import closing, empty_source_lines
from bulkstow.progress.display import display
from bulkstow.progress.log import Log, settings_of
from bulkstow.progress.tally import Tally
from bulkstow.setting_types import Switch
from bulkstow.source_settings import SourceSettings, WatchSettings


def upload(
    *sources: str,
    destination: DestinationSettings | None = None,
    settings: UploadSettings | None = None,
    selection: SelectionSettings | None = None,
    source: SourceSettings | None = None,
    watch: WatchSettings | None = None,
    files_from: Annotated[str | None, Parameter(allow_leading_hyphen=True, group=FILES)] = None,
    null: Annotated[Switch, Parameter(alias="-0", group=FILES)] = False,
    dry_run: Annotated[Switch, Parameter(group=OUTPUT)] = False,
) -> int:
    """Send an archive; the same command again continues where it stopped.

    Exit status: 0 everything stored (or skipped), 1 some failed, 2 wrong usage, 3 stopped by an error that no retry
    fixes, 130 interrupted.

    Parameters
    ----------
    sources
        Directories (with everything below them) and files.
    files_from
        File with one more source per line, or '-' for standard input.
    null
        Names in --files-from end with NUL, as `find -print0` writes them.
    dry_run
        Show the plan of this upload, as `bulkstow plan` does, and send and write nothing.
    """
    settings = settings or UploadSettings()
    try:
        if not sources and files_from is None:
            raise ConfigurationError("nothing to send: name directories or files, or give --files-from")
        job = Job(
            sources,
            destination or DestinationSettings(),
            settings,
            files_from,
            null_separated=null,
            selection=selection or SelectionSettings(),
            source_settings=source or SourceSettings(),
            watch=watch or WatchSettings(),
        )
    except ConfigurationError as error:
        if settings.summary is not None and not dry_run:
            summarise_wrong_use(settings.summary, str(error))
        raise
    if not dry_run:
        return carry_out(job)
    from bulkstow.cli import plan
    from bulkstow.engine.plan import PlanJob

    return plan.carry_out(
        PlanJob(
            source=sources,
            destination=destination,
            settings=dataclasses.replace(settings, digest="none"),  # there is no place for digests
            selection=job.selection,
            source_settings=job.source_settings,
            files_from=files_from,
            null_separated=null,
        )
    )


def carry_out(job: Job, out: TextIO | None = None) -> int:
    """Run a job, print its closing text and return its exit status.

    The file of `--summary` is written at the start, as that of an incomplete run, so that a killed run does not leave
    the summary of the previous run.
    """
    tally = Tally()
    started_s = time.monotonic()
    if job.settings.summary not in (None, "-"):
        _begin_summary(job.settings.summary, job, tally)
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(contextlib.closing(BackgroundStream(sys.stderr)))
        shown = display(job.settings.progress, screen)
        log: Log | None = None
        try:
            begin: dict[str, object] = {"destination": job.destination_name, "sources": job.source_names}
            begin |= settings_of(job.settings) | settings_of(job.selection)
            log = opened_log(job.settings, begin, stack, shown.say)
            on_pass = functools.partial(_write_so_far, job.settings.summary, shown.say)
            summary = anyio.run(functools.partial(run, job, tally, shown, log=log, on_pass=on_pass))
        except BaseException as stop:
            elapsed_s = time.monotonic() - started_s
            stopped = summary_of(job, tally, elapsed_s, complete=False, stopped_by=stop)
            exit_status = _conclude(job, tally, stopped, out, screen, log)
            if isinstance(stop, KeyboardInterrupt):
                return exit_status
            raise
        return _conclude(job, tally, summary, out, screen, log)


def _begin_summary(where: str, job: Job, tally: Tally) -> None:
    check_writable("--summary", Path(where))
    if is_replaceable(Path(where)):
        _write_summary(where, summary_of(job, tally, 0.0, complete=False, is_running=True))


def _write_so_far(where: str | None, say: Callable[[str], None], summary: Summary) -> None:
    """Write the figures of a run that keeps waiting; say why that is not possible."""
    if where is None or where == "-":
        return
    try:
        _write_summary(where, summary)
    except ConfigurationError as error:
        say(str(error))


def _write_summary(where: str, summary: Summary) -> None:
    write_whole("--summary", Path(where), as_json(summary) + "\n")


def _conclude(
    job: Job, tally: Tally, summary: Summary, out: TextIO | None, screen: BackgroundStream, log: Log | None
) -> int:
    """Print and write the result of a run and return its exit status: 2 if only the summary cannot be written."""
    if log is not None:
        log.end(summary)
    screen.close()  # the following text comes after it
    where = job.settings.summary
    prints_summary = where == "-"
    if tally.found_files or summary.complete or summary.exit_status == INTERRUPTED:
        text = closing(summary, tally, job.settings.ledger)
        for line in empty_source_lines(summary):
            print_in_passing(f"bulkstow: {line}", sys.stderr)
        print_in_passing(text, sys.stderr if prints_summary else out)
    exit_status = summary.exit_status or 0
    if prints_summary:
        print_in_passing(as_json(summary), out)
    elif where is not None:
        try:
            _write_summary(where, summary)
        except ConfigurationError as error:
            print(f"bulkstow: {shown(str(error))}", file=sys.stderr)
            return exit_status or error.exit_status
    return exit_status


def summarise_wrong_use(where: str, reason: str) -> None:
    """Write the summary of a run that could not start because of its settings, over that of the previous run."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    summary = Summary(
        studies=0,
        version=__version__,
        started_at=now,
        ended_at=now,
        exit_status=ConfigurationError.exit_status,
        stopped_because=reason,
    )
    if where == "-":
        print_in_passing(as_json(summary))
        return
    with contextlib.suppress(ConfigurationError):  # the command fails anyway
        _write_summary(where, summary)


def as_json(summary: Summary) -> str:
    """Return a summary as one JSON object."""
    return json.dumps(fields_of(summary))
