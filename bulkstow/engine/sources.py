"""The source that a job reads: its own object, or a source that is chosen by the form of the names.

A name with a scheme, such as `s3://bucket/prefix`, is of another machine; every other one is a path.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from bulkstow.config import UploadSettings
from bulkstow.destination.throttle import Throttle
from bulkstow.engine.descriptors import most_open_files
from bulkstow.engine.names import ListedNames, SourceKind, distinct, kind_of, scheme_of
from bulkstow.engine.reading import Reading, ReadingJob
from bulkstow.errors import ConfigurationError, InstanceChanged
from bulkstow.events import Reporter
from bulkstow.model import Instance
from bulkstow.policy.sharding import Sharding
from bulkstow.ports import Segment, Source
from bulkstow.source.archives import Archives
from bulkstow.source.files import FileSource
from bulkstow.source.spool import Spool

if TYPE_CHECKING:
    from bulkstow.source.objects import ObjectSource


@asynccontextmanager
async def opened_source(
    job: ReadingJob,
    reading: Reading,
    *,
    reporter: Reporter,
    excluded: frozenset[str] = frozenset(),
    listed: ListedNames | None = None,
) -> AsyncIterator[Source]:
    """Open the source of a job, with its edits; an object from the caller is already open.

    Raises ConfigurationError for settings that do not suit the source, and RunStopped if it cannot be reached.
    """
    async with _opened(job, reading, reporter, excluded, listed) as source:
        if reading.edits is None:
            yield source
            return
        from bulkstow.engine.edits import edited  # pydicom takes 0.2 s to import

        yield edited(source, reading.edits)


@asynccontextmanager
async def _opened(
    job: ReadingJob, reading: Reading, reporter: Reporter, excluded: frozenset[str], listed: ListedNames | None
) -> AsyncIterator[Source]:
    if not isinstance(job.source, tuple):
        yield job.source
        return
    kind = kind_of(job.source[0]) if job.source else SourceKind.FILES
    if kind is not SourceKind.FILES:
        _check_remote(job, job.source[0])
    _check_spool_directory(job.source_settings.spool_directory)
    with closing(Spool(job.source_settings.spool_bytes, job.source_settings.spool_directory)) as spool:
        match kind:
            case SourceKind.FILES:
                with closing(_files(job, job.source, reading, spool, excluded, listed)) as files:
                    yield files
            case SourceKind.DICOMWEB:
                from bulkstow.retrieval.source import open_source  # the HTTP client takes 0.2 s to import

                async with open_source(
                    job.source,
                    job.source_settings,
                    job.settings,
                    spool,
                    reading.selection,
                    threads=reading.threads,
                    reporter=reporter,
                    environment=os.environ,
                ) as server:
                    yield server
            case SourceKind.OBJECTS:
                with closing(_objects(job, job.source, spool)) as objects:
                    yield objects


def _check_spool_directory(directory: Path | None) -> None:
    if directory is not None and not (directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)):
        raise ConfigurationError(f"--spool-directory {directory}: not a directory that can be written")


def _check_remote(job: ReadingJob, name: str) -> None:
    """Raise ConfigurationError for settings that only files have."""
    if job.selection.min_age_s is not None:
        raise ConfigurationError(f"{name}: --min-age compares modification times, which only files have")
    if job.selection.max_size_bytes is not None and kind_of(name) is SourceKind.DICOMWEB:
        raise ConfigurationError(f"{name}: --max-size: a DICOMweb server does not tell the sizes of instances")
    if job.files_from is not None:
        raise ConfigurationError(f"{name}: --files-from lists files; leave it out, or name the source of each run")
    if job.source_settings.dicomdir:
        raise ConfigurationError(f"{name}: --dicomdir is for file sets in directories")
    if job.settings.on_conflict == "newest":
        raise ConfigurationError(f"{name}: --on-conflict newest compares modification times, which only files have")
    if job.settings.dask is not None:
        raise ConfigurationError(f"{name}: the workers of --dask have to see the files; use --processes instead")


def _files(
    job: ReadingJob,
    names: tuple[str, ...],
    reading: Reading,
    spool: Spool,
    excluded: frozenset[str],
    listed: ListedNames | None,
) -> FileSource:
    settings, paths = job.settings, reading.paths
    if job.source_settings.dicomdir and (listed is not None or settings.shard is not None):
        raise ConfigurationError("--dicomdir: name the file sets themselves, without --files-from and --shard")
    source = _kind_of_files(job, from_ledger=not (names or listed))(
        chain(distinct(names, lambda name: paths[name].real_path), listed or ()),
        within=paths.values(),
        exclude=excluded,
        is_pruned=reading.selection.excludes_directory if reading.selection.exclude else None,
        follow_links=settings.follow_links,
        accept_missing_preamble=settings.accept_missing_preamble,
        skip_truncated=settings.skip_truncated,
        sharding=None if settings.shard is None else Sharding(settings.shard, settings.shard_level),
        most_open_files=most_open_files(settings),
        spool=spool,
        archives=Archives(spool, looks_into_files=job.source_settings.archives != "no"),
    )
    if listed is not None:
        listed.drawn_by(source.walk)
    return source


_FOR_SERVERS = (
    "source_user",
    "source_password_file",
    "source_bearer_file",
    "source_bearer_command",
    "source_header",
    "source_header_file",
    "source_client_cert",
)
"""Settings that the clients of object stores do not have."""


def _kind_of_files(job: ReadingJob, *, from_ledger: bool) -> type[FileSource]:
    if not job.source_settings.dicomdir:
        return LedgerFiles if from_ledger else FileSource
    from bulkstow.source.dicomdir import FileSetSource

    return FileSetSource


def _objects(job: ReadingJob, names: tuple[str, ...], spool: Spool) -> ObjectSource:
    try:
        from bulkstow.source.objects import CONCURRENCY, ObjectSource
        from bulkstow.source.objects_bucket import StoreOptions
    except ImportError as error:
        raise ConfigurationError(
            f"{names[0]}: needs object-store libraries ({error}): pip install obstore botocore, or "
            "pip install '.[objects]' in a checkout"
        ) from error
    settings, given = job.settings, job.source_settings
    for name in _FOR_SERVERS:
        if getattr(given, name):
            flag = name.replace("_", "-")
            raise ConfigurationError(f"{names[0]}: --{flag} is for DICOMweb servers; see the README, Object stores")
    options = StoreOptions(
        endpoint=given.source_endpoint,
        region=given.source_region,
        is_anonymous=given.source_anonymous,
        ca_file=given.source_ca_file,
        is_insecure=given.source_insecure,
    )
    throttle = None if given.source_bandwidth is None else Throttle(given.source_bandwidth)
    return ObjectSource(
        names,
        spool,
        options,
        concurrency=CONCURRENCY if given.source_concurrency == "auto" else given.source_concurrency,
        admit=None if throttle is None else throttle.admit,
        sharding=None if settings.shard is None else Sharding(settings.shard, settings.shard_level),
        accept_missing_preamble=settings.accept_missing_preamble,
        skip_truncated=settings.skip_truncated,
    )


class LedgerFiles(FileSource):
    """The files of a ledger, without the source that they are from; those on another machine cannot be opened."""

    def open(self, instance: Instance) -> Generator[Segment]:
        """Yield the content of a file. Raises InstanceChanged also for one on another machine."""
        if scheme_of(instance.candidate.location):
            raise InstanceChanged("on another machine: name the source, as in `bulkstow verify SOURCE`")
        yield from super().open(instance)


def own_files(settings: UploadSettings) -> frozenset[str]:
    """Return the paths of the run's log and summary, as named and with links resolved."""
    summary = None if settings.summary == "-" else settings.summary
    names = [name for name in (settings.log, summary) if name is not None]
    return frozenset(spell(name) for name in names for spell in (os.path.abspath, os.path.realpath))
