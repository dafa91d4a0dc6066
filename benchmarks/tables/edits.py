"""Edits while instances are sent: the additional cost of a file, in one process and in two."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks import peers
from benchmarks.bench import Bench
from benchmarks.corpus import CT, MR, Corpus
from benchmarks.measure import Figures, Table, cpu_ratio, ratio
from benchmarks.peers import Peer
from benchmarks.processes import Server, sink

RULES = """
remove = ["PatientBirthDate"]
[set]
InstitutionName = "Clinic North"
[prefix]
PatientID = "N-"
[uids]
method = "regenerate"
key_file = "edits.key"
"""

KEY = "a key for benchmarks, of no use elsewhere"

SCALE = 0.25

NOTES = [
    "The edits set, remove and extend an attribute each, and regenerate all UIDs. More CPU: user and system time of",
    "all processes of a run, less that of a run without edits, for each file; ratios are medians over the turns.",
]


def edits(bench: Bench) -> Table:
    """Return the cost of edits."""
    options = {
        f"{name}, {number} process{'es' * (number > 1)}": peer("--processes", str(number))
        for number in (1, 2)
        for name, peer in (("no edits", peers.bulkstow), ("edits", _edited))
    }
    rows: list[tuple[str, ...]] = []
    samples: dict[str, object] = {}
    sizes = []
    with sink() as server:
        for kind in (CT, MR):
            archive = bench.corpus(kind, SCALE)
            sizes.append(f"{archive.files:,} {kind.name.upper()} slices, {archive.size_bytes / 1e9:.2f} GB")
            found = bench.compare(options, archive, server)
            rows += [_row(f"{kind.name.upper()}: {name}", name, found, archive.files) for name in options]
            samples[kind.name] = {name: figures.samples for name, figures in found.items()}
    columns = ("archive", "wall s", "min-max", "instances/s", "wall ratio", "CPU ratio", "more CPU us/file")
    return Table(f"Edits: {'; '.join(sizes)}, plain HTTP", columns, rows, [], NOTES, samples)


def _row(title: str, name: str, found: dict[str, Figures], files: int) -> tuple[str, ...]:
    figures, plain = found[name], found[f"no {name}" if name.startswith("edits") else name]
    more_us = statistics.median(
        (ours.cpu_s - theirs.cpu_s) / files * 1e6 for ours, theirs in zip(figures.samples, plain.samples, strict=True)
    )
    return (
        title,
        f"{figures.wall_s:.2f}",
        figures.spread,
        f"{files / figures.wall_s:,.0f}",
        f"{ratio(figures, plain):.2f}",
        f"{cpu_ratio(figures, plain):.2f}",
        f"{more_us:.0f}" if figures is not plain else "",
    )


def _edited(*options: str) -> Peer:
    """Return bulkstow with edits."""

    def command(corpus: Corpus, server: Server, scratch: Path) -> list[str]:
        (scratch / "edits.key").write_text(KEY)
        (scratch / "edits.toml").write_text(RULES)
        return peers.bulkstow("--edit", str(scratch / "edits.toml"), *options)(corpus, server, scratch)

    return command
