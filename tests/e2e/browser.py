"""Debian's Chromium, driven as a person would: by what is written on buttons and beside fields."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from contrib.site.box.grid import PASSWORD, Grid
from contrib.site.box.layout import layout

_PATIENCE = 120  # seconds for anything to appear
_POLICIES = Path("/etc/chromium/policies/managed")
_AXE = next(Path(__file__).parent.glob("axe/axe-*.min.js"))
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--window-size=1200,1400",
)


class Browser:
    """A window. Whatever the browser complains of in between is a fault: see `complaints`."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.complaints: list[str] = []

    def open(self, url: str) -> None:
        """Type an address."""
        self.driver.get(url)

    def press(self, words: str) -> None:
        """A link, a button, or what opens a question, by its words."""
        found = "self::a or self::button or self::summary"
        path = f"//*[{found}][normalize-space()={json.dumps(words)}]"

        def pressed() -> bool:
            self._one(path).click()  # fails for one that has been replaced since it was found
            return True

        self._until(pressed, words)

    def fill(self, label: str, text: str) -> None:
        """Type into the field whose label begins so."""
        named = self._one(f"//label[starts-with(normalize-space(), {json.dumps(label)})]")
        field = self.driver.find_element(By.ID, named.get_attribute("for") or "")
        field.clear()
        field.send_keys(text)

    def type(self, text: str) -> None:
        """Into whatever has the focus."""
        webdriver.ActionChains(self.driver).send_keys(text).perform()

    def choose(self, words: str) -> None:
        """What is offered in these words."""
        self._one(f"//label[.//*[normalize-space()={json.dumps(words)}]]//input").click()

    def sees(self, words: str) -> None:
        """Wait until the page says this, without being loaded anew."""
        self._until(lambda: words in self.text, words)

    def sees_in(self, part: str, words: str) -> None:
        """The same of the part of the page that has this id."""
        self._until(lambda: words in self.driver.find_element(By.ID, part).text, words)

    @property
    def text(self) -> str:
        """All that can be read."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def check(self) -> None:
        """The page is one for everybody (axe-core), and the browser has had nothing to refuse."""
        self.driver.execute_script(_AXE.read_text())
        judged: dict[str, list[dict[str, Any]]] = self.driver.execute_async_script(
            "axe.run({resultTypes: ['violations', 'passes']}).then(arguments[0]);"
        )
        assert judged["passes"]
        found = judged["violations"]
        self.complaints += [
            f"{each['id']}: {each['help']}: {each['nodes'][0]['html']}" for each in found
        ]
        self.listen()

    def listen(self) -> None:
        """Note what is on the browser's console: faults of scripts, and what the policy refuses."""
        self.complaints += [
            f"{each['level']}: {each['message']}"
            for each in self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        ]

    def _one(self, path: str) -> WebElement:
        found: list[WebElement] = []

        def there() -> bool:
            found[:] = [
                each for each in self.driver.find_elements(By.XPATH, path) if each.is_displayed()
            ]
            return bool(found)

        self._until(there, path)
        return found[0]

    def _until(self, true: Any, what: str) -> None:
        wait = WebDriverWait(self.driver, _PATIENCE, ignored_exceptions=[Exception])
        wait.until(lambda _: true(), f"{what}; there is: {self.text[:2000]}")


@contextmanager
def browser(home: Path, url: str = "", user: str = "") -> Iterator[Browser]:
    """A browser that knows the site's CA; with the certificate of a user for a URL, if told."""
    grid = Grid(layout())
    _certificates(home, grid, user)
    policy = _POLICIES / "wnodes.json"
    if user:
        _POLICIES.mkdir(parents=True, exist_ok=True)
        rule = json.dumps({"pattern": url, "filter": {}})
        policy.write_text(json.dumps({"AutoSelectCertificateForUrls": [rule]}))
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for option in (*_OPTIONS, f"--user-data-dir={home / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService("/usr/bin/chromedriver", env={"HOME": str(home)})
    try:
        driver = webdriver.Chrome(options, service)
        try:
            driver.set_page_load_timeout(_PATIENCE)
            driver.set_script_timeout(_PATIENCE)
            yield Browser(driver)
        finally:
            driver.quit()
    finally:
        policy.unlink(missing_ok=True)


def _certificates(home: Path, grid: Grid, user: str) -> None:
    """NSS's database of this home: the site's CA, and a user's certificate."""
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    database = ["-d", f"sql:{store}"]
    _run("certutil", "-N", *database, "--empty-password")
    authority = str(grid.ca / "ca.pem")
    _run("certutil", "-A", *database, "-n", "box", "-t", "C,,", "-i", authority)
    if user:
        _run("pk12util", *database, "-i", str(grid.pkcs12(user)), "-W", PASSWORD, "-K", "")


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout} {done.stderr}"
