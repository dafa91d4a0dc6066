"""Where each setting's value comes from, and messages that name it as the user wrote it.

The settings' own messages name flags, as settings know nothing of variables and files. Here `--retries -1: …` becomes
`BULKSTOW_RETRIES=-1: …` or `c.toml [upload] retries = -1: …` where the value was found there. A variable with our
prefix that no command knows is an error, as a mistyped limit would otherwise be no limit.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_origin

from cyclopts import (
    UNSET,
    App,
    Argument,
    ArgumentCollection,
    CoercionError,
    CycloptsError,
    RepeatArgumentError,
    Token,
    UnknownOptionError,
)

from bulkstow.cli.old_names import OLD_FLAGS, add_old_names
from bulkstow.errors import ConfigurationError

PREFIX = "BULKSTOW_"
"""Of every variable that is a setting."""

NO_SETTINGS = frozenset({"BULKSTOW_CONFIG", "BULKSTOW_PASSWORD", "BULKSTOW_BEARER"})
"""Variables that are read elsewhere: the settings' file, and secrets, which are no settings."""

OF_THE_TESTS = "BULKSTOW_REQUIRE_"
"""Prefix of what our tests insist on; they run commands in their own environment."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """How the user wrote a setting, and what stands between that and its value."""

    name: str
    equals: str


class Origins:
    """Remembers where values come from: `enter` and `leave` stand around the sources in `App.config`."""

    def __init__(self, root: App, environment: Mapping[str, str], flags: frozenset[str]) -> None:
        self._root = root
        self._environment = environment
        self._flags = flags
        self._by_flag: dict[str, _Origin] = {}
        self._table = ""
        self._arguments: Iterable[Argument] = ()

    def enter(self, _app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Take the command, before any source is read: its name is that of its table in the file."""
        add_old_names(arguments)
        self._table = ".".join(commands)
        self._arguments = arguments

    def leave(self, _app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Take the command's arguments, when all sources have been read; an empty key counts as unset.

        Raises ConfigurationError for a variable that is no setting.
        """
        for argument in arguments:
            argument.tokens = [token for token in argument.tokens if not _is_empty(token)]
        self._by_flag = dict(self._found(arguments))
        self._check_variables(arguments)

    def as_written(self, text: str) -> str:
        """Return a message with each flag that was not given as one replaced by what the user wrote."""
        parts = text.split("`")  # a command between backticks is to be typed as it stands
        return "`".join(
            part if number % 2 else self._with_old_flags(self._renamed(part)) for number, part in enumerate(parts)
        )

    def explained(self, error: CycloptsError) -> str:
        """Return what is wrong with the command line, a variable or the file, in one line."""
        if isinstance(error, UnknownOptionError) and _is_of_file(error.token):
            return self._unknown_key(error.token, _flags(error.argument_collection))
        if isinstance(error, CoercionError) and error.token is not None and (origin := self._origin(error.token)):
            has_value = origin.equals == "=" and get_origin(error.target_type) is not Literal
            keyword = f"{origin.name}={error.token.value}" if has_value else origin.name
            error.token = error.token.evolve(keyword=keyword, source="cli")
        twice = self._given_twice(error.token) if isinstance(error, RepeatArgumentError) else ""
        return twice or self._with_old_flags(str(error).replace("\n", " "))

    def given(self, flag: str, error: Exception) -> str | None:
        """Return what was given for a flag of a command that `error` kept from running; None if nothing was.

        A flag that does not exist is found before other sources than the command line are read.
        """
        arguments = self._arguments or getattr(error, "argument_collection", ())
        for argument in arguments:
            if flag in argument.names:
                variable = self._environment.get(variable_of(flag))
                return argument.tokens[0].value if argument.tokens else variable
        return None

    def _renamed(self, text: str) -> str:
        for flag, origin in self._by_flag.items():
            with_value = re.split(rf"(?<![\w-]){flag} (?=\S+: )", text, maxsplit=1)
            text = (origin.name + origin.equals).join(with_value)
            text = origin.name.join(re.split(rf"(?<![\w-]){flag}(?![\w-])", text))
        return text

    def _found(self, arguments: ArgumentCollection) -> Iterator[tuple[str, _Origin]]:
        for argument in arguments:
            for token in argument.tokens:
                if origin := self._origin(token):
                    yield from ((name, origin) for name in argument.names if name.startswith("--"))

    def _with_old_flags(self, text: str) -> str:
        for new, old in OLD_FLAGS.items():
            if old in self._flags:
                text = re.sub(rf"(?<![\w-]){new}(?![\w-])", old, text)
        return text

    def _given_twice(self, token: Token) -> str:
        """Return what is wrong where one place has a setting under its new and its old name; "" for other repeats."""
        for flags in OLD_FLAGS.items():
            names = [origin.name if (origin := self._origin(token, flag)) else flag for flag in flags]
            written = origin.name if (origin := self._origin(token)) else token.keyword
            if written in names and (token.source != "cli" or self._flags.issuperset(flags)):
                return f"{names[0]} and {names[1]} are one setting: give only {names[0]}"
        return ""

    def _origin(self, token: Token, flag: str = "") -> _Origin | None:
        """Return how the user wrote a value, or would have written it with this flag's name; None for a flag."""
        if token.source == "env" and token.keyword:
            return _Origin(variable_of(flag) if flag else token.keyword, "=")
        if _is_of_file(token):
            return _Origin(f"{token.source} [{self._table}] {flag.removeprefix('--') or _key(token)}", " = ")
        return None

    def _unknown_key(self, token: Token, flags: Iterable[str]) -> str:
        key = _key(token)
        keys = [flag.removeprefix("--") for flag in flags]
        guess = difflib.get_close_matches(key, keys, n=1)
        hint = f'; did you mean "{guess[0]}"?' if guess else f"; `bulkstow {self._table} --help` lists the settings"
        return f'{token.source}: no setting "{key}" in [{self._table}]{hint}'

    def _check_variables(self, arguments: ArgumentCollection) -> None:
        variables = self._environment.items()
        given = {name for name, value in variables if name.startswith(PREFIX) and value}
        given -= {name for name in given if name.startswith(OF_THE_TESTS)}
        unknown = given - NO_SETTINGS - _variables(arguments) - set(map(variable_of, OLD_FLAGS.values()))
        if not unknown:
            return
        known = set(NO_SETTINGS).union(*map(_variables, _collections(self._root)))  # imports every command
        for name in sorted(unknown - known):
            keys = [setting.removeprefix(PREFIX) for setting in known]
            guess = difflib.get_close_matches(name.removeprefix(PREFIX).upper(), keys, n=1)
            hint = f"did you mean {PREFIX}{guess[0]}?" if guess else "`bulkstow COMMAND --help` lists the settings"
            raise ConfigurationError(f"the variable {name} in the environment is no setting; {hint}")


def _collections(app: App) -> Iterator[ArgumentCollection]:
    """Yield the arguments of every command below this one, and its own."""
    if app.default_command is not None:
        yield app.assemble_argument_collection()
    for name in app:
        if not name.startswith("-"):
            yield from _collections(app[name])


def _flags(arguments: ArgumentCollection) -> list[str]:
    names = (name for argument in arguments if argument.parse for name in argument.names)
    return [name for name in names if name.startswith("--") and name not in OLD_FLAGS.values()]


def _variables(arguments: ArgumentCollection) -> set[str]:
    return {variable_of(flag) for flag in _flags(arguments)}


def variable_of(flag: str) -> str:
    """Return the variable that sets what a flag sets."""
    return PREFIX + flag.removeprefix("--").upper().replace("-", "_")


def _is_of_file(token: Token) -> bool:
    return token.source not in ("", "cli", "env")


def _is_empty(token: Token) -> bool:
    return _is_of_file(token) and not token.value and token.implicit_value is UNSET


def _key(token: Token) -> str:
    """Return a key as it stands in the file: cyclopts writes `[table][key]`."""
    return ".".join(re.findall(r"\[([^]]*)\]", token.keyword or "")) or token.value
