"""Where the referees come from: Stripe's own packages and Helm in the registries of Go and npm, pinned, kept in .referees/.

A referee that cannot be had is `Missing`, which says what to do; nobody is left out in silence.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".referees"


@dataclass(frozen=True)
class GoProgram:
    """A program in Go's registry.

    The sum is over the whole module, its go.sum included: so all that the binary is built from is pinned.
    """

    name: str
    module: str
    version: str
    sum: str
    package: str = "."

    @property
    def at(self):
        return f"{self.module}@{self.version}"


STRIPE_MOCK = GoProgram(
    "stripe-mock", "github.com/stripe/stripe-mock", "v0.203.0", "h1:EzW7nb/fphqcAkgVRHAaC88OaAZo6SBWSl54cflDTio="
)
HELM = GoProgram("helm", "helm.sh/helm/v3", "v3.22.0", "h1:n1if5iQgHYsujPAcO5oonH/KiSNUmqmUF0iGVjSF3AU=", "./cmd/helm")
TYPES_CHANGED = (
    # An enum is its words alone; as shipped, any other word passes.
    ("shared.d.ts", "export type OtherString = string & Record<never, never>;", "export type OtherString = never;"),
    # The library makes numbers of these strings; over the wire they are strings.
    ("Decimal.d.ts", "export type Decimal = DecimalImpl &", "export type Decimal = string;\ntype Unused = DecimalImpl &"),
)
FETCHED_WITHIN_SECONDS = 300
BUILT_WITHIN_SECONDS = 1800  # Helm is a thousand packages
GO = "Go 1.22 or newer (on Debian: apt-get install golang-go)"
NODE = "Node 20 or newer with npm (on Debian: apt-get install nodejs npm)"


class Missing(Exception):
    """A referee that cannot be had: its name, and why."""


def source(program):
    """Return the folder of a program's source, as Go keeps it."""
    answer = _run(program.name, GO, "go", "mod", "download", "-json", program.at, cwd=_made(CACHE))
    told = json.loads(answer)
    if told["Sum"] != program.sum:
        raise Missing(f"{program.name}: {program.at} has the sum {told['Sum']}, not {program.sum}")
    return Path(told["Dir"])


def built(program):
    """Return the binary of a program, which is built once."""
    binary = CACHE / f"{program.name}@{program.version}"
    if not binary.exists():
        unfinished, folder = binary.with_suffix(".unfinished"), source(program)
        print(f"building {program.name} {program.version}, once", file=sys.stderr, flush=True)
        # What its own go.sum pins, from the registry: a module may bring a list of vendored packages, but not the packages.
        build = ("go", "build", "-mod=readonly", "-o", str(unfinished), program.package)
        _run(program.name, GO, *build, cwd=folder, seconds_max=BUILT_WITHIN_SECONDS)
        unfinished.rename(binary)
    return binary


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


def _run(referee, wanted, name, *arguments, cwd, seconds_max=FETCHED_WITHIN_SECONDS):
    try:
        ran = subprocess.run(
            [tool(referee, name, wanted), *arguments],
            cwd=cwd,
            # Debian lets Go fetch no newer Go, which a module may ask for.
            env=os.environ | {"GOTOOLCHAIN": "auto"},
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds_max,
        )
    except subprocess.TimeoutExpired as late:
        raise Missing(f"{referee}: {name} {arguments[0]} took longer than {seconds_max} s") from late
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip()
        raise Missing(f"{referee}: `{name} {' '.join(arguments)}` failed; it needs {wanted}, and the registry:\n{said}")
    return ran.stdout


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder
