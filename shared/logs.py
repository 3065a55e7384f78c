"""Structured logs: `noun.verb` and fields; JSON lines for machines, a readable form on a terminal.

Only the fields on the list below are printed with their value. A name, an address, a secret or a body that somebody hands
to a log call by mistake shows as "[withheld]", so that a new call cannot leak what an old rule forgot. Of an error a line tells
where it was raised and its kind, and its words only when they are ours: PostgreSQL's quote a whole row, Python's a value.

A line that cannot be written (the disk is full, nobody reads the pipe any more) is lost and counted, and its call returns: a
batch that is done must not be put back, nor a process fail or stand still, for what it has to say about it.
"""

import asyncio
import atexit
import json
import logging
import os
import select
import stat
import sys
import threading
import traceback
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar

import msgspec
import structlog

from shared import clock, errors, metrics

PRINTED = frozenset({
    # of structlog itself
    "event", "level", "logger", "timestamp", "process", "exception", "exc_info", "stack_info",
    # ids
    "event_id", "event_type", "payment_id", "booking_id", "letter_id", "session_id", "request_id", "aggregate", "attention_id",
    # where
    "topic", "partition", "offset", "group", "consumer", "port", "host", "revision", "path", "method", "version",
    # what happened
    "outcome", "reason", "error", "code", "kind", "role", "step", "attempt", "announcement",
    # how much
    "count", "seconds", "attempts", "records", "files_max", "connections_max",
    # what stands in our own repository, or was examined like it
    "templates", "faults",
})  # fmt: skip
WITHHELD = "[withheld]"
# What an error of PostgreSQL's says besides words: names of our schema, never a value.
PLACE = ("sqlstate", "table_name", "column_name", "constraint_name")
STANDARD_ERROR = 2
UNWRITTEN_BYTES_MAX = 1_048_576  # what a pipe whose reader is slow has no room for waits here; a pipe itself holds 64 kB
WRITE_AGAIN_SECONDS = 0.1
LAST_WORDS_SECONDS_MAX = 1.0
# A client whose broker is away, or whose topic is gone, says so a hundred times a second: of hours of it a disk is full.
SAME_LINES_MAX = 20
SAME_LINES_SECONDS = 60.0
KINDS_OF_LINES_MAX = 1_000
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
        traced,
        withhold,
    ]
    readable = structlog.dev.ConsoleRenderer(colors=True)
    structlog.configure(
        processors=[*chain, readable if terminal else _line],
        logger_factory=_Readable if terminal else _Lines,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    atexit.register(_last_words)
    handler = logging.StreamHandler(sys.stderr) if terminal else _Foreign()
    handler.addFilter(_Moderation())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=chain,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, readable if terminal else _text],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for name, level in NOISY.items():
        logging.getLogger(name).setLevel(level)
    sys.excepthook = _died
    threading.excepthook = _thread_died
    sys.unraisablehook = _ignored


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


def traced(_logger: object, _method: str, event: Event) -> Event:
    """Replace a line's error by its traceback; the text of a library's line loses what it repeats of the error."""
    raised = event.pop("exc_info", None)
    error = sys.exc_info()[1] if raised is True else raised[1] if isinstance(raised, tuple) else raised
    if not isinstance(error, BaseException):
        return event
    event["exception"] = trace(error)
    if "_record" in event:
        text = str(event["event"])
        quoted = {words for one in _told_of(error) for words in (str(one), repr(one)) if words}
        for words in sorted(quoted, key=len, reverse=True):  # an error often quotes what caused it
            text = text.replace(words, WITHHELD)
        event["event"] = text.partition("\n")[0]  # asyncio goes on with the task, and the words of its error
    return event


