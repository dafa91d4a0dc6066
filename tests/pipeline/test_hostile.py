"""Whole runs against an origin with planned faults: nothing is lost, and nothing counts as stored without proof."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from bulkstow.blocking import ReadLimit, Worker
from bulkstow.config import READ_TIMEOUT_S, DestinationSettings, UploadSettings
from bulkstow.destination.auth import Auth, Bearer, NoLogin, Token
from bulkstow.destination.stow import StowDestination
from bulkstow.engine.processes import sender_processes
from bulkstow.engine.senders import Senders, begin_of
from bulkstow.events import Reporter
from bulkstow.ledger import Ledger, read_entries
from bulkstow.model import (
    Cause,
    FileResult,
    Header,
    NoResponse,
    Outcome,
    Referenced,
    Response,
    StoreResponse,
)
from bulkstow.pipeline.run import controllers_for
from bulkstow.policy.health import CircuitBreaker
from bulkstow.policy.request_rate import RequestRate
from bulkstow.policy.retry import Backoff
from bulkstow.policy.retry_budget import RetryBudget
from bulkstow.ports import Destination, Found
from bulkstow.progress.tally import Tally
from bulkstow.server.fault_injector import FaultInjector
from bulkstow.server.fault_plan import plan_of
from bulkstow.server.faults import Kind
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage
from bulkstow.source.files import FileSource
from bulkstow.source.walk import Walk
from bulkstow.wire.store_response import to_json
from bulkstow.wire.synthetic import EXPLICIT_VR_LITTLE_ENDIAN, SECONDARY_CAPTURE, part10
from tests.archives import header, write_instance
from tests.destination.peers import answer, peer, read_head, read_request
from tests.pipeline.runs import new_run
from tests.stow import NO_HEADERS, FileStow

pytestmark = pytest.mark.anyio

QUICK = Backoff(base_s=0.001, cap_s=0.01)
"""Short delays; no test depends on their length."""

QUICK_PER_S = 1000.0
"""The rate of requests after rejections; no test depends on it."""

RETRIES = 12
"""With 30 % faulty requests, one fails so often in a row once in 6 million."""


class Archive:
    """Files, and what they hold."""

    def __init__(self, root: Path, *, studies: int, instances: int, lists: Sequence[Sequence[Found]] = ()) -> None:
        self.root = root
        self.lists = lists
        """The result of a scan before the run; if empty, the run scans."""
        self.digests: dict[str, str] = {}
        """SHA-256 by SOP Instance UID."""
        for study in range(1, studies + 1):
            for number in range(1, instances + 1):
                instance = write_instance(root / f"s{study:03}", number, study=study)
                content = Path(instance.candidate.location).read_bytes()
                self.digests[instance.header.sop_instance_uid] = sha256(content).hexdigest()

    def source(self) -> FileSource:
        """Return the files as a source."""
        return Scanned(self.lists) if self.lists else FileSource([str(self.root)])


class Scanned(FileSource):
    """Files that were scanned before."""

    def __init__(self, lists: Sequence[Sequence[Found]]) -> None:
        super().__init__()
        self._lists = lists

    def scan(self) -> Iterator[Sequence[Found]]:  # type: ignore[override]
        """Yield what was found."""
        return iter(self._lists)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Make 20 studies of 100 instances."""
    return Archive(tmp_path_factory.mktemp("large"), studies=20, instances=100)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Make 3 studies of 20 instances."""
    return Archive(tmp_path_factory.mktemp("small"), studies=3, instances=20)


async def upload(
    archive: Archive, url: str, ledger: Path, *, auth: Auth | None = None, chunked: bool = False, senders: int = 0
) -> list[FileResult]:
    """Send an archive, from so many sender processes if any; return the outcome of each of its files."""
    stow = FileStow(DestinationSettings(url=url, chunked=chunked), auth or NoLogin())
    await carry_out(archive, stow, url, ledger, Tally(), senders=senders)
    return [entry.result for entry in read_entries(ledger)]


async def carry_out(
    archive: Archive, stow: StowDestination, url: str, ledger: Path, reporter: Reporter, *, senders: int = 0
) -> None:
    """Run an upload with the shortest delays."""
    settings = UploadSettings(ledger=ledger, retries=RETRIES, batch_instances=5)
    breaker, budget = CircuitBreaker(first_probe_s=0.001, cap_s=0.01), RetryBudget(minimum_per_s=100_000)
    with Ledger(ledger, url) as opened:
        async with stow, _spread(stow, url, reporter, senders) as destination:
            run = new_run(
                settings,
                archive.source(),
                destination,
                opened,
                reporter,
                backoff=QUICK,
                breaker=breaker,
                budget=budget,
                controllers=controllers_for(settings, request_rate=RequestRate(first_per_s=QUICK_PER_S)),
            )
            await run.carry_out()


@asynccontextmanager
async def _spread(stow: StowDestination, url: str, reporter: Reporter, count: int) -> AsyncIterator[Destination]:
    """Give a destination that sends from processes, or the same one if there are none."""
    if not count:
        yield stow
        return
    begin, limit = begin_of(DestinationSettings(url=url), UploadSettings(), {}, NO_HEADERS), ReadLimit(READ_TIMEOUT_S)
    senders = Senders(stow, begin, throttle=None, reporter=reporter, sends_here=False)
    async with sender_processes(senders, count, limit=limit, reporter=reporter, say=print):
        yield senders
        assert all(sender.requests_ended for sender in senders.attached)


def check(archive: Archive, held: dict[str, str], results: list[FileResult]) -> dict[str, Outcome]:
    """Compare the ledger with the origin, and return the outcomes by SOP Instance UID."""
    outcomes = {o.header.sop_instance_uid: o.outcome for o in results if o.header is not None}
    assert outcomes.keys() == archive.digests.keys()
    assert len(results) == len({o.candidate.location for o in results}) == len(archive.digests)
    claimed = {uid for uid, outcome in outcomes.items() if outcome.is_success}
    assert claimed <= held.keys()
    assert all(held[uid] == archive.digests[uid] for uid in held)
    return outcomes


def planned(*failed_attempts: dict[str, Any], seed: int = 1) -> FaultInjector:
    """Return the injector of a plan, given in the keys of its file."""
    return FaultInjector(plan_of({"seed": seed, "fault": list(failed_attempts)}))


PASSING: list[dict[str, Any]] = [
    {"kind": "left-out", "stored": False},
    {"kind": "unavailable", "retry-after": "0s"},
    {"kind": "unavailable", "retry-after": "0s", "as-date": True},
    {"kind": "too-many"},
    {"kind": "bad-gateway"},
    {"kind": "half-stored"},
    {"kind": "reset"},
    {"kind": "silent"},
    {"kind": "truncated"},
    {"kind": "not-json"},
    {"kind": "xml"},
    {"kind": "text-plain"},
    {"kind": "lower-case"},
    {"kind": "left-out"},
    {"kind": "nameless", "times": 1},
    {"kind": "made-up", "times": 1},
    {"kind": "out-of-resources", "times": 2},
    {"kind": "out-of-resources", "times": 2, "everyone": True},
    {"kind": "slow-reading", "bytes-per-second": "1MiB"},
    {"kind": "slow-thinking", "delay": "1ms"},
    {"kind": "frozen", "delay": "2ms"},
    {"kind": "closed-keep-alive"},
    {"kind": "trickle", "delay": 0},
]
"""Temporary faults. A code that may be about the content or about the moment is final only after an instance sent alone
has got it three times."""

SHARE = 1 - 0.7 ** (1 / len(PASSING))
"""The share of each fault. At most one applies to a request; together they apply to 30 %."""


@pytest.mark.parametrize(("seed", "senders"), [(1, 0), (2, 0), (3, 0), (4, 2)])
async def test_nothing_is_lost_and_nothing_is_claimed(tmp_path: Path, large: Archive, seed: int, senders: int) -> None:
    """With 30 % faulty requests of every temporary kind, all is stored with equal bytes, within the attempts."""
    injector = planned(*({**fault, "probability": SHARE} for fault in PASSING), seed=seed)
    storage = DirectoryStorage(tmp_path / "origin")
    async with serving(Origin(storage, fault=injector)) as url:
        results = await upload(large, url, tmp_path / "l.db", senders=senders)
    outcomes = check(large, storage.digests(), results)
    assert Counter(outcomes.values()) == Counter({Outcome.STORED: 2000})
    assert storage.digests() == large.digests
    assert max(result.attempts for result in results) <= RETRIES + 1
    assert injector.injected.keys() == {Kind(fault["kind"]) for fault in PASSING}


@pytest.mark.parametrize(
    "fault",
    [
        # What is swallowed is sent three times alone, and may meet every second request each time: not here.
        *({**fault, "every": 2} for fault in PASSING if "stored" not in fault),
        {"kind": "too-many", "retry-after": "0s", "every": 2},
        {"kind": "unauthorised", "requests": [7]},
        {"kind": "too-large", "above-bytes": 3000},
        {"kind": "left-out", "everyone": True, "every": 2},
        {"kind": "left-out", "everyone": True},
        {"kind": "left-out", "stored": False, "first": 1},
        {"kind": "nameless", "times": 1, "everyone": True},
        {"kind": "nameless", "reason": 0xA700, "times": 3},
        {"kind": "made-up", "times": 1, "everyone": True},
        {"kind": "out-of-resources", "times": 3, "everyone": True},
        {"kind": "not-json"},
        {"kind": "length-required"},
        *({"kind": kind, "first": 20} for kind in ("unavailable", "bad-gateway", "silent", "reset", "truncated")),
        *({"kind": kind, "instances": ["2.25.2.1.7"], "times": 3} for kind in ("bad-gateway", "reset", "half-stored")),
    ],
    ids=lambda fault: " ".join(str(value) for value in fault.values()),
)
async def test_what_passes_is_waited_for(tmp_path: Path, small: Archive, fault: dict[str, Any]) -> None:
    """With one kind of fault alone, at any frequency, everything is stored and proved."""
    injector, storage = planned(fault), DirectoryStorage(tmp_path / "origin")
    async with serving(Origin(storage, fault=injector)) as url:
        # Only a body without a length is asked for one.
        chunked = fault["kind"] == "length-required"
        results = await upload(small, url, tmp_path / "l.db", auth=Bearer(Tokens().read), chunked=chunked)
    outcomes = check(small, storage.digests(), results)
    assert Counter(outcomes.values()) == Counter({Outcome.STORED: 60})
    assert injector.injected[Kind(fault["kind"])] > 0


class Tokens:
    """A new token at each reading."""

    def __init__(self) -> None:
        self._read = 0

    def read(self) -> Token:
        """Return the next token."""
        self._read += 1
        return Token(f"token{self._read}")


async def test_what_is_invalid_is_refused(tmp_path: Path, small: Archive) -> None:
    """An instance that always fails is refused, and no other: the rest of its batch is stored, also after halving."""
    bad = {header(3, study=1).sop_instance_uid, header(20, study=3).sop_instance_uid}
    injector = planned({"kind": "invalid", "instances": sorted(bad)}, {"kind": "reset", "every": 3})
    storage = DirectoryStorage(tmp_path / "origin")
    async with serving(Origin(storage, fault=injector)) as url:
        results = await upload(small, url, tmp_path / "l.db")
    outcomes = check(small, storage.digests(), results)
    assert (
        {uid for uid, outcome in outcomes.items() if outcome is Outcome.REFUSED}
        == bad
        == small.digests.keys() - storage.digests()
    )
    assert Counter(outcomes.values()) == Counter({Outcome.STORED: 58, Outcome.REFUSED: 2})


async def test_what_is_held_is_a_duplicate(tmp_path: Path, small: Archive) -> None:
    """Azure's 45070 for a first request is a duplicate; after a request without a response it means stored."""
    first, again = ({"kind": "duplicate", "instances": sorted(small.digests)} for _ in range(2))
    storage = DirectoryStorage(tmp_path / "origin")
    async with serving(Origin(storage, fault=planned(first))) as url:
        results = await upload(small, url, tmp_path / "l.db")
    assert set(check(small, storage.digests(), results).values()) == {Outcome.DUPLICATE}
    async with serving(Origin(storage, fault=planned({"kind": "silent", "every": 2}, again))) as url:
        results = await upload(small, url, tmp_path / "again.db")
    outcomes = Counter(check(small, storage.digests(), results).values())
    assert outcomes.keys() == {Outcome.DUPLICATE, Outcome.STORED}
    assert storage.digests() == small.digests


