"""`make chaos-door`: five bad days of the door in full, on boxes of their own; writes its part of docs/bench.md when all held.

`--only CASE` runs one and writes nothing.
"""

import argparse
import asyncio
import logging
import os
import platform
import tempfile
import time
import uuid
from pathlib import Path

import structlog
from rich.console import Console

from deploy.dev.services.stack import Services
from shared import clock, settings
from tests.chaos import door_cases as cases
from tests.support.served import ROOT

PAGE = ROOT / "docs" / "bench.md"
HEAD, END = "<!-- chaos-door -->\n", "<!-- /chaos-door -->\n"
RSS_GROWTH_MB_MAX = 20
RSS_MB_MAX = 268  # 256 MiB
ANSWER_SECONDS_MAX = 5.0
EARLY_SECONDS = 1.0
DRAIN_SECONDS_MAX = 10.0


def fresh_kafka():
    """Settings of the box's Kafka with a topic prefix of this case's own."""
    return settings.Kafka(
        kafka_bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], topic_prefix=f"d{uuid.uuid4().hex[:8]}."
    )


async def attacked(root, box):
    hostile, slow, seconds = 10_000, 2_000, 45
    said, honest, before, during, after = await cases.attacked(root, fresh_kafka(), hostile=hostile, slow=slow, seconds=seconds)
    p99 = honest.latency_ms(0.99)
    due = {status: count for status, count in said["statuses"].items() if status[0] in "25"}
    return (
        f"{sum(said['statuses'].values()):,} hostile requests of the corpus, {slow:,} slow clients of nine kinds",
        f"memory within {RSS_GROWTH_MB_MAX} MB of its start; no 2xx, no 5xx; an honest client is served, p99 < 500 ms",
        (
            f"{before:.0f} MB before, {during:.0f} during, {after:.0f} after; answers {told(said['statuses'])}; "
            f"{said['slow_connections']:,} slow connections, none longer than {said['held_seconds_max']:.0f} s; honest: "
            f"{len(honest.ids):,} on new connections, {told(honest.statuses)}, "
            f"p50 {honest.latency_ms(0.5):.0f} ms, p99 {p99:.0f} ms"
        ),
        {
            "memory after": after - before <= RSS_GROWTH_MB_MAX,
            "no 2xx and no 5xx to a stranger": not due,
            "every honest webhook taken": set(honest.statuses) == {200},
            "p99": p99 < 500,
        },
    )


async def leader_lost(root, box):
    services = Services(root / "three", brokers=3, durable=False)
    environment = await asyncio.to_thread(services.start)
    try:
        kafka = settings.Kafka(kafka_bootstrap_servers=environment["KAFKA_BOOTSTRAP_SERVERS"], topic_prefix="d.")
        brokers = {number: services.running[name] for number, name in enumerate(("broker", "broker-2", "broker-3"), 1)}
        rate, before, after = 1000, 8, 30
        seen, lost = await cases.leader_lost(root, kafka, brokers, rate=rate, before_seconds=before, after_seconds=after)
    finally:
        await asyncio.to_thread(services.stop)
    gap, slowest = seen.gap_seconds_max(), seen.answer_seconds_max
    recovered = seen.goodput(before + after - 10, before + after)
    return (
        f"three brokers, the leader of most partitions killed with -9 under {rate:,} webhooks/s, and left dead",
        "no acknowledgement for 5 s at most; no answer later than 5 s; every 2xx in the log; goodput ≥ 90 % again within 60 s",
        (
            f"no 200 for {gap:.1f} s; slowest answer after {slowest:.2f} s ({max(seen.latency):.2f} s after it was due); "
            f"{len(seen.taken):,} taken, {len(lost)} of them not in the log; {told(seen.statuses)}; "
            f"p50 {seen.latency_ms(0.5):.1f} ms; last 10 s {recovered:.1%} taken"
        ),
        {
            "acknowledgements are back within 5 s": gap <= ANSWER_SECONDS_MAX,
            "no answer later than 5 s": slowest <= ANSWER_SECONDS_MAX,
            "every 2xx is in the log": not lost,
            "goodput is back": recovered >= 0.9,
        },
    )


