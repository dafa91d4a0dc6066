"""`python -m benchmarks TABLE`: one command a table; `all` makes every one, `selftest` sees whether the peers work,
`readme FILE...` makes one compact table of what `--json` wrote.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.bench import Bench
from benchmarks.measure import Table
from benchmarks.processes import PeerFailed
from benchmarks.readme import compact
from benchmarks.selftest import selftest
from benchmarks.tables import TABLES


def main() -> None:
    """Make the tables that were asked for."""
    options = _options()
    if options.table == "readme":
        print(_compact(options.files))
        return
    options.corpus.mkdir(parents=True, exist_ok=True)
    found = machine.described()
    found["scale"] = "as each table has it" if options.scale is None else f"{options.scale:g}"
    print("\n".join(f"{name}: {text}" for name, text in found.items()), flush=True)
    with tempfile.TemporaryDirectory(prefix="bulkstow-benchmarks-") as scratch:
        bench = Bench(options.corpus, Path(scratch), options.repeats, options.scale, options.minutes)
        names = list(TABLES) if options.table == "all" else [options.table]
        all_made = _self_test(bench) if options.table == "selftest" else make(names, bench, found, options.json)
    sys.exit(0 if all_made else 1)


def make(names: Sequence[str], bench: Bench, found: dict[str, str], json_file: Path | None) -> bool:
    """Make tables one after the other, and keep each as soon as it is there; say whether all could be made."""
    all_made = True
    made: dict[str, Table] = {}
    for name in names:
        try:
            made[name] = TABLES[name](bench)
        except PeerFailed as failure:
            all_made = False
            print(f"\n{name}: {failure}", file=sys.stderr, flush=True)
            continue
        print(f"\n{made[name].shown()}", flush=True)
        if json_file is not None:
            _write(json_file, found, made)
    return all_made


def _self_test(bench: Bench) -> bool:
    try:
        selftest(bench)
    except PeerFailed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return False
    return True


def _write(path: Path, found: dict[str, str], made: dict[str, Table]) -> None:
    tables = [{"name": name, **dataclasses.asdict(table)} for name, table in made.items()]
    path.write_text(json.dumps({**found, "tables": tables}, indent=1) + "\n")


def _compact(files: list[Path]) -> str:
    documents = []
    for file in files:
        try:
            documents.append(json.loads(file.read_text()))
            compact(documents[-1:])
        except (OSError, ValueError) as error:
            sys.exit(f"{file}: {error}")
    return compact(documents)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("table", choices=[*TABLES, "all", "selftest", "readme"])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="for readme: what --json wrote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument(
        "--repeats", type=int, metavar="N", help="turns of every peer (default: 5, or 1 of those that take minutes)"
    )
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
    options = parser.parse_args()
    if (options.table == "readme") != bool(options.files):
        parser.error("readme wants the files that --json wrote, and nothing else wants files")
    return options


if __name__ == "__main__":
    main()
