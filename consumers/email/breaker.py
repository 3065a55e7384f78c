"""Circuit breaker of the process: while the mail server takes no letters, all letters wait and none of them is blamed.

While it is closed, letters are sent side by side. Once it has tripped, one letter at a time tries whether the server is back;
the first one that the server judges, whether it accepts or refuses it, closes the breaker. Batches that meet a tripped breaker
are rewound with back-off, so that an outage of any length costs no attempt and no letter. A letter that found the server away
is tried last the next time: where one letter alone upsets the server, the others get their turn before it.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared import clock, errors, logs, metrics

log = logs.get(__name__)

TRIPPED_SECONDS_MAX = 100.0  # longer than back-off and conversation: an older reason is of a batch that a rebalance took


class MailServerAway(errors.Transient):
    """The mail server takes no letters now; the reason is for an operator."""


class Breaker:
    """Keeps whether the mail server takes letters; `trips` counts how often a letter found that it does not."""

    def __init__(self) -> None:
        self.trips = 0
        self._reason: str | None = None
        self._tripped_at = self._away_since = 0.0
        self._trip_of: dict[uuid.UUID, int] = {}  # letters that found it away, and at which trip; forgotten when it closes
        self._one = asyncio.Lock()
        metrics.mail_server_away.set_function(lambda: self.reason is not None)

    @property
    def reason(self) -> str | None:
        """Why the server takes no letters, None while it does."""
        recent = clock.monotonic() - self._tripped_at < TRIPPED_SECONDS_MAX
        return self._reason if recent else None

    @asynccontextmanager
    async def turn(self, since_trips: int) -> AsyncIterator[None]:
        """Let one letter through: at once while closed, one after another while tripped.

        Raises MailServerAway when it tripped after the caller read `since_trips`: the other letters of the batch need not try.
        """
        if self.reason is None and self.trips == since_trips:
            yield
            return
        async with self._one:
            if self.trips != since_trips and self._reason is not None:
                raise MailServerAway(self._reason)
            yield

    def last_trip_of(self, letter_id: uuid.UUID) -> int:
        """Return at which trip this letter found the server away; 0 when it has not since the breaker closed."""
        return self._trip_of.get(letter_id, 0)

    def trip(self, reason: str, letter_id: uuid.UUID) -> MailServerAway:
        """Record that a letter found the server in trouble; return what to raise."""
        if self.reason is None:
            self._away_since = clock.monotonic()
            log.warning("mail_server.away", reason=reason)
        self.trips += 1
        self._trip_of[letter_id] = self.trips
        self._reason, self._tripped_at = reason, clock.monotonic()
        return MailServerAway(reason)

    def close(self) -> None:
        """Record that the server judged a letter."""
        if self._reason is not None:
            log.info("mail_server.back", seconds=round(clock.monotonic() - self._away_since, 1))
        self._reason = None
        self._trip_of.clear()
