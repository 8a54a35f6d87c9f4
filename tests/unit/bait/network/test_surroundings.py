"""What a node has of its own."""

from pathlib import Path

from bait.network.surroundings import own_macs


def test_a_card_that_goes_while_they_are_looked_at_does_not_hide_the_others(tmp_path: Path) -> None:
    for card in ("eth0", "tap7", "eth1"):
        (tmp_path / card).mkdir()
    (tmp_path / "eth0" / "address").write_text("52:54:00:00:00:01\n")
    (tmp_path / "tap7" / "address").mkdir()  # it is there, and can't be read
    (tmp_path / "eth1" / "address").write_text("52:54:00:00:00:02\n")
    assert own_macs(tmp_path) == {"52:54:00:00:00:01", "52:54:00:00:00:02"}


def test_the_nodes_own_cards_are_found() -> None:
    assert "00:00:00:00:00:00" in own_macs()  # the loopback's
