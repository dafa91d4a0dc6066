"""`python -m benchmarks TABLE`: one command a table; `all` makes every one, `selftest` sees whether the peers work."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from benchmarks import machine
from benchmarks.bench import Bench
from benchmarks.measure import Table
from benchmarks.processes import PeerFailed
from benchmarks.selftest import selftest
from benchmarks.tables import TABLES


def main() -> None:
    """Make the tables that were asked for."""
    options = _options()
    options.corpus.mkdir(parents=True, exist_ok=True)
    found = machine.described()
    found["scale"] = "as each table has it" if options.scale is None else f"{options.scale:g}"
    print("\n".join(f"{name}: {text}" for name, text in found.items()), flush=True)
    tables: list[Table] = []
    with tempfile.TemporaryDirectory(prefix="bulkstow-benchmarks-") as scratch:
        bench = Bench(options.corpus, Path(scratch), options.repeats, options.scale, options.minutes)
        try:
            if options.table == "selftest":
                selftest(bench)
                return
            for name in TABLES if options.table == "all" else (options.table,):
                tables.append(TABLES[name](bench))
                print(f"\n{tables[-1].shown()}", flush=True)
        except PeerFailed as failure:
            sys.exit(f"\n{failure}")
        finally:
            if options.json is not None:
                _write(options.json, found, tables)


def _write(path: Path, found: dict[str, str], tables: list[Table]) -> None:
    document = {**found, "tables": [dataclasses.asdict(table) for table in tables]}
    path.write_text(json.dumps(document, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("table", choices=[*TABLES, "all", "selftest"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="turns of every peer (default 5)")
    parser.add_argument(
        "--scale", type=float, metavar="F", help="size of the archives; 1 is the issue's (default: a minute or two)"
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        default=Path(tempfile.gettempdir()) / "bulkstow-corpora",
        metavar="DIR",
        help="where archives are made and kept (default: %(default)s)",
    )
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="how long soak takes (default 10)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
