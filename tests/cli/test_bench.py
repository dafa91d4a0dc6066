"""`bulkstow bench`: what it prints, writes, and ends with."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_type_hints

import pytest

from bulkstow.bench import removal as bench_removal
from bulkstow.bench.document import from_json, to_json
from bulkstow.bench.removal import Removal
from bulkstow.bench.run import Measurement
from bulkstow.bench.settings import BenchSettings
from bulkstow.server.login import Login
from bulkstow.server.storage import DirectoryStorage
from tests.bench.measurements import point, result
from tests.bench.sinks import counts, sink
from tests.cli.command import Says, call, end, nobody, running, served
from tests.cli.settings import as_toml, flag_of

SHORT = {
    "--workload": "sr",
    "--connections": "2",
    "--batch-instances": "3",
    "--duration": "300ms",
    "--warmup": "100ms",
    "--progress": "none",
}


def short(url: str, *more: str) -> list[str]:
    """Return the words of a measurement of a moment; `more` come in the place of its own."""
    own = [word for flag, value in SHORT.items() if flag not in more for word in (flag, value)]
    return ["bench", "--url", url, "--skip-ceiling", *own, *more]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Give an origin that keeps nothing."""
    with served() as url:
        yield url


def test_a_measurement_is_told_and_written(capsys: pytest.CaptureFixture[str], url: str) -> None:
    """A table to standard output, what to delete to standard error, and three files that say the same."""
    outputs = "--json out.json --report out.html --hdr-log out.hlog"
    ended = call(capsys, *short(url, *outputs.split()))
    assert ended.status == 0
    found = from_json(Path("out.json").read_text())
    assert (found.mode, found.workload, found.url) == ("closed", "sr", url)
    assert found.is_complete
    assert found.best.instances > 0
    assert f"run {found.run_id}" in ended.out
    assert f"{found.best.latency.count:,}" in ended.out
    assert ended.err == (
        f"what was stored is still there; delete it with: bulkstow bench delete {found.run_id} --url {url}\n"
    )
    assert found.run_id in Path("out.html").read_text()
    lines = Path("out.hlog").read_text().splitlines()
    assert lines[0] == f"#[{found.run_id}]"
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []


def test_the_json_has_the_keys_that_scripts_read(capsys: pytest.CaptureFixture[str], url: str) -> None:
    """On standard output, alone; the table goes to standard error then."""
    ended = call(capsys, *short(url), "--json", "-")
    document = json.loads(ended.out)
    wanted = {"mode", "instances_per_s", "megabytes_per_s", "latency_s", "service_time_s", "errors", "dropped"}
    assert wanted | {"client_bound", "series"} <= document.keys()
    assert {"p50", "p90", "p99", "p99.9", "max"} <= document["latency_s"].keys()
    assert ended.err.startswith("closed load on ")


@pytest.mark.parametrize(
    "words",
    [
        "--mode open --rate 50 --arrivals poisson",
        "--mode soak --searchable",
        "--repeats 2",
        "--mode closed --workload mixed --batch-bytes 1MB --compressibility 0.5",
    ],
)
def test_modes_and_loads(capsys: pytest.CaptureFixture[str], url: str, words: str) -> None:
    """Each comes to a result that says what it was, without errors."""
    ended = call(capsys, *short(url, *words.split()), "--json", "-")
    found = from_json(ended.out)
    assert (ended.status, found.best.errors) == (0, {})
    assert found.best.instances > 0
    assert (found.best.load.rate_per_s == 50) is ("open" in words)
    assert len(found.best.goodputs_per_s) == (2 if "repeats" in words else 1)


