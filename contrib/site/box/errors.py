"""The one error of the site in a box."""

from pathlib import Path


class SiteError(Exception):
    """A part that did not do what it should: what happened, where its log is, what to do."""

    def __init__(self, message: str, remedy: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.log = log

    def text(self) -> str:
        """All that a person needs, with the last lines of the log."""
        lines = [str(self)]
        if self.log and self.log.exists():
            lines.append(f"last lines of {self.log}:")
            tail = self.log.read_text(errors="replace").splitlines()[-12:]
            lines += [f"  | {line}" for line in tail]
        return "\n".join([*lines, f"what to do: {self.remedy}"])
