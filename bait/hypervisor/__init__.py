"""libvirt and QEMU: what they are asked and told."""
