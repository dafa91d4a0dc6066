"""The source that a job reads: its own object, or files and directories by their names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import chain
from typing import Protocol

from bulkstow.config import UploadSettings
from bulkstow.engine.descriptors import most_open_files
from bulkstow.engine.names import ListedNames, distinct
from bulkstow.errors import ConfigurationError
from bulkstow.policy.selection import Selection
from bulkstow.policy.sharding import Sharding
from bulkstow.ports import Source
from bulkstow.source.dicomdir import FileSetSource
from bulkstow.source.files import FileSource
from bulkstow.source.paths import SourcePath
from bulkstow.source_settings import SourceSettings


class ReadingJob(Protocol):
    """A job that reads a source."""

    @property
    def source(self) -> tuple[str, ...] | Source:
        """Paths of files and directories, or an object that yields instances."""

    @property
    def settings(self) -> UploadSettings:
        """How it is read."""

    @property
    def source_settings(self) -> SourceSettings:
        """How archives and other sources than files are read."""


def source_of(
    job: ReadingJob,
    paths: Mapping[str, SourcePath],
    listed: ListedNames | None,
    excluded: frozenset[str],
    selection: Selection,
    stack: ExitStack,
) -> Source:
    """Return the job's source; a source of files excludes the files in `excluded`, which the run itself writes."""
    if not isinstance(job.source, tuple):
        return job.source
    settings = job.settings
    if job.source_settings.dicomdir and (listed is not None or settings.shard is not None):
        raise ConfigurationError("--dicomdir: name the file sets themselves, without --files-from and --shard")
    source = (FileSetSource if job.source_settings.dicomdir else FileSource)(
        chain(distinct(job.source, lambda name: paths[name].real_path), listed or ()),
        within=paths.values(),
        exclude=excluded,
        is_pruned=selection.excludes_directory if selection.exclude else None,
        follow_links=settings.follow_links,
        accept_missing_preamble=settings.accept_missing_preamble,
        skip_truncated=settings.skip_truncated,
        sharding=None if settings.shard is None else Sharding(settings.shard, settings.shard_level),
        most_open_files=most_open_files(settings),
    )
    stack.callback(source.close)
    if listed is not None:
        listed.drawn_by(source.walk)
    return source


def own_files(settings: UploadSettings) -> frozenset[str]:
    """Return the paths of the run's log and summary, as named and with links resolved."""
    summary = None if settings.summary == "-" else settings.summary
    names = [name for name in (settings.log, summary) if name is not None]
    return frozenset(spell(name) for name in names for spell in (os.path.abspath, os.path.realpath))
