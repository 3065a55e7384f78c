"""Structured logs: `noun.verb` and fields; JSON lines for machines, a readable form on a terminal.

Only the fields on the list below are printed with their value. A name, an address, a secret or a body that somebody hands
to a log call by mistake shows as "[withheld]", so that a new call cannot leak what an old rule forgot.
"""

import asyncio
import atexit
import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, ClassVar

import msgspec
import structlog

from shared import clock

PRINTED = frozenset({
    # of structlog itself
    "event", "level", "logger", "timestamp", "process", "exception", "exc_info", "stack_info",
    # ids
    "event_id", "event_type", "payment_id", "booking_id", "letter_id", "session_id", "intent_id", "request_id",
    "message_id", "aggregate", "attention_id", "user_id",
    # where
    "topic", "partition", "offset", "group", "consumer", "port", "host", "revision", "path", "method", "version",
    # what happened
    "outcome", "reason", "error", "code", "kind", "role", "now", "step", "attempt", "announcement", "api_version",
    "status",
    # how much
    "count", "seconds", "attempts", "records", "known", "waiting", "files_max", "connections_max",
    # what stands in our own repository, or was examined like it
    "templates", "faults",
})  # fmt: skip
WITHHELD = "[withheld]"
# The stripe library tells at INFO what a customer typed wrong; stripe_api.py logs its errors by code alone.
NOISY = {
    "aiokafka": logging.WARNING,
    "consumer.faststream": logging.ERROR,  # it warns at every start that topics are not made by using them, our very wish
    "aiohttp.access": logging.WARNING,
    "stripe": logging.WARNING,
}

Event = MutableMapping[str, Any]
Logger = structlog.typing.FilteringBoundLogger


def configure(process: str) -> None:
    """Set up logging for one process; `process` names it on every line. The standard library's loggers end in the same form.

    Our own lines do not pass through the standard library: a line a webhook is a tenth of the door's work, or a third.
    """
    terminal = sys.stderr.isatty()
    chain: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        _stamped,
        _named(process),
        structlog.processors.format_exc_info,
        withhold,
    ]
    readable = structlog.dev.ConsoleRenderer(colors=True)
    structlog.configure(
        processors=[*chain, readable if terminal else _line],
        logger_factory=_Readable if terminal else _Lines,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    atexit.register(_Lines("").flush)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=chain,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, readable if terminal else _text],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for name, level in NOISY.items():
        logging.getLogger(name).setLevel(level)


def get(name: str) -> Logger:
    """Return the logger of a module: `log = logs.get(__name__)`."""
    logger: Logger = structlog.get_logger(name)
    return logger


def withhold(_logger: object, _method: str, event: Event) -> Event:
    """Replace the value of every field that is not on the list."""
    for name in event:
        if name not in PRINTED and not name.startswith("_"):
            event[name] = WITHHELD
    return event


class _Lines(structlog.BytesLogger):
    """Standard error, for JSON lines of the module `name`.

    What is written in one turn of the event loop leaves in one write at its end: under load a write a line costs more than the
    line. An error leaves at once, with all before it: whoever writes one may be about to end the process.
    """

    waiting: ClassVar[list[bytes]] = []

    def __init__(self, name: str) -> None:
        super().__init__(sys.stderr.buffer)
        self.name = name

    def msg(self, message: bytes) -> None:
        """Write the line at the end of this turn, or now when no event loop runs."""
        self.waiting.append(message)
        if len(self.waiting) > 1:
            return
        try:
            asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:
            self.flush()

    info = warning = debug = msg

    def error(self, message: bytes) -> None:
        """Write the line now."""
        self.waiting.append(message)
        self.flush()

    critical = exception = fatal = error

    def flush(self) -> None:
        """Write whatever waits."""
        if self.waiting:
            lines, self.waiting[:] = b"\n".join(self.waiting), []
            super().msg(lines)


class _Readable(structlog.PrintLogger):
    """The terminal, for lines of the module `name`."""

    def __init__(self, name: str) -> None:
        super().__init__(sys.stderr)
        self.name = name


def _line(_logger: object, _method: str, event: Event) -> bytes:
    try:
        return msgspec.json.encode(event, enc_hook=str)
    except (UnicodeEncodeError, OverflowError):
        # Half a surrogate pair, or an integer of more than 64 bits: of strangers, and slower.
        return json.dumps(event, default=str).encode()


def _text(_logger: object, _method: str, event: Event) -> str:
    return _line(_logger, _method, event).decode()


def _stamped(_logger: object, _method: str, event: Event) -> Event:
    event["timestamp"] = clock.stamp()
    return event


def _named(process: str) -> structlog.types.Processor:
    def add(_logger: object, _method: str, event: Event) -> Event:
        event["process"] = process
        return event

    return add
