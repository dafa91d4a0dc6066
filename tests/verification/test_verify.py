"""Claims about a whole verification, of a ledger against servers on real sockets."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

import pytest
from aiohttp import web

from bulkstow.config import DestinationSettings, UploadSettings, VerificationSettings
from bulkstow.engine.verify import VerificationJob, run
from bulkstow.errors import ConfigurationError, DestinationRefused, LoginRefused
from bulkstow.ledger import Ledger
from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.policy.retry import Backoff
from bulkstow.policy.study_state import StudyResult, StudyState
from bulkstow.quantities import Sample, Span
from bulkstow.verification.examine import Examined
from bulkstow.verification.live import Live
from bulkstow.verification.summary import VerificationSummary
from bulkstow.verification.tally import VerificationTally
from tests.archives import header
from tests.verification.qido_server import QidoServer, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the backoff, the pauses between looks and the intervals of probes."""
    monkeypatch.setattr("bulkstow.engine.queries.Backoff", lambda: Backoff(base_s=0.01, cap_s=0.05))
    monkeypatch.setattr("bulkstow.policy.look.FIRST_PAUSE_S", 0.02)


@dataclass
class Results:
    """Keeps the results of studies."""

    by_study: dict[str, StudyResult] = field(default_factory=dict)

    def write(self, examined: Sequence[Examined]) -> None:
        """Keep results; each study has one."""
        for result in (one.result for one in examined):
            assert result.study_uid not in self.by_study
            self.by_study[result.study_uid] = result

    @property
    def states(self) -> dict[str, StudyState]:
        """The states by study."""
        return {uid: result.state for uid, result in self.by_study.items()}


def result(number: int, study: int = 1, outcome: Outcome = Outcome.STORED, **changes: object) -> FileResult:
    """Return the outcome of a file."""
    made = FileResult(Candidate(f"/{study}/{number}", 1, 1), header(number, study=study), outcome, attempts=1)
    return replace(made, **changes)  # type: ignore[arg-type]


def record(path: Path, url: str, results: Iterable[FileResult]) -> None:
    """Write outcomes as an upload does."""
    with Ledger(path, url) as ledger:
        ledger.record(results)


def archive(studies: int, instances: int) -> list[FileResult]:
    """Return stored files."""
    return [result(n, study) for study in range(1, studies + 1) for n in range(1, instances + 1)]


def holding(results: Iterable[FileResult]) -> dict[str, list[str]]:
    """Return the instances of a server that stored these files."""
    held: dict[str, list[str]] = {}
    for one in results:
        assert one.header is not None
        held.setdefault(one.header.study_uid, []).append(one.header.sop_instance_uid)
    return held


async def verified(
    url: str, ledger: Path, *, settings: UploadSettings | None = None, **verification: object
) -> tuple[Results, VerificationSummary]:
    """Verify a ledger, with no time to settle if none is given."""
    given: dict[str, object] = {"settle_s": 0.0, **verification}
    tally, results = VerificationTally(), Results()
    job = VerificationJob(
        destination=DestinationSettings(url=url, response_timeout_s=5),
        settings=replace(settings or UploadSettings(), ledger=ledger),
        verification=VerificationSettings(**given),  # type: ignore[arg-type]
    )
    summary = await run(job, tally, Live("none", StringIO(), tally), results, heed_signals=False)
    return results, summary


def rows(ledger: Path) -> dict[str, tuple[str, str, str | None]]:
    """Return outcome, reason and level by path."""
    connection = sqlite3.connect(ledger)
    query = "SELECT path, outcome, reason, verified_level FROM file ORDER BY path"
    found = {os.fsdecode(path): tuple(others) for path, *others in connection.execute(query)}
    connection.close()
    return found


