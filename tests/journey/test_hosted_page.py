"""A person at the hosted page: keyboard, mouse, without a script, on a phone."""

import re

import pytest
import pytest_asyncio
from playwright.async_api import expect

from deploy.dev.stripe import cards
from tests.support.browsers import CONTRASTS
from tests.support.sandboxes import listening, opened

pytestmark = pytest.mark.asyncio(loop_scope="session")  # the browser's


@pytest_asyncio.fixture(loop_scope="session")
async def shop(tmp_path):
    """A sandbox whose customers come back to a page that exists."""
    async with listening() as webhook, opened(tmp_path, webhook) as world:
        yield world


@pytest_asyncio.fixture(loop_scope="session")
async def session(shop):
    """An open checkout for one coaching session."""
    back = f"{shop.url}/_sandbox/health"
    return await shop.session(success_url=back + "?thanks={CHECKOUT_SESSION_ID}", cancel_url=back + "?back")


@pytest_asyncio.fixture(loop_scope="session")
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


TYPED = [
    (("4242424242424242", "127", "12345"), ("4242 4242 4242 4242", "12 / 7", "123"), "Visa"),
    (("5555555555554444", "9/27", "123"), ("5555 5555 5555 4444", "09 / 27", "123"), "Mastercard"),
    (("3782822463100059", "1/27", "12345"), ("3782 822463 10005", "01 / 27", "1234"), "American Express"),
    (("6200-0000-0000-0005", "1327", "12"), ("6200 0000 0000 0005", "01 / 32", "12"), "UnionPay"),
]


async def test_a_card_is_formatted_while_it_is_typed(page, session):
    """In the groups of its network, whose name is told; a month of one digit gets its zero."""
    fields = [page.get_by_label(label) for label in ("Card number", "Expiry", "CVC")]
    for typed, shown, brand in TYPED:
        await page.goto(session.url)
        for field, text in zip(fields, typed, strict=True):
            await field.press_sequentially(text)
        for field, text in zip(fields, shown, strict=True):
            await expect(field).to_have_value(text)
        await expect(page.locator("#brand-name")).to_have_text(brand)
        await expect(page.locator(".badge:visible")).to_have_text(brand)


async def test_a_digit_is_corrected_in_the_middle(page, session):
    """The caret stays before the digit it stood before, and a deleted space takes the digit before it along."""
    await page.goto(session.url)
    number = page.get_by_label("Card number")
    await number.press_sequentially("4242424242424242")
    await number.evaluate("field => field.setSelectionRange(5, 5)")
    await page.keyboard.press("Backspace")
    await expect(number).to_have_value("4244 2424 2424 242")
    await page.keyboard.type("2")

    await expect(number).to_have_value("4242 4242 4242 4242")
    assert await number.evaluate("field => field.selectionStart") == 5


async def test_the_first_wrong_field_has_the_focus_until_it_is_corrected(page, session):
    """Each error is told at its field, the page's title says that there are some, and typing takes one away."""
    await page.goto(session.url)
    await page.get_by_label("Email").fill("ada@example.org")
    await page.get_by_label("Card number").fill("4242424242424242")
    await page.get_by_label("Expiry").fill("01 / 20")
    await page.get_by_role("button", name="Pay $").click()

    expiry, cvc = page.get_by_label("Expiry"), page.get_by_label("CVC")
    await expect(page).to_have_title(re.compile("^Error: Pay"))
    await expect(page.get_by_role("alert")).to_have_text("Please correct the 2 marked fields.")
    await expect(expiry).to_be_focused()
    await expect(expiry).to_have_accessible_description("Your card's expiration date is in the past.")
    await expect(cvc).to_have_accessible_description("Enter the three digits on the back of your card.")
    await expiry.fill("12 / 34")
    await expect(expiry).to_have_accessible_description("")
    await expect(cvc).to_have_attribute("aria-invalid", "true")


async def test_every_test_card_is_one_click(page, shop):
    """Each button fills the form so that nothing is wrong with it; an account chooses to be paid from."""
    price = {"currency": "eur", "unit_amount": 7500, "product_data": {"name": "Coaching"}}
    session = await shop.session(line_items=[{"price_data": price, "quantity": 1}])
    await page.goto(session.url)
    fields = [page.locator(f"#{name}") for name in ("number", "expiry", "cvc", "iban")]
    filled = []
    for button in await page.locator("button.card").all():
        await button.click()
        number, expiry, cvc, iban = [await field.input_value() for field in fields]
        if iban:
            assert await page.get_by_label("SEPA Direct Debit").is_checked()
            filled.append(cards.inspect_iban(iban))
        else:
            filled.append(cards.inspect(number, expiry, cvc, year=2026, month=11))

    assert len(filled) == len(cards.TEST_CARDS) + len(cards.SEPA_ACCOUNTS)
    assert not any(isinstance(one, cards.Faults) for one in filled)


async def test_an_order_in_euros_is_paid_from_an_account(page, shop):
    """Only what was chosen is asked for; the money is on its way when the customer comes back."""
    price = {"currency": "eur", "unit_amount": 7500, "product_data": {"name": "Coaching"}}
    back = f"{shop.url}/_sandbox/health?thanks={{CHECKOUT_SESSION_ID}}"
    session = await shop.session(line_items=[{"price_data": price, "quantity": 1}], success_url=back)
    await page.goto(session.url)
    await page.get_by_label("Email").fill("ada@example.org")
    await expect(page.get_by_label("IBAN")).to_be_hidden()
    await page.get_by_label("SEPA Direct Debit").check()
    await expect(page.get_by_label("Card number")).to_be_hidden()
    await page.get_by_label("IBAN").fill("at61 1904 3002 3457 3201")
    await page.get_by_role("button", name="Pay €75.00").click()

    await arrives(page, session)
    assert len(await shop.told("checkout.session.async_payment_succeeded")) == 1


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
