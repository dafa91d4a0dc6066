"""An upload in this process: what a job needs is opened, run, and closed again.

Owns the run's resources (ledger, login, connections, signals, display) and its summary. Decides nothing about files.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import anyio
import anyio.abc

from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.destination.auth import login
from bulkstow.destination.stow import StowDestination
from bulkstow.destination.throttle import Throttle
from bulkstow.engine.descriptors import make_room
from bulkstow.engine.signals import ending_signals
from bulkstow.errors import BulkstowError, ConfigurationError
from bulkstow.ledger import Ledger
from bulkstow.model import Fate, Summary
from bulkstow.pipeline.crew import Crew
from bulkstow.pipeline.run import Run
from bulkstow.policy.bottleneck import bottleneck
from bulkstow.progress.announcer import Announcer
from bulkstow.progress.display import Display
from bulkstow.progress.events import Reporters, Taken, Timed
from bulkstow.progress.tally import Tally
from bulkstow.quantities import Span
from bulkstow.source.listing import PatientStream, read_list
from bulkstow.source.walk import check_sources, walk


@dataclass(frozen=True, slots=True)
class Job:
    """What to upload where; plain values, so that a job can travel."""

    sources: tuple[str, ...]
    destination: DestinationSettings
    settings: UploadSettings
    files_from: str | None = None
    """File with one source a line, '-' for standard input."""
    null_separated: bool = False


async def run(job: Job, tally: Tally, display: Display, *, heed_signals: bool = True) -> Summary:
    """Carry out a job and return its summary.

    With `heed_signals` the first SIGINT, SIGTERM or SIGHUP drains the run and the second ends it at once. Raises
    ConfigurationError before anything is sent, and RunStopped when the run cannot go on; what was recorded until then
    stays recorded, and `tally` has the figures.
    """
    sources = check_sources(job.sources)
    started_s = time.monotonic()
    settings = _within_limits(job.settings, display)
    with ExitStack() as stack:
        given_up = threading.Event()

        def is_given_up() -> bool:
            return given_up.is_set() or upload.is_over

        real_paths = {name: source.real_path for name, source in zip(job.sources, sources, strict=True)}

        def note_empty(name: str) -> None:
            lists.note_empty(name)

        listed = None if job.files_from is None else _Names(job, stack, is_given_up, note_empty)
        names = chain(_distinct(job.sources, real_paths.__getitem__), listed or ())
        ledger = stack.enter_context(Ledger(job.settings.ledger, job.destination.root))
        crew = Crew(settings.read_concurrency)
        stack.callback(crew.shutdown, wait=False, cancel_futures=True)  # a thread that hangs on a disk holds up nobody
        async with StowDestination(
            job.destination,
            login(job.destination, os.environ),
            readers=crew,
            throttle=None if settings.bandwidth is None else Throttle(settings.bandwidth),
            on_taken=lambda size_bytes: tally.tell(Taken(size_bytes)),
            on_spent=lambda _, spent: tally.tell(Timed(spent)),
        ) as destination:
            await destination.reach()
            reporters = Reporters((tally, Announcer(display)))
            trust_status = job.destination.trust_status
            upload = Run(settings, destination, ledger, reporters, trust_status=trust_status, crew=crew)
            lists = walk(names, within=sources, exclude=ledger.files, follow_links=settings.follow_links)
            stopped_by: BulkstowError | None = None
            async with anyio.create_task_group() as beside:
                beside.start_soon(_watch, display, tally, upload, given_up)
                if heed_signals:
                    beside.start_soon(_heed_signals, upload, display, given_up, beside.cancel_scope)
                try:
                    await upload.carry_out(lists)
                except BulkstowError as stop:
                    stopped_by = stop  # raised outside: the task group would wrap it in a group of one
                finally:
                    tally.concurrency = upload.concurrency.settled
                    tally.batch_limits = upload.batch_size.limits
                    beside.cancel_scope.cancel()
                    display.close(tally)
            if stopped_by is not None:
                raise stopped_by
    return summary_of(job, tally, time.monotonic() - started_s, complete=not upload.is_draining)


def _within_limits(settings: UploadSettings, display: Display) -> UploadSettings:
    span = settings.concurrency
    room = make_room(senders=span.highest, readers=settings.read_concurrency)
    if room == span.highest:
        return settings
    display.say(f"the limit of open files has room for {room} requests at once, not {span.highest}: ulimit -n")
    return replace(settings, concurrency=Span(min(span.lowest, room), room))


def summary_of(job: Job, tally: Tally, elapsed_s: float, *, complete: bool) -> Summary:
    """Return the figures of a run."""
    return Summary(
        destination=job.destination.root,
        outcomes={fate: tally.outcomes[fate] for fate in Fate},
        settled_before=tally.settled_before,
        bytes_sent=tally.sent_bytes,
        requests=tally.requests,
        retries=tally.retries,
        elapsed_s=elapsed_s,
        concurrency=tally.concurrency,
        batch_bytes=tally.batch_limits.size_bytes,
        batch_instances=tally.batch_limits.instances,
        outage_s=tally.outage_s,
        bottleneck=bottleneck(tally.usage),
        spent_s=tally.usage.by_name_s,
        empty_sources=tally.empty_sources,
        complete=complete,
    )


async def _watch(display: Display, tally: Tally, run: Run, given_up: threading.Event) -> None:
    """Show the figures until the run ends; however it ends, who waits for names is let go."""
    try:
        while True:
            await anyio.sleep(display.interval_s)
            tally.concurrency = run.concurrency.settled
            display.show(tally)
    finally:
        given_up.set()


async def _heed_signals(run: Run, display: Display, given_up: threading.Event, scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(*ending_signals()) as signals:
        async for _ in signals:
            if run.is_draining:
                scope.cancel()
                return
            display.say("finishing the current requests; press Ctrl-C again to stop immediately")
            run.drain()
            given_up.set()


def _distinct(sources: Iterable[str], real_path: Callable[[str], str] = os.path.realpath) -> list[str]:
    """Leave out a source that is the same as, or below, another: its files are found there.

    By real paths: below another source, a link that was named for itself leads to files that are not found there.
    """
    by_real_path: dict[Path, str] = {}
    for source in sources:
        path = Path(real_path(source))
        by_real_path.pop(path, None)
        by_real_path[path] = source
    return [source for path, source in by_real_path.items() if not any(above in by_real_path for above in path.parents)]


class _Names:
    """The names in a list of files, which is opened at once and read as names are wanted.

    `on_empty` is called with what to call the list if no name is in it.
    """

    def __init__(
        self, job: Job, stack: ExitStack, is_given_up: Callable[[], bool], on_empty: Callable[[str], None]
    ) -> None:
        self._name = name = str(job.files_from)
        self._null_separated = job.null_separated
        self._is_given_up = is_given_up
        self._on_empty = on_empty
        if name == "-" and sys.stdin is None:
            raise ConfigurationError("--files-from -: standard input is closed; pipe the list of files into it")
        try:
            self._descriptor = sys.stdin.fileno() if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _unreadable(name, error) from error
        if name != "-":
            stack.callback(os.close, self._descriptor)

    def __iter__(self) -> Iterator[str]:
        count = 0
        stream = PatientStream(self._descriptor, self._is_given_up)
        try:
            for name in read_list(stream, null_separated=self._null_separated):
                count += 1
                yield name
        except OSError as error:
            raise _unreadable(self._name, error) from error
        if not (count or self._is_given_up()):
            self._on_empty(f"--files-from {self._name}")


def _unreadable(name: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"--files-from {name}: cannot be read ({error.strerror or error})")
