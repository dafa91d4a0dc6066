"""Run an upload job in this process.

Opens and closes the run's resources (ledger, login, connections, signals, display), and returns its summary.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace

import anyio
import anyio.to_thread

from bulkstow import __version__
from bulkstow.blocking import ReadLimit
from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.destination.auth import login, with_password
from bulkstow.destination.stow import StowDestination
from bulkstow.destination.throttle import Throttle
from bulkstow.engine.attended import attended
from bulkstow.engine.descriptors import allowed_requests
from bulkstow.engine.disposition import disposition_of, moved_to
from bulkstow.engine.edits import difference, digest_of, read_edits
from bulkstow.engine.job import Job
from bulkstow.engine.names import ListedNames
from bulkstow.engine.processes import processes_of, sender_processes
from bulkstow.engine.selection import read_selection
from bulkstow.engine.senders import Senders, begin_of
from bulkstow.engine.signals import Control
from bulkstow.engine.sources import SourceContext, opened_source, own_files, paths_among
from bulkstow.engine.summary import fields_of, summary_of
from bulkstow.engine.watch import check_watch, watch_of, watched_paths
from bulkstow.errors import ConfigurationError, LedgerError
from bulkstow.events import Connecting, LedgerUpgraded, Reporter, Reporters, StudiesCounted
from bulkstow.ledger import Ledger
from bulkstow.model import LedgerStudies, Summary
from bulkstow.pipeline.run import Run
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.platform.signals import receive_ending_signals
from bulkstow.ports import Destination, Source
from bulkstow.progress.announcer import Announcer
from bulkstow.progress.display import Display
from bulkstow.progress.log import settings_of
from bulkstow.progress.tally import Tally
from bulkstow.quantities import Span
from bulkstow.source.paths import find_sources
from bulkstow.source_check import SourceCheck
from bulkstow.wire.edit_rules import Edits
from bulkstow.wire.server_profile import DEFAULT

STUDIES_TIMEOUT_S = 10.0
"""Time limit for counting the studies of the ledger at the end of a run.
It takes 0.9 s for 1,000,000 files in 2,000 studies whose ledger is in the page cache."""

DASK_LOGGERS = ("distributed", "distributed.client", "tornado.application")
"""The loggers that Dask sets up for itself; what they have to say, bulkstow says in its own words."""


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
    check_watch(job)
    control = Control(display.say)
    with ExitStack() as stack:
        settings = _within_limits(job.settings, display)
        if job.watch.watch:
            settings = replace(settings, allow_empty=True)  # the first file may come later
        limit = ReadLimit(settings.read_timeout_s)
        threads = WorkerThreads(settings.read_concurrency, stuck_s=limit.stuck_s)
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)  # does not wait for a thread that hangs
        # Until the handlers are set, a signal ends the process at once, as nothing has to be finished yet.
        paths = await find_sources(paths_among(job.source), threads, limit)
        roots = [path.path for path in paths.values()]
        selection = await read_selection(job.selection, roots, threads, limit)
        disposition = await disposition_of(job, roots, threads, limit)
        edits = await read_edits(job.source_settings.edit, threads, limit)
        signals = stack.enter_context(receive_ending_signals()) if heed_signals else None
        listed = None
        if job.files_from is not None:
            listed = ListedNames(job.files_from, stack, lambda: control.is_over, null_separated=job.null_separated)
        ledger = stack.enter_context(
            Ledger(
                job.settings.ledger,
                job.destination_name,
                version=__version__,
                settings=job.source_fields | settings_of(job.settings) | settings_of(job.selection) | digest_of(edits),
            )
        )
        reporters = Reporters((tally, Announcer(display.say), *(() if log is None else (log,))))
        if ledger.kept_copy is not None:
            reporters.tell(LedgerUpgraded(str(ledger.kept_copy), ledger.schema_before))
        if words := difference(edits, ledger.settings_before("upload")):
            display.say(words)
        excluded = ledger.files | own_files(settings) | moved_to(job)
        context = SourceContext(
            paths=paths,
            listed=listed,
            excluded=excluded,
            selection=selection,
            threads=threads,
            limit=limit,
            reporter=reporters,
            edits=edits,
        )
        async with (
            opened_source(job, context) as source,
            _opened(job, settings, source, edits, threads, limit, reporters, display) as destination,
        ):

            async def report_pass() -> None:
                if on_pass is not None:
                    elapsed_s = time.monotonic() - started_s
                    summary = summary_of(job, tally, elapsed_s, complete=False, is_running=True)
                    await run_blocking(threads.calls, on_pass, summary)

            async def send() -> None:
                reporters.tell(Connecting(job.destination_name))
                if isinstance(destination, StowDestination | Senders):
                    await destination.reach()
                server = job.destination if isinstance(job.destination, DestinationSettings) else None
                told, watch, selected = reporters, None, selection
                if job.watch.watch:
                    watch = watch_of(
                        job, source, ignored=excluded, threads=threads, reporter=reporters, on_news=report_pass
                    )
                    told = Reporters((reporters, watch))
                    selected = replace(selection, min_age_ns=None)  # young files are not left out: they wait
                    await watch.begin(watched_paths(job, paths))
                upload = Run(
                    settings,
                    source,
                    destination,
                    ledger,
                    told,
                    selection=selected,
                    watch=watch,
                    trust_status=server is not None and server.trust_status,
                    profile=DEFAULT if server is None else server.profile,
                    only_members=job.source_settings.archives == "only",
                    threads=threads,
                    limit=limit,
                    disposition=disposition,
                )
                control.begin(upload)
                await upload.carry_out()

            stopped_by = await attended(send, control, signals, _Figures(display, tally))
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


@asynccontextmanager
async def _opened(
    job: Job,
    settings: UploadSettings,
    source: Source,
    edits: Edits | None,
    threads: WorkerThreads,
    limit: ReadLimit,
    reporter: Reporter,
    display: Display,
) -> AsyncIterator[Destination]:
    """Open the job's destination, and the processes that send to it; an object from the caller is already open."""
    if not isinstance(job.destination, DestinationSettings):
        yield job.destination
        return
    throttle = None if settings.bandwidth is None else Throttle(settings.bandwidth)
    server, environ = with_password(job.destination, os.environ)
    async with StowDestination(
        server,
        job.auth or login(server, environ),
        source=source,
        readers=threads,
        limit=limit,
        reporter=reporter,
        throttle=throttle,
    ) as local:
        begin = begin_of(server, settings, environ, local.headers, edits)
        if settings.dask is not None:
            senders = Senders(local, begin, throttle=throttle, reporter=reporter, sends_here=False)
            async with _dask()(
                settings.dask,
                settings.processes,
                senders,
                SourceCheck(source, threads, limit),
                timeout_s=server.connect_timeout_s,
                limit=limit,
                reporter=reporter,
                say=display.say,
            ):
                yield senders
            return
        processes = processes_of(job)
        if processes is None:
            yield local
            return
        senders = Senders(local, begin, throttle=throttle, reporter=reporter, sends_here=True)
        async with sender_processes(senders, processes, limit=limit, reporter=reporter, say=display.say):
            yield senders


def _dask() -> Callable[..., AbstractAsyncContextManager[None]]:
    """Import what sends from a Dask cluster, which takes a second; Dask's own log is not shown."""
    try:
        import dask

        if "distributed" not in sys.modules:
            dask.config.set({"logging": dict.fromkeys(DASK_LOGGERS, "critical")})
        from bulkstow.engine.dask import dask_workers
    except ImportError as error:
        raise ConfigurationError(
            f"--dask needs Dask ({error}): pip install distributed, or pip install '.[dask]' in a checkout"
        ) from error
    return dask_workers


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


def _within_limits(settings: UploadSettings, display: Display) -> UploadSettings:
    span = settings.concurrency
    allowed = allowed_requests(at_once=span.highest, readers=settings.read_concurrency)
    if allowed == span.highest:
        return settings
    display.say(f"the limit on open files allows only {allowed} requests at once, not {span.highest}: see `ulimit -n`")
    return replace(settings, concurrency=Span(min(span.lowest, allowed), allowed))
