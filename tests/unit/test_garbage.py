"""How often Python looks for garbage."""

import gc

import pytest

from shared import garbage


def test_nothing_is_looked_for_while_importing_and_all_is_afterwards():
    """Also where the import fails: whoever waits for Kafka then, waits for hours."""
    with garbage.uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()

    with pytest.raises(ImportError), garbage.uncollected():
        raise ImportError
    assert gc.isenabled()
