"""Verification before sending: batches from directories in which files have changed since the scan."""

from __future__ import annotations

from dataclasses import dataclass, field

from bulkstow.model import Batch, Exchange, SourceChanged
from bulkstow.policy.changed_directories import ChangedDirectories
from bulkstow.verification import Verification


@dataclass(frozen=True, slots=True)
class BatchVerifier:
    """Compares batches with the scan, if files beside theirs have changed."""

    verification: Verification
    _changed_directories: ChangedDirectories = field(default_factory=ChangedDirectories, init=False)

    async def verify(self, batch: Batch) -> SourceChanged | None:
        """Return which instances have changed; None if none has, or if nothing points to it."""
        if not self._changed_directories.touches(batch):
            return None
        source_changed = await self.verification.unreadable(batch.instances)
        if source_changed is None:
            self._changed_directories.unharmed(batch)
        else:
            self.learn(source_changed)
        return source_changed

    def learn(self, exchange: Exchange) -> None:
        """Take note of files that have changed, if that ended an exchange."""
        if isinstance(exchange, SourceChanged):
            self._changed_directories.lost(exchange.directories)
