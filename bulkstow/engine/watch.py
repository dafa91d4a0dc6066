"""Watches the sources of an upload: waits for changes, and chooses the files that are read in each further pass.

The operating system reports changes where it can. A scan of everything at intervals finds the rest: files
that other computers have written to a network file system, changes that were lost in a burst, and failed files whose
failure may be temporary.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import anyio

from bulkstow.engine.edits import at_source
from bulkstow.engine.job import Job
from bulkstow.engine.names import scheme_of
from bulkstow.engine.reading import Reading
from bulkstow.errors import ConfigurationError
from bulkstow.events import Event, Recorded, Reporter, ScanEnded, Watching, WatchNote
from bulkstow.model import FileResult
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.quiet import Quiet, rescan_pause_s
from bulkstow.ports import Found, Scanned, Source
from bulkstow.quantities import show_duration
from bulkstow.source.changes import Changes, remote_type
from bulkstow.source.files import FileSource
from bulkstow.source.paths import SourcePath, is_within

QUIET_S = 10.0
"""Time without a change after which a file is read, unless --min-age says another.
A writer whose TCP connection loses a segment three times pauses for 7 s (RFC 6298: 1, 2 and 4 s)."""

GATHER_S = 1.0
"""Time for which further files are awaited once one is quiet: the files of a second share requests."""

BEGIN_TIMEOUT_S = 10.0
"""Time that the first scan waits for the system to watch; a system watches 100,000 directories in 3 s."""


def check_watch(job: Job) -> None:
    """Raise ConfigurationError if the sources of a job cannot be watched."""
    if not isinstance(job.source, tuple) or any(map(scheme_of, job.source)):
        raise ConfigurationError("--watch: only files and directories can be watched")
    if job.files_from is not None:
        raise ConfigurationError("--watch: name the directories to watch; a list of files ends")
    if job.source_settings.dicomdir:
        raise ConfigurationError("--watch: a file set does not change; leave out --dicomdir")


class SourceWatch:
    """Watches files and directories; also takes the events of the run (`Reporter`), to know how long scans take."""

    def __init__(
        self,
        source: FileSource,
        *,
        quiet: Quiet,
        rescan_s: float,
        ignored: frozenset[str],
        threads: WorkerThreads,
        reporter: Reporter,
        on_news: Callable[[], Awaitable[None]],
    ) -> None:
        self._source = source
        self._quiet = quiet
        self._rescan_s = rescan_s
        self._ignored = ignored
        self._threads = threads
        self._reporter = reporter
        self._on_news = on_news
        """Called when the run begins to wait, if outcomes were recorded since."""
        self._changes: Changes | None = None
        self._changed, self._has_begun = anyio.Event(), anyio.Event()
        self._is_waiting = self._is_ended = self._has_news = False
        self._is_scanned = False
        """A scan has begun."""
        self._scan_began_s: float | None = anyio.current_time()
        self._rescan_s_due = anyio.current_time() + rescan_s
        self._note = ""

    async def begin(self, paths: Iterable[SourcePath]) -> None:
        """Begin to watch directories, before the first scan."""
        names = [path.path for path in paths]
        types = await run_blocking(self._threads.scans, lambda: {name: remote_type(name) for name in names})
        for name, type_ in types.items():
            if type_:
                self._tell(f"{name} is on a file system that others may write to ({type_})")
        local = [name for name, type_ in types.items() if not type_]
        if not local:
            return
        call_soon = asyncio.get_running_loop().call_soon_threadsafe
        self._changes = Changes(
            local,
            on_begin=partial(_in_loop, call_soon, self._take_begin),
            on_changes=partial(_in_loop, call_soon, self._take),
            on_end=partial(_in_loop, call_soon, self._take_end),
        )
        await run_blocking(self._threads.scans, self._changes.renew)
        with anyio.move_on_after(BEGIN_TIMEOUT_S):
            await self._has_begun.wait()
        self._is_scanned = True
        self._scan_began_s = anyio.current_time()

    # --- calls of the run

    @property
    def is_idle(self) -> bool:
        """True while it waits and no file is about to be read."""
        return self._is_waiting and not self._quiet.pending and not self._quiet.has_lost

    def admit(self, found: Sequence[Found]) -> list[Found]:
        """Return the found files that may be read now; the others are found again later."""
        now_s, now_ns = anyio.current_time(), time.time_ns()
        return [one for one in found if isinstance(one, FileResult) or self._quiet.admit(one, now_s, now_ns)]

    async def next_lists(self) -> Scanned | None:
        """Wait for changes, and return lists of files; None at the end."""
        self._quiet.end_pass()
        self._is_waiting = True
        self._reporter.tell(Watching(is_waiting=True, pending=self._quiet.pending))
        try:
            if self._has_news:
                self._has_news = False
                await self._on_news()
            return await self._wait()
        finally:
            self._is_waiting = False
            self._reporter.tell(Watching(is_waiting=False))

    async def _wait(self) -> Scanned | None:
        while not self._is_ended:
            now_s, changed = anyio.current_time(), self._changed
            due_s = self._quiet.next_s() + GATHER_S
            if now_s >= self._rescan_s_due or self._quiet.may_scan(now_s):
                return await self._scan_again()
            if now_s >= due_s and (due := self._quiet.take_due(now_s)):
                return await run_blocking(self._threads.scans, self._source.scan_changes, due)
            with anyio.move_on_after(min(due_s, self._rescan_s_due) - now_s):
                await changed.wait()
        return None

    async def _scan_again(self) -> Scanned:
        self._quiet.begin_scan()
        self._scan_began_s = anyio.current_time()
        if self._changes is not None:
            await run_blocking(self._threads.scans, self._changes.renew)
        return await run_blocking(self._threads.scans, self._source.scan_again)

    def end(self) -> None:
        """Wait no longer, and watch no longer."""
        self._is_ended = True
        if self._changes is not None:
            self._changes.end()
        self._wake()

    def is_gone(self, location: str) -> bool:
        """Return whether there is no file any more; a member of an archive is there as long as the archive. Blocks."""
        return self._source.is_gone(location)

    # --- events of the run, and changes from the system

    def tell(self, event: Event) -> None:
        """Take an event of the run."""
        match event:
            case ScanEnded():
                if self._scan_began_s is not None:
                    now_s = anyio.current_time()
                    self._rescan_s_due = now_s + rescan_pause_s(self._rescan_s, now_s - self._scan_began_s)
                    self._scan_began_s = None
            case Recorded():
                self._has_news = True
            case _:
                pass

    def _take_begin(self) -> None:
        self._has_begun.set()
        if self._is_scanned:  # changes since the beginning of a scan were not told
            self._quiet.lose(anyio.current_time())
            self._wake()

    def _take(self, changed: Sequence[str], gone: Sequence[str]) -> None:
        now_s = anyio.current_time()
        self._quiet.note((path for path in changed if not is_within(path, self._ignored)), now_s)
        self._quiet.forget(gone)
        self._wake()

    def _take_end(self, why: str) -> None:
        self._tell(why)
        self._has_begun.set()
        self._quiet.lose(anyio.current_time())
        self._wake()

    def _tell(self, why: str) -> None:
        note = f"changes are found by scans every {show_duration(self._rescan_s)}: {why}"
        if note != self._note:
            self._note = note
            self._reporter.tell(WatchNote(note))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


async def begin_watch(
    job: Job,
    source: Source,
    reading: Reading,
    ignored: frozenset[str],
    reporter: Reporter,
    on_news: Callable[[], Awaitable[None]],
) -> SourceWatch:
    """Begin to watch a job's source, which `check_watch` has accepted, and return the watch."""
    files = at_source(source)
    if not isinstance(files, FileSource):
        raise TypeError(f"cannot watch {type(files).__name__}")
    quiet_s = QUIET_S if job.selection.min_age_s is None else job.selection.min_age_s
    watch = SourceWatch(
        files,
        quiet=Quiet(quiet_s),
        rescan_s=job.watch.rescan_s,
        ignored=ignored,
        threads=reading.threads,
        reporter=reporter,
        on_news=on_news,
    )
    # The system is to tell of no path for a shard, to which a single file cannot be assigned.
    await watch.begin([] if job.settings.shard is not None else list(reading.paths.values()))
    return watch


def _in_loop(call_soon: Callable[..., object], function: Callable[..., None], *arguments: object) -> None:
    """Call a function in the event loop; without effect once that is closed."""
    try:
        call_soon(function, *arguments)
    except RuntimeError:
        return
