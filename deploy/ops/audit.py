"""Who did what with which dead letter, and when: the table `dead_letter_actions`.

Enters: a way to open a transaction. Leaves: rows that are written before anything is published, and completed after it. Only
this table knows what an operator dropped, since a record cannot be removed from its Kafka topic.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from deploy.ops.dead_letters import Action, ActionKind, DeadLetter
from shared.db.engine import rows

BEGIN = """
insert into dead_letter_actions (topic, "partition", "offset", reason, action, actor)
select u.*, $5::text, $6::text from unnest($1::text[], $2::int[], $3::bigint[], $4::text[]) u
returning id
"""
FINISH = "update dead_letter_actions set done_at = now() where id = any($1::bigint[])"
# Every action upon whatever lay at these places, the last one last.
ACTIONS = """
select a.topic, a."partition", a."offset", a.action, a.actor, a.begun_at, a.done_at
from unnest($1::text[], $2::int[], $3::bigint[]) u (topic, place, at)
join dead_letter_actions a on a.topic = u.topic and a."partition" = u.place and a."offset" = u.at
order by a.id
"""

# The time of a letter's death is a broker's, that of an action PostgreSQL's; clocks that are kept differ by less than that.
# No operator recreates a topic, and has a letter die at the same place, within a minute of acting upon the last one.
CLOCKS_DIFFER_MAX = timedelta(minutes=1)

InTransaction = Callable[[Callable[[AsyncConnection], Awaitable[Any]]], Awaitable[Any]]


class Audit:
    """The operators' actions; raises DatabaseUnavailable where `in_transaction` does."""

    def __init__(self, in_transaction: InTransaction) -> None:
        self._in_transaction = in_transaction

    async def with_actions(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Return the letters, each with the actions on it since it became a dead letter.

        Earlier actions belong to another letter: a recreated topic counts its offsets from 0 again.
        """
        topics, partitions, offsets = _columns(letters)
        found = await self._in_transaction(lambda tx: rows(tx, ACTIONS, topics, partitions, offsets))
        done: dict[tuple[str, int, int], list[Action]] = {}
        for topic, partition, offset, *action in found:
            done.setdefault((topic, partition, offset), []).append(Action(*action))
        return [
            dataclasses.replace(x, actions=_since(x.died_at, done.get((x.topic, x.partition, x.offset), ()))) for x in letters
        ]

    async def begin(self, what: ActionKind, letters: Sequence[DeadLetter], *, by: str) -> list[int]:
        """Record what is about to be done, and return the rows' ids."""
        reasons = [letter.reason for letter in letters]
        found = await self._in_transaction(lambda tx: rows(tx, BEGIN, *_columns(letters), reasons, str(what), by))
        return [row[0] for row in found]

    async def finish(self, begun: Sequence[int]) -> None:
        """Record that it was done."""
        await self._in_transaction(lambda tx: rows(tx, FINISH, list(begun)))


def _since(died_at: datetime, actions: Sequence[Action]) -> tuple[Action, ...]:
    return tuple(action for action in actions if action.begun_at >= died_at - CLOCKS_DIFFER_MAX)


def _columns(letters: Sequence[DeadLetter]) -> tuple[list[str], list[int], list[int]]:
    return [x.topic for x in letters], [x.partition for x in letters], [x.offset for x in letters]
