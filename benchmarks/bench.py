"""What a table is made with: corpora, a scratch directory, how often and how large.

Owns the one way in which a peer's run becomes a sample: alone, with a directory of its own, against a server that must
have taken every instance in the end.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import peers
from benchmarks.corpus import Corpus, Kind, corpus
from benchmarks.measure import Figures, take_turns
from benchmarks.peers import Peer
from benchmarks.processes import PeerFailed, Sample, Server, measured
from benchmarks.timeline import Moment, Stretch, observed, settled, whole

REPEATS = 5
"""An odd number, so that a median is one of the runs; with a second a run, as long as a person waits."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One run of bulkstow that was looked at all the while."""

    sample: Sample
    moments: list[Moment]
    concurrency: int
    """Requests at once: the number that was given, or found."""

    @property
    def whole(self) -> Stretch:
        """From the first byte to the last instance."""
        return whole(self.moments)

    @property
    def settled(self) -> Stretch:
        """From half of that time until the last request began."""
        return settled(self.moments)


@dataclass(frozen=True, slots=True)
class Bench:
    """The choices of the command line."""

    corpora: Path
    scratch: Path
    asked_repeats: int | None = None
    """Turns of every peer; None leaves it to the table."""
    scale: float | None = None
    """Of the issue's archives; None leaves it to the table."""
    minutes: float = 10.0
    """Of the soak."""

    def corpus(self, kind: Kind, default_scale: float) -> Corpus:
        """Return an archive of this kind, warm."""
        return corpus(kind, self.corpora, self.scale_of(default_scale))

    def tenth(self, kind: Kind, default_scale: float) -> Corpus:
        """Return the first tenth of that archive, warm."""
        return corpus(kind, self.corpora, self.scale_of(default_scale) / 10)

    def scale_of(self, default_scale: float) -> float:
        """Return the scale that was asked for, or the table's own."""
        return default_scale if self.scale is None else self.scale

    @property
    def repeats(self) -> int:
        """Turns where a run takes a second or so."""
        return self.repeats_of(REPEATS)

    def repeats_of(self, default: int) -> int:
        """Return how many turns were asked for, or the table's own number."""
        return default if self.asked_repeats is None else self.asked_repeats

    def run(self, peer: Peer, archive: Corpus, server: Server) -> Sample:
        """Run a peer once; PeerFailed when the server has not got every instance."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as own:
            command = peer(archive, server, Path(own))
            before = server.counts()
            sample = measured(command)
            after = server.counts()
        taken = after[server.count_key] - before[server.count_key]
        if taken != archive.files:
            raise PeerFailed(f"{' '.join(command)}\nthe server took {taken} of {archive.files} instances")
        return replace(sample, server_cpu_s=after.get("cpu_s", 0.0) - before.get("cpu_s", 0.0))

    def observe(self, archive: Corpus, server: Server, *options: str) -> Observed:
        """Run bulkstow once, and look at the sink meanwhile."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as own, observed(server) as moments:
            summary = Path(own) / "summary.json"
            sample = self.run(peers.bulkstow("--summary", str(summary), *options), archive, server)
            return Observed(sample, moments, json.loads(summary.read_text())["concurrency"])

    def compare(self, compared: Mapping[str, Peer], archive: Corpus, server: Server) -> dict[str, Figures]:
        """Run all peers in turns against one server."""

        def runs(peer: Peer) -> Callable[[], Sample]:
            return lambda: self.run(peer, archive, server)

        taken = take_turns({name: runs(peer) for name, peer in compared.items()}, self.repeats)
        return {name: Figures(samples) for name, samples in taken.items()}
