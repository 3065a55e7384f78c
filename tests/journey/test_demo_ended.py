"""A demo that is ended at every moment, in one folder: nothing is left running, and the next one starts from what it left."""

import signal

import pytest
from pydantic import SecretStr

from deploy.dev.box import control
from deploy.dev.seed import store
from deploy.dev.services import database
from deploy.dev.state import Box
from deploy.dev.terminal import Silence
from shared import settings
from tests.journey import demos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of them all; its box is removed with it."""
    made = tmp_path_factory.mktemp("ended")
    yield made
    control.reset(Box(made), Silence())


@pytest.fixture
def demo(folder):
    """A demo at a terminal; killed where its test has not ended it."""
    said = demos.at_a_terminal(folder)
    yield said
    if said.process.poll() is None:
        said.end(signal.SIGKILL)


async def a_payable_booking(folder):
    """The booking that may be paid in the box of this folder, whose database is up."""
    url = database.url(Box(folder).read("ports")["database"])
    return await store.a_payable_booking(settings.Database(database_url=SecretStr(url)))


@pytest.mark.parametrize(
    ("signum", "moment"), [(signal.SIGTERM, "demo "), (signal.SIGTERM, "world "), (signal.SIGINT, "world ")]
)
def test_it_can_be_ended_while_it_comes_up(folder, demo, signum, moment):
    """While it imports, while pieces start: no success, and nothing is left running."""
    demo.until(moment)

    assert demo.end(signum) != 0
    assert demos.left_running(folder) == []


async def test_interrupted_in_its_story_it_ends_all_and_can_be_told_again(folder, demo):
    """Ctrl-C after the checkout: no success, nothing left running. Again, without a terminal, it ends with the story.

    What could be paid for before that still can.
    """
    demo.until("tables, people and a booking are there")
    booking = await a_payable_booking(folder)
    demo.until("checkout")
    assert demo.end(signal.SIGINT) != 0
    assert demos.left_running(folder) == []

    status, said = demos.run("demo", folder=folder)
    assert (status, demos.hops(said)) == (0, demos.TITLES), said
    assert f"booking {booking}\n" in said[said.index("to pay for") :]
    assert demos.left_running(folder) == []
