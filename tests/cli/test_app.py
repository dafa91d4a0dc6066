"""What every command has in common: wrong uses, where a setting may stand and which counts, help."""

from __future__ import annotations

import dataclasses
import inspect
import re
import socket
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import cyclopts
import pytest
from cyclopts import Parameter

from bulkstow.bench.settings import BenchSettings
from bulkstow.cli.app import app
from bulkstow.cli.bench import measure
from bulkstow.cli.body import body
from bulkstow.cli.demo import demo
from bulkstow.cli.report import report
from bulkstow.cli.serve import serve
from bulkstow.cli.upload import upload
from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.engine.job import Job
from bulkstow.ledger import Ledger
from bulkstow.quantities import Hours, Span, Timetable
from bulkstow.server.login import Login
from tests.archives import write_instance
from tests.cli.command import PATIENCE_S, Ended, call, names_in, nobody, served

URL = "http://pacs.example/dicom-web"
EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
COMMANDS: dict[str, Callable[..., int]] = {
    "upload": upload,
    "report": report,
    "bench": measure,
    "demo": demo,
    "serve": serve,
    "body": body,
}


@pytest.fixture(scope="module")
def places() -> Iterator[Mapping[str, str]]:
    """Give URLs: of a server, of one that wants a login, of nobody; and a port that is taken."""
    with served() as url, served(login=Login(users={"ada": "right"})) as locked, nobody() as refused:
        yield {"url": url, "locked": locked, "refused": refused, "port": url.split(":")[2].partition("/")[0]}


