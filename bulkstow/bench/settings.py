"""Settings of `bulkstow bench`, as frozen, validated values with units.

Each is defined once, here: its name, type, unit, default and help; the command line, the environment and the TOML file
read this definition, as they do those of `config`. Opens no file and makes no connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from bulkstow.config import DESTINATION, OUTPUT
from bulkstow.errors import ConfigurationError
from bulkstow.quantities import parse_duration_s, show_duration
from bulkstow.setting_types import Count, SizeLimit, Switch, written_as


def parse_counts(text: str) -> tuple[int, ...] | None:
    """Return numbers: `8`, or `1,2,4`; None for `auto`. Raises ValueError for anything else."""
    if text.strip() == "auto":
        return None
    if re.fullmatch(r"\s*[0-9]{1,6}\s*(,\s*[0-9]{1,6}\s*)*", text) is None:
        raise ValueError(f"{text!r} is not 'auto', a whole number, or a list of them such as 1,2,4")
    return tuple(int(number) for number in text.split(","))


def _number(text: str) -> float:
    if re.fullmatch(r"\s*[0-9]{1,15}(\.[0-9]+)?\s*", text) is None:
        raise ValueError(f"{text!r} is not a number such as 20 or 0.5")
    return float(text)


def _show_number(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


AUTOMATIC: dict[str, object] = {"auto": None}
Counts = Annotated[
    tuple[int, ...] | None,
    written_as(parse_counts, "LIST", show=lambda counts: ",".join(map(str, counts)), words=AUTOMATIC),
]
AutoDuration = Annotated[float | None, written_as(parse_duration_s, "TIME", show=show_duration, words=AUTOMATIC)]
Number = Annotated[float, written_as(_number, "NUMBER", show=_show_number)]
Rate = Annotated[float | None, written_as(_number, "NUMBER", show=_show_number)]
LOAD = Group("Load", sort_key=5)


BenchMode = Literal["closed", "open", "sweep", "soak"]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """The load on a server, and the output of its measurement.

    Raises ConfigurationError for a number out of its range, and for settings that do not go together.
    """

    mode: Annotated[BenchMode, Parameter(group=LOAD)] = "closed"
    """closed: each connection sends when its last request has ended; open: at a rate, whatever the responses; sweep:
    closed, over connections and batch sizes, to find the knee; soak: closed, for long."""
    workload: Annotated[str, Parameter(group=LOAD)] = "ct"
    """mr (0.13 MB), ct (0.5 MB), cr (8 MB), mg (18 MB), us (55 MB), wsi (1 GB), sr (10 KB), mixed; or a directory of
    DICOM files, which are sent with new UIDs."""
    compressibility: Annotated[Number, Parameter(group=LOAD)] = 0.0
    """Share of constant bytes in generated pixels, from 0 to 1."""
    connections: Annotated[Counts, Parameter(group=LOAD)] = None
    """Requests at once; of a sweep a list. 'auto': 8; open 64; sweep 1,2,4,8,16,32."""
    rate: Annotated[Rate, Parameter(group=LOAD)] = None
    """Instances a second of an open load."""
    arrivals: Annotated[Literal["constant", "poisson"], Parameter(group=LOAD)] = "constant"
    """Requests of an open load come evenly, or at random."""
    duration_s: Annotated[AutoDuration, Parameter(name="--duration", group=LOAD)] = None
    """How long each load is measured. 'auto': 30s; each load of a sweep 10s; soak 1h."""
    warmup_s: Annotated[AutoDuration, Parameter(name="--warmup", group=LOAD)] = None
    """Before that, kept apart; once before a sweep. 'auto': until goodput has settled."""
    batch_instances: Annotated[Counts, Parameter(group=LOAD)] = None
    """Instances in a request; of a sweep a list. 'auto': as many as make 16 MiB, 200 at most; sweep 1,10,50,200."""
    batch_bytes: Annotated[SizeLimit, Parameter(group=LOAD)] = None
    """Size of a request, by the mean instance: of --batch-instances so many as fit."""
    repeats: Annotated[Count, Parameter(group=LOAD)] = 1
    """Times that each load is measured; three or more show whether a difference is significant."""
    searchable: Annotated[Switch, Parameter(group=LOAD)] = False
    """Measure the time until QIDO-RS finds stored instances, one after the other."""
    skip_ceiling: Annotated[Switch, Parameter(group=LOAD)] = False
    """Skip the measurement of this client against a sink."""
    yes_this_is_a_test_server: Annotated[Switch, Parameter(group=DESTINATION)] = False
    """Load a server that holds studies already."""
    cleanup: Annotated[Switch, Parameter(group=LOAD)] = False
    """Delete the stored instances after each load and at the end, where the server allows it."""
    threshold: Annotated[tuple[str, ...], Parameter(negative="", show_default=False, group=OUTPUT)] = ()
    """A limit, such as 'p99<2s', 'errors<0.1%' or 'instances_per_s>100', that makes the exit status 1 where it is
    missed; may be repeated."""
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True, group=OUTPUT)] = None
    """Write the result as one JSON object to this file, or '-' for standard output; of a soak as it goes."""
    report: Annotated[Path | None, Parameter(group=OUTPUT)] = None
    """Write the result with its plots as one HTML file."""
    hdr_log: Annotated[Path | None, Parameter(group=OUTPUT)] = None
    """Write the latencies of every second as a HdrHistogram log."""
    progress: Annotated[Literal["auto", "bar", "log", "none"], Parameter(group=OUTPUT)] = "auto"
    """Progress on standard error: lines that change on a terminal, else a line every 10 s."""

    def __post_init__(self) -> None:
        for name, counts in (("--connections", self.connections), ("--batch-instances", self.batch_instances)):
            for count in counts or ():
                _positive(name, count)
            if counts is not None and len(counts) > 1 and self.mode != "sweep":
                listed = ",".join(map(str, counts))
                raise ConfigurationError(f"{name} {listed}: a list is for --mode sweep; expected one number")
        for name, number in (
            ("--duration", self.duration_s),
            ("--batch-bytes", self.batch_bytes),
            ("--repeats", self.repeats),
            ("--rate", self.rate),
        ):
            if number is not None:
                _positive(name, number)
        if self.mode == "open" and self.rate is None:
            raise ConfigurationError("--mode open without --rate: give the instances a second to send")
        if self.mode != "open" and self.rate is not None:
            raise ConfigurationError(f"--rate is for --mode open: a {self.mode} load follows the server's responses")


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigurationError(f"{name} {value:g}: expected more than 0")
