"""`bulkstow --install-completion`: shells complete commands, flags and values."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bulkstow.cli.app import app

COMPLETE_IN_BASH = """
. "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _bulkstow; printf '%s\\n' "${COMPREPLY[@]}"
"""

LINES: list[tuple[list[str], set[str]]] = [
    (["up"], {"upload"}),
    (["upload", "--batch-"], {"--batch-bytes", "--batch-instances"}),
    (["bench", "com"], {"compare"}),
    (["bench", "--mode", "so"], {"soak"}),
    (["serve", "--fau"], {"--faults"}),
    (["--inst"], {"--install-completion"}),
    (["--conf"], {"--config"}),
    (["conf"], {"config"}),
    (["upload", "--response"], {"--response-timeout"}),
    (["upload", "--thinking"], set()),
]


def install(home: Path, *options: str, shell: str = "/bin/bash") -> subprocess.CompletedProcess[str]:
    """Run the command with its own home directory."""
    command = [sys.executable, "-m", "bulkstow", "--install-completion", *options]
    environment = {"HOME": str(home), "SHELL": shell, "PATH": ""}  # without ps only SHELL tells the shell
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_bash_completes_commands_flags_and_values(tmp_path: Path) -> None:
    """The installed script works in a real bash; the startup file keeps its content and loads the script once."""
    (tmp_path / ".bashrc").write_text("alias ll='ls -l'")
    for _ in range(2):
        installed = install(tmp_path)
        assert (installed.returncode, installed.stderr) == (0, "")
    script = tmp_path / ".local/share/bash-completion/completions/bulkstow"
    assert installed.stdout.splitlines()[0] == f"completion for bash: {script}"
    startup = (tmp_path / ".bashrc").read_text()
    assert startup.startswith("alias ll='ls -l'\n")
    assert startup.count(f'. "{script}"') == 1
    for words, expected in LINES:
        command = ["bash", "--norc", "-c", COMPLETE_IN_BASH, "bash", str(script), "bulkstow", *words]
        assert set(subprocess.check_output(command, text=True).split()) == expected, words


@pytest.mark.skipif(not shutil.which("fish"), reason="needs fish (apt-get install fish)")
def test_fish_completes_commands_flags_and_values(tmp_path: Path) -> None:
    """The installed script works in a real fish, which finds it without a startup file."""
    assert install(tmp_path, "--shell", "fish").returncode == 0
    (tmp_path / "bulkstow").write_text("#!/bin/sh\n")  # fish completes commands that it finds
    (tmp_path / "bulkstow").chmod(0o755)
    for words, expected in LINES:
        found = subprocess.check_output(
            [str(shutil.which("fish")), "-c", f"complete -C 'bulkstow {' '.join(words)}'"],
            text=True,
            env={"HOME": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"},
        )
        assert {line.partition("\t")[0] for line in found.splitlines()} == expected, words


def test_zsh_finds_the_script_by_its_directory(tmp_path: Path) -> None:
    """The script for zsh begins with the line that compinit reads."""
    assert install(tmp_path, shell="/usr/bin/zsh").returncode == 0
    script = tmp_path / ".zsh/completions/_cyclopts_bulkstow"
    assert script.read_text().startswith("#compdef bulkstow\n")
    assert f"fpath=({script.parent} $fpath)" in (tmp_path / ".zshrc").read_text()
    if zsh := shutil.which("zsh"):
        subprocess.run([zsh, "-f", "-n", str(script)], check=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_flag_is_in_the_script(shell: str) -> None:
    """The flags of all commands are completed, also of those that are imported only when called."""
    script = app.generate_completion(shell=shell)  # type: ignore[arg-type] # a str to mypy
    for command in ("upload", "report", "bench", "demo", "serve", "body"):
        assert command in script
        names = {name for argument in app[command].assemble_argument_collection() for name in argument.names}
        # fish has the name of a flag without its hyphens.
        assert {name for name in names if name.startswith("--") and name.removeprefix("--") not in script} == set()


def test_a_file_of_its_own_leaves_the_startup_file_alone(tmp_path: Path) -> None:
    """--output writes the script and changes no startup file."""
    assert install(tmp_path, "--shell", "zsh", "--output", str(tmp_path / "script")).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["script"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "give --shell bash|zsh|fish"),
        (["--shell", "tcsh"], "tcsh"),
        (["--shell", "fish", "--output", "/dev/null/script"], "the completion cannot be written"),
    ],
)
def test_what_cannot_be_installed_is_wrong_usage(tmp_path: Path, options: list[str], says: str) -> None:
    """An unknown shell and a place that cannot be written lead to one line and status 2."""
    refused = install(tmp_path, *options, shell="/bin/tcsh")
    assert refused.returncode == 2
    assert says in refused.stderr
    assert refused.stderr.count("\n") == 1
