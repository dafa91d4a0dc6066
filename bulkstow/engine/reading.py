"""How a run reads its source: threads, names, filters and edits, as they are before the source is opened."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bulkstow.blocking import ReadLimit
from bulkstow.config import SelectionSettings, UploadSettings
from bulkstow.engine.names import ListedNames, paths_among
from bulkstow.engine.selection import read_selection
from bulkstow.engine.signals import Control
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.policy.selection import Selection
from bulkstow.ports import Source
from bulkstow.source.paths import SourcePath, find_sources
from bulkstow.source_settings import SourceSettings

if TYPE_CHECKING:
    from bulkstow.wire.edit_rules import Edits

EDITS = "edits"
"""The name of the digest of the edits among the settings of a run in the ledger."""


class ReadingJob(Protocol):
    """A job that reads a source."""

    @property
    def source(self) -> tuple[str, ...] | Source:
        """Paths of files and directories, or an object that yields instances."""

    @property
    def settings(self) -> UploadSettings:
        """How it is read."""

    @property
    def files_from(self) -> str | None:
        """File with one more path a line."""

    @property
    def source_settings(self) -> SourceSettings:
        """How archives and other sources than files are read."""

    @property
    def null_separated(self) -> bool:
        """Its names end with NUL."""

    @property
    def selection(self) -> SelectionSettings:
        """Filters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The resources and settings with which a run opens its source."""

    threads: WorkerThreads
    limit: ReadLimit
    paths: Mapping[str, SourcePath]
    """The paths among the names of the job."""
    selection: Selection
    edits: Edits | None

    @property
    def roots(self) -> list[str]:
        """The absolute paths of the files and directories that the user named."""
        return [path.path for path in self.paths.values()]

    @property
    def edits_digest(self) -> dict[str, str]:
        """The digest of the edits for the settings of a run."""
        return {EDITS: "" if self.edits is None else self.edits.digest}

    def other_edits(self, last: Mapping[str, object] | None) -> str:
        """Return words about edits that are not those of the last upload, by its settings; empty if they are."""
        now = self.edits_digest[EDITS]
        if last is None or now == last.get(EDITS, ""):
            return ""
        return "the edits are not those of the last upload" if now else "the last upload edited instances, this run not"


async def begin_reading(job: ReadingJob, stack: ExitStack | AsyncExitStack) -> Reading:
    """Start the threads, and read everything that the settings name beside the source.

    Raises ConfigurationError for a path that does not exist, and for settings or files that cannot be used.
    """
    limit = ReadLimit(job.settings.read_timeout_s)
    threads = WorkerThreads(job.settings.read_concurrency, stuck_s=limit.stuck_s)
    stack.callback(threads.shutdown, wait=False, cancel_futures=True)  # does not wait for a thread that hangs
    paths = await find_sources(paths_among(job.source), threads, limit)
    roots = [path.path for path in paths.values()]
    selection = await read_selection(job.selection, roots, threads, limit)
    edits = None
    if job.source_settings.edit is not None:
        from bulkstow.engine.edits import read_edits  # they need pydicom, which takes 0.2 s to import

        edits = await read_edits(job.source_settings.edit, threads, limit)
    return Reading(threads=threads, limit=limit, paths=paths, selection=selection, edits=edits)


def listed_names(job: ReadingJob, stack: ExitStack | AsyncExitStack, control: Control) -> ListedNames | None:
    """Open the list of files of a job, if there is one. Raises ConfigurationError."""
    if job.files_from is None:
        return None
    return ListedNames(job.files_from, stack, lambda: control.is_over, null_separated=job.null_separated)
