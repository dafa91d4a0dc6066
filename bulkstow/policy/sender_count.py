"""The number of sender processes: one more while the processor limits the run, and goodput grows with it.

A run begins in one process. Python runs one thread of a process at a time, so a busy process may limit the run while
other processors are free. Whether another process helps is measured: it is kept only if goodput grows, and those that
helped before stay.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from bulkstow.policy.bottleneck import BUSY_SHARE

BUSY_SENDING = 0.5
"""Share of a processor, outside of the system's calls, from which the process that sends may limit the run. Small
instances from one process use 0.5 to 0.7, as its threads wait for each other, and a second process gained 20 to 30 %;
CT slices use 0.3 to 0.4, and it gained nothing."""

FREE_CORES = 0.25
"""Idle processors that another sender needs, as otherwise it takes its time from those that send. On two processors,
with a sink on them, four senders took 1.2 times as long as one."""

GAIN = 1.05
"""The gain in goodput below which another sender is not kept. A first one gained 40 to 60 % for MR slices."""

TRIAL_PERIODS = 8
"""Periods of the measurement of a trial."""

PERIODS_BEFORE = 2
"""The fewest periods before a trial: a run of 2 s has little time to gain from a sender."""

HOLD_S = 60.0
"""Time before the next trial after one without a gain; each further one doubles it, up to HOLD_MOST_S."""
HOLD_MOST_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The measurements between two looks at the run, about a quarter of a second apart."""

    elapsed_s: float
    work: float
    """Bytes of the batches that were accepted, and the equivalent in bytes for each instance."""
    coordinator_s: float
    """Processor time of the coordinator outside of the system's calls, as of a sender. Those run beside each other: a
    process that mostly copies bytes to sockets gains nothing from another one."""
    sender_s: float
    """The same of the sender that used the most; 0 if there is none."""
    idle_cores: float
    """Processors that nothing used, of those that this process may use."""
    is_sending: bool
    """Requests were under way at its beginning and at its end."""


class SenderCount:
    """Decides how many processes send for this one, up to `most`; 0 if this one sends by itself."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = self.settled = 0
        """The number now, and the one that was found best: a trial changes only the first."""
        self._goodput: deque[float] = deque(maxlen=TRIAL_PERIODS)
        self._before: float | None = None
        """The goodput before the trial that is under way."""
        self._held_for_s = 0.0
        self._hold_s = HOLD_S

    def observe(self, period: Period) -> None:
        """Take a period in which all senders were ready, and decide on the number."""
        self._held_for_s = max(0.0, self._held_for_s - period.elapsed_s)
        if not period.is_sending:
            return
        self._goodput.append(period.work / period.elapsed_s)
        if self._before is not None:
            self._judge(self._before)
        elif len(self._goodput) < PERIODS_BEFORE:
            return
        elif self.count < self._most and not self._held_for_s and self._is_limited(period):
            self._before = sum(self._goodput) / len(self._goodput)
            self._goodput.clear()
            self.count += 1

    def _judge(self, before: float) -> None:
        """End a trial that has been measured for long enough."""
        if len(self._goodput) < TRIAL_PERIODS:
            return
        self._before = None
        self.settled = self.count
        if sum(self._goodput) / len(self._goodput) >= GAIN * before:
            self._hold_s = HOLD_S
            return
        self.count = self.settled = self.count - 1
        self._goodput.clear()
        self._held_for_s = self._hold_s
        self._hold_s = min(HOLD_MOST_S, 2 * self._hold_s)

    def _is_limited(self, period: Period) -> bool:
        """Return whether the processes that send may limit the run, and another one would have a processor."""
        if period.idle_cores < FREE_CORES:
            return False
        if self.count and period.coordinator_s >= BUSY_SHARE * period.elapsed_s:
            return False  # the coordinator limits the run, and cannot be divided
        busy_s = period.sender_s if self.count else period.coordinator_s
        return busy_s >= BUSY_SENDING * period.elapsed_s
