"""A person at the hosted page: keyboard, mouse, without a script, on a phone."""

import re

import pytest
from playwright.async_api import expect

from tests.sandboxes import listening, opened


@pytest.fixture
async def shop(tmp_path):
    """A sandbox whose customers come back to a page that exists."""
    async with listening() as webhook, opened(tmp_path, webhook) as world:
        yield world


@pytest.fixture
async def session(shop):
    """An open checkout for one coaching session."""
    back = f"{shop.url}/_sandbox/health"
    return await shop.session(success_url=back + "?thanks={CHECKOUT_SESSION_ID}", cancel_url=back + "?back")


@pytest.fixture
async def page(browser):
    """A page of a browser; what its console complains about fails the test."""
    page = await browser.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Security Policy" in said.text else None)
    yield page
    assert complaints == []


async def arrives(page, session):
    await expect(page).to_have_url(re.compile(rf"\?thanks={session.id}$"))


async def pay_with(page, title):
    await page.get_by_role("button", name=title).click()
    await page.get_by_role("button", name="Pay $").click()


async def test_paying_needs_only_a_keyboard(page, shop, session):
    """Tab from field to field, digits grouped while typing, Enter to pay."""
    await page.goto(session.url)
    await page.get_by_label("Email").focus()
    await page.keyboard.type("ada@example.org")
    await page.keyboard.press("Tab")
    await page.keyboard.type("4242424242424242")
    await expect(page.get_by_label("Card number")).to_have_value("4242 4242 4242 4242")
    await page.keyboard.press("Tab")
    await page.keyboard.type("1234")
    await expect(page.get_by_label("Expiry")).to_have_value("12 / 34")
    await page.keyboard.press("Tab")
    await page.keyboard.type("123")
    await page.keyboard.press("Enter")

    await arrives(page, session)
    [told] = await shop.told("checkout.session.completed")
    assert told["data"]["object"]["customer_details"]["email"] == "ada@example.org"


async def test_a_declined_customer_tries_another_card(page, shop, session):
    """The reason stands at the field, which has the focus; the next card pays."""
    await page.goto(session.url)
    await page.get_by_label("Email").fill("ada@example.org")
    await pay_with(page, "Declines")
    number = page.get_by_label("Card number")
    await expect(number).to_have_accessible_description("Your card was declined.")
    await expect(number).to_be_focused()
    await pay_with(page, "Pays")

    await arrives(page, session)
    assert len(await shop.told("payment_intent.payment_failed")) == 1


async def test_three_d_secure_fails_and_then_completes(page, session):
    """The bank refuses once, the customer comes back to the form, tries again and pays."""
    await page.goto(session.url)
    await page.get_by_label("Email").fill("ada@example.org")
    await pay_with(page, "3-D Secure")
    await page.get_by_role("button", name="Fail").click()
    await expect(page.get_by_role("alert")).to_contain_text("unable to authenticate")
    await expect(page.get_by_label("Email")).to_have_value("ada@example.org")
    await pay_with(page, "3-D Secure")
    await page.get_by_role("button", name="Complete").click()

    await arrives(page, session)


async def test_paying_shows_that_it_works_and_cannot_be_pressed_twice(page, shop, session):
    """While the shop has not answered, the button is busy; afterwards the page is left."""
    shop.webhook.open.clear()
    await page.goto(session.url)
    await page.get_by_label("Email").fill("ada@example.org")
    await page.get_by_role("button", name="Pays").click()
    await page.evaluate(REPORT_BUSY)
    async with page.expect_console_message(lambda said: said.text == "busy: Processing…"):
        await page.get_by_role("button", name="Pay $").click(no_wait_after=True)
    shop.webhook.open.set()

    await arrives(page, session)


async def test_the_page_works_without_a_script(browser, session):
    """Fill by one click, pay by another; no JavaScript at all."""
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(session.url)
    await page.get_by_label("Email").fill("ada@example.org")
    await pay_with(page, "Pays")

    await arrives(page, session)


async def test_back_leads_to_the_shop_and_a_paid_session_says_so(page, session):
    """The customer can always leave, and never pays twice."""
    await page.goto(session.url)
    await page.get_by_role("link", name="Back").click()
    await expect(page).to_have_url(re.compile(r"\?back$"))
    await page.goto(session.url)
    await page.get_by_label("Email").fill("ada@example.org")
    await pay_with(page, "Pays")
    await arrives(page, session)
    await page.goto(session.url)

    await expect(page.get_by_role("heading")).to_have_text("You have already paid")
    await page.get_by_role("link", name="Continue").click()
    await arrives(page, session)


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_fits_its_window_and_can_be_read(browser, session, width, scheme):
    """No sideways scrolling on a desk or a phone; text stands out from its ground (WCAG AA, 4.5 to 1)."""
    context = await browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = await context.new_page()
    await page.goto(session.url)
    await page.get_by_role("button", name="Pay $").click()
    await expect(page.get_by_role("alert")).to_be_visible()

    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    assert await page.evaluate(CONTRASTS) == []


# A page that is being left answers no question of Playwright's; so it reports by itself.
REPORT_BUSY = """() => {
  const button = document.getElementById("submit");
  const report = () => { if (button.disabled) console.log("busy: " + button.textContent.trim()); };
  new MutationObserver(report).observe(button, {attributes: true});
}"""

# Every text on the page whose colour is too near to the ground behind it.
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
  const poor = [];
  for (const element of document.body.querySelectorAll("*")) {
    const said = [...element.childNodes].filter((n) => n.nodeType === 3 && n.textContent.trim());
    if (!said.length || !element.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(said[0].textContent.trim());
  }
  return poor;
}"""
