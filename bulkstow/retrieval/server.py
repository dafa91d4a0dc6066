"""The connection to a source server: settings, login, limits and health, as those of a destination.

Every message names the settings of the source (`--source-user`, …), not those of the destination with the same purpose.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import anyio

from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import BEARER_VARIABLE, PASSWORD_VARIABLE, login, with_password
from bulkstow.destination.search import SearchService
from bulkstow.destination.throttle import Throttle
from bulkstow.destination.wado import Retriever
from bulkstow.errors import BulkstowError, ConfigurationError, first_of
from bulkstow.events import Event, OutageBegan, OutageEnded, Reporter, SourceOutageBegan, SourceOutageEnded
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.controllers import RequestLimits
from bulkstow.policy.health import CircuitBreaker
from bulkstow.policy.request_rate import RequestRate
from bulkstow.policy.retry import Backoff
from bulkstow.retrieval.locations import PREFIX, Locations
from bulkstow.source_settings import SourceSettings
from bulkstow.verification.requests import Abandoned, Requests

CONCURRENCY = 8
"""Requests at once by default, as many as browsers make at one server."""

SOURCE_PASSWORD_VARIABLE = "BULKSTOW_SOURCE_PASSWORD"  # noqa: S105 - a name, not a password
SOURCE_BEARER_VARIABLE = "BULKSTOW_SOURCE_BEARER"

_FLAG = re.compile(
    r"--(user|password-file|bearer-file|bearer-command|header-file|header|ca-file|client-cert|client-key|insecure)\b"
)
_VARIABLE = re.compile(rf"\b({PASSWORD_VARIABLE}|{BEARER_VARIABLE})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceServer:
    """A source server that is open for requests."""

    locations: Locations
    requests: Requests
    search: SearchService
    retriever: Retriever
    short_page_results: int

    async def reach(self) -> None:
        """Check that QIDO-RS responds and accepts the login. Raises DestinationRefused, LoginRefused."""
        with in_words_of_source():
            await self.search.reach()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise the error that ended the requests instead of Abandoned; its text names the source."""
        with in_words_of_source():
            try:
                yield
            except Abandoned:
                if self.requests.stopped_by is None:
                    raise
                raise self.requests.stopped_by from None


def is_server(name: str) -> bool:
    """Return whether the name of a source is that of a DICOMweb server."""
    return name.startswith((f"{PREFIX}http://", f"{PREFIX}https://"))


@asynccontextmanager
async def open_server(
    name: str,
    settings: SourceSettings,
    environment: Mapping[str, str],
    *,
    attempts: int,
    give_up_after_s: float | None,
    reporter: Reporter,
) -> AsyncGenerator[SourceServer]:
    """Open the connection to the server of a name such as dicomweb+https://host/root; blocks on files of the login.

    A request is made up to `attempts` times, and an outage ends the run after `give_up_after_s`, if that is given.
    Raises ConfigurationError.
    """
    with in_words_of_source():
        server, environment = with_password(_as_destination(name, settings), _environment(environment))
        search = SearchService(server, login(server, environment))
    highest = CONCURRENCY if settings.source_concurrency == "auto" else settings.source_concurrency
    requests = Requests(
        limits=RequestLimits(concurrency=Concurrency(lowest=1, highest=highest), request_rate=RequestRate()),
        breaker=CircuitBreaker(give_up_after_s=give_up_after_s),
        pacer=None,
        backoff=Backoff(),
        attempts=attempts,
        reporter=_SourceReporter(reporter),
    )
    throttle = None if settings.source_bandwidth is None else Throttle(settings.source_bandwidth)
    try:
        async with search, anyio.create_task_group() as attending:
            requests.attend(search, attending)
            yield SourceServer(
                locations=Locations(server.root),
                requests=requests,
                search=search,
                retriever=Retriever(search.client, throttle),
                short_page_results=server.profile.page_instances,
            )
            requests.abandon()
            attending.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise first_of(group) from None  # that of the caller


@contextmanager
def in_words_of_source() -> Iterator[None]:
    """Raise errors with the names of the source's settings in their text."""
    try:
        yield
    except BulkstowError as error:
        raise type(error)(_words_of_source(str(error))) from error.__cause__


def _words_of_source(text: str) -> str:
    text = _VARIABLE.sub(lambda found: found[1].replace("BULKSTOW_", "BULKSTOW_SOURCE_"), text)
    text = _FLAG.sub(r"--source-\1", text).replace("the server", "the source server")
    return text.replace("--url", "the source")


def _as_destination(name: str, settings: SourceSettings) -> DestinationSettings:
    if not is_server(name):
        raise ConfigurationError(f"{name!r}: expected dicomweb+http://HOST/ROOT or dicomweb+https://HOST/ROOT")
    return DestinationSettings(
        url=name.removeprefix(PREFIX),
        header=settings.source_header,
        header_file=settings.source_header_file,
        user=settings.source_user,
        password_file=settings.source_password_file,
        bearer_file=settings.source_bearer_file,
        bearer_command=settings.source_bearer_command,
        ca_file=settings.source_ca_file,
        client_cert=settings.source_client_cert,
        client_key=settings.source_client_key,
        insecure=settings.source_insecure,
    )


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which the secrets of the source are those of the server."""
    names = {SOURCE_PASSWORD_VARIABLE: PASSWORD_VARIABLE, SOURCE_BEARER_VARIABLE: BEARER_VARIABLE}
    others = {name: value for name, value in environment.items() if name not in names.values()}
    return others | {names[name]: value for name, value in environment.items() if name in names}


class _SourceReporter:
    """Tells of the outages of the source as such."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def tell(self, event: Event) -> None:
        """Pass on the beginning and the end of an outage."""
        match event:
            case OutageBegan(_, lasted_s, next_attempt_in_s):
                self._reporter.tell(SourceOutageBegan(lasted_s, next_attempt_in_s))
            case OutageEnded(duration_s):
                self._reporter.tell(SourceOutageEnded(duration_s))
            case _:
                pass
