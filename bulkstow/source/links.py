"""The rule for symbolic links: links that lead out of the sources are followed only with --follow-links."""

# ruff: noqa: PTH114, PTH120 - a `Path` for each of a million files would cost as much as the system calls

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.ports import Found
from bulkstow.source.entries import Directory, result_of
from bulkstow.source.paths import is_within

LINK_TO_DIRECTORY = "a link to a directory, not followed: --follow-links follows it"
LINK_TO_OUTSIDE = "a link to a file outside the sources: --follow-links sends it"


@dataclass(frozen=True, slots=True)
class LinkRule:
    """Decides which links are followed: all, or those to files whose real path lies in a source."""

    roots: frozenset[str]
    """Real paths of all known sources."""
    exclude: frozenset[str]
    follows_all: bool

    def admits(self, location: str) -> bool:
        """Return whether a link at `location` is followed. Blocks."""
        return self.follows_all or is_within(os.path.realpath(location), self.roots)

    def resolve(
        self, found: Candidate | FileResult | Directory, path: str, source_real_path: str
    ) -> Found | Directory | None:
        """Return the result for a link at `path` that leads to `found`; None if the target is excluded."""
        if isinstance(found, Directory):
            if self.follows_all:
                return replace(found, by_link=True)
            return result_of(path, Outcome.SKIPPED, LINK_TO_DIRECTORY)
        if isinstance(found, FileResult):
            return found
        real_path = os.path.realpath(path)
        if real_path in self.exclude:
            return None
        if self.follows_all or is_within(real_path, self.roots) or is_within(real_path, {source_real_path}):
            return replace(found, by_link=True)
        return result_of(path, Outcome.SKIPPED, LINK_TO_OUTSIDE)


def is_reached(path: str, sources: AbstractSet[str]) -> bool:
    """Return whether a path is below a source, and no directory between them is a link. Blocks."""
    above = path
    while above not in sources:
        below, above = above, os.path.dirname(above)
        if above == below or (above not in sources and os.path.islink(above)):
            return False
    return True
