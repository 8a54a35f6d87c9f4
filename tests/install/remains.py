"""What there is in the container, to compare before and after: files, users, units, VMs."""

from dataclasses import dataclass

from tests.install.inside import Inside

# What a Debian, a Slurm, a database and a libvirt in use write by themselves; the sources, the
# site's images.
_OTHERS = (
    *("/dev", "/home", "/proc", "/root", "/srv", "/sys", "/tmp", "/usr/src", "/var/cache/apt"),
    *("/var/cache/debconf", "/var/cache/man", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/mysql"),
    *("/var/lib/slurm", "/var/lib/systemd", "/var/log", "/var/tmp", "/run/log", "/run/systemd"),
    *("/run/udev", "/run/user", "/run/mysqld", "/run/libvirt", "/var/lib/libvirt/dnsmasq"),
    *("/var/cache/libvirt", "/run/virtlogd.pid", "/etc/grid-security/voms-mapfile"),
    *("/var/backups", "/var/lib/logrotate"),  # of the hours when timers do what they do
)
# Others come and go by themselves, as libvirt's daemon does, and what D-Bus and timers start.
_OURS, _SITES = "wnodes|qemu|virtiofsd|dnsmasq", "slurm(ctld|dbd|d)|munge|mariadb"
_QUESTIONS = {
    "files": "find / \\( "
    + " -o ".join(f"-path {each}" for each in _OTHERS)
    + " \\) -prune -o -name __pycache__ -prune -o -print",
    "users": "getent passwd",
    "groups": "getent group",
    "units": "systemctl list-unit-files --plain --no-legend"
    " | grep -v transient | awk '{print $1, $2}'",
    "running": "systemctl list-units --plain --no-legend --state=active --type=service,timer,socket"
    f" | awk '{{print $1}}' | grep -E '{_OURS}|{_SITES}'",
    "processes": f"ps -e -o args= | grep -E '{_OURS}|{_SITES}' | grep -v -w -E 'grep|bash'",
    "domains": "virsh list --all --name",
    "networks": "virsh net-list --all --name; ls /sys/class/net",
    "firewall": "nft list tables | grep -v -E 'ip6? (filter|mangle|nat)$' || true",
    "libvirt's own": "find /var/log/libvirt /run/libvirt /var/lib/libvirt -name '*wnodes*'",
}


@dataclass(frozen=True)
class Sight:
    """Lines of each kind."""

    lines: dict[str, frozenset[str]]

    def left(self, before: "Sight") -> list[str]:
        """What is there now and was not before, or was and is not, a line each."""
        found: list[str] = []
        for kind, now in self.lines.items():
            then = before.lines[kind]
            found += [f"{kind}: left behind: {line}" for line in sorted(now - then)]
            found += [f"{kind}: missing: {line}" for line in sorted(then - now)]
        return found


def look(inside: Inside) -> Sight:
    """All that there is."""
    return Sight(
        {
            kind: frozenset(filter(None, map(str.strip, inside.shell(script).splitlines())))
            for kind, script in _QUESTIONS.items()
        }
    )
