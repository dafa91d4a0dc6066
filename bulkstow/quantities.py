"""Sizes, durations, rates, spans of numbers, shards and hours of the day, as people write them.

Converts text to a value with a unit and back. Settings, files and clocks are left to others.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from itertools import combinations

from bulkstow.errors import ConfigurationError

_SIZE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_BIT_UNITS = {"BIT": 1 / 8, "KBIT": 10**3 / 8, "MBIT": 10**6 / 8, "GBIT": 10**9 / 8}
_TIME_UNITS = {"": 1.0, "MS": 0.001, "S": 1.0, "M": 60.0, "MIN": 60.0, "H": 3600.0, "D": 86400.0}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_HOURS = re.compile(r"\s*([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})\s*")
_DAY_S = 24 * 3600


def require_positive(name: str, value: float) -> None:
    """Raise ConfigurationError for a setting that is not greater than 0."""
    if not value > 0:
        raise ConfigurationError(f"{name} {value:g}: expected more than 0")


def parse_size_bytes(text: str) -> int:
    """Return bytes: `16MiB`, `1.5 GB`, `4096`. Raises ValueError for anything else."""
    return int(_quantity(text, _SIZE_UNITS, "a size such as 16MiB, 500MB or 4096"))


def parse_duration_s(text: str) -> float:
    """Return seconds: `30s`, `500ms`, `5m`, `2h`, `90`. Raises ValueError for anything else."""
    return _quantity(text, _TIME_UNITS, "a time such as 30s, 5m or 500ms")


def parse_rate_bytes_per_s(text: str) -> float | None:
    """Return bytes per second: `50MiB/s`, `400Mbit/s`; None for `unlimited`.

    Raises ValueError for anything else, and for `Mb/s`, which may mean bits or bytes.
    """
    expected = "a rate such as 50MiB/s, 400Mbit/s or unlimited"
    if text.strip() == "unlimited":
        return None
    amount, _, unit = text.strip().rpartition("/")
    if unit.upper() != "S" or re.search(r"[0-9 b]$", amount):
        raise ValueError(f"{text!r} is not {expected}")
    return _quantity(amount, _SIZE_UNITS | _BIT_UNITS, expected)


def parse_per_second(text: str) -> float | None:
    """Return a number per second: `20`, `0.5`; None for `unlimited`. Raises ValueError for anything else."""
    if text.strip() == "unlimited":
        return None
    return _quantity(text, {"": 1.0}, "a number such as 20 or 0.5, or unlimited")


def show_size(size_bytes: float | None) -> str:
    """Return a size for display: `16MiB`, or `1.05GB` if no power of two fits."""
    if size_bytes is None:
        return "unlimited"
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if factor <= size_bytes < 1024 * factor and size_bytes % factor == 0:
            return f"{int(size_bytes) // factor}{unit}"
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            count = size_bytes / factor
            return f"{count:.3g}{unit}" if count < 999.5 else f"{count:.0f}{unit}"  # .3g would make it 1e+03
    return f"{size_bytes:.0f}B"


def show_duration(duration_s: float) -> str:
    """Return a duration for display: `850ms`, `12.3s`, `4m05s`, `3h20m`."""
    if duration_s < 1:
        return f"{duration_s * 1000:.0f}ms"
    if duration_s < 60:
        return f"{duration_s:.3g}s"
    minutes, seconds = divmod(round(duration_s), 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02d}s" if seconds else f"{minutes}m"
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes % 60 else f"{minutes // 60}h"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun: `no retries`, `1 request`, `1,234 requests`."""
    name = noun if count == 1 else plural or f"{noun}s"
    return f"{count:,} {name}" if count else f"no {name}"


@dataclass(frozen=True, slots=True)
class Span:
    """Bounds of a number; if they differ, bulkstow finds the best number between them.

    Raises ConfigurationError if the span is empty.
    """

    lowest: int
    highest: int

    def __post_init__(self) -> None:
        require_positive("--concurrency", self.lowest)
        if self.highest < self.lowest:
            raise ConfigurationError(f"--concurrency {self}: expected the smaller number first")

    def __str__(self) -> str:
        if self == AUTO:
            return "auto"
        return str(self.lowest) if self.lowest == self.highest else f"{self.lowest}-{self.highest}"


AUTO = Span(1, 32)
"""Bounds of automatic concurrency: they limit memory (two reads of 1 MiB per request) and open files.
Orthanc's goodput stops growing at 4 requests on 2 cores; for a larger server the user gives a larger bound."""


