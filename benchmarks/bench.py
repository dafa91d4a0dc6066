"""What a table is made with: corpora, a scratch directory, how often and how large.

Owns the one way in which a peer's run becomes a sample: alone, with a directory of its own, against a server that must
have taken every instance in the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.corpus import Corpus, Kind, corpus
from benchmarks.measure import Figures, take_turns
from benchmarks.peers import Peer
from benchmarks.processes import PeerFailed, Sample, Server, measured


@dataclass(frozen=True, slots=True)
class Bench:
    """The choices of the command line."""

    corpora: Path
    scratch: Path
    repeats: int
    scale: float | None = None
    """Of the issue's archives; None leaves it to the table."""
    minutes: float = 10.0
    """Of the soak."""

    def corpus(self, kind: Kind, default_scale: float) -> Corpus:
        """Return an archive of this kind, warm."""
        return corpus(kind, self.corpora, self.scale_of(default_scale))

    def scale_of(self, default_scale: float) -> float:
        """Return the scale that was asked for, or the table's own."""
        return default_scale if self.scale is None else self.scale

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

    def compare(self, peers: Mapping[str, Peer], archive: Corpus, server: Server) -> dict[str, Figures]:
        """Run all peers in turns against one server."""

        def runs(peer: Peer) -> Callable[[], Sample]:
            return lambda: self.run(peer, archive, server)

        taken = take_turns({name: runs(peer) for name, peer in peers.items()}, self.repeats)
        return {name: Figures(samples) for name, samples in taken.items()}
