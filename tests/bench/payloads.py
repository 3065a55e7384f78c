"""Events as large as Stripe's: recorded payloads with the ids and amounts of a sale of ours.

Enters: an event of tests/support/builders.py, which holds what decides. Leaves: the body that Stripe would sign, some
kilobytes of it. A bench of small bodies would flatter whoever copies, hashes, parses and packs them.
"""

import json
import time
from functools import cache
from pathlib import Path

from tests.support.builders import bytes_of

RECORDED = Path(__file__).parent.parent / "examples" / "stripe"


def body_of(event):
    recorded = _recorded(event["type"])
    whole = recorded["data"]["object"] | event["data"]["object"]
    if "latest_charge" in whole:
        whole["latest_charge"] = whole["id"].replace("pi_", "ch_")
    data = recorded["data"] | {"object": whole}
    return bytes_of(recorded | event | {"created": int(time.time()), "data": data})


@cache
def _recorded(kind):
    return json.loads((RECORDED / f"{kind}.json").read_text())
