"""Run a plan in this process: survey the source, read the ledger, and ask the server. Sends and writes nothing."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

import anyio
import anyio.to_thread

from bulkstow.config import DestinationSettings, PlanSettings, SelectionSettings, UploadSettings
from bulkstow.engine.attended import attended
from bulkstow.engine.reading import begin_reading, listed_names
from bulkstow.engine.signals import Control
from bulkstow.engine.sources import opened_source, own_files
from bulkstow.events import Reporter, Reporters
from bulkstow.ledger import EarlierRuns
from bulkstow.pipeline.inventory import Inventory
from bulkstow.pipeline.plan import MOST_GROUPS, NotStoredBefore, Plan, plan_of
from bulkstow.pipeline.survey import Survey
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.platform.signals import receive_ending_signals
from bulkstow.policy.forecast import Rate, measured_rate
from bulkstow.progress.announcer import Announcer
from bulkstow.progress.planning import Planning
from bulkstow.source_settings import SourceSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanJob:
    """The source and the settings of a plan and of the planned upload."""

    source: tuple[str, ...]
    """Paths of files and directories."""
    destination: DestinationSettings | None = None
    """The server to ask; None to ask no server."""
    settings: UploadSettings = field(default_factory=UploadSettings)
    selection: SelectionSettings = field(default_factory=SelectionSettings)
    """Filters: which files of the source are considered."""
    source_settings: SourceSettings = field(default_factory=SourceSettings)
    """How archives and other sources than files are read."""
    plan: PlanSettings = field(default_factory=PlanSettings)
    files_from: str | None = None
    """File with one more path a line, '-' for standard input."""
    null_separated: bool = False


async def make_plan(job: PlanJob, inventory: Inventory, planning: Planning) -> Plan | None:
    """Fill the inventory, and return its figures; None if a signal ended it early.

    Raises ConfigurationError before anything is read, and RunStopped if the plan cannot be finished.
    """
    control = Control(planning.say)
    made: list[Plan] = []
    async with AsyncExitStack() as stack:
        reading = await begin_reading(job, stack)
        signals = stack.enter_context(receive_ending_signals())
        listed = listed_names(job, stack, control)
        url = None if job.destination is None else job.destination.root
        earlier_runs = stack.enter_context(EarlierRuns(job.settings.ledger, url))
        excluded = earlier_runs.files | own_files(job.settings) | _own_lists(job.plan)
        reporter = Reporters((planning, Announcer(planning.say)))
        source = await stack.enter_async_context(
            opened_source(job, reading, reporter=reporter, excluded=excluded, listed=listed)
        )
        survey = Survey(
            job.settings,
            source,
            earlier_runs.look_ups,
            inventory,
            reporter,
            threads=reading.threads,
            limit=reading.limit,
            selection=reading.selection,
            only_members=job.source_settings.archives == "only",
        )

        async def work() -> None:
            plan = await _surveyed(job, survey, inventory, planning, reading.threads, reporter)
            made.append(
                replace(
                    plan,
                    destination=earlier_runs.url or "",
                    empty_sources=planning.empty_sources,
                    left_out={filter_.value: files for filter_, files in planning.left_out.items()},
                    pruned_directories=planning.pruned_directories,
                    rate=_rate(job.plan, earlier_runs),
                    not_stored_before=await anyio.to_thread.run_sync(_not_stored, earlier_runs, inventory),
                )
            )

        stopped_by = await attended(work, control, signals, planning)
    if stopped_by is not None:
        raise stopped_by
    return made[0] if made else None


async def _surveyed(
    job: PlanJob, survey: Survey, inventory: Inventory, planning: Planning, threads: WorkerThreads, reporter: Reporter
) -> Plan:
    """Return the figures of the source, and of the server if it is to be asked."""

    async def add_up() -> Plan:
        await survey.carry_out()
        return await anyio.to_thread.run_sync(plan_of, inventory)

    if job.destination is None:
        return await add_up()
    from bulkstow.engine.at_server import StudyCounts, reached  # the HTTP client takes 0.2 s to import

    # Before the survey, which may take hours, a wrong URL or login is noticed.
    async with reached(job.destination) as search:
        plan = await add_up()
        planning.begin_to_ask(plan.studies_to_send)
        counts = StudyCounts(search, job.settings, inventory, threads, reporter, planning)
        return replace(plan, at_server=await counts.ask())


def _rate(settings: PlanSettings, earlier_runs: EarlierRuns) -> Rate | None:
    """Return the user's rate, or else the rate of the latest upload."""
    if settings.rate is not None:
        return Rate(settings.rate)
    latest = earlier_runs.latest_upload()
    return None if latest is None else measured_rate(latest.summary or {}, latest.started_at)


def _not_stored(earlier_runs: EarlierRuns, inventory: Inventory) -> tuple[NotStoredBefore, ...]:
    """Return the kinds of instances that earlier runs could not store. Blocks."""
    return tuple(
        NotStoredBefore(
            kind.sop_class_uid,
            kind.transfer_syntax_uid,
            kind.outcome,
            kind.files,
            inventory.count_to_send(kind.sop_class_uid, kind.transfer_syntax_uid),
        )
        for kind in earlier_runs.not_stored(MOST_GROUPS)
    )


def _own_lists(settings: PlanSettings) -> frozenset[str]:
    """Return the paths of the lists that the plan writes, as named and with links resolved."""
    names = [name for name in (settings.list_to, settings.digest_list) if name not in (None, "-")]
    return frozenset(spell(str(name)) for name in names for spell in (os.path.abspath, os.path.realpath))
