"""Whether another worker thread should run: only while every running call waits for the storage.

Python runs one thread at a time. Threads that compete for the interpreter slow each other down, and a thread that waits
for a disk must not delay the next read. Measuring the calls and starting threads is left to `pipeline.worker_threads`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

WAITING_AFTER_S = 0.003
"""Shorter calls are not judged. A seek of a disk takes longer; reading 32 heads from the page cache takes 0.5 ms."""

BUSY_CPU_SHARE = 0.25
"""A call that uses more of its time on the processor than this does not wait for the storage.
Writing 16 MiB to a socket uses most of its 3 to 12 ms; reading 64 MiB from a local disk used 0.16 of its time."""

BUSY_LIMIT_S = 0.06
"""However busy it is, a longer call does not keep others waiting. A body's turn ends after 0.054 s."""


@dataclass(frozen=True, slots=True)
class RunningCall:
    """A blocking call that has not ended."""

    elapsed_s: float
    cpu_s: float
    """Processor time that the call has used; 0 if the system does not tell."""

    @property
    def is_waiting(self) -> bool:
        """True if the call has taken a while and mostly waited, or has taken long."""
        if self.elapsed_s <= WAITING_AFTER_S:
            return False
        return self.elapsed_s > BUSY_LIMIT_S or self.cpu_s < BUSY_CPU_SHARE * self.elapsed_s


def should_start_another(running: Iterable[RunningCall]) -> bool:
    """Return whether another thread should take a waiting call beside these."""
    return all(call.is_waiting for call in running)
