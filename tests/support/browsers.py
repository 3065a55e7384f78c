"""A real browser for the tests that need one: found on this machine, never downloaded."""

import io
import os
import shutil
from contextlib import asynccontextmanager

import pytest
from PIL import Image
from playwright.async_api import async_playwright

COLOURS = 64
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


def kept(png, path, *, colours=COLOURS):
    """Write a picture with as many colours as an eye sees in it: a third of the bytes."""
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").quantize(colours).save(path, optimize=True)


# Every text on the page, an empty field's example too, whose colour is too near to the ground behind it (4.5 to 1), and every
# field whose edge is (3 to 1; https://www.w3.org/TR/WCAG22/#non-text-contrast).
CONTRASTS = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const apart = (colour, other) => {
    const [a, b] = [light(colour), light(other)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const over = (colour, opacity, below) => colour.slice(0, 3).map((v, at) => v * opacity + below[at] * (1 - opacity));
  const poor = [];
  for (const element of document.body.querySelectorAll("*")) {
    if (!element.checkVisibility()) continue;
    const below = ground(element);
    const said = [...element.childNodes].filter((n) => n.nodeType === 3 && n.textContent.trim());
    if (said.length && apart(rgb(getComputedStyle(element).color), below) < 4.5) poor.push(said[0].textContent.trim());
    if (element.placeholder && !element.value) {
      const { color, opacity } = getComputedStyle(element, "::placeholder");
      if (apart(over(rgb(color), Number(opacity), below), below) < 4.5) poor.push("placeholder " + element.placeholder);
    }
    if (element.matches("input:not([type=radio], [type=checkbox], [type=hidden]), select, textarea")) {
      const edge = rgb(getComputedStyle(element).borderTopColor), outside = ground(element.parentElement);
      if (apart(edge, outside) < 3) poor.push("edge of " + (element.name || element.id));
    }
  }
  return poor;
}"""
