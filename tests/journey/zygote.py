"""A process that forks consumers which die at their k-th crossing; `python -m tests.journey.zygote payments`.

A crossing is a step between "record read" and "offset committed": a batch handed over, every statement, commit and
publishing, before and after it, and the moment before the offsets are committed. Each line on stdin is a k (0 = never
die); each line on stdout tells how the child ended: `killed`, or `done` when it committed a batch that held the sentinel
and stopped by itself. Forking instead of starting anew saves the two seconds that importing costs.
"""

import importlib
import os
import signal
import sys

import asyncpg
from faststream.kafka.message import KafkaAckableMessage
from sqlalchemy import event
from sqlalchemy.engine import Engine

from shared.kafka import broker, producer

SENTINEL = b"sentinel"


class Crossings:
    """Counts the crossings of one life and ends it, as kill -9 would, at the chosen one."""

    def __init__(self, fatal):
        self.fatal = fatal
        self.count = 0
        self.armed = False

    def cross(self, *_arguments):
        if not self.armed:
            return
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def instrument(crossings, module):
    """Put a crossing before and after everything that touches the world."""
    event.listen(Engine, "before_cursor_execute", crossings.cross)
    fetch = asyncpg.Connection.fetch

    async def statement(*arguments):
        crossings.cross()
        return await fetch(*arguments)

    asyncpg.Connection.fetch = statement
    event.listen(Engine, "commit", crossings.cross)
    patch(asyncpg.Connection, "copy_records_to_table", crossings)
    patch(producer.Producer, "publish", crossings)
    if hasattr(module, "Delivery"):
        patch(module.Delivery, "deliver", crossings)
    handle, ack = broker.Subscription.on_batch, KafkaAckableMessage.ack

    async def on_batch(self, message):
        # Only a batch counts: looking after health and lag asks the database and Kafka too, whenever it likes.
        crossings.armed = True
        crossings.cross()
        await handle(self, message)

    async def acknowledge(self):
        crossings.cross()
        await ack(self)
        crossings.armed = False
        if any(record.key == SENTINEL for record in self.raw_message):
            os.kill(os.getpid(), signal.SIGTERM)

    # FastStream reads a handler's annotations.
    on_batch.__annotations__ = handle.__annotations__
    on_batch.__globals__.update({"KafkaMessage": broker.KafkaMessage})
    broker.Subscription.on_batch = on_batch
    KafkaAckableMessage.ack = acknowledge


def patch(owner, name, crossings):
    original = getattr(owner, name)

    async def crossed(*arguments, **named):
        crossings.cross()
        answer = await original(*arguments, **named)
        crossings.cross()
        return answer

    setattr(owner, name, crossed)


def main():
    module = importlib.import_module(f"consumers.{sys.argv[1]}.app")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            instrument(Crossings(int(line)), module)
            os._exit(module.main())
        _, status = os.waitpid(child, 0)
        told = "killed" if os.WIFSIGNALED(status) else "done" if os.waitstatus_to_exitcode(status) == 0 else f"exit {status}"
        sys.stdout.write(told + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
