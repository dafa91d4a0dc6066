"""Templates and the pool."""

from __future__ import annotations

import zlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.bench.templates import PLACEHOLDERS, POOL_BYTES, Gap, Pool, cut

POOL = Pool(Random(1))


@given(st.lists(st.binary(max_size=20) | st.sampled_from(Gap), max_size=20))
@settings(deadline=None)
def test_a_template_is_the_file_with_other_values(parts: list[bytes | Gap]) -> None:
    """Whatever stands around the placeholders stays, and each gets its value, as often as it is there."""
    values = [bytes([65 + gap]) * len(PLACEHOLDERS[gap]) for gap in Gap]
    head = b"".join(PLACEHOLDERS[part].encode("latin-1") if isinstance(part, Gap) else part for part in parts)
    expected = b"".join(values[part] if isinstance(part, Gap) else part for part in parts)
    template = cut("1.2", "1.2.3", head, rest=memoryview(b"rest"), pixel_bytes=5)
    assert template.filled(values) == expected
    assert template.size_bytes == len(head) + 4 + 5


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**46 - 1), st.integers(0, 3 * POOL_BYTES))
@settings(deadline=None)
def test_the_pool_gives_as_much_as_is_asked(worker: int, number: int, size_bytes: int) -> None:
    """Pieces add up to the exact size, none is empty, and they are views: nothing is copied."""
    pieces = list(POOL.pieces(worker, number, size_bytes))
    assert sum(len(piece) for piece in pieces) == size_bytes
    assert all(len(piece) and piece.readonly for piece in pieces)
    assert len(pieces) <= size_bytes // POOL_BYTES + 2


def test_neighbours_do_not_share_their_beginning() -> None:
    """A hundred workers' first hundred instances begin in as many places."""
    beginnings = {bytes(next(POOL.pieces(w, n, 64))[:16]) for w in range(100) for n in range(100)}
    assert len(beginnings) > 9_900  # at the very end of the pool a first piece may be shorter


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_compressibility_is_what_a_compressor_finds(share: float) -> None:
    """Deflate takes away the constant share of any piece of some size, and nothing else."""
    pool = Pool(Random(1), share)
    for number in range(3):
        whole = b"".join(pool.pieces(0, number, 500_000))
        assert abs(len(zlib.compress(whole, 1)) / len(whole) - (1 - share)) < 0.03


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_beyond_all_is_refused(share: float) -> None:
    """Compressibility is from 0 to 1."""
    with pytest.raises(ValueError, match="expected a share from 0 to 1"):
        Pool(Random(1), share)