def test_a_sweep_ends_with_the_flags_that_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every load is a point, the knee is one of them, and `upload` is told in one line."""
    monkeypatch.setattr("bulkstow.bench.driver.FILL_S", 0.1)
    with sink("--slots", "2", "--service-ms", "20") as url:
        words = "--mode sweep --connections 1,2,4 --batch-instances 1,4 --duration 150ms --warmup 0"
        ended = call(capsys, *short(url, *words.split()), "--json", "out.json")
    found = from_json(Path("out.json").read_text())
    assert ended.status == 0
    assert len(found.points) == 6
    assert found.knee is not None
    assert found.knee.load.batch_instances == 4
    (fits,) = (line for line in ended.out.splitlines() if line.startswith("what fits"))
    assert fits.endswith(" ".join(("bulkstow upload DIRECTORY --url", url, *found.suggested_flags)))


def test_a_missed_threshold_is_an_exit_status(capsys: pytest.CaptureFixture[str], url: str) -> None:
    """1 where one is missed, whatever the others; 0 where all hold."""
    words = [*short(url), "--threshold", "errors<0.1%", "--threshold"]
    held = call(capsys, *words, "p50<1m")
    assert (held.status, held.out.count("✓ holds")) == (0, 2)
    missed = call(capsys, *words, "instances_per_s>1000000", "--threshold", "p99.9<1m")
    assert (missed.status, missed.out.count("✓ holds"), missed.out.count("✗ missed")) == (1, 1, 2)
    assert "p99.9 needs 1,000 requests" in missed.out


def test_errors_are_counted_and_end_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A server that refuses everything has no goodput, and nothing is sent again."""
    with served(fault=Says(503)) as url:
        ended = call(capsys, *short(url), "--json", "-")
    best = from_json(ended.out).best
    assert (ended.status, best.instances, best.error_share) == (0, 0, 1.0)
    assert set(best.errors) == {"HTTP 503"}


@pytest.mark.parametrize(("status", "says"), [(401, "requires a login"), (404, "no STOW-RS service at this URL")])
def test_what_no_retry_mends_stops_it(capsys: pytest.CaptureFixture[str], status: int, says: str) -> None:
    """Status 3, and no table of zeros."""
    with served(fault=Says(status)) as url:
        ended = call(capsys, *short(url), "--json", "out.json")
    assert ended.status == 3
    assert ended.out == ""
    assert says in ended.err
    assert not Path("out.json").exists()