async def kafka_away(root, box):
    rate, frozen_seconds, dead_seconds = 1000, 60, 60
    sizes, frozen, dead, after, lost = await cases.kafka_away(
        root, fresh_kafka(), box.broker, rate=rate, frozen_seconds=frozen_seconds, dead_seconds=dead_seconds
    )
    refused = [
        (took, retry)
        for one in (frozen, dead)
        for took, status, retry in zip(one.latency, one.status, one.retry_after, strict=True)
        if status == 503
    ]
    early = sum(took < EARLY_SECONDS for took, _ in refused) / max(len(refused), 1)
    slowest = max(frozen.answer_seconds_max, dead.answer_seconds_max)
    late = sizes[len(sizes) // 2 :]
    return (
        f"Kafka frozen for {frozen_seconds} s, then killed and away for {dead_seconds} s, under {rate:,} webhooks/s",
        "memory below 256 MiB and not growing; 503 with Retry-After, at once when the buffer is full; well again after",
        (
            f"{sizes[0]:.0f} MB before, {max(sizes):.0f} at most, {late[-1]:.0f} at the end; frozen {told(frozen.statuses)}, "
            f"dead {told(dead.statuses)}; {early:.0%} of the 503 within {EARLY_SECONDS:.0f} s, "
            f"slowest answer {slowest:.2f} s; afterwards "
            f"{told(after.statuses)}"
        ),
        {
            "memory": max(sizes) < RSS_MB_MAX and max(late) <= max(sizes[: len(sizes) // 2]) + RSS_GROWTH_MB_MAX,
            "only 503 while Kafka is dead": set(dead.statuses) == {503},
            "Retry-After on each 503": all(retry for _, retry in refused),
            "some 503 come early": early > 0,
            "no answer later than 5 s": slowest <= ANSWER_SECONDS_MAX,
            "well again": after.goodput(5, 10) >= 0.9,
            "every 2xx is in the log": not lost,
        },
    )


async def terminated(root, box):
    rate = 800
    status, took, seen, lost = await cases.terminated(root, fresh_kafka(), rate=rate, seconds=8)
    return (
        f"SIGTERM under {rate} webhooks/s",
        "every 2xx is in the log; exit status 0 within 10 s",
        f"{len(seen.taken):,} taken, {len(lost)} of them not in the log; exit status {status} after {took:.1f} s",
        {
            "every 2xx is in the log": not lost,
            "some were taken": len(seen.taken) > rate,
            "exit status": status == 0,
            "drained in time": took <= DRAIN_SECONDS_MAX,
        },
    )


async def rolled(root, box):
    rate, rounds = 300, 4
    drained, seen, lost = await cases.rolled(root, fresh_kafka(), rate=rate, rounds=rounds)
    kept, fresh = seen
    return (
        f"two processes on one port, each replaced in turn {rounds} times, under {rate * 5 // 4} webhooks/s",
        "no honest request lost, every 2xx in the log, each drained within 10 s",
        (
            f"kept connections {told(kept.statuses)}, new ones {told(fresh.statuses)}; {len(lost)} taken but not in the log; "
            f"drained in {min(took for _, took in drained):.1f} to {max(took for _, took in drained):.1f} s"
        ),
        {
            "no request lost": set(kept.statuses) == set(fresh.statuses) == {200},
            "every 2xx is in the log": not lost,
            "exit status": all(status == 0 for status, _ in drained),
            "drained in time": all(took <= DRAIN_SECONDS_MAX for _, took in drained),
        },
    )


CASES = (attacked, leader_lost, kafka_away, terminated, rolled)


def told(statuses):
    """Counts by status, in words."""
    return ", ".join(f"{count:,} times {status if int(status) else 'no answer'}" for status, count in statuses.items())


def page(text, results, *, day, python):
    """Return docs/bench.md with this table in place of the last one, or at its end."""
    before, found, rest = text.partition(HEAD)
    _, _, after = rest.partition(END)
    lines = "".join(f"| {what} | {must} | {saw} |\n" for what, must, saw, _ in results)
    told_of = f"Run on {day} with Python {python}, {os.cpu_count()} cores, Kafka of the box; memory is RSS.\n"
    start = before if found else f"{text or '# Figures'}\n\n## The door on bad days\n\n"
    return f"{start}{HEAD}| what was done | what must hold | what was seen |\n|---|---|---|\n{lines}\n{told_of}{END}{after}"


async def main():
    parser = argparse.ArgumentParser(prog="make chaos-door", description=__doc__)
    parser.add_argument("--only", choices=[case.__name__ for case in CASES], help="one case, and the page stays as it is")
    only = parser.parse_args().only
    console = Console(width=160)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    results, broken = [], []
    with tempfile.TemporaryDirectory(prefix="cb-chaos-") as folder:
        root = Path(folder)
        os.chmod(root, 0o755)  # noqa: PTH101 - the database server may run as another user, who must be able to walk to its data
        box = Services(root / "box", durable=False)
        os.environ |= box.start()
        try:
            for case in [one for one in CASES if only in {None, one.__name__}]:
                console.print(f"{case.__name__} …")
                began = time.monotonic()
                results.append(await case(root, box))
                what, _, saw, bounds = results[-1]
                missed = [bound for bound, held in bounds.items() if not held]
                broken += [f"{case.__name__}: {bound}" for bound in missed]
                verdict = f"DID NOT HOLD ({', '.join(missed)})" if missed else "held"
                console.print(f"{verdict} after {time.monotonic() - began:.0f} s: {what}: {saw}")
        finally:
            box.stop()
    for bound in broken:
        console.print(f"did not hold: {bound}")
    if not broken and not only:
        text = PAGE.read_text() if PAGE.exists() else ""
        PAGE.write_text(page(text, results, day=f"{clock.now():%Y-%m-%d}", python=platform.python_version()))
        console.print(f"wrote {PAGE.relative_to(ROOT)}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
