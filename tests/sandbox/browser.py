"""Debian's Chromium without a window, as a person at the pages would have it."""

from __future__ import annotations

import html
import subprocess
from dataclasses import dataclass
from pathlib import Path

LIMIT = 60
FORM = """<!DOCTYPE html><meta charset="utf-8"><form method="post" action="{url}/users/sign_in">
<input name="login" value="{login}"><input name="password" value="{password}"></form>
<script>document.forms[0].submit()</script>"""


@dataclass(frozen=True)
class Browser:
    """One profile: what is signed in stays so."""

    profile: Path
    width: int = 1280
    height: int = 860

    def sign_in(self, url: str, login: str, password: str) -> None:
        """Send the form that signs in, from a page of our own; the profile keeps the cookie."""
        self.profile.mkdir(mode=0o700, parents=True, exist_ok=True)
        page = self.profile / "sign-in.html"
        page.touch(mode=0o600)
        page.write_text(FORM.format(url=url, login=html.escape(login), password=html.escape(password)))
        self._run("--virtual-time-budget=3000", "--dump-dom", page.as_uri())
        page.unlink()

    def read(self, url: str, milliseconds: int = 0) -> str:
        """A page as it is after its scripts had so much time."""
        return self._run(*([f"--virtual-time-budget={milliseconds}"] if milliseconds else []), "--dump-dom", url)

    def picture(self, url: str, target: Path) -> None:
        """A page as PNG."""
        self._run(f"--screenshot={target}", url)

    def _run(self, *arguments: str) -> str:
        command = [
            "chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-extensions",
            "--no-first-run",
            "--hide-scrollbars",
            "--password-store=basic",
            f"--user-data-dir={self.profile / 'data'}",
            f"--window-size={self.width},{self.height}",
            *arguments,
        ]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
        return ran.stdout
