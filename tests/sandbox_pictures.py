"""Pictures of the sandbox's pages as a browser shows them: the form, what a customer is told, the bank, the switches.

`python -m tests.pictures` takes them beside the letters', into docs/sandbox/. A test holds that they are of today's pages.
"""

import hashlib
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.dev.stripe import page as pages
from deploy.dev.stripe import switchboard
from deploy.dev.stripe.brands import BRANDS
from deploy.dev.stripe.cards import SEPA_ACCOUNTS, TEST_CARDS
from tests.support.browsers import kept
from tests.support.sandboxes import listening, opened
from tests.support.waiting import until

FOLDER = Path(__file__).parent.parent / "docs" / "sandbox"
DESK, PHONE = 1280, 390
COLOURS = 128  # the signs of the card networks are small and colourful
# Name -> what it shows, window's width, scheme.
SHOTS = {
    "form": ("The form: what is bought, the card, test cards to click", DESK, "light"),
    "form-dark": ("The same in the dark", DESK, "dark"),
    "form-phone": ("On a phone", PHONE, "light"),
    "form-phone-dark": ("On a phone in the dark", PHONE, "dark"),
    "errors": ("What was typed wrong is told beside its field", DESK, "light"),
    "declined": ("A declined card", DESK, "light"),
    "euros": ("An order in euros: by card or from a bank account", DESK, "light"),
    "three-d-secure": ("3-D Secure, at the bank", DESK, "light"),
    "expired": ("An expired session", DESK, "light"),
    "paid": ("A session that was paid before", DESK, "light"),
    "switches": ("The switches, and every webhook with its attempts", DESK, "light"),
}
CUT = {"errors", "declined", "euros"}  # their lower half is the form's
PAGE = """# The sandbox's pages

As a browser shows them; click a picture for its real size. `.venv/bin/python -m tests.pictures` takes them anew. How to use the
sandbox, for this project or another: [deploy/dev/stripe/README.md](../../deploy/dev/stripe/README.md).

"""


def of_what():
    """A word for what the pictures show: templates, sheet and script, and what is written on cards and buttons."""
    shown = [*sorted(pages.FOLDER.glob("templates/*")), *sorted(pages.FOLDER.glob("assets/*"))]
    offered = [(card.group, card.look, card.title, card.outcome, card.spaced) for card in (*TEST_CARDS, *SEPA_ACCOUNTS)]
    said = repr((offered, BRANDS, switchboard.GROUPS)).encode()
    return hashlib.sha256(b"".join(path.read_bytes() for path in shown) + said).hexdigest()[:16]


def page():
    """The page that shows the pictures, as Markdown."""
    rows = "".join(f"\n## {title}\n\n[![{title}]({name}.png)]({name}.png)\n" for name, (title, _, _) in SHOTS.items())
    return f"{PAGE}<!-- of {of_what()} -->\n{rows}"


async def take(browser):
    """Open a sandbox, walk a customer through its pages, and write what is seen."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with listening() as webhook, opened(Path(folder), webhook) as world:
            for name, (_, width, scheme) in SHOTS.items():
                async with _view(browser, width, scheme) as view:
                    await _WAYS[name.partition("-phone")[0].partition("-dark")[0]](world, view)
                    kept(await view.screenshot(full_page=name not in CUT), FOLDER / f"{name}.png", colours=COLOURS)
    (FOLDER / "README.md").write_text(page())


@asynccontextmanager
async def _view(browser, width, scheme):
    context = await browser.new_context(viewport={"width": width, "height": 860}, color_scheme=scheme)
    yield await context.new_page()
    await context.close()


async def _form(world, view, **wish):
    session = await world.session(**wish)
    await view.goto(session.url)
    return session


async def _filled(world, view, number, **wish):
    session = await _form(world, view, **wish)
    await view.get_by_label("Email").fill("ada@example.org")
    await view.get_by_role("button", name=number).click()
    return session


async def _sent(world, view, number):
    session = await _filled(world, view, number)
    await view.get_by_role("button", name="Pay $").click()
    await view.wait_for_load_state()
    return session


async def _typed(world, view):
    await _filled(world, view, "4242 4242 4242 4242")


async def _errors(world, view):
    await _form(world, view)
    await view.get_by_label("Card number").fill("4242 4242 4242 4241")
    await view.get_by_label("Expiry").fill("01 / 20")
    await view.get_by_role("button", name="Pay $").click()
    await view.get_by_role("alert").wait_for()


async def _declined(world, view):
    await _sent(world, view, "4000 0000 0000 0002")


async def _euros(world, view):
    price = {"currency": "eur", "unit_amount": 7500, "product_data": {"name": "Coaching with Ana", "description": "60 minutes"}}
    await _form(world, view, line_items=[{"price_data": price, "quantity": 2}])
    await view.get_by_label("SEPA Direct Debit").check()


async def _three_d_secure(world, view):
    await _sent(world, view, "4000 0025 0000 3155")
    await view.get_by_role("button", name="Complete").wait_for()


async def _expired(world, view):
    session = await world.session()
    await world.client.v1.checkout.sessions.expire_async(session.id)
    await view.goto(session.url)


async def _paid(world, view):
    session = await world.session()
    await world.pay(session)
    await view.goto(session.url)


async def _switches(world, view):
    world.webhook.answers = [503, 200, 500]
    await world.switch("PUT", "deliveries", {"duplicates": 1, "retry_schedule_seconds": [1]})
    session = await world.session()
    await world.client.v1.checkout.sessions.expire_async(session.id)
    heard = len(world.webhook.bodies)
    await until(lambda: len(world.webhook.bodies) > heard, "a delivery arrives")
    await view.goto(f"{world.url}/switches")


_WAYS = {
    "form": _typed,
    "errors": _errors,
    "declined": _declined,
    "euros": _euros,
    "three-d-secure": _three_d_secure,
    "expired": _expired,
    "paid": _paid,
    "switches": _switches,
}
