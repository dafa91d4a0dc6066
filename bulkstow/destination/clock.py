"""The deadlines of one store request: each depends on what the request waits for.

A connection has its time, then the server must take some bytes every now and then (while there are any: a slow disk is
not its fault), then it has time for the answer, the longer the larger the batch. There is no deadline over the whole: a
slow request is not a failed one.
"""

from __future__ import annotations

import math

import anyio

from bulkstow.blocking import ReadLimit
from bulkstow.config import DestinationSettings
from bulkstow.destination.body import WaitingFor
from bulkstow.model import Batch

RESPONSE_S_PER_MIB = 1.0
RESPONSE_S_PER_INSTANCE = 0.1
"""Added to the thinking timeout: servers that parse and index after the last byte take some ms an instance (Orthanc on
a spinning disk up to 50), and a spooled body is read once more at disk speed."""


class RequestClock:
    """Cancels `scope` when the request has waited too long; its time begins with the connection."""

    def __init__(self, settings: DestinationSettings, batch: Batch, limit: ReadLimit) -> None:
        self.scope = anyio.CancelScope(
            deadline=anyio.current_time() + settings.connect_timeout_s + settings.stall_timeout_s
        )
        self._stall_timeout_s = settings.stall_timeout_s
        self._answer_timeout_s = (
            settings.response_timeout_s
            + RESPONSE_S_PER_MIB * batch.size_bytes / 2**20
            + RESPONSE_S_PER_INSTANCE * len(batch.instances)
        )
        self._limit = limit
        self._disk_since_s: float | None = None

    @property
    def silent_s(self) -> float:
        """For how long the disk has been waited for; 0 while the request waits for something else."""
        return 0.0 if self._disk_since_s is None else anyio.current_time() - self._disk_since_s

    def wait_for(self, whom: WaitingFor) -> None:
        """Note what the request waits for from now on."""
        now_s = anyio.current_time()
        self._disk_since_s = now_s if whom == "disk" else None
        match whom:
            case "server":
                self.scope.deadline = now_s + self._stall_timeout_s
            case "disk":
                self.scope.deadline = now_s + self._limit.allowed_s()
            case "throttle":
                self.scope.deadline = math.inf

    def wait_for_answer(self) -> None:
        """Note that the whole body has left."""
        self._disk_since_s = None
        self.scope.deadline = anyio.current_time() + self._answer_timeout_s

    def hurry(self) -> None:
        """Wait for a disk that hangs only a moment longer: the run is to end."""
        if self._disk_since_s is not None:
            self.scope.deadline = self._disk_since_s + self._limit.allowed_s(self.silent_s)
