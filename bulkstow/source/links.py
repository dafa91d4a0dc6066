"""Which symbolic links are followed: none that leads out of the sources, unless the user has all of them followed."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.ports import Found
from bulkstow.source.entries import Directory, result_of
from bulkstow.source.paths import is_within

LINK_TO_DIRECTORY = "a link to a directory, not followed: --follow-links follows it"
LINK_TO_OUTSIDE = "a link to a file outside the sources: --follow-links sends it"


@dataclass(frozen=True, slots=True)
class LinkRule:
    """Whether links are followed; a link to a file is, if its real target lies in a source."""

    roots: frozenset[str]
    """Real paths of all sources that are known."""
    exclude: frozenset[str]
    follows_all: bool

    def admits(self, location: str) -> bool:
        """Say whether a link that is now at `location` would be followed. Blocks."""
        return self.follows_all or is_within(os.path.realpath(location), self.roots)

    def through(
        self, found: Candidate | FileResult | Directory, path: str, source_real_path: str
    ) -> Found | Directory | None:
        """Return what stands for a link that leads to `found`."""
        if isinstance(found, Directory):
            return (
                replace(found, by_link=True)
                if self.follows_all
                else result_of(path, Outcome.SKIPPED, LINK_TO_DIRECTORY)
            )
        if isinstance(found, FileResult):
            return found
        real_path = os.path.realpath(path)
        if real_path in self.exclude:
            return None
        if self.follows_all or is_within(real_path, self.roots) or is_within(real_path, {source_real_path}):
            return replace(found, by_link=True)
        return result_of(path, Outcome.SKIPPED, LINK_TO_OUTSIDE)
