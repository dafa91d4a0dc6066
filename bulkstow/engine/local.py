"""Run an upload job in this process.

Opens and closes the run's resources (ledger, login, connections, signals, display), and returns its summary.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from itertools import chain

import anyio
import anyio.to_thread

from bulkstow.blocking import ReadLimit
from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.destination.auth import login, with_password
from bulkstow.destination.stow import StowDestination
from bulkstow.destination.throttle import Throttle
from bulkstow.engine.job import Job
from bulkstow.engine.names import ListedNames, distinct
from bulkstow.engine.processes import processes_of, sender_processes
from bulkstow.engine.senders import Senders, begin_of
from bulkstow.engine.signals import Control
from bulkstow.engine.summary import summary_of
from bulkstow.errors import BulkstowError, ConfigurationError, LedgerError
from bulkstow.events import Connecting, LedgerUpgraded, Reporter, Reporters, StudiesCounted
from bulkstow.ledger import Ledger
from bulkstow.model import Summary
from bulkstow.pipeline.run import Run
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.platform.process import raise_open_files_limit
from bulkstow.platform.signals import receive_ending_signals
from bulkstow.policy.sharding import Sharding
from bulkstow.ports import Destination, Source
from bulkstow.progress.announcer import Announcer
from bulkstow.progress.display import Display
from bulkstow.progress.tally import Tally
from bulkstow.quantities import Span
from bulkstow.source.files import FileSource
from bulkstow.source.paths import SourcePath, find_sources
from bulkstow.source_check import SourceCheck
from bulkstow.wire.server_profile import DEFAULT

SPARE_DESCRIPTORS = 128
"""Descriptors of the interpreter, the ledger, the open directories of the walk, standard streams, and the pipes of
sender processes."""

DESCRIPTORS_PER_REQUEST = 5
"""Descriptors of one request: a socket, its second handle, a socket that the server is closing, a file, and the
connection of a replay."""

KEPT_FILES = 1024
"""Files of slow storage that stay open from their heads until they are sent. With fewer than 0.1 ms for a file in the
page cache and 10 ms for a head, no more than those of a few lists wait."""

DASK_LOGGERS = ("distributed", "distributed.client", "tornado.application")
"""The loggers that Dask sets up for itself; what they have to say, bulkstow says in its own words."""

FIRST_SHOWN_S = 1.0
"""Time before the figures appear, so that a server that refuses at once leaves only its error."""


async def run(
    job: Job, tally: Tally, display: Display, *, heed_signals: bool = True, log: Reporter | None = None
) -> Summary:
    """Run a job and return its summary; `log` receives all events too.

    With `heed_signals` the first SIGINT, SIGTERM or SIGHUP drains the run, and the second ends it at once. Raises
    ConfigurationError before anything is sent, and RunStopped if the run cannot continue; recorded outcomes stay in the
    ledger, and `tally` has the figures.
    """
    started_s = time.monotonic()
    control = Control(display)
    with ExitStack() as stack:
        settings = _within_limits(job.settings, display)
        limit = ReadLimit(settings.read_timeout_s)
        threads = WorkerThreads(settings.read_concurrency, stuck_s=limit.stuck_s)
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)  # does not wait for a thread that hangs
        # Until the handlers are set, a signal ends the process at once, as nothing has to be finished yet.
        paths = await find_sources(job.source, threads, limit) if isinstance(job.source, tuple) else {}
        signals = stack.enter_context(receive_ending_signals()) if heed_signals else None
        listed = None if job.files_from is None else ListedNames(job, stack, lambda: control.is_over)
        ledger = stack.enter_context(Ledger(job.settings.ledger, job.destination_name))
        reporters = Reporters((tally, Announcer(display), *(() if log is None else (log,))))
        if ledger.kept_copy is not None:
            reporters.tell(LedgerUpgraded(str(ledger.kept_copy), ledger.schema_before))
        source = _source(job, paths, listed, ledger.files | _own_files(settings), stack)
        async with _opened(job, settings, source, threads, limit, reporters, display) as destination:

            async def send() -> None:
                reporters.tell(Connecting(job.destination_name))
                if isinstance(destination, StowDestination | Senders):
                    await destination.reach()
                server = job.destination if isinstance(job.destination, DestinationSettings) else None
                upload = Run(
                    settings,
                    source,
                    destination,
                    ledger,
                    reporters,
                    trust_status=server is not None and server.trust_status,
                    profile=DEFAULT if server is None else server.profile,
                    threads=threads,
                    limit=limit,
                )
                control.begin(upload)
                await upload.carry_out()

            stopped_by = await _attended(send, control, signals, display, tally)
        if tally.requests:
            reporters.tell(StudiesCounted(await _studies(ledger)))
    if stopped_by is not None:
        raise stopped_by
    return summary_of(job, tally, time.monotonic() - started_s, complete=control.is_complete)


def _source(
    job: Job, paths: Mapping[str, SourcePath], listed: ListedNames | None, own_files: frozenset[str], stack: ExitStack
) -> Source:
    """Return the job's source; a source of files excludes those that the run itself writes."""
    if not isinstance(job.source, tuple):
        return job.source
    settings = job.settings
    source = FileSource(
        chain(distinct(job.source, lambda name: paths[name].real_path), listed or ()),
        within=paths.values(),
        exclude=own_files,
        follow_links=settings.follow_links,
        accept_missing_preamble=settings.accept_missing_preamble,
        skip_truncated=settings.skip_truncated,
        sharding=None if settings.shard is None else Sharding(settings.shard, settings.shard_level),
        most_open_files=_most_open_files(settings),
    )
    stack.callback(source.close)
    if listed is not None:
        listed.drawn_by(source.walk)
    return source


