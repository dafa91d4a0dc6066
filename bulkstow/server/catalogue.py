"""What the origin holds, by UID: the answer to every query, and the one way from a UID to a file.

Owns which UIDs are UIDs, and the tree of studies, series and instances, in memory. Refuses to know where and whether
bytes are kept (`storage` does), and to hold anything of a patient: UIDs are all it takes.

A SOP Instance UID names one instance in the world (PS3.5 §9), so it is the key; the same one in another study is the
same instance, sent wrongly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from threading import Lock

from bulkstow.model import Header

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def is_uid(text: str) -> bool:
    """Tell whether this is digits and dots, 1 to 64 of them (PS3.5 §9.1); leading zeros, often seen, are let pass."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Held:
    """An instance that the origin has."""

    header: Header
    """Found on disk at start: no more than its three UIDs of study, series and instance."""
    digest: str = ""
    """SHA-256 of the whole file, hexadecimal; empty where this process did not see the bytes."""


class Catalogue:
    """Instances by UID, in the order of their coming; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._instances: dict[str, Held] = {}
        self._tree: dict[str, dict[str, dict[str, None]]] = {}

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self._instances)

    def find(self, sop_instance_uid: str) -> Held | None:
        """Return what is held under this UID."""
        return self._instances.get(sop_instance_uid)

    def add(self, held: Held) -> None:
        """Take in an instance; whatever had its UID must have been removed before."""
        header = held.header
        with self._lock:
            self._instances[header.sop_instance_uid] = held
            series = self._tree.setdefault(header.study_uid, {}).setdefault(header.series_uid, {})
            series[header.sop_instance_uid] = None

    def remove_study(self, study_uid: str) -> bool:
        """Forget a study, and tell whether it was there."""
        with self._lock:
            removed = self._tree.pop(study_uid, None)
            for series in (removed or {}).values():
                for sop_instance_uid in series:
                    del self._instances[sop_instance_uid]
        return removed is not None

    def instances(self, study_uid: str | None = None) -> list[Held]:
        """Return the instances of a study, or all; an empty list where there are none."""
        with self._lock:
            if study_uid is None:
                return list(self._instances.values())
            tree = self._tree.get(study_uid, {})
            return [self._instances[instance] for instances in tree.values() for instance in instances]

    def series(self, study_uid: str) -> dict[str, int]:
        """Return a study's series, and how many instances each has; empty where there is no such study."""
        with self._lock:
            return {series: len(instances) for series, instances in self._tree.get(study_uid, {}).items()}
