"""The only reader of the environment: a process's settings, before anything starts.

Enters: the class of a process's settings (shared/settings.py), its environment, a `.env`, and the files that hold its secrets,
each named by NAME_FILE. Leaves: the settings, or one line per fault, naming the variable, and the end of the process with
status 2. Next: each process's own app.py, or serving.py, which builds by them.
"""

import sys
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import SecretStr, ValidationError, create_model
from pydantic_core import ErrorDetails

from shared import settings

FILE = "_file"  # what a secret's name ends with where it names a file: DATABASE_URL_FILE
IN_FILES_TOO = frozenset({"jwt_public_key"})  # no secret, but many lines, which an environment holds badly

Settings = TypeVar("Settings", bound=settings.Concern)


def read(kind: type[Settings]) -> Settings:
    """Return a process's settings, or print every fault on a line of its own and exit with status 2."""
    try:
        held, unread = _from_files(kind)
    except (UnicodeDecodeError, OSError) as error:
        # Errors of a secret's file are reported as faults of that file; these are of the .env, of which nothing is known then.
        fault = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"cannot be read: {error.strerror}"
        sys.stderr.write(f"{settings.ENV_FILE}: {fault}\n")
        raise SystemExit(2) from None
    faults = list(unread.values())
    try:
        configured = kind(**held)
    except ValidationError as invalid:
        # A value that its file did not give is that file's fault alone, and so may be any broken rule between variables.
        faults += [_line_of(fault) for fault in invalid.errors() if not unread or not {*fault["loc"][:1]} <= unread.keys()]
        # pydantic checks rules between variables only once each variable is valid: check them concern by concern as well.
        concerns = [] if unread else [concern for concern in kind.__mro__[1:] if issubclass(concern, settings.Concern)]
        faults += [_line_of(fault) for concern in concerns for fault in _faults_between(concern, held)]
    else:
        if not faults:
            return configured
    sys.stderr.writelines(f"{line}\n" for line in dict.fromkeys(faults))
    raise SystemExit(2)


def secrets_of(kind: type[settings.Concern]) -> list[str]:
    """Return the names of the settings that may be read from a file instead."""
    return [name for name, field in kind.model_fields.items() if name in IN_FILES_TOO or _is_secret(field.annotation)]


def _is_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(_is_secret(part) for part in get_args(annotation))


def _from_files(kind: type[settings.Concern]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values that files hold, by setting, and the fault of each file that cannot be used."""
    names = secrets_of(kind)
    asked: dict[str, Any] = {name + ending: (str | None, None) for name in names for ending in ("", FILE)}
    given = create_model("InFiles", __base__=settings.Concern, **asked)().model_dump()
    held, unread = {}, {}
    for name in (name for name in names if given[name + FILE]):
        try:
            held[name] = _held(Path(given[name + FILE]), given[name], name.upper())
        except ValueError as fault:
            unread[name] = f"{(name + FILE).upper()}: {fault}"
    return held, unread


def _held(file: Path, value: str | None, variable: str) -> str:
    """Return the content of a secret's file, without the line's end that an editor leaves."""
    if value is not None:
        raise ValueError(f"{variable} is set as well; only one of the two may be")
    try:
        text = file.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    if not text:
        raise ValueError(f"{file} is empty")
    return text


def _faults_between(concern: type[settings.Concern], held: dict[str, Any]) -> list[ErrorDetails]:
    try:
        concern(**held)
    except ValidationError as invalid:
        return [fault for fault in invalid.errors() if not fault["loc"]]
    return []


def _line_of(fault: ErrorDetails) -> str:
    variable = "".join(str(part).upper() for part in fault["loc"][:1])
    reason = "is not set" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
    return f"{variable}: {reason}" if variable else reason
