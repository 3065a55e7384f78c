"""One purchase as a stranger sees it: `cb-dev demo` and `cb-dev story` in one box, on good days and bad, and simulations there.

Next: test_demo_ended.py ends a demo at every moment.
"""

import contextlib
import json
import re
import signal
import urllib.request

import pytest
from playwright.async_api import expect
from pydantic import SecretStr

from deploy.dev.box import control
from deploy.dev.processes.process import remembered
from deploy.dev.seed import store
from deploy.dev.state import Box
from shared import settings
from tests.journey import demos

PIPELINE = ("INGRESS", "PAYMENTS", "BOOKINGS", "EMAIL")
# A hop that will never come is waited for that long, where another takes a tenth of it.
IMPATIENCE = ("--patience", "4")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demo at a terminal, its story told and its box up; shared, so each test leaves the box friendly.

    Ctrl-C after the story is a goodbye: exit status 0, and nothing is left running.
    """
    folder = tmp_path_factory.mktemp("demo")
    folder.chmod(0o711)
    said = demos.at_a_terminal(folder)
    try:
        said.until("stays up until Ctrl-C")
        said.folder, said.box = folder, Box(folder)
        said.variables = control.environment_of(said.box)
        yield said
        assert said.end(signal.SIGINT) == 0, said.text
        assert demos.left_running(folder) == []
    finally:
        demos.removed(said, folder)


def fetched(address):
    """What is answered with status 200; any other is an error."""
    with urllib.request.urlopen(address) as answer:
        assert answer.status == 200
        return answer.read().decode()


@contextlib.contextmanager
def refusing(demo, recipient):
    """A mail server that refuses one address while the block runs."""

    def switch(switches):
        address = f"{demo.variables['CB_DEV_MAILBOX_URL']}/api/switches"
        urllib.request.urlopen(urllib.request.Request(address, json.dumps(switches).encode(), method="PUT")).close()

    switch({"faults": [{"at": "rcpt", "what": 550, "recipient": recipient}]})
    yield
    switch({})


def test_at_a_terminal_it_tells_every_hop_and_where_to_go(demo):
    """Hop by hop, each with its time, then the addresses to open; no line is wider than the window."""
    assert demos.hops(demo.text) == demos.TITLES
    assert "every hop was seen" in demo.text
    for variable, path in (("INGRESS", "/docs"), ("SANDBOX", "/"), ("MAILBOX", "/")):
        assert f"{demo.variables[f'CB_DEV_{variable}_URL']}{path}" in demo.text
    told = demo.text[demo.text.index(demos.TITLES[0]) :]
    assert max(map(len, told.splitlines())) <= demos.COLUMNS
    assert demo.process.poll() is None


def test_the_whole_box_is_up_and_answers(demo):
    """Eight processes; each of the pipeline calls itself ready, letters can be listed, and their wording is told."""
    mailbox = demo.variables["CB_DEV_MAILBOX_URL"]

    assert len(remembered(demo.box)) == 8
    for name in PIPELINE:
        assert fetched(f"{demo.variables[f'CB_DEV_{name}_HEALTH_URL']}/health/ready")
    assert len(json.loads(fetched(f"{mailbox}/api/letters"))) >= 2
    assert "Version 1 of the templates in this box" in fetched(f"{mailbox}/wording")


def test_a_running_box_is_joined_and_left_running(demo):
    """A second demo buys another session in the same box and goes; the first does not notice."""
    status, said = demos.run("demo", folder=demo.folder)

    assert (status, demos.hops(said)) == (0, demos.TITLES), said
    assert "joined" in said
    assert len(remembered(demo.box)) == 8
    assert demo.process.poll() is None


def test_a_letter_that_nobody_takes_is_named(demo):
    """The mail server refuses one of the two: the story says which, where to look, and fails."""
    with refusing(demo, "kenji@culturebridge.example"):
        status, said = demos.run_here("story", *IMPATIENCE, folder=demo.folder)

    assert (status, demos.hops(said)) == (1, demos.TITLES), said
    assert "letter to coach    missing: not seen within 4 s" in said
    assert str(demo.box.logs / "email.log") in said
    assert "Traceback" not in said


def test_a_process_that_stands_still_is_named(demo):
    """Without its consumer nothing happens to the booking: that hop is missing, and the one to look at is named."""
    standing = remembered(demo.box)["bookings"]
    standing.suspend()
    try:
        status, said = demos.run_here("story", *IMPATIENCE, folder=demo.folder)
    finally:
        standing.resume()

    assert (status, demos.hops(said)[-1]) == (1, "booking confirmed"), said
    assert "bookings runs and does not answer for its health" in said
    assert str(demo.box.logs / "bookings.log") in said


async def pay_with(hosted, number):
    """Click on a test card and pay with it."""
    await hosted.get_by_role("button", name=number).click()
    await hosted.get_by_role("button", name="Pay $75.00").click()


async def simply(hosted):
    await pay_with(hosted, "4242 4242 4242 4242")


async def after_a_decline(hosted):
    """The reason stands beside the card; another card pays."""
    await pay_with(hosted, "4000 0000 0000 0002")
    number = hosted.get_by_label("Card number")
    await expect(number).to_have_accessible_description("Your card was declined.")
    await expect(number).to_be_focused()
    await pay_with(hosted, "5555 5555 5555 4444")


async def after_a_doubt_of_the_bank(hosted):
    """3-D Secure is failed, and then passed."""
    await pay_with(hosted, "4000 0025 0000 3155")
    await hosted.get_by_role("button", name="Fail").click()
    await expect(hosted.get_by_role("alert")).to_contain_text("unable to authenticate")
    await pay_with(hosted, "4000 0025 0000 3155")
    await hosted.get_by_role("button", name="Complete").click()


@pytest.fixture(scope="module")
def token(demo):
    """The client's, as a person gets it to paste."""
    status, said = demos.run_here("token", "--as", "client", folder=demo.folder)
    assert status == 0
    return said.strip()


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("way", [simply, after_a_decline, after_a_doubt_of_the_bank])
async def test_a_person_pays_by_hand(demo, token, browser, way):
    """In a browser: a checkout on the API page, the card on the hosted page, back again, succeeded, and both letters came."""
    mailbox, page = await browser.new_page(), await browser.new_page()
    await mailbox.goto(demo.variables["CB_DEV_MAILBOX_URL"])
    await mailbox.get_by_role("button", name="Delete all").click()
    await page.goto(f"{demo.variables['CB_DEV_INGRESS_URL']}/docs")
    database = settings.Database(database_url=SecretStr(demo.variables["DATABASE_URL"]))
    booking_id = str(await store.a_payable_booking(database))
    checkout, payment = page.locator("#openCheckout"), page.locator("#getPayment")
    await page.get_by_label("Token").fill(token)
    body = checkout.get_by_label("Body")
    await body.fill(re.sub(r'(?<="booking_id": ")[^"]+', booking_id, await body.input_value()))
    await checkout.get_by_role("button", name="Try it").click()
    async with page.context.expect_page() as opened:
        await checkout.get_by_role("link", name="Open the page to pay").click()
    hosted = await opened.value
    await way(hosted)
    await expect(hosted).to_have_title("CultureBridge payments: API", timeout=20_000)

    for subject in ("Booking Confirmed", "New Booking"):
        await mailbox.get_by_role("button", name=subject).click()
        await expect(mailbox.frame_locator("#frame").get_by_text(booking_id)).to_be_visible(timeout=20_000)
    await payment.get_by_role("button", name="Try it").click()
    await expect(payment.locator(".answer pre")).to_contain_text('"status": "succeeded"', timeout=20_000)


