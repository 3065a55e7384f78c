"""Webhooks to send: those that a caller laid into a file, or fresh ones; each signed at the moment it is asked for.

Enters: a file, or nothing. Leaves: pairs of an event's id and its body, and whole requests as bytes on the wire.
"""

import json

from tests.support import corpus
from tests.support.builders import Sale, bytes_of


def lay(file, webhooks):
    """Write pairs of id and body for a generator in another process."""
    file.write_text("".join(f"{json.dumps([event_id, body.decode()])}\n" for event_id, body in webhooks))


def laid(file):
    """Yield what `lay` wrote, in its order."""
    with file.open() as lines:
        for event_id, body in map(json.loads, lines):
            yield event_id, body.encode()


def fresh():
    """Yield events that nobody has seen, for ever."""
    while True:
        event = Sale().succeeded()
        yield event["id"], bytes_of(event)


def request(body):
    """A signed webhook as bytes on the wire."""
    return (
        b"POST /payment/webhook HTTP/1.1\r\nHost: door\r\nContent-Type: application/json\r\nStripe-Signature: "
        + corpus.signature(body)
        + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )
