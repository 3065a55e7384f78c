"""Letters, and a way to hand them to a mail server, for tests of what the server does to them."""

from consumers.email.compose import Letter
from shared import settings


def a_letter(number=1, recipient="ada@example.org"):
    message_id = f"<{number}@example.org>"
    content = f"From: a@b.c\r\nMessage-ID: {message_id}\r\nSubject: {number}\r\n\r\nHello\r\n.dot\r\n..dots\r\n"
    return Letter(sender="noreply@example.org", recipient=recipient, message_id=message_id, content=content.encode())


async def yes():
    return True


def deliver(delivery, letter, *, may_leave=yes):
    return delivery.deliver(letter, may_leave=may_leave)


def smtp(box, **changes):
    known = {"smtp_host": "localhost", "smtp_port": box.smtp_port, "smtp_from_email": "noreply@example.org"}
    return settings.Smtp(**known | {"smtp_security": "none"} | changes)
