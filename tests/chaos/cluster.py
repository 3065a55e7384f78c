"""`make chaos-cluster`: deploy/cluster/compose.yml from nothing, killed and restarted under load.

It writes its part of docs/scaling.md when all held. It needs a Docker engine, or another that answers to `docker`, with
compose. `--only CASE` runs one and writes nothing.
"""

import argparse
import asyncio
import logging
import os
import platform
import signal
import tempfile
import time
from pathlib import Path

import structlog
from rich.console import Console

from consumers.email.sending import LETTERS_AT_ONCE_MAX
from deploy.dev.demo import compose
from deploy.dev.errors import BoxError
from deploy.dev.state import PROJECT, Box
from deploy.dev.terminal import Voice
from shared import clock
from tests.chaos import cluster_cases as cases
from tests.chaos.cluster_ground import COMPOSITION, TOLD, Cluster
from tests.chaos.door import ANSWER_SECONDS_MAX, told
from tests.support.served import ROOT

PAGE = ROOT / "docs" / "scaling.md"
HEAD, END = "<!-- chaos-cluster -->\n", "<!-- /chaos-cluster -->\n"
RATE = 300
KILLING_SECONDS, ROLLING_SECONDS = 180, 240


async def killed(cluster, sold, root, rate, say):
    day = await cases.killed(cluster, sold, root, rate=rate, seconds=KILLING_SECONDS, say=say)
    verdict = await cases.judged(cluster, sold, day.seen.taken, say=say)
    gap, slowest = day.seen.gap_seconds_max(), day.seen.answer_seconds_max
    felt = [f"{service} {gap_after(day.seen, at):.1f} s (well again after {back:.0f} s)" for service, at, back in day.done]
    return (
        (
            f"a leading broker, a door and a consumer of each kind killed with -9, each started again "
            f"{cases.AWAY_SECONDS:.0f} s later, under {rate} webhooks/s for {KILLING_SECONDS} s"
        ),
        "0 lost, 0 applied twice; 200 stop for 5 s at most, no answer later than 5 s; a second copy only of a letter in flight",
        f"{client(day)}; longest time without a 200 after each: {', '.join(felt)}; {world(verdict)}",
        bounds(verdict)
        | {
            "a second copy only of letters in flight": verdict.letters.possible_duplicates <= LETTERS_AT_ONCE_MAX,
            "200 are back within 5 s": gap <= ANSWER_SECONDS_MAX,
            "no answer later than 5 s": slowest <= ANSWER_SECONDS_MAX,
        },
    )


async def rolled(cluster, sold, root, rate, say):
    possible = sold.possible_duplicates
    day = await cases.rolled(cluster, sold, root, rate=rate, seconds=ROLLING_SECONDS, say=say)
    verdict = await cases.judged(cluster, sold, day.seen.taken, say=say)
    took = [back for _, _, back in day.done]
    return (
        f"eight processes and three brokers restarted, one after the other, under {rate} webhooks/s for {ROLLING_SECONDS} s",
        "every webhook answered 200 at once; 0 lost, 0 applied twice, no letter twice",
        f"{client(day)}; each restart {min(took):.0f} to {max(took):.0f} s, {sum(took):.0f} s in all; {world(verdict)}",
        bounds(verdict)
        | {
            "every webhook answered 200 at once": set(day.seen.statuses) == {200},
            "no letter twice": verdict.letters.possible_duplicates == possible,
            "no answer later than 5 s": day.seen.answer_seconds_max <= ANSWER_SECONDS_MAX,
        },
    )


CASES = (killed, rolled)


def gap_after(seen, at):
    """The longest time without a 200 that the clients felt of what was done at this moment."""
    return seen.gap_seconds_max(at - cases.BEFORE_SECONDS, at + cases.FELT_SECONDS)


