"""`make referees`: what Stripe publishes judges the sandbox, with Stripe's own programs. A line for each referee.

Needs Go and Node; the first run fetches and builds what is pinned into .referees/, later ones take seconds. Exits non-zero
where a referee complains, and where one cannot be had. `--write` makes schemas.json anew from the pinned specification.
"""

import argparse
import json
import sys
import time

from tests.referees import fetching, product, specification, stripe_mock, tour, triggers, typescript

COMPLAINTS_SHOWN_MAX = 20


def main():
    """Ask every referee; return the exit status."""
    parser = argparse.ArgumentParser(prog="make referees", description=__doc__)
    parser.add_argument("--write", action="store_true", help="make tests/referees/schemas.json anew")
    if parser.parse_args().write:
        specification.FILE.write_text(specification.written(_distilled()))
    visited = tour.take()
    referees = {
        "specification: schemas.json is what it says": _schemas,
        "types: bodies are what they say": lambda: typescript.complaints(tour.distinct(visited.bodies)),
        "stripe-mock: requests are known to it": lambda: stripe_mock.complaints(visited.requests + product.requests()),
        "command line: each trigger tells its event": triggers.complaints,
    }
    return max([asked(name, ask) for name, ask in referees.items()])


def asked(name, ask):
    """Ask one referee, tell what it says, and return 1 if that is anything."""
    started = time.monotonic()
    try:
        found = ask()
    except fetching.Missing as missing:
        found = [str(missing)]
    print(f"{'no' if found else 'ok'}  {name} ({time.monotonic() - started:.1f} s)", flush=True)
    for complaint in found[:COMPLAINTS_SHOWN_MAX]:
        print(f"    {complaint}")
    if len(found) > COMPLAINTS_SHOWN_MAX:
        print(f"    and {len(found) - COMPLAINTS_SHOWN_MAX} more")
    return 1 if found else 0


def _schemas():
    if specification.written(_distilled()) == specification.FILE.read_text():
        return []
    return ["tests/referees/schemas.json differs from the pinned specification; make referees ARGS=--write makes it anew"]


def _distilled():
    document = json.loads((fetching.source(fetching.STRIPE_MOCK) / "embedded" / "openapi" / "spec3.json").read_text())
    return specification.distill(document)


if __name__ == "__main__":
    sys.exit(main())
