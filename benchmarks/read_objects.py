"""A peer: read all objects with obstore alone, so many at once: `python -m benchmarks.read_objects ENDPOINT NUMBER`.

With threads: its asynchronous calls are no faster, and the process often ends with SIGABRT after them.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import obstore
from obstore.store import S3Store

from benchmarks.object_server import BUCKET


def main() -> None:
    """Read, and print how many bytes that were."""
    endpoint, at_once = sys.argv[1:]
    store = S3Store(BUCKET, endpoint=endpoint, region="us-east-1", client_options={"allow_http": True})
    keys = [meta["path"] for page in obstore.list(store) for meta in page]
    with ThreadPoolExecutor(int(at_once)) as threads:
        print(sum(threads.map(lambda key: len(obstore.get(store, key).bytes()), keys)))


if __name__ == "__main__":
    main()
