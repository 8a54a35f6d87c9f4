"""What doctor says of nodes' features by network."""

import pytest

from wnodes_lrms.config.load import Bridge, Cloud, CloudNetwork, Config, Offer
from wnodes_lrms.doctor import Status
from wnodes_lrms.lrms import features
from wnodes_lrms.lrms.gridengine import checks as gridengine
from wnodes_lrms.lrms.slurm.checks import active_features, gres

NETWORKS = (
    CloudNetwork(name="lan", kind="bridge", feature="net_lan"),
    CloudNetwork(name="wan", kind="bridge", feature="net_wan"),
    CloudNetwork(name="any", kind="nat"),
)
CONFIG = Config(
    cluster="box",
    lrms="slurm",
    cloud=Cloud(network=(Offer(name="lan", bridge="br0"),)),
    bridge=Bridge(baits=("https://hv1:8445",), network=NETWORKS),
)


@pytest.mark.parametrize(
    ("has", "lan", "wan"),
    [
        ({"wnodes", "net_lan"}, Status.OK, Status.OK),
        ({"wnodes"}, Status.WARNING, Status.OK),
        ({"net_lan", "net_wan"}, Status.OK, Status.WARNING),
    ],
)
def test_a_node_has_the_features_of_the_networks_that_it_offers(
    has: set[str], lan: Status, wan: Status
) -> None:
    found = {check.name: check.status for check in features.checks(CONFIG, "hv1", has)}
    assert found == {"feature net_lan": lan, "feature net_wan": wan}


def test_a_site_without_such_features_is_asked_nothing() -> None:
    assert features.wanted(CONFIG.model_copy(update={"bridge": None})) == {}


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"lan_mbit", "wan_mbit"}, {"consumable lan_mbit": Status.OK}),
        ((), {"consumable lan_mbit": Status.WARNING}),
    ],
)
def test_a_node_has_some_of_what_is_counted_for_its_networks(
    has: set[str], expected: dict[str, Status]
) -> None:
    networks = (
        CloudNetwork(name="lan", kind="bridge", consumable="lan_mbit", throughput_most=9),
        CloudNetwork(name="wan", kind="bridge", consumable="wan_mbit", throughput_most=9),
    )
    bridge = Bridge(baits=("https://hv1:8445",), network=networks)
    config = CONFIG.model_copy(update={"bridge": bridge})
    found = features.counts(config, "hv1", has)
    assert {check.name: check.status for check in found} == expected
    everywhere = CloudNetwork(name="any", kind="nat", consumable="wan_mbit", throughput_most=9)
    bridge = Bridge(baits=("https://hv1:8445",), network=(*networks, everywhere))
    config = CONFIG.model_copy(update={"bridge": bridge})
    assert features.counted(config) == {"lan_mbit": True, "wan_mbit": True}


def test_where_slurm_and_grid_engine_tell_them() -> None:
    said = "NodeName=hv1 Arch=x86_64\n   AvailableFeatures=wnodes,old\n"
    said += "   ActiveFeatures=wnodes,net_lan\n"
    assert active_features(said) == ["wnodes", "net_lan"]
    assert gres(said) == [""]
    said += "   Gres=lan_mbit:1000,gpu:a100:2(S:0-1)\n"
    assert gres(said) == ["lan_mbit", "gpu"]
    hosts = "HOSTNAME ARCH\nhv1 lx\n    hf:net_lan=1.000000\nhv2 lx\n    hf:net_wan=1.000000\n"
    assert "net_lan=1" in gridengine.resources("hv1", hosts)
    assert "net_wan" not in gridengine.resources("hv1", hosts)