@pytest.fixture
def things(tmp_path: Path) -> Iterator[None]:
    """Put into the working directory what wrong uses stumble over."""
    write_instance(tmp_path / "archive", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").write_text("not a ledger, and not TOML\n")
    for name, pragma in (("other.db", "user_version = 1"), ("future.db", "user_version = 99")):
        connection = sqlite3.connect(tmp_path / name)
        connection.execute("CREATE TABLE thing (id)")
        connection.execute(f"PRAGMA {pragma}")
        if name == "future.db":
            connection.execute(f"PRAGMA application_id = {0x53544F57}")
        connection.close()
    with Ledger(tmp_path / "used.db", URL):
        yield


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
    (f"{UPLOAD} --ledger words", "", 3, "words cannot be used: file is not a database"),
    (f"{UPLOAD} --ledger .", "", 3, "the ledger . cannot be used"),
    (f"{UPLOAD} --ledger archive", "", 3, "the ledger archive cannot be used"),
    (f"{UPLOAD} --ledger other.db", "", 3, "other.db is a database, but not bulkstow's ledger: give another file"),
    (f"{UPLOAD} --ledger future.db", "", 3, "the ledger future.db has schema 99, this bulkstow reads schemas up to 2"),
    (f"{UPLOAD} --ledger used.db", "", 3, "the ledger used.db is in use by another run: wait for it, or give another"),
    (f"{UPLOAD} --ledger gone/l.db", "", 3, "gone does not exist: make it, or give another --ledger"),
    ("upload archive --url {refused}", "", 3, "Connection refused; is the server running, is the URL right?"),
    ("upload archive --url {locked} --user ada", "", 3, "refuses our login (401): check --user, --header or"),
    ("upload archive --url {url}/x --progress none", "", 3, "/dicom-web/x (HTTP 404): --url is the DICOMweb root"),
    ("--config gone.toml upload archive", "", 2, f"--config gone.toml: cannot be read ({NOT_A_FILE})"),
    ("--config words upload archive", "", 2, "--config words: not TOML (Expected"),
    ("--config archive upload archive", "", 2, "--config archive: cannot be read (Is a directory)"),
    (f"{UPLOAD} --config c.toml", "[uplaod]", 2, "c.toml: no command is called 'uplaod'; did you mean [upload]?"),
    (f"{UPLOAD} --config c.toml", "url = 'x'", 2, "no command is called 'url'; expected a table of upload, report"),
    (f"{UPLOAD} --config c.toml", "upload = 3", 2, 'key [upload] in "c.toml" must be a mapping'),
    (
        f"{UPLOAD} --config c.toml",
        "[upload]\nretris = 3",
        2,
        'c.toml: no setting "retris" in [upload]; did you mean "retries"?',
    ),
    (f"{UPLOAD} --config c.toml", "[upload]\nretries = 'x'", 2, "c.toml [upload] retries: 'x' is not a whole number"),
    (f"{UPLOAD} --config c.toml", "[upload]\nretries = 1.5", 2, "c.toml [upload] retries: '1.5' is not a whole number"),
    (f"{UPLOAD} --config c.toml", "[upload]\nretries = [1, 2]", 2, 'unable to convert "[1, 2]" into int'),
    (f"{UPLOAD} --config c.toml", "[upload]\ninsecure = 'so'", 2, 'c.toml [upload] insecure: unable to convert "so"'),
    ("report", "", 2, "--ledger requires an argument"),
    ("report gone.db", "", 3, "no ledger at gone.db: give the file that `bulkstow upload --ledger` wrote"),
    ("report other.db", "", 3, "other.db is a database, but not bulkstow's ledger"),
    ("report used.db --outcome refused,lost", "", 2, "--outcome 'lost': expected some of stored, warned, duplicate"),
    ("report used.db --format xml", "", 2, 'Invalid value "xml" for --format. Choose from: "table", "csv", "jsonl"'),
    ("serve --discard --port {port}", "", 2, "cannot listen on 127.0.0.1:{port}: "),
    ("serve --discard --port 65536", "", 2, "--port 65536: expected 0 to 65535"),
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
    ("bench compare words", "", 2, 'Command "bench compare" parameter --after requires an argument'),
    ("bench delete a_b --url {url}", "", 2, "run ID 'a_b': expected 1 to 24 letters, digits and hyphens"),
    ("demo new --instances 0", "", 2, "--instances 0: expected 1 or more"),
    ("demo words", "", 2, "words: an archive cannot be made there (Not a directory)"),
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
    """One line on standard error says what is wrong, no traceback does, and the exit status is that of its kind."""
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
    """A mistake that is seen at once leaves no ledger behind."""
    before = set(tmp_path.rglob("*"))
    assert call(capsys, "upload", "archive", "gone", "--url", URL).status == 2
    assert call(capsys, "upload", "archive", "--url", URL, "--summary", "gone/s").status == 2
    assert set(tmp_path.rglob("*")) == before


# Where a setting may stand ----------------------------------------------------------------------------------------

HEADERS = ("X-One: 1 and more", "X-Two: 2")

SAMPLES: dict[str, tuple[str, object]] = {
    # flag: what to write, what comes of it; each another value than the default
    "url": ("https://elsewhere.example/rs", "https://elsewhere.example/rs"),
    "header": ("\n".join(HEADERS), HEADERS),
    "header-file": ("headers", Path("headers")),
    "user": ("ada", "ada"),
    "password-file": ("word", Path("word")),
    "bearer-file": ("token", Path("token")),
    "bearer-command": ("print a token", "print a token"),
    "ca-file": ("ca.pem", Path("ca.pem")),
    "client-cert": ("me.pem", Path("me.pem")),
    "client-key": ("key.pem", Path("key.pem")),
    "insecure": ("true", True),
    "chunked": ("true", True),
    "quote-boundary": ("true", True),
    "connect-timeout": ("500ms", 0.5),
    "stall-timeout": ("5m", 300.0),
    "response-timeout": ("2h", 7200.0),
    "no-preflight": ("true", True),
    "trust-status": ("true", True),
    "ledger": ("other.db", Path("other.db")),
    "concurrency": ("2-17", Span(2, 17)),
    "per-study": ("2", 2),
    "batch-bytes": ("64MiB", 64 * 2**20),
    "batch-instances": ("unlimited", None),
    "affinity": ("none", "none"),
    "read-concurrency": ("3", 3),
    "bandwidth": (
        "08:00-18:00=10MiB/s,400Mbit/s",
        Timetable((Hours(8 * 3600, 18 * 3600, 10 * 2**20),), 50_000_000),
    ),
    "requests-per-second": ("0.5", 0.5),
    "retries": ("0", 0),
    "give-up-after": ("30s", 30.0),
    "retry-failed": ("true", True),
    "on-conflict": ("newest", "newest"),
    "accept-missing-preamble": ("true", True),
    "skip-truncated": ("true", True),
    "follow-links": ("true", True),
    "read-timeout": ("30s", 30.0),
    "allow-empty": ("true", True),
    "progress": ("log", "log"),
    "log": ("run.log", Path("run.log")),
    "log-format": ("json", "json"),
    "summary": ("figures.json", "figures.json"),
    "files-from": ("list", "list"),
    "null": ("true", True),
}
OTHERS = {
    "url": "https://third.example/",
    "header": "X-Three: 3",
    "affinity": "study",
    "on-conflict": "send",
    "progress": "bar",
    "log-format": "text",
    "bandwidth": "5MB/s",
}
"""A second value where the sample has no neighbour."""
IN_COMPANY = {"client-key": ("--client-cert", "me.pem")}
"""What a setting cannot do without."""


def flag_of(name: str, hint: object) -> str:
    """Return the flag of a field, without its dashes: the one that it is given, or its name."""
    if get_origin(hint) is Annotated:
        for note in get_args(hint)[1:]:
            if isinstance(note, Parameter) and note.name:
                return next(iter(note.name)).removeprefix("--")
    return name.replace("_", "-")


def defaults_of(*all_settings: type) -> dict[str, object]:
    """Return every flag of some settings with its default."""
    defaults: dict[str, object] = {}
    for settings in all_settings:
        hints = get_type_hints(settings, include_extras=True)
        defaults |= {flag_of(field.name, hints[field.name]): field.default for field in dataclasses.fields(settings)}
    return defaults


def values_of(*all_settings: object) -> dict[str, object]:
    """Return every flag of some settings with the value that it came to."""
    values: dict[str, object] = {}
    for settings in all_settings:
        hints = get_type_hints(type(settings), include_extras=True)
        values |= {flag_of(name, hints[name]): getattr(settings, name) for name in hints}
    return values


def upload_defaults() -> dict[str, object]:
    """Return every flag of `upload` with its default."""
    return defaults_of(DestinationSettings, UploadSettings) | {"files-from": None, "null": False}


def upload_values(job: Job) -> dict[str, object]:
    """Return every flag of `upload` with the value that it came to."""
    return values_of(job.destination, job.settings) | {"files-from": job.files_from, "null": job.null_separated}


def bench_defaults() -> dict[str, object]:
    """Return every flag of `bench` with its default."""
    return defaults_of(DestinationSettings, BenchSettings)


class Wanted:
    """Takes the place of `upload`'s work, and keeps the job."""

    job: Job

    def __call__(self, job: Job) -> int:
        """Keep it."""
        self.job = job
        return 0


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> Wanted:
    """Give what `upload` would carry out."""
    wanted = Wanted()
    monkeypatch.setattr("bulkstow.cli.upload.carry_out", wanted)
    return wanted


def as_flags(flag: str, text: str) -> list[str]:
    """Return the words that set it on the command line."""
    if SAMPLES[flag][1] is True:
        return [f"--{flag}"] if text == "true" else []
    return [word for line in text.split("\n") for word in (f"--{flag}", line)]


def as_toml(flag: str, text: str) -> str:
    """Return the line that sets it in a file."""
    if flag == "header":
        return f"header = {text.splitlines()}"
    return f"{flag} = {text if text in ('true', 'false') or text.isdigit() else repr(text)}"


def test_the_samples_are_all_flags_of_upload() -> None:
    """Whoever adds a setting adds a sample for it here."""
    defaults = upload_defaults()
    assert SAMPLES.keys() == defaults.keys()
    assert [flag for flag, default in defaults.items() if SAMPLES[flag][1] == default] == []


@pytest.mark.parametrize("flag", SAMPLES)
@pytest.mark.parametrize("place", ["flag", "environment", "file"])
def test_every_setting_may_stand_anywhere(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    wanted: Wanted,
    place: Literal["flag", "environment", "file"],
    flag: str,
) -> None:
    """A flag, a variable and a key of a TOML file come to the same value, and touch no other setting."""
    text, value = SAMPLES[flag]
    words = ["upload", "archive", *IN_COMPANY.get(flag, ())]
    words += [] if flag == "url" else ["--url", URL]
    match place:
        case "flag":
            words += as_flags(flag, text)
        case "environment":
            monkeypatch.setenv(f"BULKSTOW_{flag.upper().replace('-', '_')}", text)
        case "file":
            Path("c.toml").write_text(f"[upload]\n{as_toml(flag, text)}\n")
            words += ["--config", "c.toml"]
    assert call(capsys, *words).err == ""
    found = upload_values(wanted.job)
    company = {IN_COMPANY[flag][0].removeprefix("--")} if flag in IN_COMPANY else set()
    assert found[flag] == value
    assert {name for name, default in upload_defaults().items() if found[name] != default} - company == {flag, "url"}


@pytest.mark.parametrize("flag", [flag for flag, (_, value) in SAMPLES.items() if value is not True])
def test_a_flag_before_the_environment_before_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: Wanted, flag: str
) -> None:
    """Of three values the flag's counts, of the other two the environment's; lists are not joined."""
    text, value = SAMPLES[flag]
    other = OTHERS.get(flag) or f"{int(re.sub('[^0-9]', '', text) or 0) + 1}"
    variable = f"BULKSTOW_{flag.upper().replace('-', '_')}"
    words = ["upload", "archive", *IN_COMPANY.get(flag, ()), "--config", "c.toml"]
    words += [] if flag == "url" else ["--url", URL]

    def found(*more: str) -> object:
        assert call(capsys, *words, *more).err == ""
        return upload_values(wanted.job)[flag]

    Path("c.toml").write_text(f"[upload]\n{as_toml(flag, other)}\n")
    from_file = found()
    assert from_file != value
    monkeypatch.setenv(variable, text)
    assert found() == value
    monkeypatch.setenv(variable, other)
    assert found() == from_file
    assert found(*as_flags(flag, text)) == value


