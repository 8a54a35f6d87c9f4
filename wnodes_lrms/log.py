"""Log lines for the journal: a priority that it understands, and the ids that people grep for."""

import logging
import re
import sys

_PRIORITY = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
# What begins a line, or is obeyed by a terminal: users have a say in what is logged.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_CHATTY = ("alembic", "httpx", "websockets")


class _Format(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return _CONTROL.sub(" ", super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for key in ("machine", "job"):
            value = getattr(record, key, None)
            if value:
                text = f"{key}={value} {text}"
        if not sys.stderr.isatty():
            # sd-daemon(3): each line of a text with more of them needs its own prefix
            prefix = f"<{_PRIORITY.get(record.levelno, 6)}>"
            text = "\n".join(prefix + line for line in text.splitlines())
        return text


def ids(job: str, machine: str = "") -> dict[str, str]:
    """What a log line is about, as `extra` of the call; empty: of no one job, or no one VM."""
    return {"job": job, "machine": machine}


def set_up() -> None:
    """Send all log records to standard error, where the journal or a file takes them."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Format("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
