"""Standard streams that are closed, full or unread, and a Ctrl-C before a command runs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkstow.cli.streams import StandardError
from bulkstow.ledger import Ledger, read_entries
from bulkstow.model import Outcome
from tests.archives import write_instance
from tests.cli.command import PATIENCE_S, Ended, running, served

URL = "http://pacs.example/dicom-web"
INSTANCES = 3
FULL = "standard output cannot be written (No space left on device)\n"

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


def redirected(words: str, redirection: str) -> Ended:
    """Run a command in a shell with redirected streams; `unread` is a pipe without a reader."""
    reader, unread = os.pipe()
    os.close(reader)
    command = f"{shlex.quote(sys.executable)} -m bulkstow {words} {redirection.replace('unread', f'&{unread}')}"
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        timeout=PATIENCE_S,
        pass_fds=[unread],
        env={**os.environ, "PYTHONPATH": root},
    )
    os.close(unread)
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Give a server."""
    with served() as url:
        yield url


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give an archive of one study."""
    for number in range(INSTANCES):
        write_instance(tmp_path / "archive", number)
    return tmp_path / "archive"


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize("progress", ["bar", "log"])
@pytest.mark.parametrize(
    "redirection",
    ["2>&-", "2>/dev/full", "2>unread", "<&- >&- 2>&-", "<&- >/dev/full", ">unread"],
)
def test_an_upload_needs_no_streams(url: str, progress: str, redirection: str) -> None:
    """Progress and closing text that cannot be written change neither what is sent nor the exit status."""
    ended = redirected(f"upload archive --url {url} --progress {progress}", redirection)
    assert ended.status == 0, ended.says
    assert [entry.result.outcome for entry in read_entries(Path("bulkstow.db"))] == [Outcome.STORED] * INSTANCES
    assert "Traceback" not in ended.says
    assert ended.err.endswith(FULL) == (">/dev/full" in redirection.split())


@pytest.mark.parametrize(
    ("words", "redirection", "status", "err"),
    [
        ("report l.db", "2>&-", 0, ""),
        ("report l.db", ">&-", 0, ""),
        ("report l.db", ">unread", 0, ""),
        ("report l.db", ">/dev/full", 2, f"bulkstow: {FULL}"),
        ("report l.db", ">/dev/full 2>/dev/full", 2, ""),
        ("report gone.db", "2>/dev/full", 3, ""),
        ("--help", ">unread", 0, ""),
        ("upload --help", ">/dev/full", 2, f"bulkstow: {FULL}"),
        ("--version", "<&- >&- 2>&-", 0, ""),
        ("--version", ">/dev/full", 2, f"bulkstow: {FULL}"),
        ("body archive", ">unread", 0, ""),
        ("body archive", ">/dev/full", 2, f"bulkstow: {FULL}"),
        ("demo top --instances 1", "<&- >unread 2>&-", 0, ""),
        ("uplaod", "2>&-", 2, ""),
    ],
)
@pytest.mark.usefixtures("archive")
def test_every_command_has_its_status_for_lost_output(words: str, redirection: str, status: int, err: str) -> None:
    """Results that cannot be written are an error in one line; a closed pipe and closed streams are not an error."""
    with Ledger(Path("l.db"), URL):
        pass
    ended = redirected(words, redirection)
    assert (ended.status, ended.err) == (status, err)


def test_a_closed_list_of_files_is_an_error(url: str) -> None:
    """A closed standard input is an error, not an empty list of files."""
    ended = redirected(f"upload --files-from - --url {url}", "<&-")
    assert ended.status == 2
    assert ended.err == "bulkstow: --files-from -: standard input is closed; pipe the list of files into it\n"


def test_a_server_runs_with_a_full_standard_output() -> None:
    """A server whose standard output is full runs until it is stopped."""
    with Path("/dev/full").open("wb") as full, running("serve", "--port", "0", stdout=full.fileno()) as process:
        assert process.stderr is not None
        assert process.stderr.readline().decode() == f"bulkstow: {FULL}"
        assert process.poll() is None


def test_only_what_a_busy_terminal_does_not_take_is_dropped(tmp_path: Path) -> None:
    """A non-blocking descriptor loses single writes; after a failure of the disk, nothing is written."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stream = StandardError(os.fdopen(writer, "wb", buffering=0), write_through=True)
    assert stream.write("x" * 1_000_000) == 1_000_000
    assert stream.write("more") == 4
    while len(os.read(reader, 1_000_000)) == 1_000_000:
        pass
    stream.write("again")
    assert os.read(reader, 1_000_000).endswith(b"again")
    stream.close()
    os.close(reader)


# A Ctrl-C before a command runs -----------------------------------------------------------------------------------

INTERRUPTED_IMPORT = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from bulkstow.cli import main
main({words})
"""


@pytest.mark.parametrize(
    "name",
    ["bulkstow.cli.process", "bulkstow.cli.streams", "bulkstow.cli.app", "cyclopts", "bulkstow.cli.upload", "aiohttp"],
)
def test_an_interrupt_while_modules_are_imported(name: str) -> None:
    """A Ctrl-C at any time during the imports ends the process with 130 and without a message."""
    words = ["upload", "gone", "--url", URL]
    program = INTERRUPTED_IMPORT.format(name=name, words=words)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_the_entry_imports_next_to_nothing() -> None:
    """Until SIGINT is handled, no module is imported that takes more than a millisecond."""
    code = "import sys; before = set(sys.modules); import bulkstow.cli; print(*sorted(set(sys.modules) - before))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.stdout.split() == ["__future__", "bulkstow", "bulkstow.cli", "bulkstow.errors"]
