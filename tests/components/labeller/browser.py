"""A real browser for tests: Chromium, driven over W3C WebDriver with plain HTTP."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""Key of an element's id, which the W3C's WebDriver standard fixes."""


def missing_browser() -> str:
    """What is missing for a browser; empty where nothing is."""
    gone = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(gone)} (Debian: apt-get install chromium chromium-driver)" if gone else ""


class Browser:
    """One window."""

    def __init__(self, driver: httpx.Client, session: str) -> None:
        self._driver, self._session = driver, session

    def open(self, url: str) -> None:
        """Goes to an address."""
        self._do("POST", "url", {"url": url})

    def url(self) -> str:
        """Where it is."""
        return str(self._do("GET", "url"))

    def find(self, xpath: str, *, seconds: float = 30.0) -> str:
        """The first visible element, waited for."""
        deadline = time.monotonic() + seconds
        while True:
            found = self._do("POST", "elements", {"using": "xpath", "value": xpath})
            for element in found:
                if self._do("GET", f"element/{element[_ELEMENT]}/displayed"):
                    return str(element[_ELEMENT])
            if time.monotonic() > deadline:
                raise AssertionError(f"no {xpath} at {self.url()}; the page says: {self.text()[:2_000]}")
            time.sleep(0.2)

    def click(self, xpath: str) -> None:
        """Clicks on an element, waited for."""
        self._again(lambda: self._do("POST", f"element/{self.find(xpath)}/click", {}))

    def type(self, xpath: str, text: str) -> None:
        """Types into an element, waited for."""
        self._again(lambda: self._do("POST", f"element/{self.find(xpath)}/value", {"text": text}))

    def text(self) -> str:
        """What the page says."""
        return str(self.run("return document.body.innerText"))

    def run(self, script: str) -> Any:
        """What a script returns."""
        return self._do("POST", "execute/sync", {"script": script, "args": []})

    def picture(self, path: Path) -> None:
        """Writes what is seen as PNG."""
        path.write_bytes(base64.b64decode(self._do("GET", "screenshot")))

    def _again(self, act: Callable[[], Any]) -> None:
        """A page that is being drawn may replace or cover what was found."""
        for _ in range(20):
            try:
                act()
            except AssertionError as error:
                if not any(word in str(error) for word in ("stale element", "click intercepted", "not interactable")):
                    raise
                time.sleep(0.3)
            else:
                return
        act()

    def _do(self, method: str, what: str, body: Any = None) -> Any:
        answer = self._driver.request(method, f"/session/{self._session}/{what}", json=body)
        value = answer.json()["value"]
        assert answer.is_success, f"{value['error']}: {value['message']}"
        return value


@contextmanager
def browser(folder: Path, port: int, *, width: int = 1280, height: int = 800) -> Iterator[Browser]:
    """A browser that keeps its files in a folder, and ends with the test.

    Args:
        folder: For its profile.
        port: A free one, for its driver.
        width: Of the window, in pixels.
        height: Likewise.
    """
    arguments = [
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        "--proxy-server=127.0.0.1:1", "--proxy-bypass-list=127.0.0.1", "--lang=en-GB",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}",
    ]  # fmt: skip
    log = (folder / "chromedriver.log").open("wb")
    process = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=log, stderr=log, process_group=0, env=None)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as driver:
            for _ in range(100):
                try:
                    driver.get("/status")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}
            made = driver.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
            assert "sessionId" in made, made
            try:
                yield Browser(driver, made["sessionId"])
            finally:
                driver.delete(f"/session/{made['sessionId']}")
    finally:
        process.terminate()
        process.wait(20)
        log.close()
