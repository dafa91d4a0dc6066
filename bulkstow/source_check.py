"""Verify in worker threads that instances have not changed since the scan.

An instance whose storage does not answer within the time limit counts as changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import closing

from bulkstow.blocking import ReadLimit, map_in_threads
from bulkstow.errors import InstanceChanged
from bulkstow.model import Instance, SourceChanged
from bulkstow.ports import FileRange, Source


class SourceCheck:
    """Verifies instances of one source; belongs to the event loop."""

    def __init__(self, source: Source, readers: Executor, limit: ReadLimit) -> None:
        self._source = source
        self._readers = readers
        self._limit = limit

    async def changed(self, instances: Sequence[Instance]) -> dict[str, str]:
        """Return the reason for each changed instance, by SOP Instance UID, from `verify` of the source."""
        return await self._reasons(self._source.verify, instances)

    async def unreadable(self, instances: Sequence[Instance]) -> SourceChanged | None:
        """Open instances and compare them with the scan; return those that have changed, or None."""
        changed = await self._reasons(self._open, instances)
        if not changed:
            return None
        locations = (i.candidate.location for i in instances if i.header.sop_instance_uid in changed)
        return SourceChanged(changed, await self._existing_parents(locations), is_begun=False)

    async def _reasons(self, check: Callable[[Instance], str], instances: Sequence[Instance]) -> dict[str, str]:
        def checked(instance: Instance) -> tuple[str, str]:
            try:
                return instance.header.sop_instance_uid, check(instance)
            except OSError as error:
                return instance.header.sop_instance_uid, f"cannot be read: {error.strerror or error}"

        def on_timeout(instance: Instance, why: str) -> tuple[str, str]:
            return instance.header.sop_instance_uid, f"cannot be looked at again: {why}"

        changed: dict[str, str] = {}
        async for results in map_in_threads(
            checked, instances, on_timeout, self._readers, self._limit, items_per_list=len(instances)
        ):
            changed.update((uid, reason) for uid, reason in results if reason)
        return changed

    def _open(self, instance: Instance) -> str:
        """Return why an instance cannot be opened or read, or how it has changed; empty if all is well. Blocks."""
        try:
            with closing(self._source.open(instance)) as drawn:
                segment = next(drawn, None)
                if isinstance(segment, FileRange) and segment.size_bytes:
                    segment.read_into(memoryview(bytearray(1)), 0)
        except InstanceChanged as error:
            return str(error)
        return self._source.verify(instance)

    async def _existing_parents(self, locations: Iterable[str]) -> frozenset[str]:
        """Return the existing directories of locations; one whose storage does not answer counts as existing."""
        locations_by_directory = {location.rpartition("/")[0]: location for location in locations}

        def existing(directory: str) -> str:
            return self._source.existing_parent(locations_by_directory[directory])

        def on_timeout(directory: str, _why: str) -> str:
            return directory

        directories = sorted(locations_by_directory)
        parents: set[str] = set()
        async for several in map_in_threads(
            existing, directories, on_timeout, self._readers, self._limit, workers=len(directories)
        ):
            parents.update(several)
        return frozenset(parents)
