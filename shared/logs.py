"""Structured logs: `noun.verb` and fields; JSON lines for machines, a readable form on a terminal.

Only the fields on the list below are printed with their value. A name, an address, a secret or a body that is passed to a log
call by mistake is printed as "[withheld]", so that a new call cannot leak what an old rule forgot. An error is printed as
tracebacks.py formats it. Next: outlet.py, which writes the lines.
"""

import asyncio
import atexit
import json
import logging
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, ClassVar

import msgspec
import structlog

from shared import clock, tracebacks
from shared.outlet import OUTLET
from shared.tracebacks import WITHHELD

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
    # text of our own repository, or checked like it
    "templates", "faults",
})  # fmt: skip
LAST_WORDS_SECONDS_MAX = 1.0
# A client whose broker is away, or whose topic is gone, logs that a hundred times a second; in hours it would fill a disk.
SAME_LINES_MAX = 20
SAME_LINES_SECONDS = 60.0
KINDS_OF_LINES_MAX = 1_000
# The stripe library logs at INFO what a customer typed wrong; stripe_api.py logs its errors by code alone.
NOISY = {
    "aiokafka": logging.WARNING,
    "consumer.faststream": logging.ERROR,  # it warns at every start that topics are not auto-created, which we want
    "aiohttp.access": logging.WARNING,
    "stripe": logging.WARNING,
}

Event = MutableMapping[str, Any]
Logger = structlog.typing.FilteringBoundLogger


def configure(process: str) -> None:
    """Set up logging for one process; `process` names it on every line. The standard library's loggers get the same form.

    Our own lines bypass the standard library: one line a webhook is then a tenth of the door's work, instead of a third.
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
    """Replace a line's error by its traceback; remove from the text of a library's line what it repeats of the error."""
    raised = event.pop("exc_info", None)
    error = sys.exc_info()[1] if raised is True else raised[1] if isinstance(raised, tuple) else raised
    if not isinstance(error, BaseException):
        return event
    event["exception"] = tracebacks.formatted(error)
    if "_record" in event:
        text = str(event["event"])
        quoted = {words for one in tracebacks.all_errors(error) for words in (str(one), repr(one)) if words}
        for words in sorted(quoted, key=len, reverse=True):  # an error often quotes what caused it
            text = text.replace(words, WITHHELD)
        event["event"] = text.partition("\n")[0]  # asyncio appends the task, and the text of its error
    return event


def _died(kind: type[BaseException], error: BaseException, trace_: TracebackType | None) -> None:
    """Log the error that ends the process like any other; Ctrl-C is none."""
    if issubclass(kind, Exception):
        get(__name__).critical("process.died", exc_info=error)
    else:
        sys.__excepthook__(kind, error, trace_)


def _thread_died(arguments: threading.ExceptHookArgs) -> None:
    """Log the error that ends a thread likewise; a thread that ends itself (SystemExit) is not logged, as in Python itself."""
    if arguments.exc_type is not SystemExit:
        get(__name__).critical("thread.died", exc_info=arguments.exc_value)


def _ignored(arguments: "sys.UnraisableHookArgs") -> None:
    """Log an error where Python cannot raise it, as in a finalizer."""
    get(__name__).error("error.ignored", exc_info=arguments.exc_value)


class _Lines:
    """Standard error, for JSON lines of the module `name`.

    The lines of one turn of the event loop are written together at its end: under load one write a line costs more than the
    line. An error is written at once, with all lines before it, since the process may be about to end.
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
        """Write the line now; a line that cannot be formatted must not break the library's work.

        Its arguments are not printed: the standard library's `handleError` would print them, whatever they hold.
        """
        try:
            OUTLET.write(self.format(record).encode())
        except Exception as error:  # noqa: BLE001 - as every handler of the standard library has it
            get(__name__).error("log_line.broke", kind=record.name, error=type(error).__name__)


class _Moderation(logging.Filter):
    """Lets a library log the same line twenty times a minute, and then logs how often it was repeated beyond that."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is printed. Lines with the same text are the same, whatever their arguments."""
        line, now = (record.name, str(record.msg)), clock.monotonic()
        since, count = self._seen.pop(line, (now, 0))
        if now - since > SAME_LINES_SECONDS:
            if count > SAME_LINES_MAX:
                get(__name__).warning("log_line.repeated", kind=record.name, count=count - SAME_LINES_MAX)
            since, count = now, 0
        self._seen[line] = since, count + 1
        if len(self._seen) > KINDS_OF_LINES_MAX:
            del self._seen[next(iter(self._seen))]
        return count < SAME_LINES_MAX


class _Readable(structlog.PrintLogger):
    """The terminal, for lines of the module `name`."""

    def __init__(self, name: str) -> None:
        super().__init__(sys.stderr)
        self.name = name


def _last_words() -> None:
    _Lines("").flush()
    OUTLET.pour(wait_seconds=LAST_WORDS_SECONDS_MAX)


def _line(_logger: object, _method: str, event: Event) -> bytes:
    try:
        return msgspec.json.encode(event, enc_hook=str)
    except (UnicodeEncodeError, OverflowError):
        # Half a surrogate pair, or an integer of more than 64 bits, from untrusted input; this is slower.
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
