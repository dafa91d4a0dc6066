from collections.abc import Iterable

import pytest
from aiohttp import ClientSession

from bulkstow.model import Header
from bulkstow.server import query
from bulkstow.server.catalogue import Catalogue, Held
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DiscardStorage
from tests.server.samples import CT, INSTANCE, SERIES, STUDY, part10, store, uids_of

pytestmark = pytest.mark.anyio

Items = list[dict[str, dict[str, list[object]]]]


async def get(session: ClientSession, url: str) -> Items:
    """Ask, and return the results; a 204 is none."""
    async with session.get(url, headers={"Accept": "application/dicom+json"}) as response:
        if response.status == 204:
            return []
        assert response.status == 200
        assert response.content_type == "application/dicom+json"
        items: Items = await response.json(content_type=None)
        return items


@pytest.fixture
async def filled(session: ClientSession, url: str) -> str:
    """Give an origin with two studies of two and one series, three instances in each series."""
    for study, series in (("1.2.10", "1.2.10.1"), ("1.2.10", "1.2.10.2"), ("1.2.20", "1.2.20.1")):
        files = [part10(f"{series}.{number}", study=study, series=series) for number in (1, 2, 3)]
        assert (await store(session, url, *files))[0] == 200
    return url


async def test_no_match_is_204(session: ClientSession, url: str) -> None:
    """The standard's way to say none (PS3.18 §10.6.3)."""
    for path in ("studies", "series", "instances", "studies/1.2/series", "studies/1.2/series/1.3/instances"):
        async with session.get(f"{url}/{path}") as response:
            assert (response.status, await response.read()) == (204, b"")


async def test_a_study_has_its_counts(session: ClientSession, filled: str) -> None:
    """Series and instances are counted, whether they are asked for or not."""
    (item,) = await get(session, f"{filled}/studies?StudyInstanceUID=1.2.10&includefield=00201206")
    assert item == {
        "00081190": {"vr": "UR", "Value": [f"{filled}/studies/1.2.10"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.10"]},
        "00201206": {"vr": "IS", "Value": [2]},
        "00201208": {"vr": "IS", "Value": [6]},
    }


async def test_a_series_has_its_count(session: ClientSession, filled: str) -> None:
    """A series has its study and its number of instances."""
    (item,) = await get(session, f"{filled}/studies/1.2.20/series")
    assert item == {
        "00081190": {"vr": "UR", "Value": [f"{filled}/studies/1.2.20/series/1.2.20.1"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.20"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.20.1"]},
        "00201209": {"vr": "IS", "Value": [3]},
    }


async def test_an_instance_has_its_class(session: ClientSession, url: str) -> None:
    """An instance has its SOP class, its UIDs and its URL."""
    await store(session, url, part10())
    (item,) = await get(session, f"{url}/studies/{STUDY}/series/{SERIES}/instances")
    assert item == {
        "00080016": {"vr": "UI", "Value": [CT]},
        "00080018": {"vr": "UI", "Value": [INSTANCE]},
        "00081190": {"vr": "UR", "Value": [f"{url}/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}"]},
        "0020000D": {"vr": "UI", "Value": [STUDY]},
        "0020000E": {"vr": "UI", "Value": [SERIES]},
    }


@pytest.mark.parametrize(
    ("asked", "tag", "found"),
    [
        ("studies", "0020000D", ["1.2.10", "1.2.20"]),
        ("studies?SOPInstanceUID=1.2.20.1.2", "0020000D", ["1.2.20"]),
        ("studies?StudyInstanceUID=1.2.20,1.2.99", "0020000D", ["1.2.20"]),
        ("studies?0020000D=1.2.10%5C1.2.20", "0020000D", ["1.2.10", "1.2.20"]),
        ("series", "0020000E", ["1.2.10.1", "1.2.10.2", "1.2.20.1"]),
        ("series?StudyInstanceUID=1.2.10", "0020000E", ["1.2.10.1", "1.2.10.2"]),
        ("studies/1.2.10/series?SeriesInstanceUID=1.2.10.2", "0020000E", ["1.2.10.2"]),
        ("studies/1.2.10/series?StudyInstanceUID=1.2.20", "0020000E", ["1.2.10.1", "1.2.10.2"]),
        ("studies/1.2.10/instances?limit=1&offset=3", "00080018", ["1.2.10.2.1"]),
        ("studies/1.2.20/series/1.2.20.1/instances", "00080018", ["1.2.20.1.1", "1.2.20.1.2", "1.2.20.1.3"]),
        ("studies/1.2.20/series/1.2.10.1/instances", "00080018", []),
        ("instances?SOPInstanceUID=1.2.10.2.2", "00080018", ["1.2.10.2.2"]),
        ("instances?SOPInstanceUID=1.2.10.2.2&StudyInstanceUID=1.2.20", "00080018", []),
        ("instances?PatientName=Nobody&limit=1", "00080018", ["1.2.10.1.1"]),
        ("instances?limit=0", "00080018", []),
    ],
)
async def test_keys_and_paths_narrow_the_results(
    session: ClientSession, filled: str, asked: str, tag: str, found: list[str]
) -> None:
    """Every match is found once, at each level, in the order of its coming."""
    assert uids_of(await get(session, f"{filled}/{asked}"), tag) == found


async def test_pages_add_up_to_the_whole(session: ClientSession, filled: str) -> None:
    """Pages neither overlap nor omit anything, and each but the last has the warning that more follow."""
    uids: list[object] = []
    for offset in range(0, 12, 4):
        async with session.get(f"{filled}/instances?limit=4&offset={offset}") as response:
            uids += uids_of(await response.json(content_type=None), "00080018")
            assert response.headers.get("Warning", "").startswith("299 ") == (offset < 8)
    assert uids == uids_of(await get(session, f"{filled}/instances"), "00080018")
    assert len(set(uids)) == 9
    assert await get(session, f"{filled}/instances?limit=4&offset=12") == []


async def test_a_page_has_an_end_of_its_own() -> None:
    """Without a limit, or with one beyond reason, a page holds as much as dcm4chee's."""
    catalogue = catalogue_of(f"1.2.{number}" for number in range(query.PAGE_SIZE + 1))
    for parameters in ({}, {"limit": "1000000"}):
        page = query.search(catalogue, "instances", {}, parameters, "http://origin/studies")
        assert (len(page.items), page.more) == (query.PAGE_SIZE, True)


@pytest.mark.parametrize("parameters", ["limit=x", "offset=-1", "limit=1.5"])
async def test_a_limit_that_is_no_number_is_400(session: ClientSession, url: str, parameters: str) -> None:
    """A wrong question is not answered with everything."""
    async with session.get(f"{url}/studies?{parameters}") as response:
        assert response.status == 400


async def test_an_origin_that_forgets_finds_nothing(session: ClientSession) -> None:
    """A discarded instance is not found."""
    async with serving(Origin(DiscardStorage())) as url:
        await store(session, url, part10())
        assert await get(session, f"{url}/instances") == []


def catalogue_of(instances: Iterable[str]) -> Catalogue:
    """Return a catalogue of one series with these instances."""
    catalogue = Catalogue()
    for instance in instances:
        catalogue.add(Held(Header(STUDY, SERIES, instance, CT, "")))
    return catalogue
