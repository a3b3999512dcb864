"""Drives Debian's Chromium without a window through its own driver, to test what a person sees on the pages."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

PROGRAM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
#: Seconds within which a page has to do what is waited for.
LIMIT = 20
#: As root and in a container of any kind it has no sandbox of its own; the pages are ours.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--password-store=basic",
)


@dataclass(frozen=True)
class Browser:
    """One window of one profile: what is signed in stays so."""

    driver: Chrome

    def open(self, url: str) -> None:
        """Go to a page, as by typing its address."""
        self.driver.get(url)

    def sign_in(self, url: str, login: str, password: str) -> None:
        """Fill in the form, and wait for the page that comes then: the form again, or another one."""
        self.open(f"{url}/users/sign_in")
        self.driver.find_element(By.NAME, "login").send_keys(login)
        self.driver.find_element(By.NAME, "password").send_keys(password)
        # Kept by the page itself: the next one does not have it.
        self.run("document.body.dataset.old = 'yes'")
        self.press("form.sign-in button")
        self.wait(lambda: self.run("return document.readyState === 'complete' && !document.body.dataset.old"))

    def press(self, selector: str) -> None:
        """Press what a CSS selector finds first."""
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def text(self, selector: str = "body") -> str:
        """What can be read in the page, or in a part of it; nothing while there is no such part."""
        found = self.run("return document.querySelector(arguments[0])?.innerText", selector)
        return str(found or "")

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, holds: Callable[[], object], seconds: float = LIMIT) -> None:
        """Wait until something holds, or raise `TimeoutException`."""
        WebDriverWait(self.driver, seconds, poll_frequency=0.1).until(lambda _: holds())

    def complaints(self) -> list[str]:
        """What the console has said since the last question: errors, refused requests, breaches of the policy."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    def size(self, width: int, height: int) -> None:
        """The size of the page in the window, also narrower than a window can be."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def allow_clipboard(self, url: str) -> None:
        """Let pages of a site, and this program, use the clipboard, as a person may answer when asked."""
        grant = {"origin": url, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
        self.driver.execute_cdp_cmd("Browser.grantPermissions", grant)

    def picture(self, target: Path) -> None:
        """What is in the window, as PNG or, by the name of the file, as WebP."""
        kind = target.suffix.removeprefix(".")
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": kind})
        target.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(folder: Path, *, any_certificate: bool = False) -> Iterator[Browser]:
    """A browser with a new profile in `folder`, until the end of the block."""
    options = ChromeOptions()
    options.binary_location = PROGRAM
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.accept_insecure_certs = any_certificate
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, Service(DRIVER))
    driver.set_page_load_timeout(LIMIT)
    try:
        found = Browser(driver)
        found.size(1280, 860)
        yield found
    finally:
        driver.quit()
