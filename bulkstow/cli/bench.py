"""`bulkstow bench`: measure a server; compare two measurements; delete what one left behind."""

from __future__ import annotations

import functools
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TextIO

import anyio
from cyclopts import App

from bulkstow import __version__
from bulkstow.bench.settings import BenchSettings
from bulkstow.cli.files import check_writable, write_whole
from bulkstow.cli.streams import print_in_passing
from bulkstow.config import DestinationSettings
from bulkstow.errors import INTERRUPTED, ConfigurationError
from bulkstow.printing import shown, shown_lines

if TYPE_CHECKING:
    from bulkstow.bench.removal import Removal
    from bulkstow.bench.result import Load, Result, Second
    from bulkstow.bench.run import Finished, Measurement

_LIBRARIES = {"hdrh": "hdrhistogram", "plotly": "plotly", "msgspec": "msgspec"}
"""Packages of the extra `bench` by the module that they install."""

OnSecondOfLoad = Callable[["Load", "Second", Sequence[float]], None]

bench = App(name="bench", usage="Usage: bulkstow bench --url URL [OPTIONS]\n       bulkstow bench COMMAND …")


@bench.default
def measure(*, destination: DestinationSettings | None = None, settings: BenchSettings | None = None) -> int:
    """Measure a DICOMweb server: its goodput, latencies and knee.

    Instances are generated on the fly with the run's ID as a tag, and counted if the response lists them. Use a test
    server. Exit status: 0 measured, 1 a threshold is missed, 2 wrong usage, 3 stopped by an error that no retry fixes,
    130 interrupted.
    """
    settings = settings or BenchSettings()
    _check_libraries("hdrh", "msgspec", *(["plotly"] if settings.report else []))
    for flag, path in (("--json", settings.json), ("--report", settings.report), ("--hdr-log", settings.hdr_log)):
        if path is not None and path != "-":
            check_writable(flag, Path(path))
    return carry_out(_measurement(destination or DestinationSettings(), settings))


@bench.command(usage="Usage: bulkstow bench compare BEFORE AFTER")
def compare(before: Path, after: Path) -> int:
    """Say what changed between two measurements, and whether it is more than the noise.

    Parameters
    ----------
    before
        What `bulkstow bench --json` wrote.
    after
        Likewise, later, or of another server.
    """
    _check_libraries("msgspec")
    from bulkstow.bench.compare import compare as compared
    from bulkstow.bench.compare import shown as comparison

    print(shown_lines(comparison(compared(_read(before), _read(after)))))
    return 0


@bench.command(usage="Usage: bulkstow bench delete RUN_ID --url URL [OPTIONS]")
def delete(run_id: str, *, destination: DestinationSettings | None = None) -> int:
    """Delete what a measurement stored, where the server lets it be deleted.

    Exit status: 0 nothing of it is left, 1 some is, 2 wrong usage, 3 no server, or it refuses our login.

    Parameters
    ----------
    run_id
        The measurement's ID, as its table, its JSON and its report have it.
    """
    removal = anyio.run(_delete, run_id, destination or DestinationSettings())
    print(shown(_of_removal(removal, run_id)))
    return 1 if removal.why else 0


def carry_out(measurement: Measurement, out: TextIO | None = None) -> int:
    """Measure, write what is to be written, and return the exit status."""
    from bulkstow.bench.live import Live
    from bulkstow.bench.load_plan import plan
    from bulkstow.bench.run import Bench, Listeners

    settings = measurement.settings
    with _hdr_log(settings.hdr_log, measurement.facts.run_id) as on_second:
        listeners = Listeners(Live(settings.progress), on_second, functools.partial(_write_json, settings.json))
        planned = plan(settings, measurement.workload.mean_bytes, Random(measurement.facts.run_id))
        running = Bench(measurement, planned, listeners)
        finished = anyio.run(running.run)
    _conclude(measurement, finished, out)
    if finished.stopped_by is not None:
        raise finished.stopped_by
    if not finished.is_complete:
        return INTERRUPTED
    result = finished.result
    return int(result is not None and not all(judged.holds for judged in result.thresholds))


def _measurement(destination: DestinationSettings, settings: BenchSettings) -> Measurement:
    from bulkstow.bench import threshold
    from bulkstow.bench.conclusion import Facts
    from bulkstow.bench.run import Measurement, describe_machine
    from bulkstow.bench.workload import workload

    now = datetime.now().astimezone()
    run_id = f"{now:%Y%m%d}-{secrets.token_hex(3)}"
    load = workload(settings.workload, run_id, compressibility=settings.compressibility)
    facts = Facts(
        mode=settings.mode,
        workload=load.name,
        mean_bytes=load.mean_bytes,
        url=destination.root,
        run_id=run_id,
        started=now.isoformat(timespec="seconds"),
        version=__version__,
        machine=describe_machine(),
        thresholds=tuple(map(threshold.parse, settings.threshold)),
    )
    return Measurement(destination, settings, load, facts)


