"""Only the scan and the heads of an upload: `python -m benchmarks.scan_and_heads DIRECTORY LEDGER`.

The stages are those of `bulkstow upload`, with a new ledger, worker threads and the comparison of files with the same
SOP Instance UID. The instances are counted instead of sent.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from bulkstow.blocking import ReadLimit
from bulkstow.config import UploadSettings
from bulkstow.events import Event
from bulkstow.ledger import Ledger
from bulkstow.model import FileResult, Instance
from bulkstow.pipeline.intake import Intake
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.selection import EVERYTHING
from bulkstow.source.files import FileSource
from bulkstow.source.paths import find_source


class _Silent:
    def tell(self, event: Event) -> None:
        """Do nothing."""


async def read(directory: str, ledger_path: Path) -> int:
    """Scan a directory, read the heads, and return the number of instances."""
    settings = UploadSettings(ledger=ledger_path)
    limit = ReadLimit(settings.read_timeout_s)
    counts = {"instances": 0}
    with WorkerThreads(settings.read_concurrency, stuck_s=limit.stuck_s) as threads, Ledger(ledger_path, "-") as ledger:
        path = find_source(directory)
        source = FileSource([path.path], within=[path], exclude=ledger.files)
        intake = Intake(
            settings=settings, source=source, known_files=ledger, threads=threads, limit=limit, reporter=_Silent()
        )
        instances_in, instances = anyio.create_memory_object_stream[list[Instance]](0)
        results_in, results = anyio.create_memory_object_stream[list[FileResult]](16)

        async def count() -> None:
            async with instances:
                async for several in instances:
                    counts["instances"] += len(several)

        async def drop() -> None:
            async with results:
                async for _ in results:
                    pass

        with intake.choice(are_conflicts=False) as choice:
            lists = await run_blocking(threads.scans, source.scan)
            async with anyio.create_task_group() as stages, results_in:
                scan, inspect = intake.stages(lists, choice, EVERYTHING, instances_in, results_in)
                for stage in (scan.run, inspect.run, count, drop):
                    stages.start_soon(stage)
                results_in.close()
        source.close()
    return counts["instances"]


if __name__ == "__main__":
    print(anyio.run(read, sys.argv[1], Path(sys.argv[2])))