def test_a_server_with_studies_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It has to be called a test server."""
    with served(DirectoryStorage(tmp_path / "stored")) as url:
        assert call(capsys, *short(url)).status == 0
        refused = call(capsys, *short(url))
        assert (refused.status, refused.out) == (2, "")
        assert "the server holds studies already" in refused.err
        assert call(capsys, *short(url), "--yes-this-is-a-test-server").status == 0


def test_what_is_not_there_need_not_be_deleted(capsys: pytest.CaptureFixture[str], url: str) -> None:
    """A run that nobody knows left nothing."""
    ended = call(capsys, "bench", "delete", "20260101-abcdef", "--url", url)
    assert (ended.status, ended.out) == (0, "run 20260101-abcdef: the server lists no study of it\n")


def test_whoever_is_not_there_deletes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """That is no success."""
    with nobody() as url:
        ended = call(capsys, "bench", "delete", "20260101-abcdef", "--url", url)
    assert (ended.status, ended.out) == (3, "")
    assert "Connection refused" in ended.err


@pytest.mark.parametrize(
    ("removal", "status", "says"),
    [
        (Removal(7, 0), 0, "run abc: 7 studies deleted\n"),
        (
            Removal(2, 3, "DELETE: HTTP 405"),
            1,
            "run abc: 2 studies deleted, 3 left (DELETE: HTTP 405); their Patient IDs begin with bulkstow-bench-abc.\n",
        ),
        (
            Removal(0, None, "QIDO-RS: HTTP 501"),
            1,
            (
                "run abc: 0 studies deleted, an unknown number left (QIDO-RS: HTTP 501); "
                "their Patient IDs begin with bulkstow-bench-abc.\n"
            ),
        ),
    ],
)
def test_what_could_not_be_deleted_is_told(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    removal: Removal,
    status: int,
    says: str,
) -> None:
    """How many, why, and how to find them; a measurement that was to clean up says so too, and is one nevertheless."""

    async def remove(_place: bench_removal.TestServer, _tag: str, **_listener: Any) -> Removal:
        return removal

    monkeypatch.setattr(bench_removal.TestServer, "remove", remove)
    ended = call(capsys, "bench", "delete", "abc", "--url", url)
    assert (ended.status, ended.out) == (status, says)
    measured = call(capsys, *short(url), "--cleanup")
    assert measured.status == 0
    assert " studies deleted" in measured.err
    assert removal.why in measured.err


def test_two_measurements_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    """By the files that they wrote."""
    for name, goodput in (("before", 100.0), ("after", 150.0)):
        Path(name).write_text(to_json(result(point(goodput))))
    ended = call(capsys, "bench", "compare", "before", "after")
    assert ended.status == 0
    assert re.search(r"instances/s +100 +150 +\+50\.0%", ended.out)


@pytest.mark.parametrize("content", [None, b"{}", b"\xff"], ids=["gone", "no result", "no text"])
def test_what_is_no_measurement_is_not_compared(capsys: pytest.CaptureFixture[str], content: bytes | None) -> None:
    """One line says which file it is."""
    if content is not None:
        Path("before").write_bytes(content)
    ended = call(capsys, "bench", "compare", "before", "before")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("bulkstow: before: ")
    assert len(ended.err.splitlines()) == 1


def test_without_the_library_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """The extra is named; comparing needs none."""
    monkeypatch.setitem(sys.modules, "hdrh", None)
    ended = call(capsys, "bench", "--url", url)
    assert ended.status == 2
    assert "needs hdrhistogram: pip install hdrhistogram, or pip install '.[bench]' in a checkout" in ended.err


def test_the_first_interrupt_ends_the_load_the_second_everything() -> None:
    """What was measured is shown, marked; a server that does not answer is not waited for for ever."""
    words = "--workload sr --connections 2 --batch-instances 1 --warmup 0 --duration 10m --skip-ceiling --progress log"
    with sink("--service-ms", "600000") as url, running("bench", "--url", url, *words.split()) as process:
        assert process.stderr is not None
        assert b" 2 connections" in process.stderr.readline()
        _wait_for_requests(url)
        process.send_signal(signal.SIGINT)
        assert b"finishing the current requests; press Ctrl-C again" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        ended = end(process)
    assert ended.status == 130
    assert ended.out.startswith("INCOMPLETE")
    assert "Traceback" not in ended.err


def test_one_interrupt_is_enough_where_the_server_answers() -> None:
    """The load ends, its answers are waited for, and nothing of a sweep comes after it."""
    words = "--mode sweep --workload sr --connections 2 --batch-instances 1 --warmup 0 --duration 10m --skip-ceiling"
    with sink() as url, running("bench", "--url", url, *words.split(), "--progress", "log") as process:
        assert process.stderr is not None
        assert b" 2 connections" in process.stderr.readline()
        _wait_for_requests(url)
        process.send_signal(signal.SIGINT)
        ended = end(process)
        taken = counts(url)
    assert (ended.status, ended.out.startswith("INCOMPLETE")) == (130, True)
    assert taken["instances"] > 0
    assert "2. 2 connections" not in ended.err


def _wait_for_requests(url: str) -> None:
    """Wait until a sink has been asked to store something."""
    while not counts(url)["requests"]:
        pass


def test_a_report_that_cannot_be_written_is_told_before(capsys: pytest.CaptureFixture[str]) -> None:
    """Hours of measuring are not lost at their end."""
    for flag in ("--json", "--report", "--hdr-log"):
        ended = call(capsys, "bench", "--url", "http://127.0.0.1:1/rs", flag, "gone/out")
        assert (ended.status, ended.err) == (
            2,
            f"bulkstow: {flag} gone/out: cannot be written (no such directory)\n",
        )


def test_help_names_what_else_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """The other two commands, each with a help of its own."""
    ended = call(capsys, "bench", "--help")
    assert {"compare", "delete"} <= set(re.findall(r"[a-z]+", ended.out))
    for command in ("compare", "delete"):
        assert f"bulkstow bench {command}" in call(capsys, "bench", command, "--help").out


# Where a setting may stand ----------------------------------------------------------------------------------------

URL = "http://pacs.example/dicom-web"

SAMPLES: dict[str, tuple[str, object]] = {
    # flag: what to write, what comes of it; each another value than the default
    "mode": ("soak", "soak"),
    "workload": ("sr", "sr"),
    "compressibility": ("0.5", 0.5),
    "connections": ("17", (17,)),
    "rate": ("2.5", 2.5),
    "arrivals": ("poisson", "poisson"),
    "duration": ("5m", 300.0),
    "warmup": ("500ms", 0.5),
    "batch-instances": ("18", (18,)),
    "batch-bytes": ("2MiB", 2 * 2**20),
    "repeats": ("3", 3),
    "searchable": ("true", True),
    "skip-ceiling": ("true", True),
    "yes-this-is-a-test-server": ("true", True),
    "cleanup": ("true", True),
    "threshold": ("p99<2s\nerrors<1%", ("p99<2s", "errors<1%")),
    "json": ("out.json", "out.json"),
    "report": ("out.html", Path("out.html")),
    "hdr-log": ("out.hlog", Path("out.hlog")),
    "progress": ("log", "log"),
}
IN_COMPANY = {"rate": ("--mode", "open")}


def bench_defaults() -> dict[str, object]:
    """Return every flag of `bench` with its default, but for those of the server."""
    hints = get_type_hints(BenchSettings, include_extras=True)
    return {flag_of(field.name, hints[field.name]): field.default for field in dataclasses.fields(BenchSettings)}


def bench_values(settings: BenchSettings) -> dict[str, object]:
    """Return every flag with the value that it came to."""
    hints = get_type_hints(BenchSettings, include_extras=True)
    return {flag_of(name, hints[name]): getattr(settings, name) for name in hints}


def test_the_samples_are_all_flags_of_bench() -> None:
    """Whoever adds a setting adds a sample for it here."""
    defaults = bench_defaults()
    assert SAMPLES.keys() == defaults.keys()
    assert [flag for flag, default in defaults.items() if SAMPLES[flag][1] == default] == []


@pytest.mark.parametrize("flag", SAMPLES)
@pytest.mark.parametrize("place", ["flag", "environment", "file"])
def test_every_setting_may_stand_anywhere(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    place: Literal["flag", "environment", "file"],
    flag: str,
) -> None:
    """A flag, a variable and a key of a TOML file come to the same value, and touch no other setting."""
    wanted: list[Measurement] = []

    def carry_out(measurement: Measurement) -> int:
        wanted.append(measurement)
        return 0

    monkeypatch.setattr("bulkstow.cli.bench.carry_out", carry_out)
    text, value = SAMPLES[flag]
    words = ["bench", "--url", URL, *IN_COMPANY.get(flag, ())]
    match place:
        case "flag":
            lines = [word for line in text.split("\n") for word in (f"--{flag}", line)]
            words += [f"--{flag}"] if value is True else lines
        case "environment":
            monkeypatch.setenv(f"BULKSTOW_{flag.upper().replace('-', '_')}", text)
        case "file":
            line = f"threshold = {text.splitlines()}" if flag == "threshold" else as_toml(flag, text)
            Path("c.toml").write_text(f"[bench]\n{line}\n")
            words += ["--config", "c.toml"]
    assert call(capsys, *words).err == ""
    (measurement,) = wanted
    found = bench_values(measurement.settings)
    company = {IN_COMPANY[flag][0].removeprefix("--")} if flag in IN_COMPANY else set()
    assert found[flag] == value
    assert {name for name, default in bench_defaults().items() if found[name] != default} - company == {flag}
    assert measurement.destination.root == URL


def test_a_server_behind_a_login_is_logged_in_to(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For questions, for what is stored, and for what is deleted; the sink is not told."""
    monkeypatch.setenv("BULKSTOW_PASSWORD", "s3cret")
    with served(login=Login(users={"ada": "s3cret"})) as url:
        ended = call(capsys, *short(url), "--user", "ada", "--cleanup", "--json", "-")
    assert ended.status == 0
    assert from_json(ended.out).best.instances > 0
    assert "s3cret" not in ended.says
