"""Does a file hold what only its owner may know? The shapes of the keys that we and our neighbours use, and chance.

Enters: text. Leaves: what looks like a secret, by line. A value that is plainly made up (`whsec_aaaa…`) is none: what a machine
has drawn has more chance in it. Our own few rules, since the known scanners either rest or want more than Python.
"""

import math
import re
import subprocess
from collections import Counter

from tests.architecture.source import ROOT

SHAPES = {
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:\\n|\s)+([A-Za-z0-9+/=]{16,})",
    "key of Stripe": r"\b(?:sk|rk)_(?:live|test)_([0-9A-Za-z]{8,})",
    "webhook's secret": r"\bwhsec_([0-9A-Za-z+/=]{16,})",
    "key of AWS": r"\bAKIA([0-9A-Z]{16})\b",
    "token of GitHub": r"\bgh[pousr]_([0-9A-Za-z]{36,})",
    "token of Slack": r"\bxox[abprs]-([0-9A-Za-z-]{10,})",
    "key of Google": r"\bAIza([0-9A-Za-z_-]{35})",
    "bearer token": r"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.([0-9A-Za-z_-]{16,})",
    "password in an address": r"://[^\s/:@{}$<>\"']+:([^\s/@{}$<>\"']{12,})@",
    "assigned secret": r"(?i)(?:passw(?:or)?d|secret|token|api_?key)\w*[\"']?\s*[:=]\s*[\"']?([^\s\"'`{}$<>(),;]{16,})",
}
CHANCE_BITS_MIN = 3.3  # a character; hexadecimal digits of a drawn key have 3.5 and more, words with dashes less
DRAWN = re.compile(r"[0-9A-Za-z+/=_-]*\d[0-9A-Za-z+/=_-]*")  # a name or a path has dots and brackets, and seldom a digit


def leaks(text):
    """What looks like a secret: the number of its line, and its kind."""
    return sorted(
        (text.count("\n", 0, found.start()) + 1, kind)
        for kind, shape in SHAPES.items()
        for found in re.finditer(shape, text)
        if drawn(found[1])
    )


def drawn(value):
    """Whether a machine has drawn this: letters and digits without a pattern."""
    counted = Counter(value)
    chance = -sum(count / len(value) * math.log2(count / len(value)) for count in counted.values())
    return chance >= CHANCE_BITS_MIN and DRAWN.fullmatch(value) is not None


def tracked():
    """Every text file that is, or is about to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        try:
            yield name, path.read_text()
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # a picture, or a file that is being removed
