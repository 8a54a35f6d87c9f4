"""VMs on networks of the site's whose switches do the work: a VLAN on a bridge, and Open vSwitch.

Each switch has a host in VLAN 42, as the cards on it are, and one in VLAN 43, of the same address.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.install.inside import FailedError, Inside
from tests.vm.volumes import LvmStages

# Its unit would fail in the container, whose kernel has it not.
_NEEDS = r"""
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get install openvswitch-switch
rm /usr/sbin/policy-rc.d
systemctl --quiet disable openvswitch-switch.service ovs-record-hostname.service || true
"""
_MAKE = """
modprobe openvswitch
systemctl start openvswitch-switch
ip link add br-vlan type bridge vlan_filtering 1
ovs-vsctl add-br ovs0
ip link set br-vlan up
ip link set ovs0 up
for vlan in 42 43; do
    for switch in br-vlan ovs0; do
        host=$switch-$vlan
        ip netns add $host
        ip link add $host type veth peer name eth0 netns $host
        ip link set $host up
        ip -n $host link set eth0 up
    done
    ip link set br-vlan-$vlan master br-vlan
    bridge vlan del dev br-vlan-$vlan vid 1
    bridge vlan add dev br-vlan-$vlan vid $vlan pvid untagged
    ovs-vsctl add-port ovs0 ovs0-$vlan tag=$vlan
    ip -n br-vlan-$vlan address add 10.42.0.99/24 dev eth0
    ip -n ovs0-$vlan address add 10.43.0.99/24 dev eth0
done
cp --archive /etc/wnodes/wnodes.toml /root/before-switches.toml
cat >>/etc/wnodes/wnodes.toml <<'END'

[[cloud.network]]
name = "vlan"
bridge = "br-vlan"
vlan = 42
subnet = "10.42.0.0/24"

[[cloud.network]]
name = "ovs"
bridge = "ovs0"
openvswitch = true
vlan = 42
subnet = "10.43.0.0/24"

[[bridge.network]]
name = "vlan"
kind = "bridge"
subnet = "10.42.0.0/24"

[[bridge.network]]
name = "ovs"
kind = "bridge"
subnet = "10.43.0.0/24"
END
wnodes config check
systemctl restart wnodes-bait wnodes-bridge
"""
_END = """
mv /root/before-switches.toml /etc/wnodes/wnodes.toml
systemctl restart wnodes-bait wnodes-bridge
for host in br-vlan-42 br-vlan-43 ovs0-42 ovs0-43; do ip netns delete $host; done
ip link delete br-vlan
ovs-vsctl del-br ovs0
systemctl stop openvswitch-switch
"""
_PORTS = "ovs-vsctl list-ports ovs0 | grep --invert-match ^ovs0- || true"
_VLAN_SINCE = 11  # libvirt's version that puts cards into VLANs of a Linux bridge
_FALSE = "ip address add 10.42.0.77/24 dev eth2; ping -c 1 -w 5 -I 10.42.0.77 10.42.0.99 || true"


def needs(inside: Inside) -> None:
    """The distribution's packages for it."""
    inside.shell(_NEEDS)


class SwitchStages(LvmStages):
    """With one that has two switches, and leaves none."""

    def switches(self) -> None:
        """A VM on both is heard in its VLAN and in no other; an older libvirt refuses the bridge,
        and says so."""
        version = re.search(r"Using library: libvirt (\d+)", self._told("virsh version"))
        able = version is not None and int(version[1]) >= _VLAN_SINCE
        with self._two_switches():
            on = ("public", "ovs", *(("vlan",) if able else ()))
            words = " ".join(f"--network {name}" for name in on)
            vm = self._asked(f"create switched --image small_debian_x86_64 {words}")
            with self._in(vm):
                self._until_active()
                self._login("true")
                self._heard_in_its_vlan("ovs0", "10.43")
                if able:
                    self._heard_in_its_vlan("br-vlan", "10.42")
                    self._held_on_a_bridge()
                else:
                    self._refused(vm)
            self._asked(f"delete {vm}")
            self.inside.until("its card has gone", lambda: self._told(_PORTS).strip() == "")

    @contextmanager
    def _two_switches(self) -> Iterator[None]:
        """They are there meanwhile, and users have networks on them; what fails leaves them."""
        self._told(_MAKE)
        self.inside.until("users see both", self._offered)
        yield
        self._told(_END)

    def _offered(self) -> bool:
        try:
            said = self._type_occi("shell", after="wnodes cloud networks list")
        except FailedError:  # the service has not come up again
            return False
        return bool(re.search(r"\bvlan\b", said) and re.search(r"\bovs\b", said))

    def _heard_in_its_vlan(self, switch: str, net: str) -> None:
        own = rf'networkinterface\.address="({re.escape(net)}\.\d+\.\d+)'
        (address,) = re.findall(own, self._type_occi("show"))
        self.inside.until(f"heard on {switch}", lambda: self._heard(f"{switch}-42", address))
        if self._heard(f"{switch}-43", address):
            raise FailedError(f"{address} is heard in another VLAN of {switch}")

    def _heard(self, host: str, address: str) -> bool:
        """Whether a host hears the VM's SSH server."""
        ask = f"exec 3<>/dev/tcp/{address}/22; head --bytes=4 <&3"
        said = self._told(f"ip netns exec {host} timeout 60 bash -c '{ask}' 2>&1 || true")
        return "SSH-" in said

    def _held_on_a_bridge(self) -> None:
        """nftables sees the frames there: what has another's address is dropped, and counted."""
        before = self._dropped()
        self._login(_FALSE)
        self.inside.until("it is counted", lambda: self._dropped() > before)

    def _dropped(self) -> int:
        """What has another address: ARP, or the echo where the guest knows the MAC already."""
        said = self._told("nft list counters table bridge wnodes-hv1")
        found = re.findall(r"counter (?:false_arp|other_address) {[^}]*packets (\d+)", said)
        if len(found) != 2:
            raise FailedError(f"nft lacks a counter:\n{said}")
        return sum(map(int, found))

    def _refused(self, vm: str) -> None:
        self._asked(f"networks attach vlan {vm}")
        message = r'networkinterface\.state\.message="'
        self.inside.until(
            "it is refused, with a reason",
            lambda: re.search(message, self._type_occi("show")) is not None,
        )
