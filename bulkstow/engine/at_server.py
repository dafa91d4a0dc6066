"""Asks a server how many instances it has of each study with files to send: one query per study."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio

from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.destination.auth import login, with_password
from bulkstow.destination.search import SearchService
from bulkstow.engine.queries import at_once, requests_for
from bulkstow.errors import RunStopped
from bulkstow.events import Reporter
from bulkstow.pipeline.inventory import Inventory
from bulkstow.pipeline.plan import AtServer
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.progress.planning import Planning
from bulkstow.verification.pages import PAGE_RESULTS
from bulkstow.verification.questions import Questions, StudyCount
from bulkstow.verification.requests import Abandoned, Unanswered

NOT_TOLD = "it does not tell the number of a study's instances"


@asynccontextmanager
async def reached(settings: DestinationSettings) -> AsyncIterator[SearchService]:
    """Connect to a server. Raises DestinationRefused if no QIDO-RS responds, and LoginRefused."""
    server, environ = with_password(settings, os.environ)
    async with SearchService(server, login(server, environ)) as search:
        await search.reach()
        yield search


class StudyCounts:
    """Asks for every study that would be sent, as many at once as the settings allow."""

    def __init__(
        self,
        search: SearchService,
        settings: UploadSettings,
        inventory: Inventory,
        threads: WorkerThreads,
        reporter: Reporter,
        planning: Planning,
    ) -> None:
        self._search = search
        self._requests = requests_for(settings, reporter)
        self._questions = Questions(self._requests, search, short_page_instances=PAGE_RESULTS)
        self._tasks = at_once(settings)
        self._studies = inventory.studies_to_send()
        self._drawing = anyio.Lock()
        self._threads = threads
        self._planning = planning
        self._found = AtServer()

    async def ask(self) -> AtServer:
        """Return the answers. Raises RunStopped for an error that no retry fixes."""
        async with anyio.create_task_group() as attending:
            self._requests.attend(self._search, attending)
            async with anyio.create_task_group() as asking:
                for _ in range(self._tasks):
                    asking.start_soon(self._ask_all)
            attending.cancel_scope.cancel()
        if self._requests.stopped_by is not None:
            raise self._requests.stopped_by
        return self._found

    async def _ask_all(self) -> None:
        try:
            while (study := await self._next()) is not None:
                self._count(await self._questions.count(study[0]), study[1])
        except Abandoned:
            return
        except RunStopped as stop:
            self._requests.stop(stop)

    async def _next(self) -> tuple[str, int] | None:
        async with self._drawing:
            return await run_blocking(self._threads.calls, next, self._studies, None)

    def _count(self, answer: StudyCount | Unanswered, expected: int) -> None:
        self._planning.note_answer()
        found = self._found
        match answer:
            case Unanswered(reason):
                self._found = replace(found, unknown=found.unknown + 1, reason=found.reason or reason)
            case StudyCount(is_there=True, instances=None):
                self._found = replace(found, unknown=found.unknown + 1, reason=found.reason or NOT_TOLD)
            case StudyCount(is_there, instances):
                count = (instances or 0) if is_there else 0
                self._found = replace(
                    found,
                    studies=found.studies + 1,
                    there=found.there + (count > 0),
                    whole=found.whole + (count >= expected),
                    instances=found.instances + count,
                )
