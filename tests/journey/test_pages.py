"""A person at the mailbox's page, in a real browser: letters come by themselves, are read, and can do nothing."""

from email.message import EmailMessage

import aiosmtplib
import pytest
import pytest_asyncio
from playwright.async_api import expect

from deploy.dev.mailbox import Fault, Switches, open_mailbox
from shared.letters.words import LETTERS
from tests.support.browsers import CONTRASTS

pytestmark = pytest.mark.asyncio(loop_scope="session")  # the browser's


@pytest_asyncio.fixture(loop_scope="session")
async def mailbox(tmp_path):
    async with open_mailbox(tmp_path) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser, mailbox):
    """The page, open before the first letter; a fault in its script fails the test."""
    page = await browser.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(mailbox.http_url)
    yield page
    assert complaints == []


async def send(mailbox, subject, html="<p>Rich words</p>"):
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = "Bridge <from@example.org>", "ada@example.org", subject
    letter.set_content("Plain words")
    if html is not None:
        letter.add_alternative(html, subtype="html")
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=mailbox.smtp_port, local_hostname="test") as client:
        await client.send_message(letter)


def entry(page, subject):
    return page.get_by_role("navigation").get_by_role("button", name=subject)


async def test_a_letter_comes_by_itself_and_can_be_read(page, mailbox):
    """Nobody reloads; HTML, text and headers are a click away; deleted, it is gone."""
    await expect(page.get_by_text("No letters yet")).to_be_visible()
    await send(mailbox, "First")

    await expect(page.get_by_role("heading", name="First")).to_be_visible()
    await expect(page.frame_locator("#frame").get_by_text("Rich words")).to_be_visible()
    await page.get_by_role("tab", name="Text").click()
    await expect(page.get_by_text("Plain words")).to_be_visible()
    await page.get_by_role("tab", name="Headers").click()
    await expect(page.get_by_role("cell", name="Bridge <from@example.org>")).to_be_visible()
    await page.get_by_role("button", name="Delete all").click()
    await expect(page.get_by_text("No letters yet")).to_be_visible()
    assert mailbox.letters == []


async def test_a_letter_without_html_is_shown_as_text_and_the_next_one_as_before(page, mailbox):
    """Only who picks a view changes it."""
    await send(mailbox, "Rich")
    await expect(page.frame_locator("#frame").get_by_text("Rich words")).to_be_visible()
    await send(mailbox, "Plain", html=None)
    await entry(page, "Plain").click()
    await expect(page.get_by_text("Plain words")).to_be_visible()

    await entry(page, "Rich").click()
    await expect(page.frame_locator("#frame").get_by_text("Rich words")).to_be_visible()


async def test_what_letters_say_is_a_click_away(page):
    """An example of every letter, as HTML that can do nothing and as text."""
    await page.get_by_role("link", name="What letters say").click()

    await expect(page.get_by_role("heading", name="Booking Confirmed: Session with Charles Babbage")).to_be_visible()
    for letter in LETTERS:
        frame = page.frame_locator(f'iframe[title="{letter} as HTML"]')
        await expect(frame.get_by_text("It was sent automatically.")).to_be_visible()
    await page.get_by_text("As text").first.click()
    await expect(page.get_by_text("What comes next").first).to_be_visible()


async def test_a_letter_can_do_nothing(page, mailbox):
    """Its script does not run, and a subject is text whatever it looks like."""
    await send(
        mailbox,
        "<img src=x onerror=alert(1)>",
        "<p id='p'>quiet</p><script>document.getElementById('p').textContent='loud'</script>",
    )

    await expect(page.get_by_role("heading", name="<img src=x onerror=alert(1)>")).to_be_visible()
    await expect(page.frame_locator("#frame").get_by_text("quiet")).to_be_visible()


async def test_an_unfriendly_server_is_told(page, mailbox):
    """Whoever wonders why no letter comes sees the switch that was thrown."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550),)))

    await expect(page.get_by_text("rcpt: 550")).to_be_visible()


async def test_on_a_phone_the_list_has_the_page_until_a_letter_is_opened(browser, mailbox):
    """Nothing is cut off, nothing scrolls sideways, and an opened letter is in view."""
    for number in range(12):
        await send(mailbox, f"Letter number {number}")
    context = await browser.new_context(viewport={"width": 360, "height": 740})
    page = await context.new_page()
    await page.goto(mailbox.http_url)
    await expect(entry(page, "Letter number 0")).to_be_visible()
    listed = page.get_by_role("navigation")
    assert await listed.evaluate("list => list.scrollHeight <= list.clientHeight")
    await entry(page, "Letter number 11").click()

    await expect(page.get_by_role("heading", name="Letter number 11")).to_be_in_viewport()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("path", ["", "wording"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_pages_can_be_read(browser, mailbox, path, scheme):
    """Nothing scrolls sideways on a phone, and every text stands out from its ground, in the light and in the dark."""
    await mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550, recipient="nobody@example.org"),)))
    await send(mailbox, "A letter")
    context = await browser.new_context(viewport={"width": 320, "height": 740}, color_scheme=scheme)
    page = await context.new_page()
    await page.goto(f"{mailbox.http_url}/{path}")
    if not path:
        await entry(page, "A letter").click()
        await expect(page.get_by_text("rcpt: 550")).to_be_visible()

    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    assert await page.evaluate(CONTRASTS) == []
