"""A whole box: services, mailbox and Stripe sandbox, and the pipeline, started in the order in which they need each other.

Next: processes/supervisor.py keeps it up; commands/cli.py is how a person asks for it.
"""

import logging
import time

import structlog

from deploy.dev.box import pipeline, stand_ins
from deploy.dev.processes.process import Piece
from deploy.dev.services import environment
from deploy.dev.services.stack import Services, concurrently


class WholeBox(Services):
    """The services, the mailbox and the Stripe sandbox, and the four processes of the pipeline."""

    is_whole = True

    def environment(self) -> dict[str, str]:
        """Return the variables by which any process finds what runs."""
        return environment.of_whole_box(self.box, self.ports, brokers=self.brokers)

    def bring_up(self) -> None:
        """Start everything: independent pieces in parallel, the pipeline last."""
        # What migrations and topics log is for operators; the box says it in its own words.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        concurrently(self._database_with_tables, self._broker_with_topics, self._start_world)
        begun = time.monotonic()

        def prepared() -> list[Piece]:
            for name in pipeline.PORTS:
                self.ports.take(name)
            return pipeline.pieces(self.box, self.environment(), self.ports)

        self.start_together(prepared)
        self.voice.ready("pipeline", "ingress, payments, bookings and email are ready", begun)

    def _database_with_tables(self) -> None:
        self.start_database()
        begun = time.monotonic()
        pipeline.make_tables(environment.database_url(self.ports))
        self.voice.ready("database", "tables, people and a booking are there", begun)

    def _broker_with_topics(self) -> None:
        self.start_broker()
        begun = time.monotonic()
        pipeline.make_topics(environment.of_cluster(self.box, self.ports, brokers=self.brokers))
        self.voice.ready("broker", "topics are there", begun)

    def _start_world(self) -> None:
        begun = time.monotonic()

        def prepared() -> list[Piece]:
            for name in stand_ins.PORTS:
                self.ports.take(name)
            return stand_ins.pieces(self.box, self.ports)

        self.start_together(prepared)
        self.voice.ready("world", "mailbox and Stripe sandbox are ready", begun)
