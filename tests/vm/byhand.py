"""A job's VM once more, made by hand: what its end is compared with. Runs on the node, as root.

usage: byhand.py start VM   a domain like that of this name, with disks of its own
       byhand.py end        destroys it; prints the seconds that libvirt took
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import libvirt

NAME = "byhand"
FOLDER = Path("/var/lib/libvirt/images/byhand")
# What is this very domain's, or libvirt's to choose.
_OWN = ("uuid", "metadata", "seclabel", "resource")


def main(what: str, name: str = "") -> None:
    """Do what is asked for."""
    link = libvirt.open("qemu:///system")
    if what == "start":
        FOLDER.mkdir(exist_ok=True)
        theirs = link.lookupByName(name).XMLDesc()
        link.createXML(like(ElementTree.fromstring(theirs)))  # noqa: S314 (libvirt's)
        return
    domain = link.lookupByName(NAME)
    began = time.monotonic()
    domain.destroy()
    print(f"{time.monotonic() - began:.3f}")
    shutil.rmtree(FOLDER)


def like(domain: ElementTree.Element) -> str:
    """The XML of a domain that differs from this one by its name, addresses and disks only."""
    domain.attrib.pop("id", None)
    for named in domain.findall("name"):
        named.text = NAME
    for tag in _OWN:
        for found in domain.findall(tag):
            domain.remove(found)
    for disk in domain.iterfind("devices/disk"):
        source, below = disk.find("source"), disk.find("backingStore/source")
        if source is not None:
            source.attrib["file"] = copy(source.attrib["file"], below)
    for card in domain.iterfind("devices/interface"):
        for tag in ("mac", "target"):
            for found in card.findall(tag):
                card.remove(found)
    for console in domain.findall("devices/serial") + domain.findall("devices/console"):
        for tag in ("log", "source"):
            for found in console.findall(tag):
                console.remove(found)
    return ElementTree.tostring(domain, encoding="unicode")


def copy(path: str, below: ElementTree.Element | None) -> str:
    """A disk of its own: empty above the same image, or with the same content."""
    new = FOLDER / Path(path).name
    if below is None:
        shutil.copy(path, new)
    else:
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2"]
        create += ["-b", below.attrib["file"]]
        subprocess.run([*create, str(new)], check=True)
    return str(new)


if __name__ == "__main__":
    main(*sys.argv[1:])
