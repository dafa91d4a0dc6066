"""A random sample of studies: the same seed gives the same sample in any order of the studies.

Each study has a rank, a hash of the seed and its UID; the sample are the studies of the lowest ranks. So a larger
sample contains a smaller one with the same seed.
"""

from __future__ import annotations

import math
from hashlib import blake2b

from bulkstow.quantities import Sample

RANK_BYTES = 8
"""The bytes of a rank. Among a million ranks two are equal once in 30 million samples."""


def rank(seed: str, study_uid: str) -> bytes:
    """Return the rank of a study."""
    key = blake2b(seed.encode(errors="surrogatepass")).digest()
    return blake2b(study_uid.encode(errors="surrogatepass"), digest_size=RANK_BYTES, key=key).digest()


def sample_size(sample: Sample, studies: int) -> int:
    """Return the number of studies in a sample; at least one, if there are studies and the sample is not empty."""
    if sample.share is not None:
        # Without rounding, 7 % of 100 would be 7.000000000000001, and so 8.
        return min(studies, max(1, math.ceil(round(studies * sample.share, 6)))) if studies else 0
    return studies if sample.studies is None else min(studies, sample.studies)
