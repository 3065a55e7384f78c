"""How often Python looks for garbage.

What enters: a process that has just come up. What leaves: a collector that passes over what the process holds for good
(modules, settings, routes), and looks again after every 50,000 new objects instead of every 700. A webhook or a batch makes
many objects and no cycles: at the default a tenth of the work is looking for them in vain.
"""

import gc

OBJECTS_UNTIL_COLLECTED = 50_000
COLLECTIONS_UNTIL_OLDER = 50


def collect_rarely() -> None:
    """Tune the collector of this process; call it once everything that stays stands."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_UNTIL_COLLECTED, COLLECTIONS_UNTIL_OLDER, COLLECTIONS_UNTIL_OLDER)
