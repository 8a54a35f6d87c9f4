"""Users' volumes, and where they are kept: in a folder, in Ceph, or in LVM."""