QUIRKS = {
    "plain": QidoServer({}),
    "pages of 100": QidoServer({}, page_instances=100),
    "ignores limit": QidoServer({}, ignores_limit=True),
    "ignores offset": QidoServer({}, ignores_limit=True, ignores_offset=True),
    "ignores offset and pages": QidoServer({}, page_instances=100, ignores_offset=True),
    "refuses a limit above 200": QidoServer({}, most_limit=200),
    "repeats across pages": QidoServer({}, page_instances=100, overlap=7),
    "no match is a list": QidoServer({}, no_match=200),
    "lists by series only": QidoServer({}, lists_studies=False),
    "pads UIDs": QidoServer({}, padding="\0"),
}


@pytest.mark.parametrize("quirk", QUIRKS)
@pytest.mark.parametrize("level", ["counts", "instances"])
async def test_what_is_missing_is_named_at_every_server(tmp_path: Path, quirk: str, level: str) -> None:
    """With any quirk of a server: present studies are complete, and exactly the lost instances are named."""
    stored = archive(4, 250)
    held = holding(stored)
    del held["2.25.2"]
    held["2.25.3"].remove("2.25.3.1.17")
    held["2.25.3"].remove("2.25.3.1.230")
    held["2.25.4"].append("2.25.4.1.9999")
    async with serving(replace(QUIRKS[quirk], held=held, requests=[])) as url:
        record(tmp_path / "l.db", url, stored)
        results, summary = await verified(url, tmp_path / "l.db", level=level)
    extra_is_seen = quirk != "ignores offset and pages" or level == "counts"
    assert results.states == {
        "2.25.1": StudyState.COMPLETE,
        "2.25.2": StudyState.ABSENT,
        "2.25.3": StudyState.INCOMPLETE,
        "2.25.4": StudyState.EXTRA if extra_is_seen else StudyState.COMPLETE,
    }
    assert (summary.exit_status, summary.expected, summary.found) == (1, 1000, 748)
    missing = {path for path, (outcome, *_) in rows(tmp_path / "l.db").items() if outcome == "missing"}
    if level == "counts":
        assert missing == set()
    else:
        assert results.by_study["2.25.3"].missing == ("2.25.3.1.17", "2.25.3.1.230")
        assert missing == {"/3/17", "/3/230"} | {f"/2/{n}" for n in range(1, 251)}


async def test_confirmed_instances_are_recorded(tmp_path: Path) -> None:
    """Listed instances have a level, unlisted ones the outcome missing and no level; failures keep their reason."""
    files = [
        result(1),
        result(2, outcome=Outcome.DUPLICATE),
        result(3, outcome=Outcome.MISSING, reason="not on the server"),
        result(4, outcome=Outcome.UNCONFIRMED, reason="no answer"),
        result(5, outcome=Outcome.REFUSED, reason="HTTP 400"),
        result(6),
    ]
    async with serving(QidoServer(holding(files[:4]))) as url:
        record(tmp_path / "l.db", url, files)
        results, summary = await verified(url, tmp_path / "l.db")
    day = summary.started_at[:10]
    assert rows(tmp_path / "l.db") == {
        "/1/1": ("stored", "", "instances"),
        "/1/2": ("duplicate", "", "instances"),
        "/1/3": ("stored", f"found by QIDO-RS on {day} (was missing)", "instances"),
        "/1/4": ("stored", f"found by QIDO-RS on {day} (was unconfirmed)", "instances"),
        "/1/5": ("refused", "HTTP 400", None),
        "/1/6": ("missing", f"not on the server on {day} (was stored)", None),
    }
    assert results.by_study["2.25.1"].missing == ("2.25.1.1.5", "2.25.1.1.6")


