"""Stripe's TypeScript types of exactly our API version judge the sandbox's bodies, each as a constant of its type.

`T | null` is a key that is always there, `?:` one that may be absent; enums are closed (`fetching`).
"""

import json
import subprocess

from tests.referees import fetching
from tests.referees.differences import UNTYPED

# What a kind is called there, where it is not its own name in capitals.
NAMES = {"checkout.session": "Checkout.Session", "item": "LineItem"}
# Bodies that the library gives no type: errors become exceptions.
TYPELESS = {"payment_page", None}
CONFIGURATION = {
    "compilerOptions": {
        "noEmit": True,
        "strict": True,
        "skipLibCheck": True,
        "module": "nodenext",
        "moduleResolution": "nodenext",
        "target": "es2022",
        "types": [],
    },
    "files": ["bodies.ts"],
}


def complaints(bodies):
    """Return what the compiler says against these bodies, a line each, with the body's type and place."""
    folder = fetching.node_modules()
    typed = [(name_of(body), known(body)) for body in singly(bodies) if body.get("object") not in TYPELESS]
    lines = [f"const b{at}: Stripe.{name} = {json.dumps(body)};" for at, (name, body) in enumerate(typed)]
    (folder / "bodies.ts").write_text("\n".join(['import type Stripe from "stripe";', *lines, ""]))
    (folder / "tsconfig.json").write_text(json.dumps(CONFIGURATION))
    node = fetching.tool("types", "node", fetching.NODE)
    ran = subprocess.run(
        [node, "node_modules/typescript/bin/tsc", "-p", "."], cwd=folder, check=False, capture_output=True, text=True
    )
    return (ran.stdout + ran.stderr).splitlines()


def singly(bodies):
    """Yield the bodies, and those that are listed in one."""
    for body in bodies:
        yield from body["data"] if body.get("object") == "list" else [body]


def name_of(body):
    """Return the name of a body's type: an event's is made of its own type."""
    if body["object"] == "event":
        return _capitals(body["type"]) + "Event"
    name = NAMES.get(body["object"], _capitals(body["object"]))
    return f"Deleted{name}" if body.get("deleted") else name


def known(value, place=""):
    """Return a body without what the types do not know, and without the nulls of what an event says was absent before."""
    match value:
        case dict():
            place = value["object"] if isinstance(value.get("object"), str) else place
            kept = {name: inner for name, inner in value.items() if f"{place}.{name}" not in UNTYPED}
            if "previous_attributes" in kept:
                before = kept["previous_attributes"].items()
                kept["previous_attributes"] = {name: inner for name, inner in before if inner is not None}
            return {name: known(inner, f"{place}.{name}") for name, inner in kept.items()}
        case list():
            return [known(inner, f"{place}[]") for inner in value]
        case _:
            return value


def _capitals(name):
    return "".join(word.capitalize() for word in name.replace(".", "_").split("_"))
