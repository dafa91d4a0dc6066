"""The part of an archive that the last uploads did not examine."""

from __future__ import annotations

import pytest

from bulkstow.ledger import RunRecord
from bulkstow.report.gaps import SHOWN_SOURCES, gaps
from tests.report.samples import URL
from tests.report.test_history import DONE, run

OTHER = "http://other.example"
UNFINISHED = "The last upload did not finish"
EMPTY = "A source had no files"
SHARDS = "Shards are missing"
FILTERS = "Filters left out files"
UNKNOWN = "The end of the last upload is not known"


@pytest.mark.parametrize(
    ("uploads", "titles"),
    [
        ([], []),
        ([run(1)], []),
        ([run(1, summary=None)], [UNFINISHED]),
        ([run(1, "", summary=None)], [UNKNOWN]),
        ([run(1, "", summary=None, ledger="1.db"), run(1, summary=None, ledger="2.db")], [UNKNOWN, UNFINISHED]),
        ([run(1, summary={"complete": False})], [UNFINISHED]),
        ([run(1, ledger="1.db", summary=None), run(1, ledger="2.db")], [UNFINISHED]),
        ([run(1, summary=None), run(2, summary=None, url=OTHER)], [UNFINISHED, UNFINISHED]),
        ([run(1, summary={**DONE, "empty_sources": ["/mnt/pacs"]})], [EMPTY]),
        ([run(1, summary={**DONE, "left_out": {"modality": 3}})], [FILTERS]),
        ([run(1, summary={**DONE, "left_out": {}, "pruned_directories": 1})], [FILTERS]),
        ([run(1, summary={**DONE, "left_out": {"modality": 0}, "pruned_directories": 0})], []),
        ([run(1, shard=None)], []),
        ([run(1, shard="1/2")], [SHARDS]),
        ([run(1, shard="1/2", ledger="1.db"), run(1, shard="2/2", ledger="2.db")], []),
        ([run(1, shard="1/3", ledger="1.db"), run(1, shard="1/3", ledger="2.db")], [SHARDS]),
        ([run(1, shard="1/2", ledger="1.db"), run(1, ledger="2.db")], []),
    ],
)
def test_what_was_not_looked_at_is_a_gap(uploads: list[RunRecord], titles: list[str]) -> None:
    """Whether an upload ended early, its source was empty, a filter or a shard left files out: the report says so."""
    assert [gap.title for gap in gaps(uploads)] == titles


def test_a_gap_has_its_figures() -> None:
    """Files and directories that filters left out are added up over the ledgers of a server, and sources are named."""
    several = [f"/mnt/{number}" for number in range(SHOWN_SOURCES + 2)]
    one = {**DONE, "left_out": {"modality": 3, "max-size": 1}, "empty_sources": several}
    two = {**DONE, "left_out": {"modality": 4}, "pruned_directories": 2}
    empty, shards, left_out = gaps([run(1, summary=one, shard="1/4"), run(1, summary=two, shard="3/4", ledger="2.db")])
    assert "/mnt/0, /mnt/1, /mnt/2, /mnt/3, /mnt/4 and 2 more: " in empty.words
    assert f"files of 2 shards of 4 were not sent to {URL} " in shards.words
    assert "left out 8 files (7 by --modality, 1 by --max-size) and 2 directories (by --exclude)." in left_out.words
    assert [gap.is_wanted for gap in (empty, shards, left_out)] == [False, False, True]
