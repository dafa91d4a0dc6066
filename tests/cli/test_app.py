"""Claims about all commands: wrong use, help, version, interrupts."""

from __future__ import annotations

import inspect
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bulkstow.engine.job import Job
from bulkstow.server.login import Login
from tests.cli.command import PATIENCE_S, call, names_in, nobody, served
from tests.cli.settings import (
    COMMANDS,
    URL,
    bench_defaults,
    plan_defaults,
    upload_defaults,
    verify_defaults,
    watch_defaults,
)


@pytest.fixture(scope="module")
def places() -> Iterator[Mapping[str, str]]:
    """Give URLs of a server, of one with a login, and of none; and a port that is taken."""
    with served() as url, served(login=Login(users={"ada": "right"})) as locked, nobody() as refused:
        yield {"url": url, "locked": locked, "refused": refused, "port": url.split(":")[2].partition("/")[0]}


UPLOAD = "upload archive --url {url} --progress none"
NOT_A_FILE = "No such file or directory"

WRONG_USES = [
    # words, what is in the TOML file, exit status, what the one line says
    ("uplaod", "", 2, 'Unknown command "uplaod". Did you mean "upload"?'),
    ("upload", "", 2, "nothing to send: name directories or files, or give --files-from"),
    ("upload archive", "", 2, "--url is missing: give the DICOMweb root, such as http://localhost:8042/dicom-web"),
    ("upload gone --url {url}", "", 2, "no such file or directory: 'gone'"),
    ("upload archive --url ftp://pacs/", "", 2, "--url 'ftp://pacs/': expected http://HOST/ROOT or https://HOST/ROOT"),
    ("upload archive --url http://ada:s3cret@pacs/", "", 2, "--url holds a user or password, which would be seen"),
    (f"{UPLOAD} --concurency 3", "", 2, "Unknown option: --concurency. Did you mean --concurrency?"),
    (f"{UPLOAD} --concurrency", "", 2, "--concurrency requires an argument"),
    (f"{UPLOAD} --concurrency 0", "", 2, "--concurrency 0: expected more than 0"),
    (
        f"{UPLOAD} --concurrency two",
        "",
        2,
        "Invalid value for --concurrency: 'two' is not 'auto', a whole number, or a span such as 2-32",
    ),
    (
        f"{UPLOAD} --concurrency 1.5",
        "",
        2,
        "Invalid value for --concurrency: '1.5' is not 'auto', a whole number, or a span such as 2-32",
    ),
    (f"{UPLOAD} --batch-instances all", "", 2, "Invalid value for --batch-instances: 'all' is not a whole number"),
    (f"{UPLOAD} --bandwidth 50", "", 2, "'50' is not a rate such as 50MiB/s, 400Mbit/s or unlimited"),
    (f"{UPLOAD} --bandwidth 8-18=1MB/s", "", 2, "'8-18' is not a time of day such as 08:00-18:00 or 22:00-06:00"),
    (
        f"{UPLOAD} --bandwidth 08:00-18:00=1MB/s,17:00-19:00=2MB/s",
        "",
        2,
        "two of its times overlap; give each hour one",
    ),
    (f"{UPLOAD} --requests-per-second 0", "", 2, "--requests-per-second 0: expected more than 0"),
    (f"{UPLOAD} --requests-per-second many", "", 2, "'many' is not a number such as 20 or 0.5, or unlimited"),
    (f"{UPLOAD} --retries -1", "", 2, "--retries -1: expected 0 or more"),
    (f"{UPLOAD} --batch-bytes 16M", "", 2, "'16M' is not a size such as 16MiB, 500MB or 4096"),
    (f"{UPLOAD} --stall-timeout soon", "", 2, "'soon' is not a time such as 30s, 5m or 500ms"),
    (f"{UPLOAD} --affinity series", "", 2, 'Invalid value "series" for --affinity. Choose from: "study", "none"'),
    (f"{UPLOAD} --header s3cret", "", 2, "--header number 1: expected 'Name: value'"),
    (f"{UPLOAD} --user ada --bearer-file token", "", 2, "--user, --bearer-file and --bearer-command: one login"),
    (f"{UPLOAD} --user ada", "", 2, "--user without a password: set BULKSTOW_PASSWORD, or give --password-file"),
    (f"{UPLOAD} --bearer-file gone", "", 2, f"--bearer-file gone: cannot be read ({NOT_A_FILE})"),
    (f"{UPLOAD} --ca-file gone", "", 2, f"certificates gone cannot be loaded: {NOT_A_FILE}"),
    (f"{UPLOAD} --ca-file words", "", 2, "certificates words cannot be loaded"),
    (f"{UPLOAD} --client-key gone", "", 2, "--client-key without --client-cert"),
    (f"{UPLOAD} --files-from gone", "", 2, f"--files-from gone: cannot be read ({NOT_A_FILE})"),
    (f"{UPLOAD} --summary gone/s.json", "", 2, "--summary gone/s.json: cannot be written (no such directory)"),
    (f"{UPLOAD} --summary archive", "", 2, "--summary archive: cannot be written (a directory)"),
    (f"{UPLOAD} --modality CT,", "", 2, "Invalid value for --modality: 'CT,' is not a list of words with commas"),
    (f"{UPLOAD} --study-date 2020-30", "", 2, "Invalid value for --study-date: '2020-30' is not a date such as 2020-"),
    (f"{UPLOAD} --study-date 2022..2020", "", 2, "--study-date: '2022..2020' ends before it begins"),
    (f"{UPLOAD} --sop-class CTImage", "", 2, "--sop-class CTImage: expected a UID, or a keyword of PS3.6 such as"),
    (f"{UPLOAD} --studies words", "", 2, "--studies words: line 1, 'not a ledger, and not TOML', is no Study Insta"),
    (f"{UPLOAD} --studies archive", "", 2, "--studies archive: cannot be read (Is a directory)"),
    (f"{UPLOAD} --min-age 0", "", 2, "--min-age 0: expected more than 0"),
    (f"{UPLOAD} --min-age old", "", 2, "Invalid value for --min-age: 'old' is not a time such as 30s, 5m or 500ms"),
    (f"{UPLOAD} --max-size 0", "", 2, "--max-size 0: expected more than 0"),
    (f"{UPLOAD} --include [a", "", 2, "--include '[a': expected a pattern such as *.dcm, CT/*.dcm or /archive/old;"),
    (
        f"{UPLOAD} --config c.toml",
        "[upload]\nexclude = ['x', 'a[']",
        2,
        "c.toml [upload] exclude = 'a[': expected a pattern such as *.dcm",
    ),
    (f"{UPLOAD} --ledger words", "", 3, "words cannot be used: file is not a database"),
    (f"{UPLOAD} --ledger .", "", 3, "the ledger . cannot be used"),
    (f"{UPLOAD} --ledger archive", "", 3, "the ledger archive cannot be used"),
    (f"{UPLOAD} --ledger other.db", "", 3, "other.db is a database, but not bulkstow's ledger: give another file"),
    (f"{UPLOAD} --ledger future.db", "", 3, "the ledger future.db has schema 99, this bulkstow reads schemas up to 5"),
    (f"{UPLOAD} --ledger used.db", "", 3, "the ledger used.db is in use by another run: wait for it, or give another"),
    (f"{UPLOAD} --ledger gone/l.db", "", 3, "gone does not exist: make it, or give another --ledger"),
    ("upload archive --url {refused}", "", 3, "Connection refused; is the server running, is the URL right?"),
    ("upload archive --url {locked} --user ada", "", 3, "refuses our login (401): check --user, --header or"),
    ("upload archive --url {url}/x --progress none", "", 3, "/dicom-web/x (HTTP 404): --url is the DICOMweb root"),
    ("--config gone.toml upload archive", "", 2, f"--config gone.toml: cannot be read ({NOT_A_FILE})"),
    ("--config words upload archive", "", 2, "--config words: not TOML (Expected"),
    ("--config archive upload archive", "", 2, "--config archive: cannot be read (Is a directory)"),
    (
        f"{UPLOAD} --config c.toml",
        "[uplaod]",
        2,
        "c.toml: no command with settings is called 'uplaod'; did you mean [upload]?",
    ),
    (
        f"{UPLOAD} --config c.toml",
        "url = 'x'",
        2,
        "no command with settings is called 'url'; expected a table of upload, plan, verify, report",
    ),
    (f"{UPLOAD} --config c.toml", "[config]", 2, "c.toml: no command with settings is called 'config'"),
    (f"{UPLOAD} --config c.toml", "upload = 3", 2, 'key [upload] in "c.toml" must be a mapping'),
    (
        f"{UPLOAD} --config c.toml",
        "[upload]\nretris = 3",
        2,
        'c.toml: no setting "retris" in [upload]; did you mean "retries"?',
    ),
    (f"{UPLOAD} --config c.toml", "[upload]\nretries = 'x'", 2, "c.toml [upload] retries: 'x' is not a whole number"),
    (f"{UPLOAD} --config c.toml", "[upload]\nretries = 1.5", 2, "c.toml [upload] retries: '1.5' is not a whole number"),
    (
        f"{UPLOAD} --config c.toml",
        "[upload]\nretries = [1, 2]",
        2,
        "c.toml [upload] retries: '[1, 2]' is not a whole number",
    ),
    (
        f"{UPLOAD} --config c.toml",
        "[upload]\ninsecure = 'so'",
        2,
        "c.toml [upload] insecure: 'so' is not true or false",
    ),
    ("report", "", 2, "--ledger requires an argument"),
    ("report gone.db", "", 3, "no ledger at gone.db: give the file that `bulkstow upload --ledger` wrote"),
    ("report other.db", "", 3, "other.db is a database, but not bulkstow's ledger"),
    ("report used.db --outcome refused,lost", "", 2, "--outcome 'lost': expected some of stored, warned, duplicate"),
    ("report used.db --format xml", "", 2, 'Invalid value "xml" for --format. Choose from: "table", "csv", "jsonl"'),
    ("serve --discard --port {port}", "", 2, "cannot listen on 127.0.0.1:{port}: "),
    ("serve --discard --port x", "", 2, "Invalid value for --port: 'x' is not a whole number"),
    ("serve --discard --port 65536", "", 2, "--port 65536: expected 0 to 65535"),
    ("serve --discard --max-requests 0", "", 2, "--max-requests 0: expected more than 0"),
    ("serve --discard --max-connections -1", "", 2, "--max-connections -1: expected more than 0"),
    ("serve --discard --max-part-bytes 0", "", 2, "--max-part-bytes 0: expected more than 0"),
    ("serve words", "", 2, "words: instances cannot be stored there (File exists)"),
    ("serve --discard --user ada", "", 2, "--user without a password: set BULKSTOW_PASSWORD"),
    ("serve --discard --tls-cert gone", "", 2, f"--tls-cert gone: cannot be loaded ({NOT_A_FILE})"),
    ("bench", "", 2, "--url is missing: give the DICOMweb root"),
    ("bench --url {url} --mode fast", "", 2, 'Invalid value "fast" for --mode. Choose from: "closed", "open", "sweep"'),
    ("bench --url {url} --mode open", "", 2, "--mode open without --rate: give the instances a second"),
    ("bench --url {url} --connections some", "", 2, "'some' is not 'auto', a whole number, or a list of them such as"),
    (
        "bench --url {url} --connections 1,2",
        "",
        2,
        "--connections 1,2: a list is for --mode sweep; expected one number",
    ),
    ("bench --url {url} --workload xa", "", 2, "--workload 'xa': expected mr, ct, cr, mg, us, wsi, sr, mixed, or a"),
    ("bench --url {url} --workload empty", "", 2, "--workload empty: expected DICOM files"),
    ("bench --url {url} --compressibility 2", "", 2, "compressibility 2: expected a share from 0 to 1"),
    ("bench --url {url} --threshold p99", "", 2, "--threshold 'p99': expected FIGURE<LIMIT or FIGURE>LIMIT"),
    ("bench --url {url} --json gone/out", "", 2, "--json gone/out: cannot be written (no such directory)"),
    ("bench --url {url} --report empty", "", 2, "--report empty: cannot be written (a directory)"),
    ("bench --url {refused} --progress none", "", 3, "Connection refused; is the server running, is the URL right?"),
    ("bench --url {locked} --user ada --progress none", "", 3, "refuses our login (401): check --user, --header or"),
    ("bench compare words words", "", 2, "words: not JSON"),
    ("bench compare a b c d", "", 2, "too many arguments: 'c d'; `bulkstow bench compare --help` shows the usage"),
    ("bench compare words", "", 2, 'Command "bench compare" parameter --after requires an argument'),
    ("bench delete a_b --url {url}", "", 2, "run ID 'a_b': expected 1 to 24 letters, digits and hyphens"),
    ("demo new --instances 0", "", 2, "--instances 0: expected 1 or more"),
    ("demo words", "", 2, "words: the archive cannot be created there (Not a directory)"),
    ("body", "", 2, "nothing to send: name directories or files"),
    ("body empty", "", 2, "no DICOM instance found in empty"),
    ("body gone", "", 2, "no such file or directory: 'gone'"),
    ("body archive --output gone/b", "", 2, f"--output gone/b: cannot be written ({NOT_A_FILE})"),
]


