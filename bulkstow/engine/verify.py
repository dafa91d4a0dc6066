"""Run a verification in this process.

Opens and closes the run's resources (ledger, login, connections, signals, display), and returns its figures.
"""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module

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
from bulkstow.engine.names import absolute_name
from bulkstow.engine.queries import at_once, requests_for
from bulkstow.engine.reading import begin_reading, listed_names
from bulkstow.engine.signals import Control
from bulkstow.engine.sources import opened_source, own_files
from bulkstow.errors import ConfigurationError, LedgerError
from bulkstow.events import LedgerUpgraded, Reporter, Reporters
from bulkstow.ledger.verification import VerificationLedger, check_has_files
from bulkstow.model import Instance
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.platform.signals import receive_ending_signals
from bulkstow.policy.selection import Selection
from bulkstow.ports import Source
from bulkstow.progress.log import settings_of
from bulkstow.source_settings import SourceSettings
from bulkstow.verification.content import ContentComparison
from bulkstow.verification.contents import Contents
from bulkstow.verification.examine import Examiner
from bulkstow.verification.expected import ExpectedInstances, Selects
from bulkstow.verification.gather import gather
from bulkstow.verification.live import Live
from bulkstow.verification.questions import Questions
from bulkstow.verification.requests import Requests
from bulkstow.verification.run import Output, Verification
from bulkstow.verification.study_queue import StudyQueue
from bulkstow.verification.summary import VerificationSummary, fields_of, summary_of
from bulkstow.verification.tally import VerificationTally


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationJob:
    """The settings of a verification. Raises ConfigurationError if they are ambiguous or cannot be used."""

    source: tuple[str, ...] = ()
    """Paths of files and directories; the ledger if there is none."""
    destination: DestinationSettings
    settings: UploadSettings
    verification: VerificationSettings
    selection: SelectionSettings = field(default_factory=SelectionSettings)
    source_settings: SourceSettings = field(default_factory=SourceSettings)
    """How archives and other sources than files are read."""
    files_from: str | None = None
    """File with one more path a line, '-' for standard input."""
    null_separated: bool = False

    def __post_init__(self) -> None:
        if not self.has_source and not self.settings.ledger.exists():
            raise ConfigurationError(
                f"--ledger {self.settings.ledger}: no such file; give the ledger of an upload, or name the sources"
            )
        if self.verification.repair and self.files_from == "-":
            raise ConfigurationError("--repair with --files-from -: the list is read twice, so give a file")

    @property
    def has_source(self) -> bool:
        """True if the files of a source are verified, instead of the files in the ledger."""
        return bool(self.source) or self.files_from is not None

    @property
    def scope(self) -> dict[str, object]:
        """The scope of the run, for the ledger."""
        verification = self.verification
        chosen = {"level": verification.level, "sample": str(verification.sample), "seed": verification.seed}
        source = [absolute_name(name) for name in self.source]
        return {**chosen, **settings_of(self.selection), "source": source, "files_from": self.files_from}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resources:
    """The open resources of a run."""

    ledger: VerificationLedger
    expected: ExpectedInstances
    source: Source
    """The source; without a name it reads the files in the ledger."""
    has_edits: bool
    selection: Selection
    requests: Requests
    threads: WorkerThreads
    limit: ReadLimit
    reporter: Reporter


async def run(
    job: VerificationJob,
    tally: VerificationTally,
    live: Live,
    output: Output,
    *,
    heed_signals: bool = True,
    log: Reporter | None = None,
) -> VerificationSummary:
    """Run a verification and return its summary; `log` receives all events too.

    With `heed_signals` the first SIGINT, SIGTERM or SIGHUP drains the run, and the second ends it at once. Raises
    RunStopped if the run cannot continue; the results so far are in the ledger.
    """
    control = Control(live.say)
    reporter = Reporters((tally, live, *(() if log is None else (log,))))
    async with AsyncExitStack() as stack:
        opened, signals = await _open(job, reporter, control, stack, live.say, heed_signals=heed_signals)
        live.watch(opened.requests)

        async def verify() -> None:
            server, environ = with_password(job.destination, os.environ)
            async with SearchService(server, login(server, environ)) as search:
                await search.reach()
                await _gather(job, opened, tally)
                await _verify(job, opened, search, tally, live, output, control)

        stopped_by = await attended(verify, control, signals, live)
        summary = summary_of(
            job.destination.root,
            job.scope,
            tally,
            opened.requests.tally,
            version=__version__,
            complete=control.is_complete,
            stopped_by=stopped_by,
        )
        with suppress(LedgerError):
            await anyio.to_thread.run_sync(opened.ledger.end, fields_of(summary))
    if stopped_by is not None:
        raise stopped_by
    return summary


