"""What libvirt's errors mean, in words for the owner of a VM.

libvirt, and QEMU through it, speak to whoever runs the node, in texts that change with versions.
Where the cause of one is known it has a sentence here; any other is in the bait's log alone. Pure.
"""

import re

from wnodes_lrms.errors import WnodesError

# libvirt's text, or QEMU's within it, and what it means. The first that fits is taken.
_CAUSES = (
    (r"virStorageEncryption|encrypt|LUKS", "its disk is encrypted, and a VM here can't open that"),
    (r"No space left|ENOSPC", "the node's disk is full"),
    (r"Cannot allocate memory|cannot set up guest memory", "the node has too little memory for it"),
    (r"Failed to get \S+ lock|lock on", "another program of the node uses its disk"),
    (
        r"not in \S+ format|Image is corrupt",
        "its disk is damaged, or not of the format it should be",
    ),
    (r"virtiofsd|vhost-user", "the server of one of its shared folders does not run"),
    (
        r"error connecting: |error opening pool|error reading header",  # QEMU's block/rbd.c
        "the node's QEMU does not get through to the site's storage",
    ),
    (r"Permission denied", "the node's QEMU may not open one of its files"),
    (r"No such file", "one of its files is not on the node"),
    (r"kvm|KVM", "the node's hardware virtualization does not work"),
    (r"CPU|cpu ", "the node's processor lacks what it asks for"),
    (r"[Nn]etwork|bridge|tap", "a network of it is not there on the node"),
    (r"guest agent", "the guest's agent does not answer"),
    (r"No more available PCI|no more free", "it has as many devices as it can have"),
    (r"timed out|[Tt]imeout|cannot acquire", "its QEMU does not answer in time"),
    (r"monitor|exited", "its QEMU ended at once"),
)


def told(what: str, said: str) -> str:
    """What could not be done, and why as far as that is known."""
    cause = next((words for text, words in _CAUSES if re.search(text, said)), None)
    return f"{what}: {cause}" if cause else what


def fault(what: str, error: Exception, kind: type[WnodesError] = WnodesError) -> WnodesError:
    """What libvirt has not done: the whole for the log, in words for users."""
    return kind(f"libvirt {what}: {error}", told=told(f"the node's libvirt {what}", str(error)))
