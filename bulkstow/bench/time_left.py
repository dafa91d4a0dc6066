"""The time that a measurement still takes, estimated from its plan and from its loads so far. Has no clock."""

from __future__ import annotations

from statistics import fmean

from bulkstow.bench.driver import FILL_S, LoadPhase
from bulkstow.bench.recorder import SETTLE_S


class TimeLeft:
    """Estimates the rest of a run whose loads are all planned like `phase`.

    A load takes longer than planned: connections open, requests in flight are waited for, rounds are completed. Those
    to come, and their deletion, are expected to take the mean time of those that are over.
    """

    def __init__(self, phase: LoadPhase) -> None:
        self._load_s = warmup_s(phase) + phase.duration_s
        self._loads_s: list[float] = []
        self._cleanups_s: list[float] = []

    def load_took(self, elapsed_s: float) -> None:
        """Note the time of a load, from its first request to its last response."""
        self._loads_s.append(elapsed_s)

    def cleanup_took(self, elapsed_s: float) -> None:
        """Note the time of a deletion."""
        self._cleanups_s.append(elapsed_s)

    def of_run_s(self, of_load_s: float, loads_after: int) -> float:
        """Return the time left when a load has `of_load_s` left and `loads_after` follow, with their deletion."""
        load_s = max(fmean(self._loads_s), self._load_s) if self._loads_s else self._load_s
        cleanup_s = fmean(self._cleanups_s) if self._cleanups_s else 0.0
        return of_load_s + loads_after * load_s + (loads_after + 1) * cleanup_s


def of_load_s(phase: LoadPhase, elapsed_s: float, warmup_took_s: float | None) -> float:
    """Return the time left of a load after `elapsed_s`; `warmup_took_s` is None during the warm-up."""
    if warmup_took_s is None:
        return max(warmup_s(phase) - elapsed_s, 0.0) + phase.duration_s
    return max(warmup_took_s + phase.duration_s - elapsed_s, 0.0)


def warmup_s(phase: LoadPhase) -> float:
    """Return the planned time of a warm-up, the least where it ends when goodput has settled."""
    if phase.warmup_s is not None:
        return phase.warmup_s
    return FILL_S if phase.rounds else 2.0 * SETTLE_S