def _conclude(measurement: Measurement, finished: Finished, out: TextIO | None) -> None:
    from bulkstow.bench.closing import closing
    from bulkstow.bench.document import to_json

    settings, result = measurement.settings, finished.result
    if result is not None:
        words = shown_lines(closing(result))
        if settings.json == "-":
            print(words, file=sys.stderr)
        print_in_passing(to_json(result) if settings.json == "-" else words, out)
        _write_json(settings.json, result)
        if settings.report is not None:
            from bulkstow.bench.report import html

            _write("--report", settings.report, html(result))
    if finished.removal is not None:
        print(shown(_of_removal(finished.removal, measurement.facts.run_id)), file=sys.stderr)
    elif result is not None:
        command = f"bulkstow bench delete {measurement.facts.run_id} --url {measurement.facts.url}"
        print(f"what was stored is still there; delete it with: {shown(command)}", file=sys.stderr)


def _of_removal(removal: Removal, run_id: str) -> str:
    if not removal.removed and not removal.left and not removal.why:
        return f"run {run_id}: the server lists no study of it"
    words = f"run {run_id}: {removal.removed:,} studies deleted"
    if not removal.why:
        return words
    from bulkstow.bench.workload import run_tag

    left = "an unknown number" if removal.left is None else f"{removal.left:,}"
    return f"{words}, {left} left ({removal.why}); their Patient IDs begin with {run_tag(run_id)}."


async def _delete(run_id: str, destination: DestinationSettings) -> Removal:
    from bulkstow.bench.removal import open_test_server
    from bulkstow.bench.workload import run_tag
    from bulkstow.blocking import ReadLimit
    from bulkstow.config import READ_TIMEOUT_S
    from bulkstow.destination.auth import login
    from bulkstow.destination.stow import StowDestination
    from bulkstow.events import Reporters
    from bulkstow.pipeline.worker_threads import WorkerThreads
    from bulkstow.source.files import FileSource

    tag, auth = run_tag(run_id), login(destination, os.environ)
    with WorkerThreads(1) as threads:
        limit = ReadLimit(READ_TIMEOUT_S)
        server = StowDestination(
            destination, auth, source=FileSource(), readers=threads, limit=limit, reporter=Reporters(())
        )
        async with server, open_test_server(destination, auth) as place:
            await server.reach()
            return await place.remove(tag)


def _check_libraries(*modules: str) -> None:
    """Raise ConfigurationError if libraries of the extra `bench` are not installed, before anything is sent."""
    if missing := [_LIBRARIES[module] for module in modules if find_spec(module) is None]:
        raise ConfigurationError(
            f"bulkstow bench needs {', '.join(missing)}: "
            f"pip install {' '.join(missing)}, or pip install '.[bench]' in a checkout"
        )


def _read(path: Path) -> Result:
    from bulkstow.bench.document import from_json

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    return from_json(text, name=str(path))


def _write_json(where: str | None, result: Result) -> None:
    """Write a result to its file, if it has one; atomically, because the file may be read while a soak goes on."""
    from bulkstow.bench.document import to_json

    if where is not None and where != "-":
        write_whole("--json", Path(where), to_json(result) + "\n")


def _write(flag: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{flag} {path}: cannot be written ({error.strerror})") from error


@contextmanager
def _hdr_log(path: Path | None, title: str) -> Iterator[OnSecondOfLoad]:
    """Return a writer of each second's latencies to a HdrHistogram log, without those of the warm-up."""
    from bulkstow.bench.histogram import log_head, log_line

    if path is None:
        yield lambda *_: None
        return
    began_epoch_s = time.time()
    try:
        file = path.open("w", encoding="ascii")
    except OSError as error:
        raise ConfigurationError(f"--hdr-log {path}: cannot be written ({error.strerror})") from error
    failures: list[OSError] = []

    def write(lines: str) -> None:
        # A disk that is full ends the log, not the measurement.
        try:
            if not failures:
                file.write(lines)
                file.flush()
        except OSError as error:
            failures.append(error)

    def on_second(load: Load, second: Second, latencies_s: Sequence[float]) -> None:
        if latencies_s and not second.is_warmup:
            amount = f"{load.connections}c" if load.connections is not None else f"{load.rate_per_s:g}s"
            at_s = time.time() - began_epoch_s - 1.0
            write(log_line(f"{amount}x{load.batch_instances}", at_s, 1.0, latencies_s))

    write(log_head(began_epoch_s, title))
    try:
        yield on_second
    finally:
        with suppress(OSError):
            file.close()
        for failure in failures:
            print(f"--hdr-log {shown(str(path))}: ends early, cannot be written ({failure.strerror})", file=sys.stderr)
