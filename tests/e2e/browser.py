"""Debian's Chromium, driven as a person would: by what is written on buttons and beside fields."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

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
        self._until(lambda: self._shown(path).click(), words)

    def fill(self, label: str, text: str) -> None:
        """Type into the field whose label begins so."""

        def typed() -> None:
            named = self._shown(f"//label[starts-with(normalize-space(), {json.dumps(label)})]")
            field = self.driver.find_element(By.ID, named.get_attribute("for") or "")
            field.clear()
            field.send_keys(text)

        self._until(typed, label)

    def type(self, text: str) -> None:
        """Into whatever has the focus."""
        webdriver.ActionChains(self.driver).send_keys(text).perform()

    def choose(self, words: str) -> None:
        """What is offered in these words."""
        path = f"//label[.//*[normalize-space()={json.dumps(words)}]]//input"
        self._until(lambda: self._shown(path).click(), words)

    def select(self, label: str, words: str) -> None:
        """Of a list with this label, the first choice that begins so."""

        def chosen() -> None:
            named = self._shown(f"//label[normalize-space()={json.dumps(label)}]")
            field = self.driver.find_element(By.ID, named.get_attribute("for") or "")
            choices = Select(field).options
            next(each for each in choices if each.text.startswith(words)).click()

        self._until(chosen, words)

    def sees(self, words: str) -> None:
        """Wait until the page says this, without being loaded anew."""

        def said() -> None:
            assert words in self.text

        self._until(said, words)

    def sees_in(self, part: str, words: str) -> None:
        """The same of the part of the page that has this id."""

        def said() -> None:
            assert words in self.driver.find_element(By.ID, part).text

        self._until(said, words)

    def hears(self, words: str) -> None:
        """Wait until a screen reader is told this of what changes by itself."""

        def said() -> None:
            news = self.driver.find_element(By.ID, "news")
            assert words in str(news.get_property("textContent"))

        self._until(said, words)

    @property
    def text(self) -> str:
        """All that can be read."""
        text: str = self.driver.execute_script("return document.body.innerText")
        return text

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

    def _shown(self, path: str) -> WebElement:
        return next(
            each for each in self.driver.find_elements(By.XPATH, path) if each.is_displayed()
        )

    def _until(self, do: Callable[[], None], what: str) -> None:
        """Try until it can be done. The page changes under one's hands, as it does for a person:
        what was found may have been replaced since."""
        failed = Exception()

        def done(_: object) -> bool:
            nonlocal failed
            try:
                do()
            except Exception as error:
                failed = error
                return False
            return True

        try:
            WebDriverWait(self.driver, _PATIENCE).until(done)
        except TimeoutException:
            raise AssertionError(f"{what}: {failed}; there is: {self.text[:2000]}") from failed


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