async def test_copies_and_accepted_failures(tmp_path: Path) -> None:
    """A copy is the instance of its original; the server may have or lack an accepted failure.

    A file in conflict stays so: a list proves nothing about its content.
    """
    files = [
        result(1),
        result(1, outcome=Outcome.SKIPPED, candidate=Candidate("/copy", 1, 1), copy_of="/1/1"),
        result(2, outcome=Outcome.REFUSED, reason="HTTP 400", accepted="known"),
        result(3, outcome=Outcome.CONFLICT, candidate=Candidate("/other", 1, 1), copy_of="/1/3", reason="as /1/3"),
        result(3),
    ]
    async with serving(QidoServer({"2.25.1": ["2.25.1.1.1", "2.25.1.1.3"]})) as url:
        record(tmp_path / "l.db", url, files)
        results, summary = await verified(url, tmp_path / "l.db")
    assert (results.states, summary.expected) == ({"2.25.1": StudyState.DIFFERENT}, 2)
    assert results.by_study["2.25.1"].different == ("2.25.1.1.3",)
    assert rows(tmp_path / "l.db")["/other"] == ("conflict", "as /1/3", None)
    assert rows(tmp_path / "l.db")["/copy"] == ("skipped", "", None)


async def test_files_without_uids_are_not_covered(tmp_path: Path) -> None:
    """Failures that belong to no study are failures, because nothing is known about their instances, until accepted."""
    unreadable = FileResult(Candidate("/junk", 1, 1), None, Outcome.UNREADABLE, "cut off")
    skipped = FileResult(Candidate("/text", 1, 1), None, Outcome.SKIPPED, "not DICOM")
    async with serving(QidoServer(holding([result(1)]))) as url:
        record(tmp_path / "l.db", url, [result(1), unreadable, skipped])
        _, summary = await verified(url, tmp_path / "l.db")
        record(tmp_path / "l.db", url, [replace(unreadable, accepted="known")])
        _, accepted = await verified(url, tmp_path / "l.db")
    assert (summary.uncovered, summary.exit_status) == (1, 1)
    assert (accepted.uncovered, accepted.exit_status) == (0, 0)


async def test_a_ledger_without_files_for_the_url_is_refused(tmp_path: Path) -> None:
    """A misspelt URL is wrong usage, not a verification of nothing, and leaves no trace in the ledger."""
    record(tmp_path / "l.db", "http://127.0.0.1:1/dicom-web", [result(1)])
    kept = (tmp_path / "l.db").read_bytes()
    with pytest.raises(ConfigurationError, match=r"no files for http://localhost:1/dicom-web; .* http://127.0.0.1:1/"):
        await verified("http://localhost:1/dicom-web", tmp_path / "l.db")
    assert (tmp_path / "l.db").read_bytes() == kept
    async with serving(QidoServer({})) as url:
        _, summary = await verified(url, tmp_path / "l.db", settings=UploadSettings(allow_empty=True))
    assert (summary.studies, summary.exit_status) == (0, 0)


async def test_an_index_that_lags_gets_time(tmp_path: Path) -> None:
    """An instance that is listed at a later look, within the settle time, is not missing."""
    stored = archive(2, 3)
    server = QidoServer(holding(stored[:-1]))

    def index(request: web.Request, number: int) -> None:
        if number == 7:
            server.add("2.25.2.1.3")

    server.before = index
    async with serving(server) as url:
        record(tmp_path / "l.db", url, stored)
        results, summary = await verified(url, tmp_path / "l.db", settle_s=60.0)
    assert (set(results.states.values()), summary.exit_status) == ({StudyState.COMPLETE}, 0)


async def test_an_instance_is_missing_only_if_a_query_for_it_fails_too(tmp_path: Path) -> None:
    """A list may lack an instance that a query for its UID finds; of an absent study one query is enough."""
    stored = archive(2, 3)
    server = QidoServer(holding(stored[:3]))

    def hide(request: web.Request, number: int) -> web.Response | None:
        if request.match_info.get("study") == "2.25.1" and "SOPInstanceUID" not in request.query:
            uids = [] if request.query["offset"] != "0" else ["2.25.1.1.1"]
            return web.json_response([{"00080018": {"Value": [uid]}} for uid in uids])
        return None

    server.before = hide
    async with serving(server) as url:
        record(tmp_path / "l.db", url, stored)
        results, _ = await verified(url, tmp_path / "l.db")
    assert results.states == {"2.25.1": StudyState.COMPLETE, "2.25.2": StudyState.ABSENT}
    series = "/studies/2.25.1/series/2.25.1.1/instances"
    asked = [request for request in server.requests if "SOPInstanceUID" in request]
    assert asked == [f"{series}?SOPInstanceUID=2.25.1.1.{n}" for n in (2, 3)]
    assert len([request for request in server.requests if "StudyInstanceUID=2.25.2" in request]) == 1