SIMULATION = ("simulate", "--seed", "7", "--rate", "3", "--for", "3")


def ends(said):
    """How a simulation's bookings ended, line by line."""
    return re.findall(r"^ +(\d+  (?:pending|confirmed|cancelled), .+)$", said, re.MULTILINE)


def sandbox(demo, method, path, words=None):
    """Pull a switch of the sandbox, or look at one."""
    body = None if words is None else json.dumps(words).encode()
    request = urllib.request.Request(f"{demo.variables['CB_DEV_SANDBOX_URL']}/_sandbox/{path}", body, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@contextlib.contextmanager
def simulating(demo, *more):
    """A simulation of many seconds at a terminal, customers of which have come; ended with the block."""
    said = demos.Said(demos.CB_DEV, "simulate", "--for", "60", *more, "--dir", demo.folder)
    try:
        said.until("customers come")
        yield said
    finally:
        if said.process.poll() is None:
            said.end(signal.SIGKILL)


def test_a_simulation_finds_no_difference_and_bad_days_change_no_end(demo):
    """Customers pay, fail, leave and dispute; all books agree, and the same seed ends the same, whatever the bad days."""
    fair, bad = demos.run_here(*SIMULATION, folder=demo.folder), demos.run_here(*SIMULATION, "--bad-days", folder=demo.folder)

    for status, said in (fair, bad):
        assert status == 0, said
        assert "every comparison was empty" in said
    assert len(ends(fair[1])) >= 3
    assert ends(fair[1]) == ends(bad[1])


def test_a_simulation_tells_every_difference(demo):
    """While the bookings' consumer stands still, the books do not agree: what, who says what, and how to ask why."""
    standing = remembered(demo.box)["bookings"]
    standing.suspend()
    try:
        status, said = demos.run_here(*SIMULATION, "--for", "1.5", *IMPATIENCE, folder=demo.folder)
    finally:
        standing.resume()

    assert status == 1, said
    assert "quiet: Stripe says -; we say not within 4 s: bookings has not read" in said
    found = r"booking: Stripe says confirmed, paid by (\S+); we say pending, paid by nobody; ask: cb-ops why \S+"
    assert re.search(found, said), said
    assert "verdict    1 seed" in said
    assert "differences with 7" in said


def test_a_simulation_wants_no_lost_events(demo):
    """What is in no webhook and no list can be found by nobody: it says so before anybody comes."""
    sandbox(demo, "POST", "losses", {"type": "charge.refunded"})
    try:
        status, said = demos.run_here(*SIMULATION, folder=demo.folder)
    finally:
        sandbox(demo, "DELETE", "losses")

    assert status == 1
    assert "the sandbox will lose events (charge.refunded 1 times)" in said
    assert "Traceback" not in said


def test_an_interrupted_simulation_says_what_it_had_seen(demo):
    """Ctrl-C: no success, nothing compared, the bad days are over, and the box goes on."""
    with simulating(demo, "--bad-days") as said:
        assert said.end(signal.SIGINT) != 0

    assert re.search(r"not finished, nothing was compared; until then \d+ came, \d+ paid", said.text)
    assert "Traceback" not in said.text
    at_rest = sandbox(demo, "GET", "deliveries")["switches"]
    assert (at_rest["duplicates"], at_rest["reorder_ms"], sandbox(demo, "GET", "faults")) == (0, 0, [])
    assert len(remembered(demo.box)) == 8


def test_a_simulation_names_the_process_that_died_under_it(demo):
    """kill -9 in the middle: the simulation ends, and says which and where its log is."""
    with simulating(demo) as said:
        remembered(demo.box)["mailbox"].kill()
        assert said.process.wait(30) == 1

    assert "mailbox ended in the middle of the simulation" in said.text
    assert str(demo.box.logs / "mailbox.log") in said.text
    demo.until("is ready again")