async def _open(
    job: VerificationJob,
    reporter: Reporter,
    control: Control,
    stack: AsyncExitStack,
    say: Callable[[str], None],
    *,
    heed_signals: bool,
) -> tuple[_Resources, AsyncIterator[signal.Signals] | None]:
    """Open the resources of a run, and begin to receive signals. Raises ConfigurationError and LedgerError."""
    settings = job.settings
    reading = await begin_reading(job, stack)
    signals = stack.enter_context(receive_ending_signals()) if heed_signals else None
    listed = listed_names(job, stack, control)
    if not (job.has_source or settings.allow_empty):
        check_has_files(settings.ledger, job.destination.root)
    ledger = VerificationLedger(
        settings.ledger,
        job.destination.root,
        version=__version__,
        scope=job.scope | reading.edits_digest,
        settings=settings_of(settings),
    )
    stack.enter_context(ledger)
    if ledger.kept_copy is not None:
        reporter.tell(LedgerUpgraded(str(ledger.kept_copy), ledger.schema_before))
    if job.has_source and (words := reading.other_edits(ledger.settings_before("upload"))):
        say(f"{words}: instances are looked for by the UIDs that this run makes of the source")
    source = await stack.enter_async_context(
        opened_source(job, reading, reporter=reporter, excluded=ledger.files | own_files(settings), listed=listed)
    )
    opened = _Resources(
        ledger=ledger,
        expected=stack.enter_context(closing(ExpectedInstances())),
        source=source,
        has_edits=reading.edits is not None,
        selection=reading.selection,
        requests=requests_for(settings, reporter),
        threads=reading.threads,
        limit=reading.limit,
        reporter=reporter,
    )
    return opened, signals


async def _gather(job: VerificationJob, opened: _Resources, tally: VerificationTally) -> None:
    """Collect the instances that should be at the server, from the source or from the ledger."""
    ledger, expected, calls = opened.ledger, opened.expected, opened.threads.calls
    if not job.has_source:
        selects = _selects(opened.selection)
        await run_blocking(calls, expected.add_ledger, ledger.path, ledger.destination_number, selects)
        tally.uncovered = expected.uncovered
    else:
        await gather(
            opened.source,
            expected,
            with_notes=ledger.with_notes,
            settings=job.settings,
            selection=opened.selection,
            threads=opened.threads,
            limit=opened.limit,
            reporter=opened.reporter,
            only_members=job.source_settings.archives == "only",
        )
        await run_blocking(calls, expected.add_known, ledger.path, ledger.destination_number)
    await run_blocking(calls, expected.choose, job.verification.sample, job.verification.seed)
    tally.studies, tally.studies_in_all = expected.studies, expected.studies_in_all
    if opened.selection.studies is not None and not job.settings.allow_empty:
        tally.note_unknown(await run_blocking(calls, expected.unknown, opened.selection.studies))


async def _verify(
    job: VerificationJob,
    opened: _Resources,
    search: SearchService,
    tally: VerificationTally,
    live: Live,
    output: Output,
    control: Control,
) -> None:
    """Compare the expected instances with the server."""
    verification, ledger, threads = job.verification, opened.ledger, opened.threads
    since_s = await run_blocking(threads.calls, ledger.unfinished_since_s)
    if since_s is not None and verification.level != "counts":
        at = datetime.fromtimestamp(since_s).astimezone()
        live.say(f"continues the verification of {at:%Y-%m-%d %H:%M}: studies that it confirmed are skipped")
    verifying = Verification(
        queue=StudyQueue(opened.expected, threads.calls),
        requests=opened.requests,
        tasks=at_once(job.settings),
        probed=search,
        level=verification.level,
        since_s=since_s,
        ledger=ledger,
        output=output,
        threads=threads,
        reporter=opened.reporter,
    )
    if verification.level == "content":
        # Whole, and once: threads that import parts of pydicom at the same time find it half imported.
        await run_blocking(threads.calls, import_module, "pydicom")
        warnings.filterwarnings("ignore", module=r"pydicom\.")  # they quote values, which may be a patient's
    short_page = job.destination.profile.page_instances
    examiner = Examiner(
        counts=verification.level == "counts",
        settle_s=verification.settle_s,
        day=tally.started_at.date().isoformat(),
        questions=Questions(opened.requests, search, short_page_instances=short_page),
        contents=_contents(job, opened, search, since_s),
        record=verifying.record,
    )
    control.begin(verifying)
    await verifying.carry_out(examiner)


def _selects(selection: Selection) -> Selects | None:
    """Return whether filters select a file; None if they select all."""
    if not (selection.has_path_filters or selection.has_header_filters):
        return None
    now_ns = time.time_ns()

    def selects(instance: Instance) -> bool:
        return (
            selection.filter_of(instance.candidate, now_ns) is None and selection.filter_of_instance(instance) is None
        )

    return selects


def _contents(job: VerificationJob, opened: _Resources, search: SearchService, since_s: int | None) -> Contents | None:
    """Return the comparison of contents; None if the level does not include it."""
    if job.verification.level != "content":
        return None
    throttle = None if job.settings.bandwidth is None else Throttle(job.settings.bandwidth)
    retriever = Retriever(search.client, throttle)
    comparer = ContentComparison(retriever, opened.source, threads=opened.threads, limit=opened.limit)
    return Contents(
        comparer,
        opened.requests,
        at_once=at_once(job.settings),
        since_s=since_s,
        has_edits=opened.has_edits,
    )
