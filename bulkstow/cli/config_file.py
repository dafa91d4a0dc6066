"""The configuration file: its name on the command line or in the environment, and the settings in it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bulkstow.errors import ConfigurationError

FLAG = "--config"
VARIABLE = "BULKSTOW_CONFIG"


def take_config(words: Sequence[str], environment: Mapping[str, str]) -> tuple[Path | None, list[str]]:
    """Return the file that `--config` or BULKSTOW_CONFIG names, and the command line without `--config`.

    `--config` may be anywhere before `--`. Raises ConfigurationError if it has no value, or is there twice.
    """
    given: list[str] = []
    rest: list[str] = []
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *left]
        elif name != FLAG:
            rest.append(word)
        elif not equals and ((following := next(left, None)) is None or following.startswith("-")):
            raise ConfigurationError(f"{FLAG} requires an argument")
        else:
            given.append(value if equals else str(following))
    if len(given) > 1:
        raise ConfigurationError(f"{FLAG} is given {len(given)} times; there is one configuration file")
    if given:
        return Path(given[0]), rest
    return (Path(environment[VARIABLE]) if environment.get(VARIABLE) else None), rest


def read_config(path: Path, tables: Sequence[str]) -> dict[str, Any]:
    """Return the settings in a file by table. Raises ConfigurationError if it cannot be used."""
    import tomllib

    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{FLAG} {path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{FLAG} {path}: not TOML ({error})") from error
    for name in config:
        if name not in tables:
            guess = difflib.get_close_matches(name, tables, n=1)
            hint = f"; did you mean [{guess[0]}]?" if guess else f"; expected a table of {', '.join(tables)}"
            raise ConfigurationError(f"{FLAG} {path}: no command with settings is called {name!r}{hint}")
    return config
