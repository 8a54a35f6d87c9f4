"""What the site says while it works: one line a step, with the time it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what begins; then, on the same line, how long it took."""
    print(f"  {title} ".ljust(44, "."), end=" ", flush=True)
    began = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - began:5.1f} s", flush=True)


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their widest entry."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