def client(day):
    """What the client saw, in words."""
    seen = day.seen
    return (
        f"{len(seen.ids):,} webhooks: {told(seen.statuses)}; p50 {seen.latency_ms(0.5):.0f} ms, "
        f"p99 {seen.latency_ms(0.99):.0f} ms, "
        f"slowest answer {seen.answer_seconds_max:.2f} s, longest time without a 200 {seen.gap_seconds_max():.2f} s; "
        f"{day.resent} sent again as Stripe would; the balancer went to the other door {day.redispatched:,} times"
    )


def world(verdict):
    """What the topics, the tables and the mailbox say, in words."""
    letters = verdict.letters
    return (
        f"{len(verdict.lost)} lost, {len(verdict.wrong)} differences from the oracle, {verdict.dead} dead letters; "
        f"{verdict.copies_in_the_log} copies in the log, each applied once; {len(letters.copies):,} letters in the mailbox, "
        f"{letters.duplicates} twice, {letters.possible_duplicates} counted as perhaps twice"
    )


def bounds(verdict):
    """What must hold on any day."""
    return {
        "every 200 is in the log": not verdict.lost,
        "no difference from the oracle": not verdict.wrong,
        "no dead letter": not verdict.dead,
        "nobody had to be told": not verdict.attention,
        "every letter due arrived, each copy counted": not verdict.letters_unexplained,
        "no letter to who is due none": not verdict.letters_undue,
    }


def page(text, results, machine):
    """Return docs/scaling.md with this table in place of the last one."""
    before, _, rest = text.partition(HEAD)
    lines = "".join(f"| {what} | {must} | {saw} |\n" for what, must, saw, _ in results)
    table = f"| what was done | what must hold | what was seen |\n|---|---|---|\n{lines}"
    return f"{before}{HEAD}{table}\n{machine}\n{END}{rest.partition(END)[2]}"


def load():
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


async def run(stack, chosen, root, rate, console):
    """Run these cases, with so many webhooks a second, on a stack that is up; return their results."""
    results, sold = [], cases.Sold()
    async with Cluster(stack) as cluster:
        for case in chosen:
            console.print(f"{case.__name__} …")
            began = time.monotonic()
            say = lambda what, began=began: console.print(f"{time.monotonic() - began:6.1f} s  {what}")  # noqa: E731 - told to the case
            results.append(await case(cluster, sold, root, rate, say))
            what, _, saw, held = results[-1]
            missed = [bound for bound, is_held in held.items() if not is_held]
            verdict = f"DID NOT HOLD ({', '.join(missed)})" if missed else "held"
            console.print(f"{verdict} after {time.monotonic() - began:.0f} s: {what}: {saw}")
    return results


def main():
    parser = argparse.ArgumentParser(prog="make chaos-cluster", description=__doc__)
    parser.add_argument("--only", choices=[case.__name__ for case in CASES], help="one case, and the page stays as it is")
    parser.add_argument("--rate", type=int, default=RATE, help=f"webhooks a second ({RATE})")
    given = parser.parse_args()
    only = given.only
    chosen = [case for case in CASES if only in {None, case.__name__}]
    console = Console(width=160)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began, before = clock.now(), load()
    try:
        compose.require_engine(COMPOSITION)
        stack = compose.Stack(COMPOSITION, Box(PROJECT / ".dev" / "chaos-cluster"), Voice(), TOLD)
        with tempfile.TemporaryDirectory(prefix="cb-chaos-") as folder, stack.kept_up(stay=False):
            results = asyncio.run(run(stack, chosen, Path(folder), given.rate, console))
    except BoxError as error:
        raise SystemExit(str(error)) from None
    is_broken = not all(all(held.values()) for *_, held in results)
    if not is_broken and not only:
        machine = (
            f"Run on {began:%Y-%m-%d} with Python {platform.python_version()} on {os.cpu_count()} cores, which the load "
            f"and all of the cluster shared; load {before} before, {load()} after."
        )
        PAGE.write_text(page(PAGE.read_text(), results, machine))
        console.print(f"wrote {PAGE.relative_to(ROOT)}")
    return int(is_broken)


if __name__ == "__main__":
    raise SystemExit(main())
