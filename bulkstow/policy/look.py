"""The times at which a server is asked again for unlisted instances, because servers index with a delay.

An instance counts as missing only after the settle time has passed since the first look.
"""

from __future__ import annotations

FIRST_PAUSE_S = 0.5
"""The first pause between two looks; each is twice as long as the last. An index with a delay of 1 s costs two looks, a
delay of 30 s seven."""


def next_look_in_s(looks: int, elapsed_s: float, settle_s: float) -> float | None:
    """Return seconds until the next look, after so many looks in so much time; None if the settle time has passed."""
    if elapsed_s >= settle_s:
        return None
    return min(FIRST_PAUSE_S * 2.0 ** (looks - 1), settle_s - elapsed_s)
