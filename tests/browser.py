"""A real Chromium for the tests of pages; a test that needs one says so where there is none."""

from __future__ import annotations

import io
import shutil
from contextlib import contextmanager

import numpy as np
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--no-sandbox", "--enable-unsafe-swiftshader")  # WebGL without a graphics card


@contextmanager
def browser():
    """Start Chromium and hand it over; skip the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed: pages cannot be looked at")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()


class OpenPage:
    """A page in a browser, with all that it said, asked for and failed at."""

    def __init__(self, chromium, path, **options):
        self.complaints, self.requests = [], []
        if hasattr(chromium, "new_context"):
            options = {"viewport": {"width": 1200, "height": 1400}} | options
        self.page = chromium.new_page(**options)
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path if isinstance(path, str) else path.as_uri())

    def _note(self, message):
        # The driver of the software renderer complains of screenshots.
        if message.type in ("error", "warning") and "GPU stall" not in message.text:
            self.complaints.append(message.text)

    def is_ready(self):
        """Wait until the scripts have run."""
        self.page.wait_for_function("window.mdxai && mdxai.explorer")
        self.page.wait_for_timeout(300)
        return self

    def pixels(self, selector):
        """Return what is seen of an element, (height, width, 3)."""
        from PIL import Image

        shot = self.page.locator(selector).screenshot()
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
