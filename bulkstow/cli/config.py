"""`bulkstow config`: print an example of the configuration file.

It is made from the commands' own definitions, as `--help` is, so a setting is described in one place.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from cyclopts import Argument, Group

from bulkstow.cli.app import app

TABLES = ("upload", "plan", "verify", "bench", "serve")
"""Commands whose settings the example shows; the few flags of the other commands change with every call."""

WITH_UPLOAD = ("plan", "verify")
"""Commands that take the settings of `upload`, too: the example shows only their own."""

LINE_COLUMNS = 120
COMMENT = textwrap.TextWrapper(
    LINE_COLUMNS, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
)

HEADING = """\
# Settings of bulkstow with their defaults, as `bulkstow config` prints them. Write them to a file, uncomment what you
# change, and name the file: `bulkstow config > bulkstow.toml`, then `bulkstow --config bulkstow.toml COMMAND ...` or
# BULKSTOW_CONFIG=bulkstow.toml.
#
# Every key is also a flag (batch-bytes: --batch-bytes) and an environment variable (BULKSTOW_BATCH_BYTES). A flag
# overrides a variable, a variable overrides this file. An unknown key is an error, an empty one counts as unset.
# Sizes: 4096, 500MB, 16MiB. Times: 500ms, 30s, 5m, 2h. A setting that may be repeated takes a list.
# Secrets do not belong here: they come from the environment, a file or a command, as the settings below say.
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a command as it is documented."""

    flag: str
    group: str
    """The heading under which help shows it; empty for a command without headings."""
    help: str
    default: str
    """The default in the notation of the file."""

    @property
    def key(self) -> str:
        """The key in the file."""
        return self.flag.removeprefix("--")


def config() -> int:
    """Print an example of the configuration file, with every setting and its default."""
    print(example(), end="")
    return 0


def settings_of(command: str) -> list[Setting]:
    """Return the settings of a command by group, in the order in which help shows them."""
    arguments = app[command].assemble_argument_collection(parse_docstring=True)
    shown = [argument for argument in arguments if argument.show and argument.name.startswith("--")]
    return [_setting(argument) for argument in sorted(shown, key=lambda argument: _group(argument).sort_key or 0)]


def own_settings_of(command: str) -> list[Setting]:
    """Return the settings of a command, without the settings it shares with `upload`."""
    shared = {setting.flag for setting in settings_of("upload")} if command in WITH_UPLOAD else frozenset[str]()
    return [setting for setting in settings_of(command) if setting.flag not in shared]


def example() -> str:
    """Return the configuration file with every setting commented out."""
    return "\n".join([HEADING, *(line for command in TABLES for line in _table(command))])


def _table(command: str) -> Iterator[str]:
    yield f"[{command}]\n"
    if command in WITH_UPLOAD:
        yield "# The settings of [upload] may be set here, too; the values of that table do not apply here.\n"
    for group, settings in groupby(own_settings_of(command), lambda setting: setting.group):
        if group:
            yield f"# --- {group} ".ljust(LINE_COLUMNS, "-") + "\n"
        for setting in settings:
            yield COMMENT.fill(setting.help)
            yield f"# {setting.key} = {setting.default}\n"


def _setting(argument: Argument) -> Setting:
    choices = argument.get_choices()
    listed = f" [choices: {', '.join(choices)}]" if choices else ""
    return Setting(
        flag=argument.name,
        group=group.name if (group := _group(argument)).sort_key else "",
        help=" ".join((argument.parameter.help or "").split()) + listed,
        default=_default(argument),
    )


def _default(argument: Argument) -> str:
    value, show = argument.field_info.default, argument.parameter.show_default
    text = (show(value) or "") if callable(show) else "" if value is None else str(value)
    match value:
        case bool():
            return json.dumps(value)
        case ():
            return "[]"
        case int() | float() if text.isdigit():
            return text
        case _:
            return json.dumps(text)


def _group(argument: Argument) -> Group:
    match argument.parameter.group:
        case (Group() as group, *_):
            return group
        case _:
            return Group("")
