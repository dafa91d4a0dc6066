"""A STOW-RS destination as the product composes it: files, and the worker threads of `upload`."""

from __future__ import annotations

from types import TracebackType

from bulkstow.blocking import ReadLimit
from bulkstow.config import READ_TIMEOUT_S, DestinationSettings
from bulkstow.destination.auth import Auth, NoLogin
from bulkstow.destination.given_headers import GivenHeaders
from bulkstow.destination.stow import StowDestination
from bulkstow.events import Reporter, Reporters
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.ports import Source
from bulkstow.source.files import FileSource

READERS = 8

NO_HEADERS = GivenHeaders({}, frozenset())
"""A user gives no headers."""


class FileStow(StowDestination):
    """A destination for files, with worker threads of its own."""

    def __init__(
        self,
        settings: DestinationSettings,
        auth: Auth | None = None,
        *,
        source: Source | None = None,
        limit: ReadLimit | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        limit = limit or ReadLimit(READ_TIMEOUT_S)
        self._threads = WorkerThreads(READERS, stuck_s=limit.stuck_s)
        super().__init__(
            settings,
            auth or NoLogin(),
            source=source or FileSource(),
            readers=self._threads,
            limit=limit,
            reporter=reporter or Reporters(()),
        )

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await super().__aexit__(exc_type, exc, traceback)
        self._threads.shutdown(wait=False, cancel_futures=True)
