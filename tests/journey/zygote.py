"""A process that forks consumers which die at their k-th crossing; `python -m tests.journey.zygote payments`.

A crossing is a step between "record read" and "offset committed": a batch handed over, every statement, commit and
publishing, before and after it, and the moment before the offsets are committed. Each line on stdin is a k (0 = never
die) and whether another child has left a batch behind; that one is taken first, and counts no crossing. Lines on stdout tell
`recovered`, once it is committed, and how the child ended: `killed`, or `done` when it committed a batch that held the sentinel
and stopped by itself. Forking instead of starting anew saves the two seconds that importing costs.
"""

import contextvars
import importlib
import os
import signal
import sys

import asyncpg
from faststream.kafka.message import KafkaAckableMessage
from sqlalchemy import event
from sqlalchemy.engine import Engine

from shared.kafka import producer, subscription

SENTINEL = b"sentinel"
# Only in the batch that a life may die in, and in what that begins: a batch of retries is none, and whoever looks after health
# and lag asks the database and Kafka whenever he likes.
in_the_batch = contextvars.ContextVar("in_the_batch", default=False)


class Crossings:
    """Counts the crossings of one life and ends it, as kill -9 would, at the chosen one."""

    def __init__(self, fatal, *, recovering):
        self.fatal = fatal
        self.recovering = recovering
        self.count = 0

    def cross(self, *_arguments):
        if self.recovering or not in_the_batch.get():
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
    handle, ack = subscription.Subscription.on_batch, KafkaAckableMessage.ack

    async def on_batch(self, message):
        token = in_the_batch.set(any(record.key == SENTINEL for record in message.raw_message))
        crossings.cross()
        try:
            await handle(self, message)
        finally:
            in_the_batch.reset(token)

    async def acknowledge(self):
        if self.committed is not None:
            return  # FastStream's policy, after us
        crossings.cross()
        await ack(self)
        if not in_the_batch.get():
            return
        if crossings.recovering:
            crossings.recovering = False
            tell("recovered")
        else:
            os.kill(os.getpid(), signal.SIGTERM)

    # FastStream reads a handler's annotations.
    on_batch.__annotations__ = handle.__annotations__
    on_batch.__globals__.update({"KafkaMessage": subscription.KafkaMessage})
    subscription.Subscription.on_batch = on_batch
    KafkaAckableMessage.ack = acknowledge


def patch(owner, name, crossings):
    original = getattr(owner, name)

    async def crossed(*arguments, **named):
        crossings.cross()
        answer = await original(*arguments, **named)
        crossings.cross()
        return answer

    setattr(owner, name, crossed)


def tell(what):
    os.write(sys.stdout.fileno(), f"{what}\n".encode())


def main():
    module = importlib.import_module(f"consumers.{sys.argv[1]}.app")
    importlib.import_module("tests.journey.forking")
    for line in sys.stdin:
        fatal, left_behind = line.split()
        child = os.fork()
        if child == 0:
            instrument(Crossings(int(fatal), recovering=left_behind == "True"), module)
            os._exit(module.main())
        _, status = os.waitpid(child, 0)
        tell("killed" if os.WIFSIGNALED(status) else "done" if os.waitstatus_to_exitcode(status) == 0 else f"exit {status}")


if __name__ == "__main__":
    main()
