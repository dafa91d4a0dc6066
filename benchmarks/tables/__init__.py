"""The tables, each a function from a `Bench` to a `Table`."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.measure import Table
from benchmarks.tables.archives import archives
from benchmarks.tables.cold import cold
from benchmarks.tables.compressed import compressed
from benchmarks.tables.content import content
from benchmarks.tables.dask import dask
from benchmarks.tables.dicomweb import dicomweb
from benchmarks.tables.edits import edits
from benchmarks.tables.honesty import honesty
from benchmarks.tables.link import link
from benchmarks.tables.objects import objects
from benchmarks.tables.plan import plan
from benchmarks.tables.processes import processes
from benchmarks.tables.servers import orthanc
from benchmarks.tables.simulated import simulated
from benchmarks.tables.soak import soak
from benchmarks.tables.stages import stages
from benchmarks.tables.verification import verify
from benchmarks.tables.whole import ct, memory, mr, resume, tls

TABLES: dict[str, Callable[[Bench], Table]] = {
    "ct": ct,
    "tls": tls,
    "mr": mr,
    "processes": processes,
    "resume": resume,
    "memory": memory,
    "orthanc": orthanc,
    "dask": dask,
    "simulated": simulated,
    "link": link,
    "cold": cold,
    "soak": soak,
    "honesty": honesty,
    "plan": plan,
    "verify": verify,
    "content": content,
    "dicomweb": dicomweb,
    "archives": archives,
    "compressed": compressed,
    "edits": edits,
    "objects": objects,
    "stages": stages,  # last: it imports what would show in the peers' memory
}
