"""The walk of one shard: decide by its name, before its status is read, whether an entry belongs to the shard.

So only its own shard asks a file server for the status of a file; of the other shards' directories at most the names
are read. (Where the file system lists no kinds beside the names, as few do, the kind costs a status.)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from bulkstow.model import Candidate
from bulkstow.policy.sharding import Place, Sharding
from bulkstow.ports import Found
from bulkstow.source.entries import Directory


class Elsewhere:
    """A file or directory of another shard: no result, but its source is not empty."""


ELSEWHERE = Elsewhere()

Looked = Found | Directory | Elsewhere | None

Look = Callable[[], Found | Directory | None]
"""Reads the status of a path; returns None for an excluded one."""


def look_in_shard(entry: os.DirEntry[str], place: Place, look: Look, *, follow_links: bool) -> Looked:
    """Return the result for an entry of the directory at `place`. Blocks.

    A followed link leads to a file or to a directory, which may belong to different shards. If its status cannot be
    read, that is a result of both.
    """
    name = entry.name
    try:
        is_link = follow_links and entry.is_symlink()
        is_directory = entry.is_dir(follow_symlinks=False)
    except OSError:
        return look()  # reports the error

    def below() -> Place:
        return place.behind_link(name) if is_link else place.below(name)

    owns_file = place.owns_file(name)
    if not (owns_file and not is_directory) and not ((is_directory or is_link) and below().is_entered):
        return ELSEWHERE
    return _within(look(), below, owns_file=owns_file)


def look_at_source(name: str, sharding: Sharding, look: Look, *, is_listed: bool) -> Looked:
    """Return the result for a file or directory that is named itself. Blocks.

    The name of a file, or of anything in a list, decides as it is written. If the status of something in a list cannot
    be read, that is a result of the shards of both, a file and a directory of this name.
    """
    written = name.replace(os.sep, "/")
    place = sharding.listed(written) if is_listed else sharding.root
    owns_file = sharding.owns_listed(written)
    if not owns_file and not place.is_entered:
        return ELSEWHERE
    return _within(look(), lambda: place, owns_file=owns_file)


def _within(found: Found | Directory | None, place: Callable[[], Place], *, owns_file: bool) -> Looked:
    """Return an entry if it belongs to the shard; a directory gets its place."""
    if isinstance(found, Directory):
        own = place()
        return replace(found, place=own) if own.is_entered else ELSEWHERE
    return ELSEWHERE if isinstance(found, Candidate) and not owns_file else found
