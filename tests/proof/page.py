"""docs/proofs.md: what was proved, on how many cases, from which seed, on which day, and how to do it again."""

from tests.proof.result import Proved

HEAD = """# Proofs

Users of comparable systems see late events turn paid orders back to failed, refunds counted twice, and events dropped because
they came too early. This page shows why that cannot happen here, and on how many cases it was checked. It is written by

    make proof    # about {minutes} minutes on two cores; rewrites this page

Run on {day} with Python {python}, PostgreSQL and Kafka of the box (`deploy/dev`). Every proof passed: a single difference would
have ended the run with its counterexample and left this page unchanged. `make test` runs a quick form of each.
"""


def page(proved: list[tuple[Proved, float]], *, day: str, python: str) -> str:
    """Return the page for proofs that held, each with how many seconds it took."""
    minutes = max(round(sum(seconds for _, seconds in proved) / 60), 1)
    parts = [HEAD.format(minutes=minutes, day=day, python=python)]
    for one, seconds in proved:
        drawn = "nothing is drawn" if one.seed is None else f"seed {one.seed}"
        cases = "\n".join(f"| {name} | {count:,} |" for name, count in one.cases.items())
        parts.append(f"## {one.title}\n\n{one.how}\n\n| cases | |\n|---|---:|\n{cases}\n\nTook {seconds:,.0f} s; {drawn}.\n")
    return "\n".join(parts)
