"""Users' volumes: one sparse file each, in a folder that all nodes share."""

import os
from pathlib import Path
from typing import Protocol
from uuid import UUID

from wnodes_lrms.errors import AbsentError, WnodesError
from wnodes_lrms.folders import PASSED, have

_GIB = 1 << 30


class Pool(Protocol):
    """Where volumes live. Every method raises WnodesError if the pool can't do it."""

    def create(self, volume: str, size: int) -> None:
        """Make a volume of `size` GiB, or have it grow to that; one that has it is success."""

    def delete(self, volume: str) -> None:
        """Remove a volume; one that is gone is success."""

    def list(self) -> dict[str, int]:
        """Every volume and its size in GiB."""

    def path(self, volume: str) -> Path:
        """What QEMU opens. Raises AbsentError if there is no such volume."""


class Directory:
    """A pool in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, volume: str, size: int) -> None:
        """Make a volume of `size` GiB, or have it grow to that; one that has it is success."""
        path = self._file(volume)
        new = path.with_suffix(".new")
        try:
            if path.exists():
                if path.stat().st_size < size * _GIB:
                    os.truncate(path, size * _GIB)
                return
            have(self.folder, PASSED)
            new.unlink(missing_ok=True)
            new.touch(mode=0o600)
            os.truncate(new, size * _GIB)
            new.replace(path)
        except OSError as error:
            raise WnodesError(f"volume {volume}: {self.folder}: {error.strerror}") from error

    def delete(self, volume: str) -> None:
        """Remove a volume; one that is gone is success."""
        try:
            self._file(volume).unlink(missing_ok=True)
        except OSError as error:
            raise WnodesError(f"volume {volume}: {self.folder}: {error.strerror}") from error

    def list(self) -> dict[str, int]:
        """Every volume and its size in GiB."""
        try:
            return {path.stem: path.stat().st_size // _GIB for path in self.folder.glob("*.raw")}
        except OSError as error:
            raise WnodesError(f"volumes: {self.folder}: {error.strerror}") from error

    def path(self, volume: str) -> Path:
        """What QEMU opens. Raises AbsentError if there is no such volume."""
        path = self._file(volume)
        if not path.exists():
            raise AbsentError(f"there is no volume {volume} in {self.folder}")
        return path

    def _file(self, volume: str) -> Path:
        return self.folder / f"{UUID(volume)}.raw"
