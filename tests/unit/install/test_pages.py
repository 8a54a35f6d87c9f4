"""What the install test takes out of the documentation."""

import re
from pathlib import Path

import pytest

from tests.install import pages, stages
from tests.vm import volumes

PAGES = ("install.md", "install-cloud.md", "occi.md", "drain.md")


@pytest.mark.parametrize("page", PAGES)
def test_a_block_follows_each_marker(page: str) -> None:
    assert list(pages.blocks(page)) == pages.markers(page)


def test_blocks_of_a_list_lose_their_indent() -> None:
    text = pages.blocks("install.md")["configuration"]
    assert '\ncluster = "mysite"\n' in text
    assert "\nEND\n" in text


def test_the_same_name_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = "<!-- install-test: a -->\n```\ntrue\n```\n"
    (tmp_path / "page.md").write_text(block)
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    assert pages.blocks("page.md") == {"a": "true\n"}
    (tmp_path / "page.md").write_text(block + block)
    with pytest.raises(ValueError, match="two blocks called «a»"):
        pages.blocks("page.md")


@pytest.mark.parametrize("page", PAGES)
def test_no_marked_block_is_left_out(page: str) -> None:
    """Each name stands in the stages, so that none is only thought to be tested."""
    source = "".join(Path(str(each.__file__)).read_text() for each in (stages, volumes))
    named = set(re.findall(r"[\"']([a-z][a-z0-9. -]+)[\"']", source))
    assert set(pages.blocks(page)) <= named
