"""A person at the switches: presses, forms, and what became of every webhook."""

import json
import re

import pytest
import pytest_asyncio
import stripe
from playwright.async_api import expect

from tests.support.browsers import CONTRASTS
from tests.support.sandboxes import listening, opened, until_all_delivered
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")  # the browser's

# Label -> what is typed there, and what all of it means.
FIELDS = {
    "Further copies": "2",
    "of this share of events": "0.5",
    "Further events for one change": "1",
    "First attempts that get lost": "1",
    "Late by, in ms": "20",
    "and up to this much later, in ms": "30",
    "Order": "3, 0",
    "Seconds between attempts, or live": "0.5, 1",
    "Begin the dice at": "4",
}
SWITCHES = {
    "twins": 1,
    "duplicates": 2,
    "duplicate_share": 0.5,
    "drop_first": 1,
    "delay_ms": 20,
    "reorder_ms": 30,
    "seed": 4,
    "order": [3, 0],
    "retry_schedule_seconds": [0.5, 1.0],
    "forgeries": ["thin_event"],
    "paused": True,
    "paused_endpoints": [],
}


@pytest_asyncio.fixture(loop_scope="session")
async def shop(tmp_path):
    """A sandbox that tells one webhook."""
    async with listening() as webhook, opened(tmp_path, webhook) as world:
        yield world


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser, shop):
    """The page of the switches, with one event told already."""
    page = await browser.new_page()
    await expired(shop)
    await shop.told("checkout.session.expired")
    await page.goto(f"{shop.url}/switches")
    return page


async def expired(shop):
    session = await shop.session()
    await shop.client.v1.checkout.sessions.expire_async(session.id)


def press(within, name):
    return within.get_by_role("button", name=name, exact=True).click()


def region(page, name):
    return page.get_by_role("region", name=name)


async def test_a_press_disturbs_and_another_puts_all_to_rest(page, shop):
    """The next event comes twice; a day later an open session has expired; then it is an ordinary day again."""
    await press(page, "Comes twice")
    await expect(region(page, "On now")).to_contain_text("duplicates: 1")
    await expired(shop)
    await shop.told("checkout.session.expired", times=3)
    await shop.session()
    await press(page, "A day later")
    await expect(region(page, "On now")).to_contain_text("24.0 hours ahead")
    await shop.told("checkout.session.expired", times=5)

    await press(page, "Back to rest")
    await expect(region(page, "On now")).to_have_text(re.compile("an ordinary day"))


async def test_several_at_once_are_typed_in_numbers(page, shop):
    """Every word of PUT /_sandbox/deliveries has its field; what was held stays held; what cannot be is told, not done."""
    await press(page, "Hold all")
    await page.get_by_text("Several at once").click()
    for label, text in FIELDS.items():
        await page.get_by_label(label).fill(text)
    await page.get_by_label("thin event").check()
    await press(page, "Disturb like this")
    await expect(region(page, "On now")).to_contain_text("twins: 1")
    assert (await shop.switch("GET", "deliveries"))[1]["switches"] == SWITCHES

    await page.get_by_text("Several at once").click()
    await page.get_by_label("Order").fill("sideways")
    await press(page, "Disturb like this")
    await expect(page.get_by_role("alert")).to_contain_text("order")
    assert (await shop.switch("GET", "deliveries"))[1]["switches"]["order"] == [3, 0]


async def test_what_was_typed_stands_there_until_it_is_right(page, shop):
    """One word of many that cannot be costs nobody the others; nothing of it is on, and corrected all of it is."""
    await page.get_by_text("Several at once").click()
    typed = FIELDS | {"Order": "sideways", "Seconds between attempts, or live": ""}
    for label, text in typed.items():
        await page.get_by_label(label).fill(text)
    await page.get_by_label("thin event").check()
    await press(page, "Disturb like this")
    await expect(page.get_by_role("alert")).to_contain_text("order")
    for label, text in typed.items():
        await expect(page.get_by_label(label)).to_be_visible()
        await expect(page.get_by_label(label)).to_have_value(text)
    await expect(page.get_by_label("thin event")).to_be_checked()
    await expect(region(page, "On now")).to_have_text(re.compile("an ordinary day"))
    await page.get_by_label("Order").fill("3, 0")
    await press(page, "Disturb like this")
    await expect(region(page, "On now")).to_contain_text("order: 3, 0")

    calls = region(page, "The next calls of the API")
    await calls.get_by_label("Call", exact=True).select_option("GET /v1/events")
    await calls.get_by_label("What goes wrong").select_option("hang_after")
    await calls.get_by_label("How often").fill("0")
    await calls.get_by_label("A hang's seconds").fill("7")
    await press(page, "Let it fail")
    await expect(page.get_by_role("alert")).to_contain_text("times")
    shown = ("Call", "What goes wrong", "How often", "A hang's seconds")
    assert [await calls.get_by_label(label, exact=True).input_value() for label in shown] == [
        "GET /v1/events",
        "hang_after",
        "0",
        "7",
    ]


async def test_calls_fail_and_events_get_lost_as_often_as_they_were_told_to(page, shop):
    """Route, kind and count are chosen; disarmed, nothing fails; an event of the typed type never comes to be."""
    await page.get_by_label("Call", exact=True).select_option("GET /v1/events")
    await page.get_by_label("What goes wrong").select_option("rate_limit")
    await region(page, "The next calls of the API").get_by_label("How often").fill("9")
    await press(page, "Let it fail")
    await expect(region(page, "On now")).to_contain_text("GET /v1/events: rate_limit, 9 times")
    with pytest.raises(stripe.RateLimitError):
        await shop.client.v1.events.list_async(options={"max_network_retries": 0})
    await press(page, "Let no call fail")
    await expect(region(page, "On now")).not_to_contain_text("rate_limit")
    await page.get_by_label("Type that never comes to be").fill("checkout.session.expired")
    await press(page, "Lose it")
    await expect(region(page, "On now")).to_contain_text("checkout.session.expired: lost, 1 times")
    await expired(shop)

    assert len((await shop.client.v1.events.list_async()).data) == 1


async def test_every_attempt_is_shown_and_an_event_is_sent_again(page, shop):
    """Status and latency of each attempt; one press sends the event once more; a new secret is shown once."""
    shop.webhook.answers = [503]
    await shop.switch("PUT", "deliveries", {"retry_schedule_seconds": [0.01]})
    await expired(shop)
    await until_all_delivered(shop.client.v1.events)
    told = json.loads(shop.webhook.bodies[-1])
    await page.reload()
    row = region(page, "Webhooks and their attempts").get_by_role("listitem").first
    await expect(row).to_have_text(re.compile(r"503 \d+ ms\s+200 \d+ ms"))
    await press(page, f"Send checkout.session.expired …{told['id'][-6:]} again")
    await until(lambda: len(shop.webhook.bodies) == 4, "the event comes again")
    assert json.loads(shop.webhook.bodies[-1])["id"] == told["id"]

    endpoints = region(page, "Endpoints")
    await press(endpoints, "Hold")
    await expect(endpoints).to_contain_text("held")
    await press(endpoints, "Go on")
    await expect(endpoints).to_contain_text("enabled")
    await press(endpoints, "New secret")
    await expect(page.get_by_role("status")).to_contain_text("whsec_")


async def test_the_switches_fit_a_phone_and_can_be_read(page, shop):
    """No sideways scrolling, nothing too near to its ground, in the light and in the dark."""
    await page.set_viewport_size({"width": 320, "height": 740})
    await page.get_by_text("Several at once").click()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        assert await page.evaluate(CONTRASTS) == []
