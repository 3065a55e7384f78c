"""The three ways to pull the sandbox's switches: over HTTP, by the buttons of its page, by `cb-dev stripe`."""

import asyncio
import re
from typing import get_args

import pytest
from typer.testing import CliRunner

from deploy.dev.commands.cli import app
from deploy.dev.errors import BoxError
from deploy.dev.stripe.faults import Kind
from deploy.dev.stripe.forgeries import Forgery
from deploy.dev.stripe.switchboard import BUTTONS
from tests.support.sandboxes import expired


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "deliveries", {"order": "sideways"}, 400),
        ("PUT", "deliveries", {"forgeries": ["whim"]}, 400),
        ("PUT", "deliveries", {"duplicate_share": 2}, 400),
        ("PUT", "deliveries", {"duplicate": 1}, 400),
        ("PUT", "deliveries", {"retry_schedule_seconds": []}, 400),
        ("POST", "faults", {"route": "POST /v1/nothing", "kind": "cut"}, 400),
        ("POST", "faults", {"route": "POST /v1/checkout/sessions", "kind": "whim"}, 400),
        ("POST", "faults", {"route": "POST /v1/checkout/sessions", "kind": "cut", "times": 0}, 400),
        ("POST", "losses", {"type": "x", "times": 0}, 400),
        ("POST", "clock", {"advance_seconds": -1}, 400),
        ("POST", "deliveries/pause", {"endpoint": "we_x"}, 404),
        ("POST", "events/evt_x/forge", {"kind": "oversized"}, 404),
        ("POST", "webhook_endpoints/we_x/roll", {}, 404),
    ],
)
async def test_a_word_that_no_switch_knows_is_refused(world, method, path, body, status):
    """A typing error in a test must not pass for a quiet day."""
    answered, said = await world.switch(method, path, body)

    assert (answered, bool(said["error"])) == (status, True)


@pytest.mark.parametrize(("command", "words"), [("forge", Forgery), ("deliveries", Forgery), ("fault", Kind)])
def test_help_names_every_word_that_a_switch_knows(command, words):
    """The sandbox says only that it does not know a word."""
    told = CliRunner().invoke(app, ["stripe", command, "--help"], env={"TERM": "dumb"}).stdout

    # In frames of 80 columns where continuous integration wants colours, on one line elsewhere.
    assert ", ".join(get_args(words)) in " ".join(re.findall(r"[\w,]+", told))


async def test_every_button_works(world):
    """Each press leads back to the page; the last one puts everything to rest."""
    await expired(world)
    [told] = await world.told("checkout.session.expired")
    for name in BUTTONS:
        form = {"button": name, "event": told["id"]}
        async with world.http.post(f"{world.url}/switches", data=form, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/switches"), BUTTONS[name].label
    async with world.http.get(f"{world.url}/switches") as answer:
        page = await answer.text()

    assert "an ordinary day" in page
    assert len(world.webhook.bodies) >= 2


async def test_the_page_says_what_is_on(world):
    """And what went wrong with a press."""
    await world.switch("PUT", "deliveries", {"duplicates": 2})
    await world.switch("POST", "losses", {"type": "charge.refunded"})
    redeliver = next(name for name, button in BUTTONS.items() if button.wants)
    async with world.http.post(f"{world.url}/switches", data={"button": redeliver, "event": "evt_x"}) as answer:
        page = await answer.text()

    assert answer.status == 404
    assert "No such event: &#39;evt_x&#39;" in page
    assert "duplicates: 2" in page
    assert "charge.refunded: lost" in page


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["deliveries", "--duplicates", "2", "--order", "1,0", "--retry", "1,2"], '"order": [\n    1,\n    0\n  ]'),
        (["deliveries", "--retry", "live", "--forge", "thin_event"], '"thin_event"'),
        (["fault", "POST /v1/refunds", "error_after", "--times", "3"], '"times": 3'),
        (["lose", "charge.refunded"], '"type": "charge.refunded"'),
        (["clock", "2h"], '"ahead_seconds": 7200'),
        (["pause"], '"paused": true'),
        (["resume"], '"paused": false'),
        (["show"], '"deliveries"'),
        (["clear"], '"faults": []'),
    ],
)
async def test_cb_dev_pulls_the_same_switches(world, words, seen):
    """What the sandbox answers is what is shown."""
    command, *rest = words
    ran = await asyncio.to_thread(CliRunner().invoke, app, ["stripe", command, *rest, "--url", world.url])

    assert ran.exit_code == 0, ran.output
    assert seen in ran.output


@pytest.mark.parametrize("words", [["fault", "POST /v1/nothing", "cut"], ["redeliver", "evt_x"], ["forge", "evt_x", "whim"]])
async def test_cb_dev_says_what_the_sandbox_refused(world, words):
    """One line, no traceback."""
    ran = await asyncio.to_thread(CliRunner().invoke, app, ["stripe", *words, "--url", world.url])

    assert isinstance(ran.exception, BoxError)
    assert str(ran.exception).startswith("the sandbox refuses: ")


@pytest.mark.parametrize(
    "words",
    [
        ["deliveries", "--retry", "soon"],
        ["deliveries", "--order", "1,,2"],
        ["deliveries", "--order", "1.5"],
        ["clock", "1.2.3h"],
    ],
)
def test_cb_dev_names_the_word_that_is_mistyped(words):
    """As any wrong word of a command: how to write it, and status 2; nobody was asked."""
    ran = CliRunner().invoke(app, ["stripe", *words, "--url", "http://127.0.0.1:1"])

    assert (ran.exit_code, type(ran.exception)) == (2, SystemExit)
    assert "give " in ran.output


async def test_cb_dev_finds_the_sandbox_past_a_proxy_and_a_slash_too_many(world, monkeypatch):
    """A company's proxy does not lead to this machine."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    ran = await asyncio.to_thread(CliRunner().invoke, app, ["stripe", "clear", "--url", f"{world.url}/"])

    assert ran.exit_code == 0, ran.exception


@pytest.mark.parametrize("words", [["redeliver", "evt x"], ["roll", "we/../x"]])
async def test_cb_dev_takes_any_id(world, words):
    """One that cannot be, too, is for the sandbox to refuse."""
    ran = await asyncio.to_thread(CliRunner().invoke, app, ["stripe", *words, "--url", world.url])

    assert str(ran.exception).startswith("the sandbox refuses: No such")


@pytest.mark.parametrize("answers", ["404", "what it is", "nothing", "no address"])
async def test_cb_dev_says_that_something_else_answers(world, answers):
    """One line, no traceback: another server, a page, a closed connection, or no address at all."""
    mute = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with mute:
        url = {
            "404": f"{world.url}/nowhere",
            "what it is": f"{world.url}/_assets/page.js?",
            "nothing": f"http://127.0.0.1:{mute.sockets[0].getsockname()[1]}",
            "no address": "localhost",
        }[answers]
        ran = await asyncio.to_thread(CliRunner().invoke, app, ["stripe", "show", "--url", url])

    assert isinstance(ran.exception, BoxError), ran.exception
    assert str(ran.exception).startswith(f"no sandbox answers at {url}: ")