MISTAKES = [
    # flag, what is written, what the message says of a flag, of a variable and of a key
    ("per-study", "0", "{}: expected more than 0"),
    ("retries", "-1", "{}: expected 0 or more"),
    ("concurrency", "9-2", "{}: expected the smaller number first"),
    ("summary", "gone/s", "{}: cannot be written (no such directory)"),
    ("bearer-file", "gone", "{}: cannot be read (No such file or directory)"),
    ("batch-bytes", "all", "Invalid value for {}: 'all' is not a size"),
    ("stall-timeout", "soon", "Invalid value for {}: 'soon' is not a time"),
]


@pytest.mark.usefixtures("things")
@pytest.mark.parametrize("place", ["flag", "environment", "file"])
@pytest.mark.parametrize(("flag", "text", "says"), MISTAKES, ids=[flag for flag, *_ in MISTAKES])
def test_a_mistake_is_named_as_it_was_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: str, flag: str, text: str, says: str
) -> None:
    """A flag by its name, a variable with its value, a key with its file and table: whoever finds the mistake."""
    words = ["upload", "archive", "--url", URL, "--progress", "none"]
    is_converted = "Invalid" in says
    match place:
        case "flag":
            words += [f"--{flag}", text]
            name = f"--{flag}" if is_converted else f"--{flag} {text}"
        case "environment":
            monkeypatch.setenv(variable := f"BULKSTOW_{flag.upper().replace('-', '_')}", text)
            name = f"{variable}={text}"
        case _:
            Path("c.toml").write_text(f"[upload]\n{flag} = '{text}'\n")
            words += ["--config", "c.toml"]
            name = f"c.toml [upload] {flag}" if is_converted else f"c.toml [upload] {flag} = {text}"
    ended = call(capsys, *words)
    assert ended.status == 2
    assert ended.err.startswith(f"bulkstow: {says.format(name)}")


