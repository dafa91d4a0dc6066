"""The bottleneck of a run.

Decides from sums of seconds that other modules measure: where requests spent their time, how long there was nothing to
send, how busy the processor was. The answer is always one bottleneck, the one with the largest share.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum, StrEnum

from bulkstow.model import RequestTiming

BUSY_SHARE = 0.85
"""Share of one processor from which a process is the bottleneck, as Python runs one of its threads at a time.
At 0.9 a run against a sink on another core gains nothing from more requests."""

DOMINANT_SHARE = 0.5
"""Share of the time from which a cause outside of the requests is the bottleneck, wherever requests spend theirs."""

SHORTEST_S = 1.0
"""Shortest period with a bottleneck. A shorter one consists mostly of finding the first files."""


class Wait(Enum):
    """The reason why no request was started although the concurrency allowed one more."""

    NOTHING = "nothing to send"
    STUDY = "the limit of requests per study"
    PACE = "the user's limit of requests per second"
    SERVER_RATE = "the server's limit of requests per second"


class Bottleneck(StrEnum):
    """The part that limits the speed of a run."""

    SERVER = "server"
    NETWORK = "network"
    DISK = "disk"
    CLIENT = "client CPU"
    STUDIES = "limit per study"
    LIMIT = "your limit"
    SERVER_RATE = "server's rate limit"
    OUTAGE = "outage"
    UNKNOWN = "unknown"

    @property
    def meaning(self) -> str:
        """The bottleneck in words, with the setting that may help."""
        return _MEANINGS[self]


_MEANINGS = {
    Bottleneck.SERVER: "the server (slow to respond or to accept data)",
    Bottleneck.NETWORK: "the network",
    Bottleneck.DISK: "the source of the files; --read-concurrency may help, or --source-concurrency for a server",
    Bottleneck.CLIENT: "this computer's processor",
    Bottleneck.STUDIES: "the limit of requests per study; --per-study raises it",
    Bottleneck.LIMIT: "the limit that you set (--bandwidth or --requests-per-second)",
    Bottleneck.SERVER_RATE: "the server's limit of requests per second; larger requests may help (--batch-instances)",
    Bottleneck.OUTAGE: "the server (unreachable or full for most of the time)",
    Bottleneck.UNKNOWN: "unknown, as too little was sent",
}


@dataclass(frozen=True, slots=True)
class Usage:
    """The time of a period of a run by its use, in seconds: sums from the start, or the difference of two such sums."""

    elapsed_s: float = 0.0
    requests_s: float = 0.0
    """Time of all requests together; the next six are parts of it."""
    connecting_s: float = 0.0
    reading_s: float = 0.0
    throttled_s: float = 0.0
    sending_s: float = 0.0
    receive_window_s: float = 0.0
    waiting_s: float = 0.0
    nothing_to_send_s: float = 0.0
    """Time of `Wait.NOTHING`; the next three are those of the other kinds of wait."""
    study_limit_s: float = 0.0
    pacing_s: float = 0.0
    server_rate_s: float = 0.0
    outage_s: float = 0.0
    """Time in which the server was unreachable or full."""
    cpu_s: float = 0.0
    """Processor time of all processes that send."""
    busiest_cpu_s: float = 0.0
    """Processor time of the process that used the most, at each time."""

    @property
    def by_name_s(self) -> dict[str, float]:
        """The figures of a summary: the time of requests by its use, and the time in which none was started."""
        names = (f.name for f in fields(self) if f.name not in ("elapsed_s", "requests_s"))
        by_name = {name.removesuffix("_s"): getattr(self, name) for name in names}
        return by_name | {"sending": self.sending_s - self.receive_window_s}

    def since(self, before: Usage) -> Usage:
        """Return the difference to earlier sums."""
        return Usage(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(self)))

    def with_request(self, timing: RequestTiming) -> Usage:
        """Return the sums with one more request added."""
        sums = {
            f.name: getattr(self, f.name) + getattr(timing, f.name) for f in fields(timing) if f.name != "elapsed_s"
        }
        return replace(self, requests_s=self.requests_s + timing.elapsed_s, **sums)

    def with_wait(self, wait: Wait, duration_s: float) -> Usage:
        """Return the sums with one more wait added."""
        name = _FIELDS[wait]
        return replace(self, **{name: getattr(self, name) + duration_s})


_FIELDS = {
    Wait.NOTHING: "nothing_to_send_s",
    Wait.STUDY: "study_limit_s",
    Wait.PACE: "pacing_s",
    Wait.SERVER_RATE: "server_rate_s",
}


def bottleneck(usage: Usage) -> Bottleneck:
    """Return the bottleneck of a period."""
    if usage.elapsed_s >= SHORTEST_S and usage.outage_s >= DOMINANT_SHARE * usage.elapsed_s:
        return Bottleneck.OUTAGE
    with_server_s = usage.elapsed_s - usage.outage_s
    if with_server_s < SHORTEST_S or usage.requests_s <= 0:
        return Bottleneck.UNKNOWN
    share = 1 / with_server_s
    if max(usage.pacing_s * share, usage.throttled_s / usage.requests_s) >= DOMINANT_SHARE:
        return Bottleneck.LIMIT
    if usage.server_rate_s * share >= DOMINANT_SHARE:
        return Bottleneck.SERVER_RATE
    if usage.busiest_cpu_s * share >= BUSY_SHARE:
        return Bottleneck.CLIENT
    if usage.nothing_to_send_s * share >= DOMINANT_SHARE:
        return Bottleneck.DISK
    if usage.study_limit_s * share >= DOMINANT_SHARE:
        return Bottleneck.STUDIES
    parts = {
        Bottleneck.DISK: usage.reading_s,
        Bottleneck.SERVER: usage.waiting_s + usage.receive_window_s,
        Bottleneck.NETWORK: usage.connecting_s + usage.sending_s - usage.receive_window_s,
        Bottleneck.LIMIT: usage.throttled_s,
    }
    return max(parts, key=lambda part: parts[part])
