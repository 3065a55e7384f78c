"""A person at the page to read and try the API, in a real browser, under the page's own policy."""

import asyncio
import os

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.support.browsers import CONTRASTS
from tests.support.door import ORIGIN, meeting, opened, sandbox

pytestmark = pytest.mark.asyncio(loop_scope="session")  # the browser's


@pytest_asyncio.fixture(loop_scope="session")
async def door(database, tmp_path):
    async with sandbox(tmp_path / "stripe") as stripe, opened(database, stripe=stripe) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser, door):
    """The page; whatever its console complains about, or asks of another host, fails the test."""
    page = await browser.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Security Policy" in said.text else None)
    page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith((door.url, "data:")) else None)
    await page.goto(f"{door.url}/docs")
    yield page
    assert complaints == []


async def test_a_checkout_is_tried_by_hand(page, door):
    """Paste a token, name a booking, press the button: the amount is shown digit by digit, and the page to pay is a click."""
    booked = await meeting(door.engine)
    checkout = page.locator("#openCheckout")
    await page.get_by_label("Token").fill(f"Bearer {booked.client.token()}")  # as it stands in a header that somebody copies
    await checkout.get_by_label("Body").fill(
        f'{{"booking_id": "{booked.booking_id}", "success_url": "{ORIGIN}/a", "cancel_url": "{ORIGIN}/b"}}'
    )
    await checkout.get_by_role("button", name="Try it").click()

    await expect(checkout.locator(".answer strong")).to_contain_text("201")
    await expect(checkout.locator(".answer pre")).to_contain_text('"amount": 75.00')
    [session] = door.sessions()
    await expect(checkout.get_by_role("link", name="Open the page to pay")).to_have_attribute("href", session["url"])

    payment = page.locator("#getPayment")
    await payment.get_by_label("payment_id").fill(session["client_reference_id"])
    await payment.get_by_role("button", name="Try it").click()
    await expect(payment.locator(".answer pre")).to_contain_text('"status": "pending"')
    if folder := os.environ.get("CB_SCREENSHOTS"):
        await page.screenshot(path=f"{folder}/api-page.png", full_page=True)


async def test_without_a_token_the_answer_is_shown_all_the_same(page):
    """A refusal is an answer, too; the webhook is told but has no button."""
    payment = page.locator("#getPayment")
    await payment.get_by_role("button", name="Try it").click()

    await expect(payment.locator(".answer pre")).to_contain_text("unauthorized")
    await expect(page.locator("#takeWebhook").get_by_role("button")).to_have_count(0)
    await expect(page.locator("#takeWebhook")).to_contain_text("stripe.events")


async def test_what_a_balancer_says_is_shown_as_it_is(page):
    """The door is away, and whoever stands before it answers in words of its own: no blank of them is taken for JSON's."""
    said = "<h1>503 Service Unavailable</h1>\nNo server is available to handle this request."
    await page.route("**/payment/*", lambda route: route.fulfill(status=503, content_type="text/html", body=said))
    payment = page.locator("#getPayment")
    await payment.get_by_role("button", name="Try it").click()

    await expect(payment.locator(".answer pre")).to_have_text(said)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_fits_a_phone_and_can_be_read(page, scheme):
    """No sideways scrolling; texts, fields and the example in an empty one stand out from their ground."""
    await page.set_viewport_size({"width": 320, "height": 740})
    await page.emulate_media(color_scheme=scheme)
    await page.locator("#getPayment").get_by_role("button", name="Try it").click()
    await expect(page.locator("#getPayment .answer pre")).to_contain_text("unauthorized")
    for answers in await page.get_by_text("All answers").all():
        await answers.click()

    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    assert await page.evaluate(CONTRASTS) == []


async def test_a_call_is_tried_again_and_again_by_the_keyboard(page):
    """Enter asks, and Enter asks once more: the button that was pressed keeps the focus, and takes no press while it asks."""
    payment = page.locator("#getPayment")
    button = payment.get_by_role("button", name="Try it")
    held, asked = asyncio.Event(), []

    async def hold(route):
        asked.append(route.request.url)
        await held.wait()
        await route.continue_()

    await page.route("**/payment/*", hold)
    await button.focus()
    async with page.expect_request("**/payment/*"):
        await page.keyboard.press("Enter")
    await page.keyboard.press("Enter")
    await expect(button).to_be_disabled()
    await expect(button).to_be_focused()
    held.set()
    await expect(payment.locator(".answer pre")).to_contain_text("unauthorized")
    await expect(button).to_be_enabled()
    assert len(asked) == 1

    async with page.expect_response("**/payment/*"):
        await page.keyboard.press("Enter")


async def test_what_has_the_focus_is_never_behind_the_bar(page):
    """Shift and Tab from the end to the beginning: the bar that stays at the top hides nothing that the keyboard is at."""
    await page.set_viewport_size({"width": 1280, "height": 300})
    await expect(page.locator("#takeWebhook")).to_be_visible()
    await page.get_by_role("link", name="openapi.json").last.focus()
    hidden = []
    while not await page.get_by_label("Token").evaluate("field => field === document.activeElement"):
        await page.keyboard.press("Shift+Tab")
        hidden += await page.evaluate(BEHIND_THE_BAR)

    assert hidden == []


@pytest.mark.parametrize("away", ["unreachable", "refused"])
async def test_a_description_that_cannot_be_read_is_told(page, away):
    """No page that reads for ever: what went wrong is said, also to who does not see it."""
    cut_off = {"unreachable": lambda route: route.abort(), "refused": lambda route: route.fulfill(status=503, json={})}
    await page.route("**/openapi.json", cut_off[away])
    await page.reload()

    await expect(page.get_by_role("alert")).to_contain_text("cannot be read")


BEHIND_THE_BAR = """() => {
  const bar = document.querySelector(".bar"), at = document.activeElement;
  const isBehind = !bar.contains(at) && at.getBoundingClientRect().bottom <= bar.getBoundingClientRect().bottom;
  return isBehind ? [at.name || at.textContent] : [];
}"""