@pytest.mark.usefixtures("things")
def test_only_what_was_not_a_flag_is_renamed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several settings in a message each is named as it was written; no secret is shown, no command changed."""
    words = ["upload", "archive", "--url", URL, "--bearer-file", "words"]
    monkeypatch.setenv("BULKSTOW_USER", "ada")
    assert "BULKSTOW_USER, --bearer-file and --bearer-command: one login" in call(capsys, *words).err
    monkeypatch.setenv("BULKSTOW_HEADER", "s3cret")
    ended = call(capsys, "upload", "archive", "--url", URL)
    assert ended.err == "bulkstow: BULKSTOW_HEADER number 1: expected 'Name: value' on one line\n"
    monkeypatch.setenv("BULKSTOW_LEDGER", "gone.db")
    assert "give the file that `bulkstow upload --ledger` wrote" in call(capsys, "report").err


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("BULKSTOW_BANDWITH", "did you mean BULKSTOW_BANDWIDTH?"),
        ("BULKSTOW_PASSWROD", "did you mean BULKSTOW_PASSWORD?"),
        ("BULKSTOW_bandwidth", "did you mean BULKSTOW_BANDWIDTH?"),
        ("BULKSTOW_NO_INSECURE", "did you mean BULKSTOW_INSECURE?"),
        ("BULKSTOW_CONECTIONS", "did you mean BULKSTOW_CONNECTIONS?"),
        ("BULKSTOW_XYZZY", "`bulkstow COMMAND --help` lists the settings"),
    ],
)
@pytest.mark.parametrize("words", [("upload", "archive", "--url", URL), ("report", "l.db")], ids=["upload", "report"])
def test_a_variable_that_is_no_setting_is_an_error(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    variable: str,
    hint: str,
) -> None:
    """A mistyped limit would be none: status 2 with a suggestion, and nothing is done."""
    monkeypatch.setenv(variable, "5MB/s")
    ended = call(capsys, *words)
    assert ended == Ended(2, "", f"bulkstow: the variable {variable} in the environment is no setting; {hint}\n")


def test_a_variable_of_another_command_is_let_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: Wanted
) -> None:
    """One environment serves all commands."""
    for name in ("PORT", "CONNECTIONS", "OUTCOME", "PASSWORD", "INSTANCES"):
        monkeypatch.setenv(f"BULKSTOW_{name}", "1")
    assert call(capsys, "upload", "archive", "--url", URL).err == ""
    assert upload_values(wanted.job) == upload_defaults() | {"url": URL}


def test_a_switch_can_be_turned_off_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: Wanted
) -> None:
    """The environment wins over the file with false too."""
    Path("c.toml").write_text("[upload]\ninsecure = true\n")
    monkeypatch.setenv("BULKSTOW_INSECURE", "false")
    call(capsys, "upload", "archive", "--url", URL, "--config", "c.toml")
    assert wanted.job.destination.insecure is False


def test_an_empty_variable_counts_as_unset(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: Wanted
) -> None:
    """Containers and units set what they have no value for to nothing."""
    for flag in SAMPLES:
        monkeypatch.setenv(f"BULKSTOW_{flag.upper().replace('-', '_')}", "")
    assert call(capsys, "upload", "archive", "--url", URL).err == ""
    assert upload_values(wanted.job) == upload_defaults() | {"url": URL}


def test_an_empty_key_counts_as_unset(capsys: pytest.CaptureFixture[str], wanted: Wanted) -> None:
    """A file may show a setting without giving it a value; a mistyped key is an error with an empty value too."""
    Path("c.toml").write_text("[upload]\n" + "".join(f"{flag} = ''\n" for flag in SAMPLES))
    assert call(capsys, "upload", "archive", "--url", URL, "--config", "c.toml").err == ""
    assert upload_values(wanted.job) == upload_defaults() | {"url": URL}
    Path("c.toml").write_text("[upload]\nretris = ''\n")
    assert 'no setting "retris"' in call(capsys, "upload", "archive", "--url", URL, "--config", "c.toml").err


@pytest.mark.parametrize("before", [True, False], ids=["before the command", "after it"])
def test_the_file_may_be_named_anywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: Wanted, before: bool
) -> None:
    """--config stands before the command or after it, wins over BULKSTOW_CONFIG, and other tables are let be."""
    Path("c.toml").write_text("[upload]\nretries = 9\n[serve]\nport = 1\n")
    Path("d.toml").write_text("[upload]\nretries = 7\n")
    words = ["upload", "archive", "--url", URL]
    monkeypatch.setenv("BULKSTOW_CONFIG", "d.toml")
    call(capsys, *words)
    assert wanted.job.settings.retries == 7
    call(capsys, *(["--config", "c.toml", *words] if before else [*words, "--config", "c.toml"]))
    assert wanted.job.settings.retries == 9


# The example ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example() -> dict[str, dict[str, Any]]:
    """Give what the example says when all its settings are taken in."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return tomllib.loads("\n".join(re.sub(r"^# ([a-z-]+) = ", r"\1 = ", line) for line in lines))


