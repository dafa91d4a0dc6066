"""Old names of renamed settings: the old flag, variable and key still work, but are not documented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from cyclopts import ArgumentCollection, Parameter

OLD_FLAGS: Mapping[str, str] = MappingProxyType({"--response-timeout": "--thinking-timeout"})
"""The old flag of a setting by its new flag."""


def flags_in(tokens: Sequence[str]) -> frozenset[str]:
    """Return the flags of a command line, as far as they can be told from values before parsing."""
    return frozenset(token.partition("=")[0] for token in _before_the_end_of_flags(tokens) if token.startswith("--"))


def value_in(tokens: Sequence[str], flag: str) -> str | None:
    """Return the last value of a flag of a command line, as far as it can be told before parsing; None without one."""
    first = _before_the_end_of_flags(tokens)
    value = None
    for token, following in zip(first, (*first[1:], None), strict=True):
        name, equals, given = token.partition("=")
        if name == flag:
            value = given if equals else following
    return value


def with_new_flags(tokens: Sequence[str]) -> list[str]:
    """Return the tokens of a command line with each old flag replaced by the new one."""
    new_flags = {old: new for new, old in OLD_FLAGS.items()}
    first = _before_the_end_of_flags(tokens)
    split = (token.partition("=") for token in first)
    return ["".join((new_flags.get(flag, flag), *value)) for flag, *value in split] + list(tokens[len(first) :])


def add_old_names(arguments: ArgumentCollection) -> None:
    """Let variables and keys with old names set arguments."""
    for argument in arguments:
        if old := OLD_FLAGS.get(argument.name):
            argument.parameter = Parameter.combine(argument.parameter, Parameter(name=(*argument.positives, old)))


def _before_the_end_of_flags(tokens: Sequence[str]) -> Sequence[str]:
    return tokens[: tokens.index("--")] if "--" in tokens else tokens
