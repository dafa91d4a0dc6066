"""`bulkstow --install-completion`: shell completion of commands, flags and their values.

cyclopts generates the script from the definitions of the commands and installs it; this module prints the messages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cyclopts.completion.detect import ShellDetectionError, detect_shell

from bulkstow.cli.app import app
from bulkstow.errors import ConfigurationError
from bulkstow.printing import shown

Shell = Literal["bash", "zsh", "fish"]

_AFTERWARDS = {
    "bash": "~/.bashrc loads it; start a new shell, or: source ~/.bashrc",
    "zsh": "~/.zshrc has its directory in fpath, which compinit reads; start a new shell, or: exec zsh",
    "fish": "fish loads it by itself; start a new shell",
}


def install_completion(*, shell: Shell | None = None, output: Path | None = None) -> int:
    """Install shell completion for bash, zsh or fish.

    Parameters
    ----------
    shell
        Shell to install completion for; by default the shell that runs this command.
    output
        Write the script to this file, and do not change the shell's startup file.
    """
    shell = shell or _this_shell()
    try:
        path = app.install_completion(shell=shell, output=output, add_to_startup=output is None)
    except OSError as error:
        where = error.filename or output or Path.home()
        raise ConfigurationError(f"{where}: the completion cannot be written ({error.strerror})") from error
    print(f"completion for {shell}: {shown(str(path))}")
    if output is None:
        print(_AFTERWARDS[shell])
    return 0


def _this_shell() -> Shell:
    try:
        found = detect_shell()
    except ShellDetectionError:
        found = "powershell"
    if found == "powershell":
        raise ConfigurationError("completion is not available for this shell: give --shell bash|zsh|fish")
    return found
