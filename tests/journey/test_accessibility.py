"""Everybody at every page that we serve: axe-core finds nothing on the smallest phone, in the dark nor in the light."""

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from deploy.dev.mailbox import open_mailbox
from shared.letters.words import LETTERS
from tests.journey.test_pages import send
from tests.support.door import opened as opened_door
from tests.support.sandboxes import listening, opened

pytestmark = pytest.mark.asyncio(loop_scope="session")  # the browser's

# WCAG 2.2 AA, and the landmarks and headings that screen readers go by. A frame's document is looked at by itself.
OPTIONS = {
    "resultTypes": ["violations"],
    "iframes": False,
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
# A letter is a part of a mail program's page, which has the landmarks.
OF_A_LETTER = OPTIONS | {"rules": {name: {"enabled": False} for name in ("region", "landmark-one-main")}}
COLOURS = OPTIONS | {"runOnly": {"type": "rule", "values": ["color-contrast"]}}


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser):
    """A page of 320 points (WCAG 2.2, 1.4.10), in the dark."""
    context = await browser.new_context(viewport={"width": 320, "height": 844}, color_scheme="dark")
    return await context.new_page()


async def is_for_everybody(page, options=OPTIONS):
    assert await faults(page, options) == [], page.url
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, page.url
    await page.emulate_media(color_scheme="light")
    assert await faults(page, COLOURS) == [], page.url
    await page.emulate_media(color_scheme="dark")


async def faults(page, options):
    found = (await Axe().run(page, options=options)).response["violations"]
    return [f"{one['id']}: {node['html'][:120]}" for one in found for node in one["nodes"]]


async def test_the_page_of_the_api(page, database):
    """With every answer unfolded, and one asked for."""
    async with opened_door(database) as door:
        await page.goto(f"{door.url}/docs")
        for summary in await page.locator("summary").all():
            await summary.click()
        await page.locator("#getPayment").get_by_role("button", name="Try it").click()
        await expect(page.locator(".answer pre")).to_contain_text("unauthorized")

        await is_for_everybody(page)


async def test_the_pages_of_the_sandbox(page, tmp_path):
    """The form as it comes and with its faults, two ways to pay, 3-D Secure, after it was paid, what happened, the switches."""
    async with listening() as webhook, opened(tmp_path, webhook) as shop:
        both = {"price_data": {"currency": "eur", "unit_amount": 7500, "product_data": {"name": "Coaching"}}, "quantity": 1}
        paid, euros, secured = await shop.paid(), await shop.session(line_items=[both]), await shop.session()
        await page.goto(euros.url)
        await is_for_everybody(page)
        await page.locator("#submit").click()
        await expect(page.get_by_role("alert")).to_be_visible()
        await is_for_everybody(page)
        await page.goto(secured.url)
        await page.get_by_label("Email").fill("ada@example.org")
        await page.get_by_role("button", name="3-D Secure").click()
        await page.locator("#submit").click()
        await expect(page.get_by_role("button", name="Complete")).to_be_visible()
        await is_for_everybody(page)
        for address in (f"{shop.url}/c/pay/{paid.id}", f"{shop.url}/", f"{shop.url}/switches"):
            await page.goto(address)
            await is_for_everybody(page)


async def test_the_pages_of_the_mailbox(page, tmp_path):
    """Without a letter, with one in each of its views, and what letters say."""
    async with open_mailbox(tmp_path) as mailbox:
        await page.goto(mailbox.http_url)
        await expect(page.get_by_text("No letters yet")).to_be_visible()
        await is_for_everybody(page)
        await send(mailbox, "First")
        await page.get_by_role("navigation").get_by_role("button", name="First").click()
        for view in ("HTML", "Text", "Headers"):
            await page.get_by_role("tab", name=view).click()
            await is_for_everybody(page)
        await page.goto(f"{mailbox.http_url}/wording")
        await is_for_everybody(page)
        for letter in LETTERS:
            # Where it is served, no script runs in it: not axe's either.
            served = await page.request.get(f"{mailbox.http_url}/wording/{letter}.html")
            await page.set_content(await served.text())
            await is_for_everybody(page, OF_A_LETTER)


async def test_views_of_a_letter_are_one_stop_of_the_tab_key(page, tmp_path):
    """Arrows go from view to view, as a screen reader tells people; a view that there is not is passed over."""
    async with open_mailbox(tmp_path) as mailbox:
        await send(mailbox, "First")
        await page.goto(mailbox.http_url)
        await page.get_by_role("navigation").get_by_role("button", name="First").click()
        await page.get_by_role("tab", name="HTML").focus()
        await page.keyboard.press("ArrowLeft")
        await expect(page.get_by_role("tab", name="Headers")).to_be_focused()
        await expect(page.get_by_role("tab", name="Headers")).to_have_attribute("aria-selected", "true")
        await page.keyboard.press("ArrowRight")
        await expect(page.get_by_role("tab", name="HTML")).to_be_focused()
        await page.keyboard.press("Tab")

        await expect(page.get_by_role("button", name="Phone width")).to_be_focused()


async def test_a_status_is_read_aloud_once(page, tmp_path):
    """While nothing changes the page asks again and again, and a screen reader hears nothing of it."""
    async with open_mailbox(tmp_path) as mailbox:
        await page.goto(mailbox.http_url)
        await expect(page.get_by_text("0 letters")).to_be_visible()
        await page.evaluate(COUNT_WORDS)
        for _ in range(2):
            async with page.expect_response("**/api/switches"):
                pass

        assert await page.evaluate("words") == 0


COUNT_WORDS = """() => {
  window.words = 0;
  const count = new MutationObserver(() => { window.words += 1; });
  document.querySelectorAll("[role=status]").forEach((status) => count.observe(status, {childList: true}));
}"""
