"""The catalogue of the origin's instances by UID: the answer to every query, and the only way from a UID to a file.

Holds the tree of studies, series and instances in memory, UIDs only and nothing about a patient; `storage` holds the
bytes. The SOP Instance UID is the key, as it is unique in the world (PS3.5 §9): the same one in another study is the
same instance, sent with a wrong study.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock

from bulkstow.model import Header


@dataclass(frozen=True, slots=True)
class Held:
    """An instance that the origin has."""

    header: Header
    """Of an instance found on disk at start, only the UIDs of study, series and instance."""
    digest: str = ""
    """SHA-256 of the whole file, hexadecimal; empty if this process did not receive the bytes."""
    stored_at_s: float = 0.0
    """By `time.monotonic`; 0 if it was found on disk at start."""


class Catalogue:
    """Instances by UID, in the order of arrival; thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._instances: dict[str, Held] = {}
        self._tree: dict[str, dict[str, dict[str, None]]] = {}

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self._instances)

    def find(self, sop_instance_uid: str) -> Held | None:
        """Return the instance with this UID."""
        return self._instances.get(sop_instance_uid)

    def add(self, held: Held) -> None:
        """Add an instance; another with its UID must have been removed before."""
        header = held.header
        with self._lock:
            self._instances[header.sop_instance_uid] = held
            series = self._tree.setdefault(header.study_uid, {}).setdefault(header.series_uid, {})
            series[header.sop_instance_uid] = None

    def remove(self, *uids: str) -> bool:
        """Remove a study, series or instance, and return whether it existed.

        `uids` are those of the study, of the series and of the instance, as far as they are given.
        """
        with self._lock:
            removed = list(self._below(*uids))
            for sop_instance_uid in removed:
                self._remove_instance(self._instances.pop(sop_instance_uid).header)
        return bool(removed)

    def instances(self, study_uid: str | None = None) -> list[Held]:
        """Return the instances of a study, or all."""
        with self._lock:
            if study_uid is None:
                return list(self._instances.values())
            tree = self._tree.get(study_uid, {})
            return [self._instances[instance] for instances in tree.values() for instance in instances]

    def series(self, study_uid: str) -> dict[str, int]:
        """Return a study's series with their numbers of instances; empty if there is no such study."""
        with self._lock:
            return {series: len(instances) for series, instances in self._tree.get(study_uid, {}).items()}

    def _below(self, study_uid: str, series_uid: str = "", sop_instance_uid: str = "") -> Iterable[str]:
        """Return the SOP Instance UIDs of a study, of a series, or of one instance; nothing if there is none."""
        study = self._tree.get(study_uid, {})
        if not series_uid:
            return [uid for instances in study.values() for uid in instances]
        series = study.get(series_uid, {})
        return [uid for uid in series if uid == sop_instance_uid] if sop_instance_uid else series

    def _remove_instance(self, header: Header) -> None:
        """Remove an instance from the tree, and the series and study that it leaves empty."""
        study = self._tree[header.study_uid]
        del study[header.series_uid][header.sop_instance_uid]
        if not study[header.series_uid]:
            del study[header.series_uid]
        if not study:
            del self._tree[header.study_uid]