def trace(error: BaseException) -> str:
    """Return where an error was raised, after those that caused it, each with its kind; its words only when they are ours."""
    blocks: list[str] = []
    for one in _causes(error):
        frames = "".join(traceback.format_tb(one.__traceback__))
        blocks += [f"Traceback (most recent call last):\n{frames}{_kind(one)}", *map(trace, _members(one))]
    return "\n\nwhich led to:\n\n".join(reversed(blocks))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error, and each that led to it, as Python tells them."""
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        seen.add(id(behind))
        yield behind
        behind = behind.__cause__ or (None if behind.__suppress_context__ else behind.__context__)


def _members(error: BaseException) -> Sequence[BaseException]:
    return error.exceptions if isinstance(error, BaseExceptionGroup) else ()


def _told_of(error: BaseException) -> Iterator[BaseException]:
    """Give every error of which the trace of this one tells."""
    for one in _causes(error):
        yield one
        for member in _members(one):
            yield from _told_of(member)


def _kind(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, errors.PipelineError):
        return f"{name}: {error}"
    told = [str(said) for part in PLACE if (said := getattr(error, part, None))]
    if str(error):
        told.append(WITHHELD)
    return f"{name}: {' '.join(told)}" if told else name


def _died(kind: type[BaseException], error: BaseException, trace_: TracebackType | None) -> None:
    """Tell what ends the process as any other error is told; Ctrl-C is none."""
    if issubclass(kind, Exception):
        get(__name__).critical("process.died", exc_info=error)
    else:
        sys.__excepthook__(kind, error, trace_)


def _thread_died(said: threading.ExceptHookArgs) -> None:
    """Tell what ends a thread likewise; a thread that ends itself (SystemExit) says nothing, as Python has it."""
    if said.exc_type is not SystemExit:
        get(__name__).critical("thread.died", exc_info=said.exc_value)


def _ignored(said: "sys.UnraisableHookArgs") -> None:
    """Tell what broke where Python can raise nothing, as in what the collector ends."""
    get(__name__).error("error.ignored", exc_info=said.exc_value)


class _Lines:
    """Standard error, for JSON lines of the module `name`.

    What is written in one turn of the event loop leaves in one write at its end: under load a write a line costs more than the
    line. An error leaves at once, with all before it: whoever writes one may be about to end the process.
    """

    waiting: ClassVar[list[bytes]] = []

    def __init__(self, name: str) -> None:
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
            OUTLET.write(lines)


class _Foreign(logging.Handler):
    """Standard error, for the lines of the standard library's loggers."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line now; a line that cannot be made is no fault of the library's work.

        Its arguments stay untold: the standard library's `handleError` would print them, whatever they hold.
        """
        try:
            OUTLET.write(self.format(record).encode())
        except Exception as error:  # noqa: BLE001 - as every handler of the standard library has it
            get(__name__).error("log_line.broke", kind=record.name, error=type(error).__name__)


class _Moderation(logging.Filter):
    """Lets a library say the same twenty times a minute, and then tells how often it has said it besides."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is printed. What a line is made of may differ; its words are the same."""
        line, now = (record.name, str(record.msg)), clock.monotonic()
        since, count = self._said.pop(line, (now, 0))
        if now - since > SAME_LINES_SECONDS:
            if count > SAME_LINES_MAX:
                get(__name__).warning("log_line.repeated", kind=record.name, count=count - SAME_LINES_MAX)
            since, count = now, 0
        self._said[line] = since, count + 1
        if len(self._said) > KINDS_OF_LINES_MAX:
            del self._said[next(iter(self._said))]
        return count < SAME_LINES_MAX


class _Readable(structlog.PrintLogger):
    """The terminal, for lines of the module `name`."""

    def __init__(self, name: str) -> None:
        super().__init__(sys.stderr)
        self.name = name


class _Outlet:
    """Standard error, for a process that must not stand still: whoever reads it may be slow, or read no more.

    A full pipe makes its writer wait, and with him the event loop: nobody would be served, and no group would hear of us. So
    only as much is written as there is room for. Of a file nothing is known: it always has room.
    """

    def __init__(self) -> None:
        self._unwritten = bytearray()
        # A library may log in a thread of its own, and what the collector ends may log in the middle of a line of ours.
        self._lock = threading.RLock()
        self._pouring = False
        self._room = select.poll()
        self._room.register(STANDARD_ERROR, select.POLLOUT)
        self._comes_again = False

    def write(self, lines: bytes) -> None:
        """Write lines, or keep them until there is room, or count them as lost.

        Not by `sys.stderr`: what it could not write it keeps, and fails of again and again, at last by the exit status.
        """
        with self._lock:
            if len(self._unwritten) + len(lines) > UNWRITTEN_BYTES_MAX:
                metrics.log_lines_lost.inc(lines.count(b"\n") + 1)
            else:
                self._unwritten += lines + b"\n"
            self._pour()

    def pour(self, *, wait_seconds: float = 0.0) -> None:
        """Write what waits, as far as there is room, or comes to be within so many seconds."""
        with self._lock:
            self._comes_again = False
            self._pour(wait_seconds)

    def _pour(self, wait_seconds: float = 0.0) -> None:
        if self._pouring:
            return
        self._pouring = True
        ends_at = clock.monotonic() + wait_seconds
        try:
            while self._unwritten and self._has_room(ends_at - clock.monotonic() if wait_seconds else 0.0):
                del self._unwritten[: os.write(STANDARD_ERROR, self._unwritten[: self._at_once()])]
        except BlockingIOError:
            pass  # whoever shares it with us made it so that nobody waits
        except OSError:
            metrics.log_lines_lost.inc(self._unwritten.count(b"\n"))
            self._unwritten.clear()
        finally:
            self._pouring = False
        if self._unwritten and not self._comes_again:
            with suppress(RuntimeError):  # no event loop runs: the next line or the end comes back to it
                asyncio.get_running_loop().call_later(WRITE_AGAIN_SECONDS, self.pour)
                self._comes_again = True

    def _has_room(self, wait_seconds: float) -> bool:
        return bool(self._room.poll(max(wait_seconds, 0.0) * 1000))

    def _at_once(self) -> int:
        """Return how many bytes nobody has to wait for: a pipe with any room has it for so few (pipe(7))."""
        waiting = len(self._unwritten)
        return waiting if waiting <= select.PIPE_BUF or _is_file() else select.PIPE_BUF


OUTLET = _Outlet()


def _is_file() -> bool:
    return stat.S_ISREG(os.fstat(STANDARD_ERROR).st_mode)


def _last_words() -> None:
    _Lines("").flush()
    OUTLET.pour(wait_seconds=LAST_WORDS_SECONDS_MAX)


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
