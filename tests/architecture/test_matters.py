"""Every matter for a person has its row on the operators' page: whoever is called reads there what happened, and what to do."""

import ast
import inspect
import re

from shared.domain import payment
from tests.architecture.source import ROOT, product

# How a file names the reasons for which it opens a matter, or another file does.
NAMED = {
    "consumers/payments/decide.py": r'"(\w+_mismatch|broke_\w+)',
    "consumers/payments/freeing.py": r'"(broke_\w+)',
    "consumers/payments/translate.py": r'Refusal\(f?"(\w+)',
    "consumers/bookings/decide.py": r'[Mm]atter\(f?"(\w+)',
    "consumers/email/ledger_writer.py": r'matter = f"(letter_)',
}
OPENED = r'attention\.open_\(tx, reason=f?"(\w+)|^REASON = "(\w+)'


def named(pattern, path):
    found = re.finditer(pattern, (ROOT / path).read_text(), re.MULTILINE)
    return {one[one.lastindex] for one in found}


def of_the_fold():
    yielded = [
        node.value for node in ast.walk(ast.parse(inspect.getsource(payment.needs_a_person))) if isinstance(node, ast.Yield)
    ]
    return {getattr(payment, one.id) if isinstance(one, ast.Name) else one.value for one in yielded}


def test_every_matter_stands_on_the_operators_page():
    """By the word before its colon; and none that nobody opens any more."""
    opening = [one.path for one in product() if {"attention", "open_"} <= one.names]
    reasons = of_the_fold().union(
        *(named(pattern, path) for path, pattern in NAMED.items()), *(named(OPENED, path) for path in opening)
    )
    page = (ROOT / "docs/operating.md").read_text()
    rows = page.partition("\n| reason | what happened | what to do |\n|---|---|---|\n")[2].partition("\n\n")[0].splitlines()

    assert {
        code.partition(":")[0].rstrip("…") for row in rows for code in re.findall(r"`([^`]+)`", row.split("|")[1])
    } == reasons