@asynccontextmanager
async def _opened(
    job: Job,
    settings: UploadSettings,
    source: Source,
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
        begin = begin_of(server, settings, environ, local.headers)
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


async def _attended(
    send: Callable[[], Awaitable[None]],
    control: Control,
    signals: AsyncIterator[signal.Signals] | None,
    display: Display,
    tally: Tally,
) -> BulkstowError | None:
    """Send, show the figures and handle signals meanwhile; return the error that stopped it.

    An error is returned, not raised, because the task group would wrap it in a group.
    """
    async with anyio.create_task_group() as beside:
        beside.start_soon(_watch, display, tally)
        if signals is not None:
            beside.start_soon(control.heed, signals)
        try:
            with control.scope:
                await send()
        except BulkstowError as stop:
            return stop
        finally:
            control.end()
            beside.cancel_scope.cancel()
            display.close(tally)
    return None


def _own_files(settings: UploadSettings) -> frozenset[str]:
    """Return the paths of the run's log and summary, as named and with links resolved."""
    summary = None if settings.summary == "-" else settings.summary
    names = [name for name in (settings.log, summary) if name is not None]
    return frozenset(spell(name) for name in names for spell in (os.path.abspath, os.path.realpath))


async def _studies(ledger: Ledger) -> int | None:
    """Return the number of studies of which the run sent files; None if the ledger cannot be read."""
    with suppress(LedgerError):
        return await anyio.to_thread.run_sync(ledger.count_studies)
    return None


def _descriptors(*, at_once: int, readers: int) -> int:
    return SPARE_DESCRIPTORS + readers + at_once * DESCRIPTORS_PER_REQUEST


def allowed_requests(*, at_once: int, readers: int) -> int:
    """Raise the limit on open files for so many requests and readers; return how many requests it allows, at least 1.

    Sender processes inherit the limit.
    """
    wanted = _descriptors(at_once=at_once, readers=readers)
    allowed = raise_open_files_limit(wanted)
    return at_once if allowed >= wanted else max(1, (allowed - SPARE_DESCRIPTORS - readers) // DESCRIPTORS_PER_REQUEST)


def _most_open_files(settings: UploadSettings) -> int:
    """Return how many files may stay open between two reads, beside what requests and readers need."""
    needed = _descriptors(at_once=settings.concurrency.highest, readers=settings.read_concurrency)
    return max(0, raise_open_files_limit(needed + KEPT_FILES) - needed)


def _within_limits(settings: UploadSettings, display: Display) -> UploadSettings:
    span = settings.concurrency
    allowed = allowed_requests(at_once=span.highest, readers=settings.read_concurrency)
    if allowed == span.highest:
        return settings
    display.say(f"the limit on open files allows only {allowed} requests at once, not {span.highest}: see `ulimit -n`")
    return replace(settings, concurrency=Span(min(span.lowest, allowed), allowed))


async def _watch(display: Display, tally: Tally) -> None:
    """Show the figures until the run ends, for the first time after FIRST_SHOWN_S."""
    await anyio.sleep(min(display.interval_s, FIRST_SHOWN_S))
    while True:
        display.show(tally)
        await anyio.sleep(display.interval_s)
