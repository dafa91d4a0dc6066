"""Claims about whole runs against the real origin over HTTP, with faults."""

from __future__ import annotations

import random
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import web

from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.destination.auth import NoLogin
from bulkstow.destination.stow import StowDestination
from bulkstow.ledger import Ledger, read_entries
from bulkstow.model import Fate, StoreResponse
from bulkstow.pipeline.run import Run
from bulkstow.policy.retry import Backoff, Breaker, RetryBudget
from bulkstow.progress.tally import Tally
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage
from bulkstow.source.walk import walk
from tests.archives import write_instance

pytestmark = pytest.mark.anyio


class Mishaps:
    """Does something wrong to a share of the requests, by a seeded chance."""

    def __init__(self, seed: int, share: float) -> None:
        self._chance = random.Random(seed)
        self._share = share
        self.seen: Counter[str] = Counter()

    def _pick(self, *kinds: str) -> str:
        kind = self._chance.choice(kinds) if self._chance.random() < self._share / 2 else ""
        self.seen[kind] += 1
        return kind

    async def before(self, request: web.Request, number: int) -> web.StreamResponse | None:
        """Answer instead of storing."""
        kind = self._pick("503", "429", "502", "400", "reset", "413")
        match kind:
            case "503":
                return web.Response(status=503, headers={"Retry-After": "0"})
            case "429":
                return web.Response(status=429)
            case "502":
                return web.Response(
                    status=502, text="<html><title>Bad Gateway</title></html>", content_type="text/html"
                )
            case "400":
                return web.Response(status=400)
            case "413":
                return web.Response(status=413)
            case "reset":
                assert request.transport is not None
                request.transport.abort()
                raise ConnectionResetError
            case _:
                return None

    async def after(
        self, request: web.Request, number: int, response: StoreResponse
    ) -> StoreResponse | web.StreamResponse:
        """Store, and then say something else."""
        kind = self._pick("silent", "500", "half", "none", "text", "truncated")
        match kind:
            case "silent":
                assert request.transport is not None
                request.transport.abort()
                raise ConnectionResetError
            case "500":
                return web.Response(status=500, text="java.lang.NullPointerException\n\tat org.example")
            case "half":
                return StoreResponse(stored=response.stored[::2])
            case "none":
                return StoreResponse()
            case "text":
                return web.Response(status=200, text="success")
            case "truncated":
                return web.Response(
                    status=200, text='{"00081199":{"vr":"SQ","Va', content_type="application/dicom+json"
                )
            case _:
                return response


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_nothing_is_lost_and_nothing_is_claimed(tmp_path: Path, seed: int) -> None:
    """At 30 % faulty requests: what is called stored is stored with equal bytes, and every file has one outcome."""
    archive = tmp_path / "archive"
    files = {}
    for study in range(1, 6):
        for number in range(40):
            instance = write_instance(archive / f"s{study}", number, study=study)
            files[instance.header.sop_instance_uid] = Path(instance.candidate.location)
    storage = DirectoryStorage(tmp_path / "origin")
    mishaps = Mishaps(seed, 0.3)
    tally = Tally()
    async with serving(Origin(storage, fault=mishaps)) as url:
        destination = DestinationSettings(url=url)
        with Ledger(tmp_path / "l.db", url) as ledger:
            async with StowDestination(destination, NoLogin()) as stow:
                settings = UploadSettings(ledger=tmp_path / "l.db", batch_instances=4, retries=9)
                run = Run(
                    settings,
                    stow,
                    ledger,
                    tally,
                    backoff=Backoff(base_s=0.001, cap_s=0.01),
                    breaker=Breaker(first_probe_s=0.001),
                    budget=RetryBudget(minimum_per_s=1000),
                )
                await run.carry_out(walk([str(archive)]))

    held = storage.digests()
    entries = [entry.outcome for entry in read_entries(tmp_path / "l.db")]
    assert len(entries) == len({entry.candidate.location for entry in entries}) == len(files) == 200
    for outcome in entries:
        assert outcome.header is not None
        uid = outcome.header.sop_instance_uid
        if outcome.fate.is_success:
            assert held[uid] == sha256(files[uid].read_bytes()).hexdigest()
    # A bare 400 or 413 for an instance that is alone is a refusal, and these come by chance.
    assert {o.fate for o in entries} <= {Fate.STORED, Fate.REFUSED}
    assert tally.outcomes[Fate.STORED] >= 190
    assert sum(mishaps.seen.values()) - mishaps.seen[""] >= 5
