"""The origin of each setting's value, and messages that name it as the user wrote it.

Messages of the settings contain flags, because `config` does not know variables and files. This module changes
`--retries -1: …` to `BULKSTOW_RETRIES=-1: …` or `c.toml [upload] retries = -1: …` if the value comes from there. A
variable with the prefix BULKSTOW_ that no command knows is an error, so that a mistyped limit is not ignored.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    UnusedCliTokensError,
)

from bulkstow.cli.old_names import OLD_FLAGS, add_old_names, flags_in, value_in
from bulkstow.errors import ConfigurationError

PREFIX = "BULKSTOW_"
"""Prefix of every variable that is a setting."""

NO_SETTINGS = frozenset(
    {
        "BULKSTOW_CONFIG",
        "BULKSTOW_PASSWORD",
        "BULKSTOW_BEARER",
        "BULKSTOW_SOURCE_PASSWORD",
        "BULKSTOW_SOURCE_BEARER",
        "BULKSTOW_EDIT_KEY",
    }
)
"""Variables that are read elsewhere: the configuration file, and secrets, which are not settings."""

OF_THE_TESTS = "BULKSTOW_REQUIRE_"
"""Prefix of the tests' own variables, which the commands that they run inherit."""


_EXPECTED: Mapping[object, str] = {bool: "true or false", int: "a whole number"}
"""Types in messages."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """The name of a setting as the user wrote it, and the sign between name and value."""

    name: str
    equals: str


class Origins:
    """Records where values come from: `enter` and `leave` surround the sources in `App.config`."""

    def __init__(self, root: App, environment: Mapping[str, str], tokens: Sequence[str]) -> None:
        self._root = root
        self._environment = environment
        self._tokens = tokens
        self._flags = flags_in(tokens)
        self._by_flag: dict[str, _Origin] = {}
        self._command = ""
        self._arguments: Iterable[Argument] = ()

    @property
    def _table(self) -> str:
        return self._command.replace(" ", ".")

    def enter(self, _app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Record the command before any source is read."""
        add_old_names(arguments)
        self._command = " ".join(commands)
        self._arguments = arguments

    def leave(self, _app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Record the command's arguments after all sources are read, without empty keys, which count as unset.

        Raises ConfigurationError for a variable that is no setting.
        """
        for argument in arguments:
            argument.tokens = [token for token in argument.tokens if not _is_empty(token)]
        self._by_flag = dict(self._found(arguments))
        self._check_variables(arguments)

    def as_written(self, text: str) -> str:
        """Return a message in which each setting has the name that the user wrote."""
        parts = text.split("`")  # a command between backticks is quoted literally
        return "`".join(
            part if number % 2 else self._with_old_flags(self._renamed(part)) for number, part in enumerate(parts)
        )

    def explained(self, error: CycloptsError) -> str:
        """Return a one-line message for an error in the command line, a variable or the file."""
        if isinstance(error, UnknownOptionError) and _is_of_file(error.token):
            return self._unknown_key(error.token, _flags(error.argument_collection))
        if isinstance(error, UnusedCliTokensError):
            surplus = " ".join(error.unused_tokens or ())
            return f"too many arguments: {surplus!r}; `bulkstow {self._command} --help` shows the usage"
        if isinstance(error, RepeatArgumentError) and (twice := self._given_twice(error.token)):
            return twice
        if isinstance(error, CoercionError) and error.token is not None:
            return self._with_old_flags(self._not_a_value(error, error.token))
        return self._with_old_flags(_one_line(error))

    def given(self, flag: str, error: Exception) -> str | None:
        """Return the value of a flag of a command that could not run because of `error`; None if it has none.

        A wrong flag is found before the file is read, and a repeated one before the command line is read to its end.
        """
        arguments = self._arguments or getattr(error, "argument_collection", None) or _arguments_of(error)
        for argument in arguments:
            if flag in argument.names:
                if argument.tokens:
                    return argument.tokens[0].value
                return value_in(self._tokens, flag) or self._environment.get(variable_of(flag))
        return None

    def _not_a_value(self, error: CoercionError, token: Token) -> str:
        origin = self._origin(token)
        if origin is not None:
            has_value = origin.equals == "=" and get_origin(error.target_type) is not Literal
            keyword = f"{origin.name}={token.value}" if has_value else origin.name
            error.token = token = token.evolve(keyword=keyword, source="cli")
        if expected := _EXPECTED.get(error.target_type):
            return f"Invalid value for {token.keyword}: {token.value!r} is not {expected}"
        return _one_line(error)

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
        """Return the message for a setting that is given under both its new and its old name; "" for other repeats."""
        for flags in OLD_FLAGS.items():
            names = [origin.name if (origin := self._origin(token, flag)) else flag for flag in flags]
            written = origin.name if (origin := self._origin(token)) else token.keyword
            if written in names and (token.source != "cli" or self._flags.issuperset(flags)):
                return f"{names[0]} and {names[1]} are one setting: give only {names[0]}"
        return ""

    def _origin(self, token: Token, flag: str = "") -> _Origin | None:
        """Return the origin of a token, with the name of `flag` if given; None for the command line."""
        if token.source == "env" and token.keyword:
            return _Origin(variable_of(flag) if flag else token.keyword, "=")
        if _is_of_file(token):
            return _Origin(f"{token.source} [{self._table}] {flag.removeprefix('--') or _key(token)}", " = ")
        return None

    def _unknown_key(self, token: Token, flags: Iterable[str]) -> str:
        key = _key(token)
        keys = [flag.removeprefix("--") for flag in flags]
        guess = difflib.get_close_matches(key, keys, n=1)
        hint = f'; did you mean "{guess[0]}"?' if guess else f"; `bulkstow {self._command} --help` lists the settings"
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


def _arguments_of(error: Exception) -> Iterable[Argument]:
    """Return the arguments of the command that raised `error`."""
    if isinstance(error, CycloptsError) and error.app is not None and error.app.default_command is not None:
        return error.app.assemble_argument_collection()
    return ()


def _collections(app: App) -> Iterator[ArgumentCollection]:
    """Yield the arguments of a command and of every command below it."""
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
    """Return the environment variable of a flag."""
    return PREFIX + flag.removeprefix("--").upper().replace("-", "_")


def _one_line(error: CycloptsError) -> str:
    return str(error).replace("\n", " ")


def _is_of_file(token: Token) -> bool:
    return token.source not in ("", "cli", "env")


def _is_empty(token: Token) -> bool:
    return _is_of_file(token) and not token.value and token.implicit_value is UNSET


def _key(token: Token) -> str:
    """Return a key as written in the file; cyclopts reports `[table][key]`."""
    return ".".join(re.findall(r"\[([^]]*)\]", token.keyword or "")) or token.value
