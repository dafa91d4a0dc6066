"""The check before sending: batches from directories in which files have changed since the scan."""

from __future__ import annotations

from dataclasses import dataclass, field

from bulkstow.model import Batch, Exchange, SourceChanged
from bulkstow.policy.changed_directories import ChangedDirectories
from bulkstow.source_check import SourceCheck


@dataclass(frozen=True, slots=True)
class BatchCheck:
    """Compares batches with the scan, if files in the same directories have changed."""

    source_check: SourceCheck
    _changed_directories: ChangedDirectories = field(default_factory=ChangedDirectories, init=False)

    async def check(self, batch: Batch) -> SourceChanged | None:
        """Return the changed instances; None if none has changed, or if there is no reason to check."""
        if not self._changed_directories.touches(batch):
            return None
        source_changed = await self.source_check.unreadable(batch.instances)
        if source_changed is None:
            self._changed_directories.unharmed(batch)
        else:
            self.learn(source_changed)
        return source_changed

    def learn(self, exchange: Exchange) -> None:
        """Record changed files, if they ended an exchange."""
        if isinstance(exchange, SourceChanged):
            self._changed_directories.lost(exchange.directories)