@pytest.mark.parametrize("status", [403, 500])
async def test_a_study_that_cannot_be_asked_for_is_unknown(tmp_path: Path, status: int) -> None:
    """A failed query never makes an instance missing; the other studies have their results."""
    stored = archive(2, 3)
    server = QidoServer(holding(stored))

    def refuse(request: web.Request, number: int) -> web.Response | None:
        is_refused = "2.25.2" in request.path_qs
        return web.Response(status=status, text="no") if is_refused else None

    server.before = refuse
    async with serving(server) as url:
        record(tmp_path / "l.db", url, stored)
        results, summary = await verified(url, tmp_path / "l.db", settings=UploadSettings(retries=1))
    assert results.states == {"2.25.1": StudyState.COMPLETE, "2.25.2": StudyState.UNKNOWN}
    assert f"HTTP {status}" in results.by_study["2.25.2"].reason
    assert summary.exit_status == 1
    assert {outcome for outcome, *_ in rows(tmp_path / "l.db").values()} == {"stored"}


async def test_a_forbidden_study_is_unknown(tmp_path: Path) -> None:
    """A study that the server hides, and forbids to list, is not called missing, and others are listed as before."""
    stored = archive(3, 2)
    server = QidoServer(holding(stored[:2] + stored[4:]))
    hidden = "2.25.2"
    server.before = lambda request, _: web.Response(status=403) if hidden == request.match_info.get("study") else None
    async with serving(server) as url:
        record(tmp_path / "l.db", url, stored)
        results, summary = await verified(url, tmp_path / "l.db", settings=UploadSettings(concurrency=Span(1, 1)))
    complete = StudyState.COMPLETE
    assert results.states == {"2.25.1": complete, hidden: StudyState.UNKNOWN, "2.25.3": complete}
    assert (summary.missing, summary.exit_status) == (0, 1)
    assert any(request.startswith("/studies/2.25.3/instances") for request in server.requests)


async def test_an_empty_list_against_a_count_is_unknown(tmp_path: Path) -> None:
    """A server that counts the instances of a study, and answers lists and searches with nothing, loses none."""
    stored = archive(2, 2)
    server = QidoServer(holding(stored))
    server.before = lambda request, _: web.Response() if request.match_info.get("study") == "2.25.2" else None
    async with serving(server) as url:
        record(tmp_path / "l.db", url, stored)
        results, summary = await verified(url, tmp_path / "l.db")
    assert results.states == {"2.25.1": StudyState.COMPLETE, "2.25.2": StudyState.UNKNOWN}
    assert (summary.missing, summary.exit_status) == (0, 1)


