"""The accepted letters on disk: one `.eml` with the exact bytes and one `.json` with the envelope each.

The `.json` appears last and whole (rename), so a crash between the two leaves no half letter.
"""

import email
import email.policy
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec

from shared import clock


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What the SMTP conversation said, which is not always what the headers say."""

    id: str
    received_at: datetime
    mail_from: str
    rcpt_to: list[str]


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a letter that is neither its text nor its HTML."""

    filename: str | None
    content_type: str
    size_bytes: int


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted letter as `GET /api/letters` shows it.

    `sender` (in JSON: from) and `to` are the envelope's; `headers` are all headers, decoded, in their order.
    """

    id: str
    message_id: str | None
    sender: str = msgspec.field(name="from")
    to: list[str]
    subject: str
    received_at: datetime
    text: str | None
    html: str | None
    headers: list[tuple[str, str]]
    attachments: list[Attachment]


class Letters:
    """The letters of one state directory, oldest first; it must belong to one process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._envelopes: dict[str, Envelope] = {}
        for path in sorted(directory.glob("*.json")):
            envelope = msgspec.json.decode(path.read_bytes(), type=Envelope)
            self._envelopes[envelope.id] = envelope
        self._last = max((int(id_) for id_ in self._envelopes), default=0)

    def __len__(self) -> int:
        """Return how many letters there are."""
        return len(self._envelopes)

    def after(self, id_: str) -> list[Letter]:
        """Return the letters with a greater id, oldest first; the empty id is before all."""
        return [self._letter(envelope) for envelope in self._envelopes.values() if envelope.id > id_]

    def keep(self, mail_from: str, rcpt_to: list[str], raw: bytes) -> str:
        """Write one letter (its bytes without SMTP's dot stuffing) and return its id, which grows."""
        self._last += 1
        envelope = Envelope(id=f"{self._last:08d}", received_at=clock.now(), mail_from=mail_from, rcpt_to=rcpt_to)
        self._path(envelope.id, "eml").write_bytes(raw)
        unborn = self._path(envelope.id, "new")
        unborn.write_bytes(msgspec.json.encode(envelope))
        unborn.rename(self._path(envelope.id, "json"))
        self._envelopes[envelope.id] = envelope
        return envelope.id

    def letter(self, id_: str) -> Letter | None:
        """Return one letter, or None when there is none of this id."""
        envelope = self._envelopes.get(id_)
        return None if envelope is None else self._letter(envelope)

    def raw(self, id_: str) -> bytes | None:
        """Return one letter's exact bytes, or None when there is none of this id."""
        return self._path(id_, "eml").read_bytes() if id_ in self._envelopes else None

    def clear(self) -> int:
        """Remove all letters and return how many they were; ids go on growing in this process."""
        count = len(self._envelopes)
        for id_ in self._envelopes:
            self._path(id_, "json").unlink(missing_ok=True)
            self._path(id_, "eml").unlink(missing_ok=True)
        self._envelopes.clear()
        return count

    def _path(self, id_: str, suffix: str) -> Path:
        return self._directory / f"{id_}.{suffix}"

    def _letter(self, envelope: Envelope) -> Letter:
        raw = self._path(envelope.id, "eml").read_bytes()
        try:
            letter = _parsed(envelope, raw)
            msgspec.json.encode(letter)  # half a surrogate pair is text to the parser
        except Exception:  # noqa: BLE001 - the parser fails in many ways, and one letter must not hide the others
            return _unreadable(envelope, raw)
        return letter


class _ReadOnce(email.policy.EmailPolicy):
    """Reads each header once, while parsing: Python's policy reads it anew at each access, 15 times a letter."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, Any]:
        name, value = super().header_source_parse(sourcelines)
        try:
            return name, self.header_fetch_parse(name, value)
        except Exception:  # noqa: BLE001 - the reader fails in many ways; it does so again where somebody asks for this header
            return name, value


READ_ONCE = _ReadOnce()


def _parsed(envelope: Envelope, raw: bytes) -> Letter:
    message = email.message_from_bytes(raw, policy=READ_ONCE)
    assert isinstance(message, EmailMessage)
    return Letter(
        id=envelope.id,
        message_id=_header(message, "Message-ID"),
        sender=envelope.mail_from,
        to=envelope.rcpt_to,
        subject=_header(message, "Subject") or "",
        received_at=envelope.received_at,
        text=_body(message, "plain"),
        html=_body(message, "html"),
        headers=[(name, str(value)) for name, value in message.items()],
        attachments=[_attachment(part) for part in message.iter_attachments()],
    )


def _unreadable(envelope: Envelope, raw: bytes) -> Letter:
    """Return a letter that no mail program could parse, as it came."""
    return Letter(
        id=envelope.id,
        message_id=None,
        sender=envelope.mail_from,
        to=envelope.rcpt_to,
        subject="(cannot be read)",
        received_at=envelope.received_at,
        text=raw.decode("utf-8", "replace"),
        html=None,
        headers=[],
        attachments=[],
    )


def _body(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body((kind,))
    if part is None:
        return None
    try:
        return str(part.get_content())
    except LookupError:  # a charset that nobody knows must not hide the other letters
        payload = part.get_payload(decode=True)
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""


def _attachment(part: EmailMessage) -> Attachment:
    payload = part.get_payload(decode=True)
    return Attachment(
        filename=part.get_filename(),
        content_type=part.get_content_type(),
        size_bytes=len(payload) if isinstance(payload, bytes) else 0,
    )


def _header(message: EmailMessage, name: str) -> str | None:
    value = message[name]
    return None if value is None else str(value)
