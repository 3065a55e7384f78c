"""Where the referees come from: Stripe's own packages in the registries of Go and npm, pinned, kept in .referees/.

A referee that cannot be had is `Missing`, which says what to do; nobody is left out in silence.
"""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".referees"

MODULE = "github.com/stripe/stripe-mock@v0.203.0"
# Over the whole module, its go.sum included: so the specification and all that the binary is built from are pinned.
MODULE_SUM = "h1:EzW7nb/fphqcAkgVRHAaC88OaAZo6SBWSl54cflDTio="
TYPES_CHANGED = (
    # An enum is its words alone; as shipped, any other word passes.
    ("shared.d.ts", "export type OtherString = string & Record<never, never>;", "export type OtherString = never;"),
    # The library makes numbers of these strings; over the wire they are strings.
    ("Decimal.d.ts", "export type Decimal = DecimalImpl &", "export type Decimal = string;\ntype Unused = DecimalImpl &"),
)
FETCHED_WITHIN_SECONDS = 300
GO = "Go 1.22 or newer (on Debian: apt-get install golang-go)"
NODE = "Node 20 or newer with npm (on Debian: apt-get install nodejs npm)"


class Missing(Exception):
    """A referee that cannot be had: its name, and why."""


def module():
    """Return the folder of stripe-mock's source, as Go keeps it."""
    answer = _run("specification and stripe-mock", GO, "go", "mod", "download", "-json", MODULE, cwd=_made(CACHE))
    told = json.loads(answer)
    if told["Sum"] != MODULE_SUM:
        raise Missing(f"stripe-mock: {MODULE} has the sum {told['Sum']}, not {MODULE_SUM}")
    return Path(told["Dir"])


def stripe_mock():
    """Return the built binary."""
    built = CACHE / MODULE.rpartition("/")[2]
    if not built.exists():
        unfinished = built.with_suffix(".unfinished")
        # What its own go.sum pins, from the registry: the module brings a list of vendored packages, but not the packages.
        _run("stripe-mock", GO, "go", "build", "-mod=readonly", "-o", str(unfinished), ".", cwd=module())
        unfinished.rename(built)
    return built


def node_modules():
    """Return the folder in which TypeScript, Stripe's types (changed as told above) and its command line are installed."""
    folder = _made(CACHE / "node")
    lock = b"".join((HERE / name).read_bytes() for name in ("package.json", "package-lock.json", "fetching.py"))
    stamp, wanted = folder / "installed", hashlib.sha256(lock).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        _run("npm packages", NODE, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
        for kind in ("esm", "cjs"):
            for file, was, becomes in TYPES_CHANGED:
                _change(folder / "node_modules" / "stripe" / kind / file, was, becomes)
        stamp.write_text(wanted)
    return folder


def command_line():
    """Return Stripe's own command line: the registry has it for one platform; elsewhere it must be on the machine."""
    packed = node_modules() / "node_modules" / "@stripe" / "cli-linux-x64" / "bin" / "stripe"
    return str(packed) if packed.exists() else tool("command line", "stripe", "Stripe's command line, 1.52.0")


def tool(referee, name, wanted):
    """Return the path of a program that must be on the machine."""
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{referee}: {name} is not on this machine; install {wanted}")
    return found


def _change(file, was, becomes):
    text = file.read_text()
    if was not in text:
        raise Missing(f"types: {file} does not say {was!r} any more")
    file.write_text(text.replace(was, becomes))


def _run(referee, wanted, name, *arguments, cwd):
    try:
        ran = subprocess.run(
            [tool(referee, name, wanted), *arguments],
            cwd=cwd,
            check=False,
            capture_output=True,
            text=True,
            timeout=FETCHED_WITHIN_SECONDS,
        )
    except subprocess.TimeoutExpired as late:
        raise Missing(f"{referee}: {name} {arguments[0]} took longer than {FETCHED_WITHIN_SECONDS} s") from late
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip()
        raise Missing(f"{referee}: `{name} {' '.join(arguments)}` failed; it needs {wanted}, and the registry:\n{said}")
    return ran.stdout


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder
