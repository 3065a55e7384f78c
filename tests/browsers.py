"""A real browser for the tests that need one: found on this machine, never downloaded."""

import os
import shutil
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = (
    "no browser found: run `apt-get update && apt-get install -y --no-install-recommends chromium` (or name one in CB_CHROMIUM)"
)


def executable():
    """The path of a Chromium; without one the test fails where a browser is required, else it is skipped."""
    found = os.environ.get("CB_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and os.environ.get("CB_REQUIRE_BROWSER"):
        pytest.fail(MISSING, pytrace=False)
    if found is None:
        pytest.skip(MISSING)
    return found


@asynccontextmanager
async def launched():
    """A headless Chromium."""
    path = executable()
    async with async_playwright() as playwright:
        # In containers, and as root, Chromium has no sandbox of its own to start.
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()
