"""Samples of studies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.policy.sampling import rank, sample_size
from bulkstow.quantities import Sample


@pytest.mark.parametrize(
    ("sample", "studies", "size"),
    [
        (Sample(), 400, 400),
        (Sample(studies=500), 400, 400),
        (Sample(studies=500), 10_000, 500),
        (Sample(share=0.01), 10_000, 100),
        (Sample(share=0.01), 10, 1),
        (Sample(share=0.01), 101, 2),
        (Sample(share=0.07), 100, 7),
        (Sample(share=0.00000001), 100, 1),
        (Sample(share=1.0), 7, 7),
        (Sample(studies=3), 0, 0),
        (Sample(share=0.5), 0, 0),
    ],
)
def test_how_many_studies_a_sample_has(sample: Sample, studies: int, size: int) -> None:
    """A share is rounded up, so that a sample of few studies is not empty."""
    assert sample_size(sample, studies) == size


def test_a_seed_chooses_the_same_studies_for_ever() -> None:
    """The ranks never change: the sample of an earlier report can be drawn again."""
    uids = [f"2.25.{number}" for number in range(10)]
    assert sorted(uids, key=lambda uid: rank("bulkstow", uid))[:3] == ["2.25.4", "2.25.0", "2.25.1"]
    assert sorted(uids, key=lambda uid: rank("another", uid))[:3] == ["2.25.5", "2.25.7", "2.25.9"]


@given(st.lists(st.text(), unique=True), st.text(), st.randoms())
def test_the_order_of_the_studies_does_not_matter(uids: list[str], seed: str, random: object) -> None:
    """The rank of a study depends on the seed and its UID only."""
    ranks = {uid: rank(seed, uid) for uid in uids}
    assert ranks == {uid: rank(seed, uid) for uid in reversed(uids)}
    assert len(set(ranks.values())) == len(uids)