def parse_span(text: str) -> Span:
    """Return a span: `auto`, `8` (fixed) or `2-32`. Raises ValueError for anything else."""
    match = re.fullmatch(r"\s*([0-9]{1,4})(?:\s*-\s*([0-9]{1,4}))?\s*", text)
    if text.strip() == "auto":
        return AUTO
    if match is None:
        raise ValueError(f"{text!r} is not 'auto', a whole number, or a span such as 2-32")
    return Span(int(match[1]), int(match[2] or match[1]))


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts of a source; numbers begin with 1.

    Raises ConfigurationError if there is no such part.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigurationError(f"--shard {self}: expected K/N with K from 1 to N; to an index from 0, add 1")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_shard(text: str) -> Shard:
    """Return a shard: `3/16` is the third of 16. Raises ValueError for anything else."""
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*/\s*([0-9]{1,6})\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not a shard such as 3/16")
    return Shard(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class Sample:
    """A part of the studies: so many, or a share of them; all of them if both are None."""

    studies: int | None = None
    share: float | None = None

    def __str__(self) -> str:
        if self.share is not None:
            return f"{self.share * 100:.6g}%"
        return "all" if self.studies is None else str(self.studies)


EVERY_STUDY = Sample()


def parse_sample(text: str) -> Sample:
    """Return a sample: `all`, `500`, `1%`. Raises ValueError for anything else."""
    number, percent, rest = text.strip().partition("%")
    expected = "all, a number of studies such as 500, or a share such as 1%"
    if text.strip() == "all":
        return EVERY_STUDY
    if percent and not rest and re.fullmatch(r"[0-9]+(\.[0-9]+)?", number) and 0 < float(number) <= 100:
        return Sample(share=float(number) / 100)
    if not percent and re.fullmatch(r"[0-9]+", number) and int(number) > 0:
        return Sample(studies=int(number))
    raise ValueError(f"{text!r} is not {expected}")


@dataclass(frozen=True, slots=True)
class Hours:
    """A period of every day, in seconds since midnight, with its rate; it crosses midnight if its end comes first.

    Raises ConfigurationError if the period is empty.
    """

    from_s: int
    until_s: int
    bytes_per_s: float | None

    def __post_init__(self) -> None:
        if self.from_s == self.until_s:
            raise ConfigurationError(
                "--bandwidth: a time of day ends as it begins; give a rate alone for the whole day"
            )

    def __contains__(self, time_of_day_s: float) -> bool:
        if self.from_s < self.until_s:
            return self.from_s <= time_of_day_s < self.until_s
        return time_of_day_s >= self.from_s or time_of_day_s < self.until_s


@dataclass(frozen=True, slots=True)
class Timetable:
    """Bytes per second that may be sent, by the local time of day; None is unlimited.

    Raises ConfigurationError for periods that overlap and for rates of 0.
    """

    hours: tuple[Hours, ...] = ()
    otherwise_bytes_per_s: float | None = None
    written: str = field(default="", compare=False)
    """The text of the setting."""

    def __post_init__(self) -> None:
        for rate in (self.otherwise_bytes_per_s, *(hours.bytes_per_s for hours in self.hours)):
            require_positive("--bandwidth", math.inf if rate is None else rate)
        for one, other in combinations(self.hours, 2):
            if one.from_s in other or other.from_s in one:
                raise ConfigurationError(f"--bandwidth {self}: two of its times overlap; give each hour one rate")

    def rate_at(self, time_of_day_s: float) -> float | None:
        """Return bytes per second at a time of the day, in seconds since midnight; None is unlimited."""
        for hours in self.hours:
            if time_of_day_s in hours:
                return hours.bytes_per_s
        return self.otherwise_bytes_per_s

    def __str__(self) -> str:
        return self.written


def parse_timetable(text: str) -> Timetable | None:
    """Return the schedule for `50MiB/s`, `08:00-18:00=10MiB/s` or `08:00-18:00=10MiB/s,100MiB/s`; None for `unlimited`.

    Times are local and may cross midnight; a rate without times holds for the rest of the day. Raises ValueError for
    anything else.
    """
    if text.strip() == "unlimited":
        return None
    hours: list[Hours] = []
    otherwise: list[float | None] = []
    for entry in text.split(","):
        when, equals, rate = entry.rpartition("=")
        if equals:
            hours.append(Hours(*_parse_hours(when), parse_rate_bytes_per_s(rate)))
        else:
            otherwise.append(parse_rate_bytes_per_s(rate))
    if len(otherwise) > 1:
        raise ValueError(f"{text!r} has {len(otherwise)} rates without a time: expected one at most")
    return Timetable(tuple(hours), otherwise[0] if otherwise else None, text.strip())


def _parse_hours(text: str) -> tuple[int, int]:
    match = _HOURS.fullmatch(text)
    from_s, until_s = (int(match[n]) * 3600 + int(match[n + 1]) * 60 for n in (1, 3)) if match else (0, 2 * _DAY_S)
    if match is None or max(int(match[2]), int(match[4])) > 59 or from_s >= _DAY_S or until_s > _DAY_S:
        raise ValueError(f"{text!r} is not a time of day such as 08:00-18:00 or 22:00-06:00")
    return from_s, until_s


def _quantity(text: str, units: dict[str, float] | dict[str, int], expected: str) -> float:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2].upper() not in units:
        raise ValueError(f"{text!r} is not {expected}")
    quantity = float(match[1]) * units[match[2].upper()]
    if not math.isfinite(quantity):
        raise ValueError(f"{match[1][:20]}… is too large: expected {expected}")
    return quantity
