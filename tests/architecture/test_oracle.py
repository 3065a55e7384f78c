"""The oracle of the proofs judges the product, so it must not borrow from it."""

import sys

from tests.architecture.source import ROOT, module


def test_the_oracle_knows_the_standard_library_alone():
    """A rule that both shared would be wrong in both and seen by nobody."""
    oracle = module("tests/oracle.py", (ROOT / "tests/oracle.py").read_text())

    assert {name.partition(".")[0] for name in oracle.imports} <= sys.stdlib_module_names
