"""No question of an operator reads a whole table: PostgreSQL's own plans, as they are for large tables."""

import re

from deploy.ops import matters, reconciliation, sessions, waiting_events, why
from shared.db import inbox, waiting
from shared.db.engine import rows

# These walk along an index from its beginning: lists of everything, what is open, one consumer after the other.
WALKS = {matters.ALL, matters.OPEN, waiting_events.LIST, waiting_events.EVERY_BODY, inbox.CONSUMERS_IN_DEFAULT}
# What pays for tables of a few rows alone.
SMALL_TABLES_ONLY = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_material")
CATALOGUE = {inbox.PARTITIONS, inbox.TABLE_OF, inbox.SCHEMA, inbox.NO_TIMEOUT}
NOT_ASKED = {inbox.INSERT, inbox.LOCK, waiting.ADVISORY_LOCKS}


def statements():
    """Every statement of the operator's room and of what it shares with the hourly look, by its name."""
    for module in (why, matters, waiting_events, reconciliation, sessions, waiting, inbox):
        for name, value in vars(module).items():
            texts = [value] if isinstance(value, str) else []
            texts += [text for several in value.values() for text in several] if name == "PAYMENT_OF" else []
            for number, text in enumerate(texts):
                if text.lstrip().startswith(("select", "with", "update")) and text not in CATALOGUE | NOT_ASKED:
                    yield f"{module.__name__}.{name}.{number}", text


async def test_every_question_has_an_index(engine):
    """A table of a million rows answers like one of ten."""
    plans = {}
    async with engine.begin() as tx:
        for choice in SMALL_TABLES_ONLY:
            await rows(tx, f"set local {choice} = off")
        await rows(tx, "set local plan_cache_mode = force_generic_plan")
        for name, sql in statements():
            await rows(tx, f"prepare question as {sql}")
            count = max(map(int, re.findall(r"\$(\d)", sql)), default=0)
            asked = f"({', '.join(['null'] * count)})" if count else ""
            plans[name] = "\n".join(row[0] for row in await rows(tx, f"explain execute question {asked}"))
            await rows(tx, "deallocate question")

    assert len(plans) > 20
    assert {name: plan for name, plan in plans.items() if "Seq Scan" in plan} == {}
    assert {name for name, sql in statements() if sql not in WALKS and "Index Cond" not in plans[name]} == set()
