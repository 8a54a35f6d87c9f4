"""Prints what the ledgers hold that must be gone in the end, as JSON: ledgers.py FILE…

Run inside the site's mount namespace, by the system's interpreter: SQLite follows links by itself,
so that it can't be led to a file in another namespace. Standard library only.
"""

import json
import sqlite3
import sys
from contextlib import closing

_QUERIES = {
    "machines": "SELECT id, kind, state, job, reason FROM machine",
    "leases": "SELECT id, machine, job FROM lease WHERE reason IS NULL",
    "volumes": "SELECT volume, machine, device FROM attached",
    "usages": "SELECT id, machine, job FROM usage WHERE ended IS NULL",
}


def main(files: list[str]) -> None:
    """All of it, by what it is."""
    found: dict[str, list[list[object]]] = {name: [] for name in _QUERIES}
    for file in files:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
            for name, query in _QUERIES.items():
                found[name] += map(list, db.execute(query))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
