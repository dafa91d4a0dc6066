"""The types of settings, with their notation on the command line, in the environment and in the TOML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token

from bulkstow.days import Days, parse_days
from bulkstow.quantities import (
    Sample,
    Shard,
    Span,
    Timetable,
    parse_duration_s,
    parse_per_second,
    parse_rate_bytes_per_s,
    parse_sample,
    parse_shard,
    parse_size_bytes,
    parse_span,
    parse_timetable,
    show_duration,
    show_size,
)


def written_as(
    parse: Callable[[str], object],
    metavar: str,
    *,
    show: Callable[[Any], str | None] = str,
    words: Mapping[str, object] | None = None,
) -> Parameter:
    """Return the notation of a setting: text for `parse`, or one of some words with values of their own.

    `show` turns a value back into text that `parse` takes; None where there is nothing to show.
    """
    values = words or {}
    texts = {value: word for word, value in values.items()}

    def convert(_type: object, tokens: Sequence[Token]) -> object:
        text = ",".join(token.value for token in tokens)  # a list in the TOML file has several
        return values[text] if text in values else parse(text)

    return Parameter(
        converter=convert,
        show_default=lambda value: texts[value] if value in texts else show(value),
        show_choices=False,
        n_tokens=1,
        accepts_keys=False,
        negative="",
        metavar=metavar,
    )


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _words(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    if not all(words):
        raise ValueError(f"{text!r} is not a list of words with commas between them")
    return words


def _rate(text: str) -> float:
    rate = parse_rate_bytes_per_s(text)
    if not rate:
        raise ValueError(f"{text!r} is not a rate such as 50MiB/s or 400Mbit/s")
    return rate


@dataclass(frozen=True, slots=True)
class AfterStored:
    """The action for a file whose instance is stored."""

    action: Literal["nothing", "move", "delete"]
    directory: str = ""
    """The directory to which it is moved."""

    def __str__(self) -> str:
        return f"{self.action} {self.directory}".strip()


NOTHING = AfterStored("nothing")


def _after_stored(text: str) -> AfterStored:
    action, _, directory = text.partition(" ")
    match action, directory.strip():
        case ("nothing" | "delete") as action, "":
            return AfterStored(action)
        case "move", directory if directory:
            return AfterStored("move", directory)
    raise ValueError(f"{text!r} is not 'nothing', 'delete' or 'move DIR'")


UNLIMITED: dict[str, object] = {"unlimited": None}
AUTOMATIC: dict[str, object] = {"auto": "auto"}
Automatic = Literal["auto"]
"""bulkstow finds the best value while it runs."""

Size = Annotated[int, written_as(parse_size_bytes, "SIZE", show=show_size)]
SizeLimit = Annotated[int | None, written_as(parse_size_bytes, "SIZE", show=show_size, words=UNLIMITED)]
BatchBytes = Annotated[
    int | Automatic | None, written_as(parse_size_bytes, "SIZE", show=show_size, words=UNLIMITED | AUTOMATIC)
]
Count = Annotated[int, written_as(_whole_number, "INT")]
CountLimit = Annotated[int | None, written_as(_whole_number, "INT", words=UNLIMITED)]
BatchInstances = Annotated[int | Automatic | None, written_as(_whole_number, "INT", words=UNLIMITED | AUTOMATIC)]
AutomaticCount = Annotated[int | Automatic, written_as(_whole_number, "INT", words=AUTOMATIC)]
Processes = Annotated[int | Automatic, written_as(_whole_number, "INT", words=AUTOMATIC)]
Duration = Annotated[float, written_as(parse_duration_s, "TIME", show=show_duration)]
GiveUpAfter = Annotated[float | None, written_as(parse_duration_s, "TIME", show=show_duration, words={"never": None})]
Concurrency = Annotated[Span, written_as(parse_span, "SPAN")]
Bandwidth = Annotated[Timetable | None, written_as(parse_timetable, "RATE", words=UNLIMITED)]
SampleOfStudies = Annotated[Sample, written_as(parse_sample, "SAMPLE")]
OneShard = Annotated[Shard | None, written_as(parse_shard, "K/N", show=lambda shard: shard and str(shard))]
ShardLevel = Annotated[
    int | Literal["auto", "file"], written_as(_whole_number, "LEVEL", words=AUTOMATIC | {"file": "file"})
]
RequestRate = Annotated[float | None, written_as(parse_per_second, "NUMBER", words=UNLIMITED)]
Words = Annotated[tuple[str, ...] | None, written_as(_words, "LIST", show=lambda words: words and ",".join(words))]
StudyDates = Annotated[Days | None, written_as(parse_days, "DATES", show=lambda days: days and str(days))]
MinAge = Annotated[float | None, written_as(parse_duration_s, "TIME", show=show_duration, words={"any": None})]
Patterns = Annotated[tuple[str, ...], Parameter(negative="", show_default=False, metavar="GLOB")]
Rate = Annotated[float | None, written_as(_rate, "RATE", show=lambda rate: rate and f"{show_size(rate)}/s")]
AfterStoring = Annotated[AfterStored, written_as(_after_stored, "ACTION")]
Switch = Annotated[bool, Parameter(negative="", show_default=False)]
