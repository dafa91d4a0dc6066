"""An upload in this process: what a job needs is opened, run, and closed again.

Owns the run's resources (ledger, login, connections, signals, display) and its summary. Decides nothing about files.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.abc

from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.destination.auth import login
from bulkstow.destination.stow import StowDestination
from bulkstow.engine.descriptors import make_room
from bulkstow.errors import ConfigurationError, RunStopped
from bulkstow.ledger import Ledger
from bulkstow.model import Fate, Summary
from bulkstow.pipeline.run import Run
from bulkstow.progress.display import Display
from bulkstow.progress.events import Taken
from bulkstow.progress.tally import Tally
from bulkstow.source.listing import read_list
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

    With `heed_signals` the first SIGINT or SIGTERM drains the run and the second ends it at once. Raises
    ConfigurationError before anything is sent, and RunStopped when the run cannot go on; what was recorded until then
    stays recorded, and `tally` has the figures.
    """
    check_sources(job.sources)
    started_s = time.monotonic()
    settings = _within_limits(job.settings, display)
    with ExitStack() as stack:
        names = chain(_distinct(job.sources), _listed(job, stack))
        ledger = stack.enter_context(Ledger(job.settings.ledger, job.destination.root))
        async with StowDestination(
            job.destination,
            login(job.destination, os.environ),
            read_threads=job.settings.read_threads,
            on_taken=lambda size_bytes: tally.tell(Taken(size_bytes)),
        ) as destination:
            await destination.reach()
            run = Run(settings, destination, ledger, tally, trust_status=job.destination.trust_status)
            lists = walk(names, exclude=ledger.files)
            stopped_by: RunStopped | None = None
            async with anyio.create_task_group() as beside:
                beside.start_soon(_watch, display, tally)
                if heed_signals:
                    beside.start_soon(_heed_signals, run, display, beside.cancel_scope)
                try:
                    await run.carry_out(lists)
                except RunStopped as stop:
                    stopped_by = stop  # raised outside: the task group would wrap it in a group of one
                finally:
                    beside.cancel_scope.cancel()
                    display.close(tally)
            if stopped_by is not None:
                raise stopped_by
    return summary_of(job, tally, time.monotonic() - started_s, complete=not run.is_draining)


def _within_limits(settings: UploadSettings, display: Display) -> UploadSettings:
    room = make_room(senders=settings.concurrency, readers=settings.read_threads)
    if room == settings.concurrency:
        return settings
    display.say(f"the limit of open files has room for {room} requests at once, not {settings.concurrency}: ulimit -n")
    return replace(settings, concurrency=room)


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
        complete=complete,
    )


async def _watch(display: Display, tally: Tally) -> None:
    while True:
        await anyio.sleep(display.interval_s)
        display.show(tally)


async def _heed_signals(run: Run, display: Display, scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            if run.is_draining:
                scope.cancel()
                return
            display.say("stopping: what is under way is finished and recorded; once more stops at once")
            run.drain()


def _distinct(sources: tuple[str, ...]) -> list[str]:
    """Leave out a source that is the same as, or below, another: its files are found there."""
    paths = {source: Path(os.path.abspath(source)) for source in sources}  # noqa: PTH100 - links are not resolved
    distinct = dict.fromkeys(sources)
    for source, path in paths.items():
        if any(other in path.parents or (other == path and name != source) for name, other in paths.items()):
            distinct.pop(source)
            paths = {name: paths[name] for name in distinct}
    return list(distinct)


def _listed(job: Job, stack: ExitStack) -> Iterator[str]:
    if job.files_from is None:
        return iter(())
    return read_list(_open_list(job.files_from, stack), null_separated=job.null_separated)


def _open_list(name: str, stack: ExitStack) -> BinaryIO:
    if name == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(Path(name).open("rb"))
    except OSError as error:
        raise ConfigurationError(f"--files-from {name}: cannot be read ({error.strerror})") from error