@pytest.mark.parametrize("fault", ["cut off", "half a list", "busy", "error"])
async def test_a_failed_page_is_asked_again(tmp_path: Path, fault: str) -> None:
    """A page that breaks off in the middle, or an error that passes, costs a retry."""
    stored = archive(1, 30)
    server = QidoServer(holding(stored), page_instances=10)
    failed: set[str] = set()

    def fail(request: web.Request, number: int) -> web.StreamResponse | None:
        if number == 1 or request.path_qs in failed:
            return None
        failed.add(request.path_qs)
        match fault:
            case "cut off":
                assert request.transport is not None
                request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[")
                request.transport.close()
                return web.Response()
            case "half a list":
                return web.Response(body=b'[{"00080018": {"vr": "UI", "Va', content_type="application/dicom+json")
            case "busy":
                return web.Response(status=503, headers={"Retry-After": "0"})
            case _:
                return web.Response(status=500)

    server.before = fail
    async with serving(server) as url:
        record(tmp_path / "l.db", url, stored)
        results, summary = await verified(url, tmp_path / "l.db")
    assert results.states == {"2.25.1": StudyState.COMPLETE}
    # A lost connection that was used before is replaced without a retry.
    assert summary.retries == 4 or (fault == "cut off" and summary.retries > 0)
    assert (len(failed), summary.exit_status) == (4, 0)


async def test_an_outage_pauses_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the server is behind a proxy that answers in its place nothing fails, and afterwards the run continues."""
    stored = archive(20, 2)
    server = QidoServer(holding(stored))

    def be_gone(request: web.Request, number: int) -> web.Response | None:
        return web.Response(status=502) if 5 < number < 30 else None

    server.before = be_gone
    from bulkstow.policy.health import CircuitBreaker

    monkeypatch.setattr(
        "bulkstow.engine.queries.CircuitBreaker",
        lambda **given: CircuitBreaker(**given, first_probe_s=0.01, cap_s=0.02),
    )
    async with serving(server) as url:
        record(tmp_path / "l.db", url, stored)
        results, summary = await verified(url, tmp_path / "l.db", settings=UploadSettings(concurrency=Span(4, 4)))
    assert (set(results.states.values()), len(results.states)) == ({StudyState.COMPLETE}, 20)
    assert summary.outage_s > 0


async def test_a_server_that_stays_away_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --give-up-after the run stops, and records nothing about studies for which it got no answers."""
    stored = archive(20, 2)
    server = QidoServer(holding(stored))
    server.before = lambda request, number: web.Response(status=502) if number > 5 else None
    from bulkstow.policy.health import CircuitBreaker

    monkeypatch.setattr(
        "bulkstow.engine.queries.CircuitBreaker",
        lambda **given: CircuitBreaker(**given, first_probe_s=0.01, cap_s=0.02),
    )
    async with serving(server) as url:
        record(tmp_path / "l.db", url, stored)
        settings = UploadSettings(concurrency=Span(4, 4), give_up_after_s=0.2)
        with pytest.raises(DestinationRefused, match="has not answered for"):
            await verified(url, tmp_path / "l.db", settings=settings)
    assert "missing" not in {outcome for outcome, *_ in rows(tmp_path / "l.db").values()}


async def test_a_login_that_is_refused_later_ends_the_run(tmp_path: Path) -> None:
    """A 401 in the middle stops the run with the error of a login."""
    stored = archive(5, 2)
    server = QidoServer(holding(stored))
    server.before = lambda request, number: web.Response(status=401) if number > 3 else None
    async with serving(server) as url:
        record(tmp_path / "l.db", url, stored)
        with pytest.raises(LoginRefused):
            await verified(url, tmp_path / "l.db")
    assert "missing" not in {outcome for outcome, *_ in rows(tmp_path / "l.db").values()}


async def test_a_server_without_qido_is_refused(tmp_path: Path) -> None:
    """If the server cannot be searched at all, nothing is called missing."""
    server = QidoServer({})
    server.before = lambda request, number: web.Response(status=404)
    async with serving(server) as url:
        record(tmp_path / "l.db", url, archive(1, 1))
        with pytest.raises(DestinationRefused, match="no QIDO-RS"):
            await verified(url, tmp_path / "l.db")


async def test_counts_are_listed_where_the_server_does_not_count(tmp_path: Path) -> None:
    """At level counts a server without the number of instances is asked for the list, and the summary says so."""
    stored = archive(2, 3)
    async with serving(QidoServer(holding(stored[:-1]), has_counts=False)) as url:
        record(tmp_path / "l.db", url, stored)
        results, summary = await verified(url, tmp_path / "l.db", level="counts")
    assert results.states == {"2.25.1": StudyState.COMPLETE, "2.25.2": StudyState.INCOMPLETE}
    assert summary.listed_instead == 2
    assert {level for *_, level in rows(tmp_path / "l.db").values()} == {None}


async def test_a_count_is_one_query_a_study(tmp_path: Path) -> None:
    """Level counts asks once for each study, beside the check at the start."""
    stored = archive(3, 2)
    server = QidoServer(holding(stored))
    async with serving(server) as url:
        record(tmp_path / "l.db", url, stored)
        await verified(url, tmp_path / "l.db", level="counts")
    uids = [f"2.25.{n}" for n in (1, 2, 3)]
    assert sorted(server.requests[1:]) == [f"/studies?StudyInstanceUID={uid}&includefield=00201208" for uid in uids]


async def test_a_sample_is_the_same_whatever_was_stored_first(tmp_path: Path) -> None:
    """The seed chooses the studies, not their order; another seed chooses others."""
    stored = archive(30, 1)
    chosen = []
    async with serving(QidoServer(holding(stored))) as url:
        for number, (files, seed) in enumerate([(stored, "a"), (stored[::-1], "a"), (stored, "b")]):
            ledger = tmp_path / f"{number}.db"
            record(ledger, url, files)
            results, summary = await verified(url, ledger, sample=Sample(studies=5), seed=seed)
            chosen.append(set(results.states))
            assert (summary.studies, summary.studies_in_all) == (5, 30)
    assert chosen[0] == chosen[1] != chosen[2]


async def test_an_unfinished_run_is_continued(tmp_path: Path) -> None:
    """Studies that an interrupted run has confirmed are not asked for again, until a run has finished."""
    stored = archive(6, 2)
    server = QidoServer(holding(stored))
    server.before = lambda request, number: web.Response(status=401) if number > 7 else None
    async with serving(server) as url:
        record(tmp_path / "l.db", url, stored)
        with pytest.raises(LoginRefused):
            await verified(url, tmp_path / "l.db", settings=UploadSettings(concurrency=Span(1, 1)))
        confirmed = {path.split("/")[1] for path, (*_, level) in rows(tmp_path / "l.db").items() if level}
        assert 0 < len(confirmed) < 6
        server.before = lambda request, number: None
        server.requests.clear()
        results, summary = await verified(url, tmp_path / "l.db")
        assert (len(results.states), summary.confirmed_before) == (6, len(confirmed))
        asked = {request.split("/")[2].split(".")[2] for request in server.requests if request.startswith("/studies/")}
        assert asked == {str(n) for n in range(1, 7)} - confirmed
        _, again = await verified(url, tmp_path / "l.db")
        assert again.confirmed_before == 0


async def test_a_run_of_long_ago_is_not_continued(tmp_path: Path) -> None:
    """Studies confirmed more than a week ago are asked for again, even if no run has finished since."""
    stored = archive(6, 2)
    server = QidoServer(holding(stored))
    server.before = lambda request, number: web.Response(status=401) if number > 7 else None
    async with serving(server) as url:
        record(tmp_path / "l.db", url, stored)
        with pytest.raises(LoginRefused):
            await verified(url, tmp_path / "l.db", settings=UploadSettings(concurrency=Span(1, 1)))
        with sqlite3.connect(tmp_path / "l.db") as connection:
            connection.execute("UPDATE run SET started_at = datetime(started_at, '-8 days')")
        connection.close()
        server.before = lambda request, number: None
        _, summary = await verified(url, tmp_path / "l.db")
    assert (summary.confirmed_before, summary.exit_status) == (0, 0)


async def test_a_run_of_another_scope_is_not_continued(tmp_path: Path) -> None:
    """An unfinished run of another sample says nothing about this one."""
    stored = archive(6, 2)
    server = QidoServer(holding(stored))
    server.before = lambda request, number: web.Response(status=401) if number > 7 else None
    async with serving(server) as url:
        record(tmp_path / "l.db", url, stored)
        with pytest.raises(LoginRefused):
            await verified(url, tmp_path / "l.db", settings=UploadSettings(concurrency=Span(1, 1)))
        server.before = lambda request, number: None
        _, summary = await verified(url, tmp_path / "l.db", sample=Sample(studies=6))
        assert summary.confirmed_before == 0
