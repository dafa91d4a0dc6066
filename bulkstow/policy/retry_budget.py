"""The retry budget: retries stay below a share of first attempts."""

# ruff: noqa: ARG002 - a gate need not use everything that it is told

from __future__ import annotations

from bulkstow.policy.gates import Gate
from bulkstow.policy.work_items import WorkItem, is_retry

ROUNDING = 1e-6
"""Fractions of seconds do not add up exactly: a budget that is short of one retry by this little is enough for it."""


class RetryBudget(Gate):
    """Bounds the share of retries, whichever of many requests makes them.

    Each first attempt earns `share` of a retry, up to `most`; time earns `minimum_per_s` in addition, so that retries
    at the end of a run, when there are no first attempts any more, are made nevertheless. Without a budget, retries
    double the load on an overloaded server when half of its requests fail (Google's SRE book, chapter 21, uses a tenth
    per client; Finagle's default is a fifth).
    """

    def __init__(self, *, share: float = 0.2, minimum_per_s: float = 1.0, most: float = 20.0) -> None:
        self._share = share
        self._minimum_per_s = minimum_per_s
        self._most = most
        self._left = most
        self._seen_s: float | None = None

    def wait_s(self, item: WorkItem | None, now_s: float) -> float:
        """Return seconds until a retry may start; anything else may start now."""
        if item is None or not is_retry(item):
            return 0.0
        if self._seen_s is not None:
            self._left = min(self._most, self._left + self._minimum_per_s * (now_s - self._seen_s))
        self._seen_s = now_s
        return 0.0 if self._left >= 1.0 - ROUNDING else (1.0 - self._left) / self._minimum_per_s

    def started(self, item: WorkItem | None, now_s: float) -> None:
        """Count a retry or a first attempt."""
        if item is None:
            return
        if is_retry(item):
            self._left -= 1.0
        elif item.batch.requests == 0:
            self._left = min(self._most, self._left + self._share)
