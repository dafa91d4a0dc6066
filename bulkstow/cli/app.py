"""The program `bulkstow`: finds the command, reads its settings, and converts errors to exit statuses.

Precedence: a flag, then `BULKSTOW_…` in the environment, then the file of `--config`, then the default.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import App, Parameter

from bulkstow import __version__
from bulkstow.cli.config_file import VARIABLE, read_config, take_config
from bulkstow.cli.old_names import with_new_flags
from bulkstow.cli.origins import PREFIX, Origins
from bulkstow.cli.process import end_start_up, hand_over_interrupts
from bulkstow.errors import INTERRUPTED, BulkstowError, ConfigurationError, RunStopped, first_of
from bulkstow.printing import shown, shown_lines


def _split(hint: object, text: str, **_: object) -> list[str]:
    """Return the values in a variable: a list has one per line, because headers hold spaces; empty counts as unset."""
    return [value for value in cyclopts.env_var_split(hint, text, delimiter="\n") if value]


app = App(
    name="bulkstow",
    help="Bulk uploads of DICOM files to DICOMweb servers (STOW-RS).",
    version=__version__,
    default_parameter=Parameter(show_env_var=False, env_var_split=_split),
    result_action="return_value",
)
for _app in (app, app.meta):
    _app.suppress_keyboard_interrupt = False  # cyclopts would end the process and wait for every thread
EVERYWHERE = cyclopts.Group("Everywhere", sort_key=99)

_CONFIG_HELP = """Print an example of the configuration file: all settings with their defaults.

Write it to a file, uncomment the settings that you change, and name the file with --config or BULKSTOW_CONFIG:
```
bulkstow config > bulkstow.toml
bulkstow --config bulkstow.toml upload SOURCE...
```
"""
_COMMANDS = {
    "upload": ("SOURCE... --url URL", "Send an archive; the same command again continues where it stopped."),
    "plan": ("SOURCE...", "Show which files an upload would send, and how long it would take; sends nothing."),
    "verify": ("[SOURCE...] --url URL", "Compare the server with the ledger or a source, study by study."),
    "report": ("LEDGER...", "List the outcome of every file, study or reason, or write the page for the sign-off."),
    "forget": ("LEDGER", "Delete rows of a ledger: the next upload treats their files as new."),
    "accept": ("LEDGER --note TEXT", "Mark known failures as accepted: they no longer make a run fail."),
    "bench": ("", "Measure a DICOMweb server: its goodput, latencies and knee."),
    "demo": ("[DIRECTORY]", "Create a small archive, upload it to a server in this process, and show the report."),
    "serve": ("[DIRECTORY]", "Serve STOW-RS, QIDO-RS and WADO-RS from a directory, for trials and tests."),
    "body": ("SOURCE...", "Write the exact body of one request, and print the curl command that sends it."),
    "config": ("", _CONFIG_HELP),
}
_TABLES = tuple(name for name in _COMMANDS if name != "config")
"""Tables that a configuration file may have."""
for _sort_key, (_name, (_arguments, _help)) in enumerate(_COMMANDS.items()):
    # A command is imported when it is called: `report` needs no HTTP client. `bench` is an app with its own usage.
    _usage = {"usage": f"Usage: bulkstow {_name} {_arguments} [OPTIONS]"} if _arguments else {}
    app.command(f"bulkstow.cli.{_name}:{_name}", help=_help, sort_key=_sort_key, **_usage)
app.command(
    "bulkstow.cli.completion:install_completion",
    name="--install-completion",
    help="Install shell completion for bash, zsh or fish.",
)


@app.meta.default
def _everywhere(
    *,
    config: Annotated[Path | None, Parameter(env_var=VARIABLE, group=EVERYWHERE)] = None,
) -> None:
    """Define the flags of all commands, for help and completion.

    `take_config` reads them: cyclopts takes 70 ms to tell them from the flags of the command.

    Parameters
    ----------
    config
        TOML file with settings: one table per command, keys as the flags. `bulkstow config` prints an example.
    """


def read_settings_from(config: Path | None, tokens: Sequence[str] = ()) -> Origins:
    """Let commands also take settings from the environment and from a file; return the origins of their values.

    The file is read when the command's settings are: help needs none. ConfigurationError is raised then if it cannot be
    used.
    """
    origins = Origins(app, os.environ, tokens)

    def from_file(*of_command: Any) -> None:  # noqa: ANN401 - what cyclopts gives to every source of settings
        if config is not None:
            cyclopts.config.Dict(read_config(config, _TABLES), source=str(config))(*of_command)

    app.config = [origins.enter, cyclopts.config.Env(PREFIX, command=False), from_file, origins.leave]
    return origins


def status(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status."""
    try:
        result = _run(*take_config(arguments, os.environ))
        print(end="", flush=True)  # at exit it could only fail with a traceback and another status
        return result if isinstance(result, int) else 0
    except cyclopts.CycloptsError as error:
        return _complain(str(error).replace("\n", " "), ConfigurationError.exit_status)
    except BulkstowError as error:
        return _complain(str(error), error.exit_status)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a bug: show its traceback, and never exit with 0
        print(shown_lines(traceback.format_exc()), end="", file=sys.stderr)
        return _complain(f"internal error: {type(first_of(error)).__name__}; please report it", RunStopped.exit_status)


def _run(config: Path | None, tokens: Sequence[str]) -> Any:  # noqa: ANN401 - what the command returns
    """Run a command with its settings, and return its result."""
    origins = read_settings_from(config, tokens)
    try:
        command, bound, _ = app.parse_args(with_new_flags(tokens), exit_on_error=False, print_error=False)
    except (cyclopts.CycloptsError, BulkstowError) as error:
        text = origins.explained(error) if isinstance(error, cyclopts.CycloptsError) else origins.as_written(str(error))
        if where := origins.given("--summary", error):
            from bulkstow.cli.upload import summarise_wrong_use

            summarise_wrong_use(where, text)
        return _complain(text, ConfigurationError.exit_status)
    hand_over_interrupts()
    end_start_up()
    try:
        return command(*bound.args, **bound.kwargs)
    except BulkstowError as error:
        return _complain(origins.as_written(str(error)), error.exit_status)


def _complain(text: str, exit_status: int) -> int:
    if exit_status:
        print(f"bulkstow: {shown(text)}", file=sys.stderr)
    return exit_status