@pytest.mark.usefixtures("things")
@pytest.mark.parametrize(
    ("words", "toml", "exit_status", "says"),
    WRONG_USES,
    ids=[f"{words.replace(UPLOAD, 'upload …')} {toml}".strip() for words, toml, *_ in WRONG_USES],
)
def test_a_wrong_use_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    places: Mapping[str, str],
    words: str,
    toml: str,
    exit_status: int,
    says: str,
) -> None:
    """Wrong use leads to one line on standard error, without a traceback, and to the exit status of its kind."""
    Path("c.toml").write_text(toml)
    if "{locked}" in words:
        monkeypatch.setenv("BULKSTOW_PASSWORD", "s3cret")
    ended = call(capsys, *names_in(words, places).split())
    (line,) = ended.err.splitlines()
    assert line.startswith("bulkstow: ")
    assert names_in(says, places) in line
    assert ended.status == exit_status
    assert "s3cret" not in ended.says


@pytest.mark.usefixtures("things")
def test_a_wrong_use_changes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Wrong use creates no ledger."""
    before = set(tmp_path.rglob("*"))
    assert call(capsys, "upload", "archive", "gone", "--url", URL).status == 2
    assert call(capsys, "upload", "archive", "--url", URL, "--summary", "gone/s").status == 2
    assert set(tmp_path.rglob("*")) == before


# Help -------------------------------------------------------------------------------------------------------------


def flags_of(command: str) -> set[str]:
    """Return the flags of a command."""
    settings = {
        "upload": upload_defaults,
        "plan": lambda: upload_defaults() | plan_defaults(),
        "verify": verify_defaults,
        "bench": bench_defaults,
    }
    if command in settings:
        only_upload = {"dry-run", *watch_defaults()} if command == "plan" else set()
        return {f"--{flag}" for flag in settings[command]() if flag not in only_upload}
    parameters = inspect.signature(COMMANDS[command]).parameters.values()
    named = [parameter for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_POSITIONAL]
    return {f"--{parameter.name.replace('_', '-')}" for parameter in named}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_flag(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Help shows all flags and no secret of the environment, and connects to, reads and writes nothing."""

    def connect(*_: object) -> None:
        raise AssertionError("help needs no network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setenv("BULKSTOW_PASSWORD", "s3cret")
    monkeypatch.setenv("BULKSTOW_BEARER", "s3cret")
    monkeypatch.setenv("BULKSTOW_HEADER", "Authorization: Bearer s3cret")
    ended = call(capsys, command, "--help")
    assert (ended.status, ended.err) == (0, "")
    assert flags_of(command) | {"--config"} <= set(re.findall(r"--[a-z-]+", ended.out))
    assert "s3cret" not in ended.out
    assert list(Path().iterdir()) == []


USAGES = {
    "": "COMMAND [OPTIONS]",
    "upload": "SOURCE... --url URL [OPTIONS]",
    "plan": "SOURCE... [OPTIONS]",
    "verify": "[SOURCE...] --url URL [OPTIONS]",
    "report": "LEDGER... [OPTIONS]",
    "bench": "--url URL [OPTIONS]",
    "bench compare": "BEFORE AFTER",
    "bench delete": "RUN_ID --url URL [OPTIONS]",
    "demo": "[DIRECTORY] [OPTIONS]",
    "serve": "[DIRECTORY] [OPTIONS]",
    "body": "SOURCE... [OPTIONS]",
    "config": "[OPTIONS]",
}


@pytest.mark.parametrize("command", USAGES)
def test_usage_says_what_is_needed(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """The first line of help can be copied: the program, the command, and its required arguments."""
    first = call(capsys, *command.split(), "--help").out.splitlines()[0]
    assert first == " ".join(f"Usage: bulkstow {command} {USAGES[command]}".split())


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]], ids=["nothing", "--help", "-h"])
def test_help_names_every_command(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """`bulkstow` without arguments lists the commands."""
    ended = call(capsys, *words)
    assert (ended.status, ended.err) == (0, "")
    assert set(COMMANDS) <= set(re.findall(r"[a-z]+", ended.out))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints only the version."""
    ended = call(capsys, "--version")
    assert ended.status == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", ended.out)


def test_an_interrupt_is_a_status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C during a command ends it with 130, without the handling of the library for flags."""

    def interrupted(_: Job) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("bulkstow.cli.upload.carry_out", interrupted)
    assert call(capsys, "upload", "archive", "--url", URL).status == 130


ENDINGS = {
    "hanging": "import threading; threading.Thread(target=threading.Event().wait).start()",
    "interrupted": "import os, signal; leave = os._exit; ctrl_c = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
    "os._exit = lambda status: (ctrl_c(), leave(status))",
}


@pytest.mark.parametrize("before", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize(("words", "exit_status"), [(["--version"], 0), (["uplaod"], 2)], ids=["done", "failed"])
def test_the_exit_status_is_kept_at_the_end(before: str, words: list[str], exit_status: int) -> None:
    """A thread that never ends and a Ctrl-C at the end neither change the exit status nor keep the process."""
    program = f"{before}\nfrom bulkstow.cli import main; main({words})"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == exit_status
    assert ended.stdout or ended.stderr
    assert b"Traceback" not in ended.stderr
