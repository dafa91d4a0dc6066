"""What a run waits for.

Owns the verdict, from sums of seconds that others measured: where requests spent their time, how long there was nothing
to send, what the processor did. One answer at a time, the largest; no advice but the obvious.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum, StrEnum

from bulkstow.model import RequestTiming

BUSY = 0.85
"""Of one processor: Python runs one thread at a time, and at 0.9 a run against a sink on another core gains nothing
from more requests."""

MUCH = 0.5
"""Of the run's time: what is so much of it outweighs how the requests fared meanwhile."""


SHORTEST_S = 1.0
"""A shorter stretch is mostly its own beginning: the first files are found, and nothing is there to send yet."""


class Wait(Enum):
    """Why no request began though one more was allowed."""

    NOTHING = "nothing was there to send"
    STUDY = "what was there had to wait for others of its study"
    PACE = "the user's limit of requests"
    SERVER_RATE = "the server's limit of requests"


class Bottleneck(StrEnum):
    """What would have to be faster for the run to be."""

    SERVER = "server"
    NETWORK = "network"
    DISK = "disk"
    CLIENT = "client CPU"
    STUDIES = "more studies"
    LIMIT = "your limit"
    SERVER_RATE = "server's limit of requests"
    OUTAGE = "server back"
    UNKNOWN = "unknown"

    @property
    def meaning(self) -> str:
        """What it says, and what may help."""
        return _MEANINGS[self]


_MEANINGS = {
    Bottleneck.SERVER: "the server: it thinks, or takes bytes no faster",
    Bottleneck.NETWORK: "the network",
    Bottleneck.DISK: "the disk that the files come from; --read-concurrency may help",
    Bottleneck.CLIENT: "this computer's processor",
    Bottleneck.STUDIES: "few studies at a time; --per-study allows each more requests at once",
    Bottleneck.LIMIT: "the limit that you set",
    Bottleneck.SERVER_RATE: "the server's limit of requests; larger requests may help (--batch-instances)",
    Bottleneck.OUTAGE: "the server: it was gone or full for most of the time",
    Bottleneck.UNKNOWN: "too little was sent to tell",
}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a stretch of a run was spent on, in seconds; sums only grow, and the difference of two is a stretch."""

    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    """Of this process, all threads together."""
    starved_s: float = 0.0
    """A request could have begun, and nothing was there to send."""
    queued_s: float = 0.0
    """A request could have begun, and what was there had to wait for others of its study."""
    paced_s: float = 0.0
    """A request could have begun, and the user's limit of requests did not let it."""
    limited_s: float = 0.0
    """A request could have begun, and the server would have rejected it, as it limits their rate."""
    outage_s: float = 0.0
    """The server was gone or full."""
    requests_s: float = 0.0
    """The time of all requests together; the following are parts of it."""
    connecting_s: float = 0.0
    reading_s: float = 0.0
    throttled_s: float = 0.0
    sending_s: float = 0.0
    receive_window_s: float = 0.0
    waiting_s: float = 0.0

    @property
    def by_name_s(self) -> dict[str, float]:
        """The figures of a summary: what requests spent their time on, and why none began."""
        return {
            "connecting": self.connecting_s,
            "reading": self.reading_s,
            "held back": self.throttled_s,
            "sending": self.sending_s - self.receive_window_s,
            "server full": self.receive_window_s,
            "server thinking": self.waiting_s,
            "nothing to send": self.starved_s,
            "study busy": self.queued_s,
            "pace": self.paced_s,
            "server's rate": self.limited_s,
            "outage": self.outage_s,
            "cpu": self.cpu_s,
        }

    def since(self, before: Usage) -> Usage:
        """Return what was added since."""
        return Usage(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(self)))

    def with_request(self, timing: RequestTiming) -> Usage:
        """Return the sums with one more request."""
        return replace(
            self,
            requests_s=self.requests_s + timing.elapsed_s,
            connecting_s=self.connecting_s + timing.connecting_s,
            reading_s=self.reading_s + timing.reading_s,
            throttled_s=self.throttled_s + timing.throttled_s,
            sending_s=self.sending_s + timing.sending_s,
            receive_window_s=self.receive_window_s + timing.receive_window_s,
            waiting_s=self.waiting_s + timing.waiting_s,
        )

    def with_wait(self, wait: Wait, duration_s: float) -> Usage:
        """Return the sums with one more wait."""
        match wait:
            case Wait.NOTHING:
                return replace(self, starved_s=self.starved_s + duration_s)
            case Wait.STUDY:
                return replace(self, queued_s=self.queued_s + duration_s)
            case Wait.PACE:
                return replace(self, paced_s=self.paced_s + duration_s)
            case Wait.SERVER_RATE:
                return replace(self, limited_s=self.limited_s + duration_s)


def bottleneck(usage: Usage) -> Bottleneck:
    """Return what a stretch waited for most."""
    if usage.elapsed_s >= SHORTEST_S and usage.outage_s >= MUCH * usage.elapsed_s:
        return Bottleneck.OUTAGE
    with_server_s = usage.elapsed_s - usage.outage_s
    if with_server_s < SHORTEST_S or usage.requests_s <= 0:
        return Bottleneck.UNKNOWN
    share = 1 / with_server_s
    if max(usage.paced_s * share, usage.throttled_s / usage.requests_s) >= MUCH:
        return Bottleneck.LIMIT
    if usage.limited_s * share >= MUCH:
        return Bottleneck.SERVER_RATE
    if usage.cpu_s * share >= BUSY:
        return Bottleneck.CLIENT
    if usage.starved_s * share >= MUCH:
        return Bottleneck.DISK
    if usage.queued_s * share >= MUCH:
        return Bottleneck.STUDIES
    parts = {
        Bottleneck.DISK: usage.reading_s,
        Bottleneck.SERVER: usage.waiting_s + usage.receive_window_s,
        Bottleneck.NETWORK: usage.connecting_s + usage.sending_s - usage.receive_window_s,
        Bottleneck.LIMIT: usage.throttled_s,
    }
    return max(parts, key=lambda part: parts[part])
