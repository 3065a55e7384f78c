"""One simulation after the other in one box, each with persons of its own: what `cb-dev simulate` shows.

Enters: the first seed and how many. Leaves: a line a seed, how bookings ended, and whether everything fitted. A box that was
up is joined and stays up; otherwise it is ours and ends with us.
"""

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from deploy.dev.box import control
from deploy.dev.processes import stop_signals
from deploy.dev.simulation import run, show
from deploy.dev.simulation.run import Plan
from deploy.dev.simulation.show import Board
from deploy.dev.state import Box
from deploy.dev.terminal import Voice
from shared import clock


def simulate(home: Path | None, voice: Voice, plan: Plan, *, seeds: int) -> bool:
    """Make the simulations of so many seeds, from the plan's on; returns whether every comparison was empty.

    BoxError when no box comes up or one of its processes ends in the middle, KeyboardInterrupt once it was said what had
    been seen.
    """
    plans = [replace(plan, seed=seed) for seed in itertools.islice(itertools.count(plan.seed), seeds)]
    with control.joined_or_kept_up(home, voice):
        return _all(Box(home), voice, plans)


def _all(box: Box, voice: Voice, plans: Iterable[Plan]) -> bool:
    began_at = clock.monotonic()
    outcomes: Counter[str] = Counter()
    failed: list[int] = []
    made = 0
    for plan in plans:
        board = Board(plan, voice)
        try:
            with board.shown():
                report = stop_signals.run(run.simulate(box, plan, board.tell))
        except BaseException:
            voice.warn(f"seed {plan.seed}", f"not finished, nothing was compared; until then {board.told()}")
            raise
        show.tell_report(board, plan, report, voice)
        made += 1
        outcomes.update(report.outcomes)
        if report.differences:
            failed.append(plan.seed)
    show.tell_outcomes(outcomes, voice)
    verdict = f"differences with {', '.join(map(str, failed))}" if failed else "every comparison was empty"
    voice.ready("verdict", f"{made} seed{'s' if made > 1 else ''}, {outcomes.total()} bookings: {verdict}", began_at)
    return not failed
