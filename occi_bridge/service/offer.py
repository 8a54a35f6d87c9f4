"""What the site offers: images, sizes, networks; and what of it a user may have."""

import logging
import threading
import time
from collections.abc import Collection
from pathlib import Path

from occi_bridge.occi.schema import OWN
from occi_bridge.store import networks
from occi_bridge.store.networks import Net
from wnodes_lrms.config.load import Config, Grant, Template
from wnodes_lrms.errors import ConfigError
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Image
from wnodes_lrms.tls.context import stamp_of

_LOOK = 2.0  # seconds between two looks at the catalogue
_SMALLEST = Template(name="default", cores=1, memory=1024)  # of a site that names no size

log = logging.getLogger(__name__)


class Site:
    """The site's side of what users see. Safe to use from many threads."""

    def __init__(self, config: Config) -> None:
        """`config` has a [bridge]. The catalogue is read at once, and when it changes."""
        assert config.bridge  # noqa: S101 (for mypy)
        self.templates = config.bridge.template
        self.networks = config.bridge.network
        self.spans = config.network.tunnels is not None  # private networks, over nodes
        self.nets = {net.name: networks.of_site(net) for net in self.networks}
        self.vnis = {net.name: net.vni for net in self.networks if net.vni}
        hosts = [host for network in config.bridge.network for host in network.host]
        hosts += [host for network in config.cloud.network for host in network.host]
        self.macs = frozenset(host.mac for host in hosts)  # those that go with an address
        self._folder = Path(config.images.catalogue)
        self._lock = threading.Lock()
        self._stamp = stamp_of(str(self._folder))
        self._images = self._read()
        self._looked = time.monotonic()
        self._edition = 0

    @property
    def size(self) -> Template:
        """The size of a VM whose user names none."""
        return self.templates[0] if self.templates else _SMALLEST

    def throughput_of(self, mixins: Collection[str]) -> int | None:
        """What the size of a VM, which is among its mixins, gives each of its cards, in Mbit/s."""
        named = (size for size in self.templates if f"{OWN}resource_tpl#{size.name}" in mixins)
        return next((size.throughput for size in named), None)

    def edition(self) -> int:
        """Counts the changes of the catalogue, with two seconds' delay."""
        if time.monotonic() - self._looked > _LOOK and self._lock.acquire(blocking=False):
            try:
                self._looked = time.monotonic()
                stamp = stamp_of(str(self._folder))
                if stamp != self._stamp:
                    self._images = self._read()
                    self._stamp = stamp
                    self._edition += 1
            finally:
                self._lock.release()
        return self._edition

    def images(self, grant: Grant) -> list[Image]:
        """The images of the catalogue that a user may have, by their tags."""
        self.edition()
        return [
            image
            for tag, image in self._images.items()
            if "*" in grant.images or tag in grant.images
        ]

    def image(self, tag: str) -> Image | None:
        """An image of the catalogue."""
        self.edition()
        return self._images.get(tag)

    def granted(self, grant: Grant) -> list[Net]:
        """The site's networks that a user may link to, in the order of the configuration."""
        names = [net.name for net in networks.granted(self.networks, grant)]
        return [self.nets[name] for name in names]

    def _read(self) -> dict[str, Image]:
        found = {}
        for tag in catalogue.tags(self._folder):
            try:
                found[tag] = catalogue.read(self._folder, tag)
            except ConfigError as error:
                for line in str(error).splitlines():
                    log.warning("%s; users do not see it", line)
        return found
