"""Builds the disposition of the files of a job whose instances are stored (`--after-stored`)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Executor

from bulkstow.blocking import ReadLimit, map_in_threads
from bulkstow.engine.job import Job
from bulkstow.engine.names import scheme_of
from bulkstow.errors import ConfigurationError
from bulkstow.pipeline.after_stored import Disposition
from bulkstow.source.disposal import Disposal, Move, delete

SETTLE_S = 30.0
"""Time that the server gets to index an instance, as in a verification; an Elasticsearch commits every 1 to 30 s."""

EMPTY_FOR_S = 600.0
"""With --watch, time after which an empty directory is removed.
A sender may pause for minutes between two instances, and does not create the directory of its study again."""


async def disposition_of(job: Job, roots: Iterable[str], threads: Executor, limit: ReadLimit) -> Disposition | None:
    """Return the disposition of stored files; None if they stay. `roots` are the absolute paths of the sources.

    Raises ConfigurationError for a source that has no files, and for a directory that cannot be used.
    """
    wanted, roots = job.watch.after_stored, tuple(roots)
    if wanted.action == "nothing":
        return None
    if not isinstance(job.source, tuple) or any(map(scheme_of, job.source)):
        raise ConfigurationError(f"--after-stored {wanted}: only files can be moved or deleted")
    if wanted.action == "delete" and job.settings.on_conflict == "send":
        raise ConfigurationError(
            "--after-stored delete: not with --on-conflict send, as a server keeps one of several files that share a "
            "SOP Instance UID, and the others would be lost; use 'move DIR'"
        )
    quiet_s = EMPTY_FOR_S if job.watch.watch else 0.0
    if wanted.action == "delete":
        return Disposition(action="deleted", disposer=Disposal(roots, delete), settle_s=SETTLE_S, quiet_s=quiet_s)
    directory = os.path.abspath(wanted.directory)  # noqa: PTH100, ASYNC240 - opens nothing
    if directory in roots:
        raise ConfigurationError(f"--after-stored {wanted}: this directory is a source; give another one")
    async for _ in map_in_threads(_prepare, [directory], _on_timeout, threads, limit):
        pass
    return Disposition(action="moved", disposer=Disposal(roots, Move(directory, roots)), settle_s=None, quiet_s=quiet_s)


def _prepare(directory: str) -> None:
    try:
        os.makedirs(directory, exist_ok=True)  # noqa: PTH103
    except OSError as error:
        raise ConfigurationError(f"--after-stored move {directory}: {error.strerror or error}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigurationError(f"--after-stored move {directory}: must be writable")


def _on_timeout(directory: str, why: str) -> None:
    raise ConfigurationError(f"--after-stored move {directory}: {why}")
