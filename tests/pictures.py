"""Pictures of every letter as mail programs show it: light and dark, phone and desktop.

`python -m tests.pictures` writes the letters by the release's templates, looks at them in Chromium, and puts the pictures and
the page that shows them into docs/letters/. A test holds that they are of the templates as they are. It takes the pictures of
the sandbox's pages, too (sandbox_pictures.py).
"""

import asyncio
import email
import email.policy
import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from consumers.email.compose import Facts, Letter, Person, compose
from shared.letters.templates import Templates, released
from shared.letters.words import LETTERS
from tests import sandbox_pictures
from tests.support.browsers import kept, launched

FOLDER = Path(__file__).parent.parent / "docs" / "letters"
WIDTHS = {"desktop": 720, "phone": 375}
SCHEMES = ("light", "dark")
VIEWS = [(width, scheme) for width in WIDTHS for scheme in SCHEMES]
FACTS = Facts(
    kind="confirmation",
    role="client",
    message_id="<5f3c@culturebridge.example>",
    booking_id="6b1f7e52-41f7-4c0f-a9a5-0d5f3c1f8e21",
    client=Person("ada@example.org", "Ada", "Lovelace", "Europe/Berlin"),
    coach=Person("charles@example.org", "Charles", "Babbage", "America/New_York"),
    session_at=datetime(2027, 3, 1, 17, 30, tzinfo=UTC),
    duration_minutes=90,
    amount_minor=7500,
    refunded_minor=None,
    currency="USD",
    cancelled=False,
)
REFUNDED = {"cancellation": 7500, "refund": 2000}
PAGE = """# The letters

As the release writes them, in Chromium; click a picture for its real size. `.venv/bin/python -m tests.pictures` takes them
anew. Each letter has a text beside its HTML; a confirmation and a cancellation carry a calendar file. Change what they say with
`cb-ops templates` ([operating.md](../operating.md)).

"""


def letter(name, templates):
    """One letter, parsed again from the bytes that a mail server would get."""
    role, _, kind = name.partition("_")
    facts = replace(FACTS, role=role, kind=kind, refunded_minor=REFUNDED.get(kind), cancelled=kind == "cancellation")
    written = compose(facts, templates, sender="noreply@culturebridge.example", at=datetime(2027, 2, 20, 8, 0, tzinfo=UTC))
    assert isinstance(written, Letter)
    return email.message_from_bytes(written.content, policy=email.policy.default)


def of_what():
    """A word for the templates that the pictures are of."""
    return hashlib.sha256(repr(sorted(released().items())).encode()).hexdigest()[:16]


def page(subjects):
    """The page that shows the pictures, as Markdown."""
    rows = [f"<!-- of {of_what()} -->\n"]
    for name, subject in subjects.items():
        rows += [f"\n## {name}\n", f"\n{subject}\n", f"\n| {' | '.join(f'{w}, {s}' for w, s in VIEWS)} |\n"]
        rows += ["|" + "---|" * len(VIEWS) + "\n"]
        cells = [f"[![{name}, {w}, {s}]({name}-{w}-{s}.png)]({name}-{w}-{s}.png)" for w, s in VIEWS]
        rows += [f"| {' | '.join(cells)} |\n"]
    return PAGE + "".join(rows)


async def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    templates = Templates(released())
    letters = {name: letter(name, templates) for name in LETTERS}
    async with launched() as browser:
        for width, scheme in VIEWS:
            context = await browser.new_context(viewport={"width": WIDTHS[width], "height": 600}, color_scheme=scheme)
            view = await context.new_page()
            for name, message in letters.items():
                await view.set_content(message.get_body(("html",)).get_content())
                kept(await view.screenshot(full_page=True), FOLDER / f"{name}-{width}-{scheme}.png")
            await context.close()
        await sandbox_pictures.take(browser)
    (FOLDER / "README.md").write_text(page({name: str(message["Subject"]) for name, message in letters.items()}))


if __name__ == "__main__":
    asyncio.run(main())
