"""Takes the pictures of the page that docs/page.md shows: `make screenshots`.

All of it is the page of the site in a box, in Chromium, with a VM that runs there; only the core
hours of the days before are made up, as the site has not been there for so long.
"""

import base64
import tempfile
import time
from pathlib import Path

from occi_bridge.store import usage
from occi_bridge.store.database import Database
from occi_bridge.store.usage import Usage
from tests.e2e.box import wait_until
from tests.e2e.browser import Browser, browser
from tests.e2e.occi import Key
from tests.e2e.test_cloud_page import PAGE
from wnodes_lrms.config import load as configuration

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
_WIDTH = 1000  # pixels
_DAY = 86400.0
_FIRST_BOOT = "#!/bin/sh\necho web is up since $(uptime) >/dev/console\n"
_HOURS = (0, 9, 22, 31, 24, 24, 2, 0, 6, 14, 14, 18, 27, 12, 0, 0, 3, 8, 11, 26, 19)


def main() -> None:
    """Log in, make a VM, and go from page to page."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, browser(Path(home)) as window:
        window.driver.set_window_size(_WIDTH, 900)
        window.open(PAGE)
        window.press("Log in with the issuer in the box")
        window.press("ada")
        window.sees("You have no VM")
        _past(window)
        window.press("New VM")
        window.fill("Name", "web")
        window.choose("small_debian_x86_64")
        window.choose("One core, 256 MiB")
        key = Key.make(Path(home)).public.rpartition(" ")[0]
        window.fill("Paste a public key", f"{key} ada@laptop")
        _take(window, "new")
        window.press("Networks, volumes, data for the first boot")
        window.fill("Data for the first boot", _FIRST_BOOT)
        window.press("Make the VM")
        window.sees("ssh root@")
        window.sees("running")
        _take(window, "vm")
        window.press("What it wrote on its console")
        window.sees("web is up")
        _take(window, "console")
        for page, words in (
            ("My VMs", "running"),
            ("Images", "Tag"),
            ("Usage", "Core hours"),
            ("Site", "VMs by user"),
        ):
            window.press(page)
            window.sees(words)
            _take(window, page.lower().replace(" ", "-"))
        window.press("My VMs")
        window.press("web")
        window.press("Delete")
        window.press("Delete web for good")
        window.sees("You have no VM")
    if window.complaints:
        raise SystemExit("\n".join(window.complaints))


def _past(window: Browser) -> None:
    """Core hours of some days before, as if a node had told them."""
    bridge = configuration.load(configuration.path_in_use()).bridge
    if bridge is None:
        raise SystemExit("this site has no bridge")
    owner = window.driver.find_element("class name", "who").text
    today = time.time() // _DAY * _DAY
    rows = [
        Usage(number, owner, 1, today - (number + 1) * _DAY, hours * 3600.0 / 2, 0.0)
        for number, hours in enumerate(_HOURS)
    ]
    db = Database(bridge.database)
    usage.keep(db, "made-up", rows, 0.0)
    db.close()


def _take(window: Browser, name: str) -> None:
    """The whole of what is shown now, up to a length; and what axe-core complains of."""
    wait_until(
        lambda: window.driver.execute_script("return document.readyState") == "complete",
        60,
        "it is loaded",
    )
    window.check()
    height = window.driver.execute_script("return document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": _WIDTH, "height": min(height, 1200), "scale": 0.75}
    asked = {"format": "png", "captureBeyondViewport": True, "clip": clip}
    taken = window.driver.execute_cdp_cmd("Page.captureScreenshot", asked)
    (FOLDER / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    main()