async def test_larger_than_the_limit_when_alone(tmp_path: Path, small: Archive) -> None:
    """A 413 for each batch halves it down to single instances; one that is too large by itself is refused."""
    storage = DirectoryStorage(tmp_path / "origin")
    async with serving(Origin(storage, fault=planned({"kind": "too-large", "above-bytes": 10}))) as url:
        results = await upload(small, url, tmp_path / "l.db")
    assert set(check(small, storage.digests(), results).values()) == {Outcome.REFUSED}
    assert storage.digests() == {}


class Watched(FileStow):
    """Signals the first probe without a response, and the first one with one."""

    def __init__(self, settings: DestinationSettings) -> None:
        super().__init__(settings, NoLogin())
        self.met = {Cause.UNANSWERED: anyio.Event(), Cause.UNREACHABLE: anyio.Event()}

    async def probe(self) -> Response | NoResponse:
        """Send a probe, and signal its result."""
        exchange = await super().probe()
        if isinstance(exchange, NoResponse) and exchange.cause in self.met:
            self.met[exchange.cause].set()
        return exchange


async def test_frozen_then_gone_then_back(tmp_path: Path, small: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that freezes during a run, ends, and comes back at its port, costs no instance its proof."""
    monkeypatch.setattr("bulkstow.server.origin._SHUTDOWN_S", 0.01)  # nobody thaws for the sake of the end
    storage, tally, ledger = DirectoryStorage(tmp_path / "origin"), Tally(), tmp_path / "l.db"
    freezing = planned({"kind": "frozen", "delay": "1h", "requests": [6]})
    async with anyio.create_task_group() as tasks:
        async with serving(Origin(storage, fault=freezing)) as url:
            settings = DestinationSettings(url=url, connect_timeout_s=1, stall_timeout_s=0.2, response_timeout_s=0.2)
            stow = Watched(settings)
            tasks.start_soon(finish, partial(carry_out, small, stow, url, ledger, tally), done := anyio.Event())
            await stow.met[Cause.UNANSWERED].wait()
        await stow.met[Cause.UNREACHABLE].wait()
        async with serving(Origin(storage), port=urlsplit(url).port or 0):
            await done.wait()
    outcomes = check(small, storage.digests(), [entry.result for entry in read_entries(ledger)])
    assert Counter(outcomes.values()) == Counter({Outcome.STORED: 60})
    assert not tally.outage


async def finish(work: Callable[[], Awaitable[None]], done: anyio.Event) -> None:
    """Call something, and signal that it was called."""
    await work()
    done.set()


async def test_a_study_uid_with_a_path_in_it_never_leaves_the_root(tmp_path: Path) -> None:
    """Instances of such studies are sent to /studies, queried nowhere else, and count as stored by nothing."""
    odd = ["../../admin", "1.2/../../x", "..%2f..%2fx", "1.2.3"]
    paths: list[str] = []
    for number, study_uid in enumerate(odd, start=1):
        uids = Header(study_uid, "1.2.3.4", f"1.2.3.4.{number}", SECONDARY_CAPTURE, EXPLICIT_VR_LITTLE_ENDIAN)
        (tmp_path / f"{number}.dcm").write_bytes(part10(uids, rows=4, columns=4, number=number))

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            paths.append(request.line.split()[1].partition("?")[0])
            answer(writer, "200 OK", b"" if request.line.startswith("POST") else b"[]")

    ledger = tmp_path / "ledger.db"
    settings = UploadSettings(ledger=ledger, retries=1, affinity="none")
    async with peer(say_nothing) as url, FileStow(DestinationSettings(url=url), NoLogin()) as stow:
        with Ledger(ledger, url) as opened:
            source = FileSource([os.fspath(tmp_path)], exclude=opened.files)
            await new_run(settings, source, stow, opened, Tally(), backoff=QUICK).carry_out()
    results = [entry.result for entry in read_entries(ledger) if entry.result.header is not None]
    assert [result.outcome for result in results] == [Outcome.UNCONFIRMED] * len(odd)
    assert set(paths) == {"/dicom-web/studies", "/dicom-web/studies/1.2.3/series/1.2.3.4/instances"}


UNDER_WAY = 16
"""Requests that may be under way when files are lost, and be cancelled; all files take 80."""


def move_away(directory: Path) -> None:
    """Remove a directory with all its files."""
    directory.rename(directory.parent / "away")


def fail_to_open(directory: Path) -> None:
    """Put a symbolic link in each file's place: the name exists, and it is not opened."""
    for path in directory.rglob("IM*"):
        was, link = path.with_name(f"was-{path.name}"), path.with_name(f"link-{path.name}")
        was.hardlink_to(path)
        link.symlink_to(was.name)
        link.replace(path)  # at no moment is there no such name


@pytest.mark.parametrize("gone", ["flat", "studies", "studies/s001"], ids=["a directory", "a tree", "one of many"])
@pytest.mark.parametrize(("harm", "says"), [(move_away, "No such file"), (fail_to_open, "symbolic link")])
async def test_files_that_are_lost_together_cost_a_few_requests(
    tmp_path: Path, gone: str, harm: Callable[[Path], None], says: str
) -> None:
    """A directory or a share that is lost during a run cancels the requests under way, and no others.

    Its files are unreadable, except for those that were sent before; all other files are sent.
    """
    root = tmp_path / "archive"
    for study in range(1, 41):
        for number in range(1, 11):
            write_instance(root / ("flat" if gone == "flat" else f"studies/s{study:03}"), number, study=study)
    lost = [str(path) for path in (root / gone).rglob("*") if path.is_file()]
    requests = 0
    lose = [root / gone]

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        while True:
            request = await read_head(reader)
            requests += request.line.startswith("POST")
            if lose:
                harm(lose.pop())
            body = await reader.readexactly(int(request.headers.get("Content-Length", 0)))
            uids = {match.decode() for match in re.findall(rb"2\.25\.\d+\.1\.\d+", body)}
            items = tuple(Referenced(SECONDARY_CAPTURE, uid) for uid in sorted(uids))
            answer(writer, body=to_json(StoreResponse(stored=items)))

    ledger = tmp_path / "l.db"
    walk = Walk([str(root)])
    archive = Archive(root, studies=0, instances=0, lists=list(iter(lambda: walk.run_steps(Worker()), [])))
    async with peer(take) as url:
        await carry_out(archive, FileStow(DestinationSettings(url=url), NoLogin()), url, ledger, Tally())
    results = {e.result.candidate.location: e.result for e in read_entries(ledger)}
    assert len(results) == 400
    unread = [location for location in lost if results[location].outcome is Outcome.UNREADABLE]
    assert all(says in results[location].reason for location in unread)
    assert {result.outcome for location, result in results.items() if location not in unread} <= {Outcome.STORED}
    assert len(lost) - len(unread) <= 5 * UNDER_WAY
    needed = (400 - len(unread)) / 5
    assert requests <= needed + UNDER_WAY
