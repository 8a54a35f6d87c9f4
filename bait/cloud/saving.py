"""Saving a VM's disk as an image that its user can make others from."""

import errno
import hashlib
import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from bait.cloud.build import CloudBuilder
from bait.cloud.freezing import Freezer
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.ledger.states import AT_REST, RUNS
from bait.privileges.removal import remove_as_owner
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import ConflictError, RejectedError, WnodesError
from wnodes_lrms.folders import PASSED, have
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Image, Part
from wnodes_lrms.log import ids
from wnodes_lrms.model import State
from wnodes_lrms.order import Order
from wnodes_lrms.volumes import Consistency

log = logging.getLogger(__name__)


class Saver:
    """Writes images into the folder of saved ones, a thread each."""

    def __init__(
        self, config: Config, ledger: Ledger, builder: CloudBuilder, freezer: Freezer
    ) -> None:
        self.folder = Path(config.cloud.saved)
        self.catalogue = Path(config.images.catalogue)
        self.ledger = ledger
        self.builder = builder
        self.freezer = freezer
        self._busy: dict[str, str] = {}  # tag: VM
        self._failed: dict[str, str] = {}
        self._made: dict[str, dict[str, Any]] = {}  # what those are like that were written here
        self._guard = threading.Lock()

    def shown(self) -> dict[str, Any]:
        """The images that are there, being written, and what became of others."""
        with self._guard:
            return {
                "tags": catalogue.tags(self.folder),
                "busy": sorted(self._busy),
                "failed": dict(self._failed),
                "made": dict(self._made),
            }

    def reads(self, machine: str) -> bool:
        """Whether the VM's disk is being read: QEMU could not open it."""
        with self._guard:
            return machine in self._busy.values()

    def save(self, row: Row, tag: str) -> None:
        """Begin to write the VM's disk as it is now; a tag that is there is success.

        Raises ConflictError if the VM is in the middle of something.
        """
        if row.state not in (*AT_REST, *RUNS):
            raise ConflictError(f"the VM is {row.state}: its disk can't be saved now")
        with self._guard:
            if tag in self._busy or tag in catalogue.tags(self.folder):
                return
            self._busy[tag] = row.id
            self._failed.pop(tag, None)
            self._made.pop(tag, None)
        try:
            self.ledger.record(row.job, row.id, f"saving its disk as {tag}")
            threading.Thread(target=self._write, args=(row, tag), daemon=True).start()
        except BaseException:  # a full disk, or no thread is left: nobody reads it then
            with self._guard:
                del self._busy[tag]
            raise

    def delete(self, tag: str) -> None:
        """Remove an image; one that is gone is success.

        Whether there are VMs that stand on it is the bridge's to know.

        Raises ConflictError while it is being written.
        """
        with self._guard:
            if tag in self._busy:
                raise ConflictError(f"image {tag} is just being written")
            self._failed.pop(tag, None)
            self._made.pop(tag, None)
        with suppress(RejectedError):
            catalogue.remove(self.folder, tag)
        with suppress(FileNotFoundError, WnodesError):  # a bait that was killed has left it
            remove_as_owner(self.builder.stripping(tag))
        try:
            for form in ("qcow2", "new"):
                (self.folder / f"{tag}.{form}").unlink(missing_ok=True)
        except OSError as error:
            raise WnodesError(f"image {tag}: {self.folder}: {error.strerror}") from error

    def _write(self, row: Row, tag: str) -> None:
        disk = self.folder / f"{tag}.qcow2"
        new = disk.with_suffix(".new")
        try:
            have(self.folder, PASSED)
            new.unlink(missing_ok=True)
            moment = None if row.state in AT_REST else self.freezer.moment(row.id)
            self.builder.save(row.id, moment, new)
            with self._guard:
                self._busy[tag] = ""  # nobody reads the VM's own disk any more
            stripped = self.builder.strip(Order.model_validate_json(row.spec), new)
            rests = Consistency.CRASH if row.state is State.HIBERNATED else Consistency.OFFLINE
            like = moment.consistency if moment else rests
            new.replace(disk)
            catalogue.write(self.folder, self._image(row, tag, disk), 0o600)
            self._made[tag] = {"consistency": str(like), "stripped": stripped}
        except (WnodesError, OSError) as error:
            log.error("%s", error, extra=ids(row.job, row.id))
            with suppress(OSError):
                new.unlink(missing_ok=True)
            fault = error if isinstance(error, WnodesError) else _unwritten(error)
            self._failed[tag] = fault.words(row.id)
        finally:
            with self._guard:
                del self._busy[tag]

    def _image(self, row: Row, tag: str, disk: Path) -> Image:
        order = Order.model_validate_json(row.spec)
        base = catalogue.read(self.folder if order.saved else self.catalogue, order.image)
        with disk.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return base.model_copy(
            update={
                "tag": tag,
                "format": "qcow2",
                "disk": Part(source=str(disk), sha256=digest),
                "trusted": False,
            }
        )


def _unwritten(error: OSError) -> WnodesError:
    full = ": its disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return WnodesError(str(error), told=f"the node can't write the image{full}")
