"""dicomweb-client as its documentation has it: read data sets with pydicom, `store_instances`, batch by batch.

python -m benchmarks.store_datasets DIRECTORY URL
"""

from __future__ import annotations

import sys
from pathlib import Path

import pydicom
from dicomweb_client.api import DICOMwebClient

BATCH_BYTES = 16 * 2**20
BATCH_INSTANCES = 200
"""A request holds what one of bulkstow's holds by default: the whole archive in one would not fit in memory."""


def main() -> None:
    """Store every file below the directory."""
    directory, url = sys.argv[1:]
    client = DICOMwebClient(url=url)
    batch: list[pydicom.Dataset] = []
    size_bytes = 0
    for path in sorted(Path(directory).rglob("*.dcm")):
        file_bytes = path.stat().st_size
        if batch and (len(batch) >= BATCH_INSTANCES or size_bytes + file_bytes > BATCH_BYTES):
            client.store_instances(datasets=batch)
            batch, size_bytes = [], 0
        batch.append(pydicom.dcmread(path))
        size_bytes += file_bytes
    client.store_instances(datasets=batch)


if __name__ == "__main__":
    main()
