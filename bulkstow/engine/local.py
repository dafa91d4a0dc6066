"""Run an upload job in this process.

Opens and closes the run's resources (ledger, login, connections, signals, display), and returns its summary.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from bulkstow import __version__
from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.destination.stow import StowDestination
from bulkstow.engine.attended import attended
from bulkstow.engine.descriptors import allowed_requests
from bulkstow.engine.destinations import opened_destination
from bulkstow.engine.job import Job
from bulkstow.engine.reading import Reading, begin_reading, listed_names
from bulkstow.engine.senders import Senders
from bulkstow.engine.signals import Control
from bulkstow.engine.sources import opened_source, own_files
from bulkstow.engine.summary import fields_of, summary_of
from bulkstow.errors import LedgerError
from bulkstow.events import Connecting, LedgerUpgraded, Reporter, Reporters, StudiesCounted
from bulkstow.ledger import Ledger
from bulkstow.model import LedgerStudies, Summary
from bulkstow.pipeline.after_stored import Disposition
from bulkstow.pipeline.run import Run
from bulkstow.pipeline.worker_threads import run_blocking
from bulkstow.platform.signals import receive_ending_signals
from bulkstow.ports import Destination, Source
from bulkstow.progress.announcer import Announcer
from bulkstow.progress.display import Display
from bulkstow.progress.log import settings_of
from bulkstow.progress.tally import Tally
from bulkstow.quantities import Span
from bulkstow.source_settings import WatchSettings
from bulkstow.wire.server_profile import DEFAULT

if TYPE_CHECKING:
    from bulkstow.engine.watch import SourceWatch

STUDIES_TIMEOUT_S = 10.0
"""Time limit for counting the studies of the ledger at the end of a run.
It takes 0.9 s for 1,000,000 files in 2,000 studies whose ledger is in the page cache."""


async def run(
    job: Job,
    tally: Tally,
    display: Display,
    *,
    heed_signals: bool = True,
    log: Reporter | None = None,
    on_pass: Callable[[Summary], None] | None = None,
) -> Summary:
    """Run a job and return its summary; `log` receives all events too.

    If the sources are watched, `on_pass` takes the figures so far when the run begins to wait, in a worker thread.

    With `heed_signals` the first SIGINT, SIGTERM or SIGHUP drains the run, and the second ends it at once. Raises
    ConfigurationError before anything is sent, and RunStopped if the run cannot continue; recorded outcomes stay in the
    ledger, and `tally` has the figures.
    """
    started_s = time.monotonic()
    watch = _watch(job)
    control = Control(display.say)
    with ExitStack() as stack:
        settings = _with_digests(_within_limits(job.settings, display), job.watch)
        # Until the handlers are set, a signal ends the process at once, as nothing has to be finished yet.
        reading = await begin_reading(job, stack)
        disposition = await _disposition(job, reading)
        signals = stack.enter_context(receive_ending_signals()) if heed_signals else None
        listed = listed_names(job, stack, control)
        ledger = stack.enter_context(_ledger(job, reading))
        reporters = Reporters((tally, Announcer(display.say), *(() if log is None else (log,))))
        if ledger.kept_copy is not None:
            reporters.tell(LedgerUpgraded(str(ledger.kept_copy), ledger.schema_before))
        if words := reading.other_edits(ledger.settings_before("upload")):
            display.say(f"{words}: settled instances stay as they were sent")
        excluded = ledger.files | own_files(settings) | job.watch.moved_to
        async with (
            opened_source(job, reading, reporter=reporters, excluded=excluded, listed=listed) as source,
            opened_destination(job, settings, source, reading, reporters, display.say) as destination,
        ):

            async def report_pass() -> None:
                if on_pass is not None:
                    elapsed_s = time.monotonic() - started_s
                    summary = summary_of(job, tally, elapsed_s, complete=False, is_running=True)
                    await run_blocking(reading.threads.calls, on_pass, summary)

            upload = _Upload(
                job=job,
                settings=settings,
                reading=reading,
                source=source,
                destination=destination,
                ledger=ledger,
                reporter=reporters,
                disposition=disposition,
                watch=None if watch is None else partial(watch, job, source, reading, excluded, reporters, report_pass),
            )
            stopped_by = await attended(partial(upload.send, control), control, signals, _Figures(display, tally))
        if tally.found_files:
            stops_at_once = control.scope.cancel_called
            reporters.tell(StudiesCounted(None if stops_at_once else await _studies(ledger)))
        elapsed_s = time.monotonic() - started_s
        summary = summary_of(job, tally, elapsed_s, complete=control.is_complete, stopped_by=stopped_by)
        with suppress(LedgerError):
            await anyio.to_thread.run_sync(ledger.end, fields_of(summary))
    if stopped_by is not None:
        raise stopped_by
    return summary


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upload:
    """An upload whose resources are open."""

    job: Job
    settings: UploadSettings
    reading: Reading
    source: Source
    destination: Destination
    ledger: Ledger
    reporter: Reporter
    disposition: Disposition | None
    watch: Callable[[], Awaitable[SourceWatch]] | None
    """Begins to watch the source; None if it is not watched."""

    async def send(self, control: Control) -> None:
        """Reach the destination, and send the instances of the source."""
        job, reading, reporter, destination = self.job, self.reading, self.reporter, self.destination
        reporter.tell(Connecting(job.destination_name))
        if isinstance(destination, StowDestination | Senders):
            await destination.reach()
        server = job.destination if isinstance(job.destination, DestinationSettings) else None
        settings, selection, watch = self.settings, reading.selection, None
        if self.watch is not None:
            settings = replace(settings, allow_empty=True)  # the first file may come later
            selection = replace(selection, min_age_ns=None)  # young files are not left out: they wait
            watch = await self.watch()
            reporter = Reporters((reporter, watch))
        run = Run(
            settings,
            self.source,
            destination,
            self.ledger,
            reporter,
            selection=selection,
            watch=watch,
            trust_status=server is not None and server.trust_status,
            profile=DEFAULT if server is None else server.profile,
            only_members=job.source_settings.archives == "only",
            threads=reading.threads,
            limit=reading.limit,
            disposition=self.disposition,
        )
        control.begin(run)
        await run.carry_out()


def _ledger(job: Job, reading: Reading) -> Ledger:
    settings = settings_of(job.settings) | settings_of(job.selection) | reading.edits_digest
    return Ledger(job.settings.ledger, job.destination_name, version=__version__, settings=job.source_fields | settings)


async def _disposition(job: Job, reading: Reading) -> Disposition | None:
    if job.watch.after_stored.action == "nothing":
        return None
    from bulkstow.engine.disposition import disposition_of

    return await disposition_of(job, reading.roots, reading.threads, reading.limit)


def _watch(job: Job) -> Callable[..., Awaitable[SourceWatch]] | None:
    """Return the function that begins to watch the source of a job; None if it is not to be watched.

    Raises ConfigurationError for a source that cannot be watched.
    """
    if not job.watch.watch:
        return None
    from bulkstow.engine.watch import begin_watch, check_watch

    check_watch(job)
    return begin_watch


@dataclass(frozen=True, slots=True)
class _Figures:
    """A tally on a display."""

    display: Display
    tally: Tally

    @property
    def interval_s(self) -> float:
        """The interval of the display."""
        return self.display.interval_s

    def show(self) -> None:
        """Show the figures as they are."""
        self.display.show(self.tally)

    def close(self) -> None:
        """Show the final figures, if there are any."""
        self.display.close(self.tally)


async def _studies(ledger: Ledger) -> LedgerStudies | None:
    """Count the studies of the ledger; None if it cannot be read, or takes longer than STUDIES_TIMEOUT_S."""

    async def interrupt_late() -> None:
        await anyio.sleep(STUDIES_TIMEOUT_S)
        ledger.interrupt()

    studies = None
    async with anyio.create_task_group() as beside:
        beside.start_soon(interrupt_late)
        with suppress(LedgerError):
            studies = await anyio.to_thread.run_sync(ledger.count_studies)
        beside.cancel_scope.cancel()
    return studies


def _with_digests(settings: UploadSettings, watch: WatchSettings) -> UploadSettings:
    """Return settings with which files that leave their place can be compared with later ones of their UIDs."""
    return settings if watch.after_stored.action == "nothing" else replace(settings, digest="sha256")


def _within_limits(settings: UploadSettings, display: Display) -> UploadSettings:
    span = settings.concurrency
    allowed = allowed_requests(at_once=span.highest, readers=settings.read_concurrency)
    if allowed == span.highest:
        return settings
    display.say(f"the limit on open files allows only {allowed} requests at once, not {span.highest}: see `ulimit -n`")
    return replace(settings, concurrency=Span(min(span.lowest, allowed), allowed))
