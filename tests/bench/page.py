"""Where figures are read: the terminal, docs/bench.md between its markers, and docs/bench.json for programs."""

import json

from rich.table import Table

from tests.journey.pipeline import ROOT

PAGE, FIGURES = ROOT / "docs" / "bench.md", ROOT / "docs" / "bench.json"
HEAD, END = "<!-- bench -->\n", "<!-- /bench -->\n"
COLUMNS = ("row", "what", "goal", "median", "spread", "ratio", "")


def verdict(measured):
    return f"goals met {sum(row.is_met for row in measured)} of {len(measured)}"


def shown(measured):
    """Return the table for a terminal."""
    table = Table(*COLUMNS)
    for row in measured:
        table.add_row(*row.cells())
    return table


def written(measured, machine):
    """Put the table into the page in place of the last one, and the figures beside it."""
    before, _, rest = PAGE.read_text().partition(HEAD)
    after = rest.partition(END)[2]
    lines = "".join(f"| {' | '.join(row.cells())} |\n" for row in measured)
    told = f"{verdict(measured)}. {'; '.join(machine)}.\n"
    PAGE.write_text(f"{before}{HEAD}| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n{lines}\n{told}{END}{after}")
    FIGURES.write_text(json.dumps({"machine": machine, "rows": {row.number: row.figures for row in measured}}, indent=2) + "\n")
