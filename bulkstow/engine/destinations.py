"""The destination of a job, and the processes that send to it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.destination.auth import login, with_password
from bulkstow.destination.stow import StowDestination
from bulkstow.destination.throttle import Throttle
from bulkstow.engine.job import Job
from bulkstow.engine.processes import processes_of, sender_processes
from bulkstow.engine.reading import Reading
from bulkstow.engine.senders import Senders, begin_of
from bulkstow.errors import ConfigurationError
from bulkstow.events import Reporter
from bulkstow.ports import Destination, Source
from bulkstow.source_check import SourceCheck

DASK_LOGGERS = ("distributed", "distributed.client", "tornado.application")
"""The loggers that Dask sets up for itself; bulkstow reports the same conditions in its own messages."""


@asynccontextmanager
async def opened_destination(
    job: Job,
    settings: UploadSettings,
    source: Source,
    reading: Reading,
    reporter: Reporter,
    say: Callable[[str], None],
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
        readers=reading.threads,
        limit=reading.limit,
        reporter=reporter,
        throttle=throttle,
    ) as local:
        begin = begin_of(server, settings, environ, local.headers, reading.edits)
        if settings.dask is not None:
            senders = Senders(local, begin, throttle=throttle, reporter=reporter, sends_here=False)
            async with _dask()(
                settings.dask,
                settings.processes,
                senders,
                SourceCheck(source, reading.threads, reading.limit),
                timeout_s=server.connect_timeout_s,
                limit=reading.limit,
                reporter=reporter,
                say=say,
            ):
                yield senders
            return
        processes = processes_of(job)
        if processes is None:
            yield local
            return
        senders = Senders(local, begin, throttle=throttle, reporter=reporter, sends_here=True)
        async with sender_processes(senders, processes, limit=reading.limit, reporter=reporter, say=say):
            yield senders


def _dask() -> Callable[..., AbstractAsyncContextManager[None]]:
    """Import the function that sends from a Dask cluster, which takes a second; Dask's own log is not shown."""
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
