"""Runs for tests: with the worker threads and the read limit that an upload has, and policies of their own."""

from __future__ import annotations

from typing import Any

from bulkstow.blocking import ReadLimit
from bulkstow.config import UploadSettings
from bulkstow.events import Reporter
from bulkstow.ledger import Ledger
from bulkstow.pipeline.run import Run
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.ports import Source


def new_run(
    settings: UploadSettings, source: Source, destination: Any, ledger: Ledger, reporter: Reporter, **policies: Any
) -> Run:
    """Return a run as `engine.local` makes it."""
    limit = ReadLimit(settings.read_timeout_s)
    threads = WorkerThreads(settings.read_concurrency, stuck_s=limit.stuck_s)
    return Run(settings, source, destination, ledger, reporter, threads=threads, limit=limit, **policies)
