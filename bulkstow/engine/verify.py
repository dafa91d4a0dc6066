"""Run a verification in this process.

Opens and closes the run's resources (ledger, login, connections, signals, display), and returns its figures.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import datetime

import anyio
import anyio.to_thread

from bulkstow import __version__
from bulkstow.blocking import ReadLimit
from bulkstow.config import DestinationSettings, SelectionSettings, UploadSettings, VerificationSettings
from bulkstow.destination.auth import login, with_password
from bulkstow.destination.search import SearchService
from bulkstow.destination.throttle import Throttle
from bulkstow.destination.wado import Retriever
from bulkstow.engine.attended import attended
from bulkstow.engine.queries import at_once, requests_for
from bulkstow.engine.selection import read_selection
from bulkstow.engine.signals import Control
from bulkstow.errors import ConfigurationError, LedgerError
from bulkstow.events import LedgerUpgraded, Reporters
from bulkstow.ledger.verification import VerificationLedger
from bulkstow.model import Candidate, Header
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.platform.signals import receive_ending_signals
from bulkstow.policy.selection import Selection
from bulkstow.progress.log import settings_of
from bulkstow.source.files import FileSource
from bulkstow.verification.content import ContentComparison
from bulkstow.verification.contents import Contents
from bulkstow.verification.examine import Examiner
from bulkstow.verification.expected import ExpectedInstances, Selects
from bulkstow.verification.live import Live
from bulkstow.verification.questions import Questions
from bulkstow.verification.requests import Requests
from bulkstow.verification.run import Output, Verification
from bulkstow.verification.study_queue import StudyQueue
from bulkstow.verification.summary import VerificationSummary, fields_of, summary_of
from bulkstow.verification.tally import VerificationTally


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationJob:
    """What is verified, where and how. Raises ConfigurationError for a ledger that does not exist."""

    destination: DestinationSettings
    settings: UploadSettings
    verification: VerificationSettings
    selection: SelectionSettings = field(default_factory=SelectionSettings)

    def __post_init__(self) -> None:
        if not self.settings.ledger.exists():
            raise ConfigurationError(
                f"--ledger {self.settings.ledger}: no such file; give the ledger of an upload, or name the sources"
            )

    @property
    def scope(self) -> dict[str, object]:
        """What the run verifies, for the ledger."""
        verification = self.verification
        chosen = {"level": verification.level, "sample": str(verification.sample), "seed": verification.seed}
        return chosen | settings_of(self.selection)


async def run(
    job: VerificationJob, tally: VerificationTally, live: Live, output: Output, *, heed_signals: bool = True
) -> VerificationSummary:
    """Run a verification and return its summary.

    With `heed_signals` the first SIGINT, SIGTERM or SIGHUP drains the run, and the second ends it at once. Raises
    RunStopped if the run cannot continue; what was found out until then is in the ledger.
    """
    settings = job.settings
    control = Control(live.say)
    with ExitStack() as stack:
        limit = ReadLimit(settings.read_timeout_s)
        threads = WorkerThreads(settings.read_concurrency, stuck_s=limit.stuck_s)
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        signals = stack.enter_context(receive_ending_signals()) if heed_signals else None
        ledger = VerificationLedger(
            settings.ledger,
            job.destination.root,
            version=__version__,
            scope=job.scope,
            settings=settings_of(settings),
        )
        stack.enter_context(ledger)
        reporter = Reporters((tally, live))
        if ledger.kept_copy is not None:
            reporter.tell(LedgerUpgraded(str(ledger.kept_copy), ledger.schema_before))
        expected = stack.enter_context(closing(ExpectedInstances()))
        requests = requests_for(settings, reporter)
        live.watch(requests)

        async def verify() -> None:
            await _verify(job, ledger, expected, requests, tally, live, output, threads, limit, control)

        stopped_by = await attended(verify, control, signals, live)
        summary = summary_of(
            job.destination.root,
            job.scope,
            tally,
            requests.tally,
            version=__version__,
            complete=control.is_complete,
            stopped_by=stopped_by,
        )
        with suppress(LedgerError):
            await anyio.to_thread.run_sync(ledger.end, fields_of(summary))
    if stopped_by is not None:
        raise stopped_by
    return summary


async def _verify(
    job: VerificationJob,
    ledger: VerificationLedger,
    expected: ExpectedInstances,
    requests: Requests,
    tally: VerificationTally,
    live: Live,
    output: Output,
    threads: WorkerThreads,
    limit: ReadLimit,
    control: Control,
) -> None:
    """Find out what is expected, and compare it with the server."""
    verification = job.verification
    server, environ = with_password(job.destination, os.environ)
    async with SearchService(server, login(server, environ)) as search:
        await search.reach()
        selects = _selects(await read_selection(job.selection, (), threads, limit))
        await run_blocking(threads.calls, expected.add_ledger, ledger.path, ledger.destination_number, selects)
        await run_blocking(threads.calls, expected.choose, verification.sample, verification.seed)
        tally.studies, tally.studies_in_all = expected.studies, expected.studies_in_all
        tally.uncovered = expected.uncovered
        since_s = await run_blocking(threads.calls, ledger.unfinished_since_s)
        if since_s is not None and verification.level != "counts":
            at = datetime.fromtimestamp(since_s).astimezone()
            live.say(f"continues the verification of {at:%Y-%m-%d %H:%M}: what it has confirmed is not asked again")
        run = Verification(
            queue=StudyQueue(expected, threads.calls),
            requests=requests,
            tasks=at_once(job.settings),
            probed=search,
            level=verification.level,
            since_s=since_s,
            ledger=ledger,
            output=output,
            threads=threads,
            tally=tally,
        )
        examiner = Examiner(
            counts=verification.level == "counts",
            settle_s=verification.settle_s,
            day=tally.started_at.date().isoformat(),
            questions=Questions(requests, search, short_page_instances=server.profile.page_instances),
            contents=_contents(job, search, requests, threads, limit, since_s),
            record=run.record,
        )
        control.begin(run)
        await run.carry_out(examiner)


def _selects(selection: Selection) -> Selects | None:
    """Return whether filters select a file; None if they select all."""
    if not (selection.has_path_filters or selection.has_header_filters):
        return None
    now_ns = time.time_ns()

    def selects(candidate: Candidate, header: Header) -> bool:
        return selection.filter_of(candidate, now_ns) is None and selection.filter_of_header(header) is None

    return selects


def _contents(
    job: VerificationJob,
    search: SearchService,
    requests: Requests,
    threads: WorkerThreads,
    limit: ReadLimit,
    since_s: int | None,
) -> Contents | None:
    """Return what compares the content of instances with files; None if the level does not ask for it."""
    if job.verification.level != "content":
        return None
    throttle = None if job.settings.bandwidth is None else Throttle(job.settings.bandwidth)
    comparer = ContentComparison(Retriever(search.client, throttle), FileSource(), threads=threads, limit=limit)
    return Contents(comparer, requests, at_once=at_once(job.settings), since_s=since_s)
