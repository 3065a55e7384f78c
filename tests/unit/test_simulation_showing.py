"""What a simulation says: a display at a terminal, whole lines elsewhere, and every difference with how to ask why."""

import io

import pytest
from rich.console import Console

from deploy.dev.simulation import show
from deploy.dev.simulation.comparison import Difference
from deploy.dev.simulation.run import Plan, Report
from deploy.dev.simulation.show import Board
from deploy.dev.simulation.steps import Step
from deploy.dev.terminal import Voice

PLAN = Plan(seed=7, rate=5, seconds=60, bad_days=True, patience_seconds=60)
FOUND = Difference("status", "refunded", "succeeded", "cb-ops why 01a2208e-bdb4-7d4c-b16e-b0886bf6a8fa")


def said(report, *, is_terminal):
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=100, highlight=False, soft_wrap=True, no_color=True)
    board = Board(PLAN, Voice(console))
    board.tell(Step.CAME)
    with board.shown():
        board.tell(Step.PAID)
    show.tell_report(board, PLAN, report, Voice(console))
    return console.file.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_every_difference_is_told_with_how_to_ask_why(is_terminal):
    """What, who says what, and the command that explains ours."""
    text = said(Report({}, (FOUND,)), is_terminal=is_terminal)

    assert "1 difference" in text
    assert all(cell in text for cell in (FOUND.what, FOUND.stripe_says, FOUND.we_say, FOUND.ask))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_difference_is_one_line(is_terminal):
    """Who reads twenty of them wants no more."""
    lines = said(Report({"confirmed, succeeded": 1}, ()), is_terminal=is_terminal).rstrip().splitlines()

    assert "1 customers, no difference" in lines[-1]
    assert "ask" not in lines[-1]


def test_what_had_been_seen_is_one_line():
    """For whoever interrupts it."""
    board = Board(PLAN, Voice(Console(file=io.StringIO())))
    for step in (Step.CAME, Step.CAME, Step.PAID, Step.WENT):
        board.tell(step)

    assert board.told().startswith("2 came, 1 paid, 0 declined")
    assert board.told().endswith("; 1 under way")
