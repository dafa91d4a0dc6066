"""The forecast of an upload's duration, from the user's rate or from the rate of an earlier upload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """The rate of an upload: bytes limit most uploads, the number of instances limits uploads of small files."""

    bytes_per_s: float
    instances_per_s: float | None = None
    """None if only bytes count."""
    measured_at: str = ""
    """The start of the upload that had this rate, in UTC; empty for a rate from the user."""
    measured_s: float = 0.0
    """The duration of that upload, without outages."""
    measured_instances: int = 0

    def duration_s(self, size_bytes: int, instances: int) -> float:
        """Return the longer of the time for the bytes and the time for the instances."""
        by_bytes_s = size_bytes / self.bytes_per_s
        return by_bytes_s if self.instances_per_s is None else max(by_bytes_s, instances / self.instances_per_s)


def measured_rate(summary: Mapping[str, object], started_at: str) -> Rate | None:
    """Return the rate in the summary of an upload; None if it sent nothing, or the summary does not tell."""
    numbers = [summary.get(name) for name in ("bytes_sent", "delivered", "elapsed_s", "outage_s")]
    if not all(isinstance(number, int | float) for number in numbers):
        return None
    bytes_sent, delivered, elapsed_s, outage_s = (float(str(number)) for number in numbers)
    sending_s = elapsed_s - outage_s
    if not (bytes_sent > 0 and delivered > 0 and sending_s > 0):
        return None
    return Rate(bytes_sent / sending_s, delivered / sending_s, started_at, sending_s, int(delivered))