def serve_defaults() -> dict[str, object]:
    """Return every flag of `serve` with its default."""
    parameters = inspect.signature(serve).parameters.values()
    return {parameter.name.replace("_", "-"): parameter.default for parameter in parameters}


TABLES = [("upload", upload_defaults()), ("bench", bench_defaults()), ("serve", serve_defaults())]


@pytest.mark.parametrize(("table", "defaults"), TABLES)
def test_the_example_shows_every_setting(
    example: dict[str, dict[str, Any]], table: str, defaults: dict[str, object]
) -> None:
    """Each flag is a key of its command's table, and there is no other key."""
    assert example[table].keys() == defaults.keys()
    assert example.keys() == {table for table, _ in TABLES}


@pytest.mark.parametrize(("table", "defaults"), TABLES)
def test_the_example_shows_defaults(
    example: dict[str, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    defaults: dict[str, object],
) -> None:
    """What stands there is the default; an empty word stands for none."""
    empty = {key for key, value in example[table].items() if value == ""}
    assert {defaults[key] for key in empty} <= {None, ""}
    settings = {key: value for key, value in example[table].items() if key not in empty}
    monkeypatch.setattr(app, "config", [cyclopts.config.Dict({table: settings}, source="config.example.toml")])
    words = {"upload": ["upload", "archive", "--url", URL], "bench": ["bench", "--url", URL], "serve": ["serve"]}
    _, bound, _ = app.parse_args(words[table], exit_on_error=False, print_error=False)
    given = bound.arguments
    match table:
        case "upload":
            found = upload_values(Job(("archive",), given["destination"], given.get("settings", UploadSettings())))
            found |= {"url": "", "null": given["null"]}
        case "bench":
            found = values_of(given["destination"], given["settings"]) | {"url": ""}
        case _:
            found = {name.replace("_", "-"): value for name, value in given.items()}
    assert defaults | found == defaults
    assert settings.keys() <= found.keys()


# Help -------------------------------------------------------------------------------------------------------------


def flags_of(command: str) -> set[str]:
    """Return the flags of a command."""
    if command in ("upload", "bench"):
        return {f"--{flag}" for flag in (upload_defaults() if command == "upload" else bench_defaults())}
    parameters = inspect.signature(COMMANDS[command]).parameters.values()
    named = [parameter for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_POSITIONAL]
    return {f"--{parameter.name.replace('_', '-')}" for parameter in named}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_flag(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """All flags are there, no secret of the environment is, and nothing is connected to, read or written."""

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
    "report": "LEDGER [OPTIONS]",
    "bench": "--url URL [OPTIONS]",
    "bench compare": "BEFORE AFTER",
    "bench delete": "RUN_ID --url URL [OPTIONS]",
    "demo": "[DIRECTORY] [OPTIONS]",
    "serve": "[DIRECTORY] [OPTIONS]",
    "body": "SOURCE... [OPTIONS]",
}


@pytest.mark.parametrize("command", USAGES)
def test_usage_says_what_is_needed(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """The first line of help can be copied: the program, the command, what it needs."""
    first = call(capsys, *command.split(), "--help").out.splitlines()[0]
    assert first == " ".join(f"Usage: bulkstow {command} {USAGES[command]}".split())


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]], ids=["nothing", "--help", "-h"])
def test_help_names_every_command(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """`bulkstow` by itself says what there is."""
    ended = call(capsys, *words)
    assert (ended.status, ended.err) == (0, "")
    assert set(COMMANDS) <= set(re.findall(r"[a-z]+", ended.out))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` says just that."""
    ended = call(capsys, "--version")
    assert ended.status == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", ended.out)


def test_an_interrupt_is_a_status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C that reaches a command ends it with 130 in our hands, not in those of the library for flags."""

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
def test_the_end_has_its_status_whatever_hangs_or_comes(before: str, words: list[str], exit_status: int) -> None:
    """Neither a thread that never ends nor a Ctrl-C at the very end changes what was said, or keeps the process."""
    program = f"{before}\nfrom bulkstow.cli import main; main({words})"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == exit_status
    assert ended.stdout or ended.stderr
    assert b"Traceback" not in ended.stderr
