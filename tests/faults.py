"""The faults that `make sabotage` plants, each with the tests that must notice: as few as it takes, so that it stays quick.

Each is one that systems of this kind have shipped with, or a rule of ours left out.
"""

from dataclasses import dataclass

LANES = "shared/kafka/lanes.py"
DECIDE = "consumers/payments/decide.py"
PAYMENTS = "consumers/payments/store.py"
FOLD = "shared/domain/payment.py"
BOOKING = "shared/domain/booking.py"
LEDGER = "consumers/email/ledger.py"
BATCH = "shared/kafka/batch.py"
BROKER = "shared/kafka/broker.py"
SUBSCRIPTION = "shared/kafka/subscription.py"
STORE = "consumers/email/store.py"
SENDING = "consumers/email/sending.py"
UNACCEPTED = "consumers/email/unaccepted.py"
CONNECTIONS = "ingress/connections.py"

CONSUMER_TESTS = "tests/contract/test_payments_consumer.py"
REFUSAL_TESTS = "tests/contract/test_payments_refusals.py"
MATCHING_TESTS = "tests/contract/test_payments_matching.py"
CROSSING_TESTS = "tests/contract/test_payments_crossings.py"
STORM_TESTS = "tests/contract/test_payments_storm.py"
BATCH_TESTS = "tests/contract/test_kafka_batches.py"
CONSUMING_TESTS = "tests/contract/test_kafka_consuming.py"
RACE_TESTS = "tests/contract/test_ingress_races.py"
LETTER_TESTS = "tests/contract/test_email_handlers.py"
LADDER_TESTS = "tests/contract/test_email_ladder.py"
CLAIM_TESTS = "tests/contract/test_email_claims.py"
AWAY_TESTS = "tests/contract/test_email_server_away.py"
DUE_TESTS = "tests/contract/test_letters_due.py"
BOOKINGS_TESTS = "tests/contract/test_bookings_consumer.py"
FOLD_TESTS = "tests/unit/test_payment_fold.py"
BOOKING_TESTS = "tests/unit/test_booking_rules.py"


@dataclass(frozen=True)
class Fault:
    """What goes wrong, pytest's arguments for the tests that must notice, and what plants it: (file, old text, new text)."""

    name: str
    tests: tuple[str, ...]
    replacements: tuple[tuple[str, str, str], ...]


def fault(name, tests, *replacements):
    return Fault(name, tests if isinstance(tests, tuple) else (tests,), replacements)


TRANSACTION = (
    fault(
        "no inbox check",
        (CONSUMER_TESTS, "-k", "second_time"),
        (DECIDE, "entry = earlier or self._loaded.known.get(item.event.id)", "entry = earlier"),
    ),
    fault(
        "an older row that an event does not change stays as it was",
        ("tests/contract/test_payments_of_older_application.py", "-k", "older_row"),
        (DECIDE, "if now is not step.before or now.id in self._loaded.older:", "if now is not step.before:"),
    ),
    fault(
        "only what is new is published",
        (CONSUMER_TESTS, "-k", "second_time"),
        (DECIDE, "        if earlier is None:\n            # The process", "        if False:\n            # The process"),
    ),
    fault(
        "the inbox in a transaction of its own",
        ("tests/journey/test_failpoints.py", "-k", "bookings"),
        (BATCH, "self._engine.begin() as tx:\n                begun", "self._engine.connect() as tx:\n                begun"),
        (
            BATCH,
            "applied = await self._consumer.apply(tx, items)\n",
            "applied = await self._consumer.apply(tx, items)\n                await tx.commit()\n",
        ),
        (
            "consumers/bookings/store.py",
            '    """Write everything that was decided, in the transaction that loaded it."""\n',
            (
                '    """Write everything that was decided, in the transaction that loaded it."""\n'
                "    await inbox.write(tx, CONSUMER, list(decided.entries.values()))\n"
                "    await tx.commit()\n"
                "    decided.entries = {}\n"
            ),
        ),
    ),
    fault(
        "payments are read without a lock",
        (CROSSING_TESTS, "-k", "held_at and linked_already"),
        (PAYMENTS, "order by id for no key update\n", "order by id\n"),
    ),
    fault(
        "known ids are read before the lock",
        (CROSSING_TESTS, "-k", "held_at and hold_alone"),
        (
            PAYMENTS,
            "    known = await inbox.known(tx, CONSUMER, [(event.created, event.id) for event in events])\n",
            "",
        ),
        (
            PAYMENTS,
            "    keys, (early, held, unreadable) = await _lock_keys(tx, {key for event in handled for key in event.keys})\n",
            (
                "    known = await inbox.known(tx, CONSUMER, [(event.created, event.id) for event in events])\n"
                "    keys, (early, held, unreadable) = await _lock_keys(tx, {key for event in handled for key in event.keys})\n"
            ),
        ),
    ),
    fault(
        "bookings are read without a lock",
        (STORM_TESTS, "-k", "storm"),
        ("consumers/bookings/store.py", "order by id for no key update", "order by id"),
    ),
    fault(
        "keys are locked in no order",
        (CROSSING_TESTS, "-k", "same_lock and keys"),
        (PAYMENTS, "    order by number\n", "    order by random()\n"),
    ),
    fault(
        "payments are locked before the keys",
        (CROSSING_TESTS, "-k", "held_at and one_links"),
        (
            PAYMENTS,
            "    keys, (early, held, unreadable) = await _lock_keys(tx, {key for event in handled for key in event.keys})\n",
            (
                "    links = await _links(tx, {key for event in handled for key in event.keys}, handled)\n"
                "    named = {event.payment_id for event in handled if event.payment_id}\n"
                "    await _lock_payments(tx, named | set(links.values()))\n"
                "    keys, (early, held, unreadable) = await _lock_keys(tx, {key for event in handled for key in event.keys})\n"
            ),
        ),
    ),
    fault(
        "one bad event takes its whole batch along",
        (BATCH_TESTS, "-k", "costs_only"),
        (
            BATCH,
            "            if len(items) == 1:\n                culprits.append((items[0], self._culprit(items[0], error)))\n",
            "            if items:\n                culprits += [(item, self._culprit(item, error)) for item in items]\n",
        ),
    ),
    fault(
        "of an event that broke its batch nothing stands in the ledger",
        (REFUSAL_TESTS, "-k", "stands_in_the_ledger"),
        (PAYMENTS, "    if payment_id is not None:\n        await _save_lines", "    if False:\n        await _save_lines"),
    ),
    fault(
        "a full disk is blamed on the data",
        (BATCH_TESTS, "-k", "no_fault"),
        (
            "shared/db/data_errors.py",
            "return state is not None and state.startswith(DATA_ERROR_CLASSES)",
            "return state is not None",
        ),
    ),
    fault(
        "culprits without end are refused",
        (BATCH_TESTS, "-k", "twenty"),
        (BATCH, "if len(self._seen_at) > CULPRITS_PER_MINUTE_MAX:", "if False:"),
    ),
    fault(
        "an index is missing",
        "tests/contract/test_query_plans.py",
        (
            "shared/db/migrations/versions/0002_what_payments_needs.py",
            "create index ix_refunds_payment_id on refunds (payment_id);\n",
            "",
        ),
    ),
)
KAFKA = (
    fault(
        "a backlog has no age between two batches",
        "tests/unit/test_backlog.py",
        ("shared/kafka/backlog.py", "            self._handled_ms[place] = timestamps_ms[-1]\n", ""),
    ),
    fault(
        "offsets committed before the database",
        ("tests/journey/test_failpoints.py", "-k", "bookings"),
        (
            SUBSCRIPTION,
            "            await self._handle(records)\n            await self._commit(message)\n",
            "            await self._commit(message)\n            await self._handle(records)\n",
        ),
    ),
    fault(
        "offsets committed before the events are published",
        (BATCH_TESTS, "-k", "acknowledged_before or cannot_be_published"),
        (
            BATCH,
            "        await self._emit(applied.emitted)\n",
            "        self._later = asyncio.create_task(self._emit(applied.emitted))\n",
        ),
    ),
    fault(
        "a failed part of a divided batch forgotten",
        ("tests/contract/test_kafka_parts.py", "-k", "error_of_the_server"),
        (BATCH, "            if error is not None:\n                raise error\n", "            del error\n"),
    ),
    fault(
        "answer before Kafka's acknowledgement",
        ("tests/contract/test_kafka_producing.py", "-k", "acknowledgement"),
        (
            "shared/kafka/producer.py",
            "            met = await delivery.done\n",
            "            met = None\n",
        ),
    ),
    fault(
        "what waits is joined without locking what it names",
        (CROSSING_TESTS, "-k", "frees_links"),
        (PAYMENTS, "        if named <= wanted:\n", "        if True:\n"),
    ),
    fault(
        "answer when the batch is handed over, not when it is acknowledged",
        "tests/unit/test_kafka_lanes.py",
        (LANES, "await (await self._client.send_batch(batch, self._topic, partition=partition))", "await asyncio.sleep(0)"),
    ),
    fault(
        "a second batch to a partition that has one under way",
        "tests/unit/test_kafka_lanes.py",
        (LANES, "if self._partitions[-1] not in self._under_way:", "if True:"),
    ),
    fault(
        "records of one key to any partition",
        ("tests/contract/test_kafka_producing.py", "-k", "one_key"),
        ("shared/kafka/producer.py", "if record.topic in self._unordered:", "if True:"),
    ),
    fault(
        "offsets committed by a timer (FastStream's default policy)",
        (BATCH_TESTS, "-k", "cannot_be_published"),
        (BROKER, "        ack_policy=AckPolicy.NACK_ON_ERROR,\n        auto_", "        auto_"),
        (BROKER, "        ack_policy=AckPolicy.NACK_ON_ERROR,\n        logger", "        logger"),
        (BROKER, "    require_safe(broker)\n    return broker", "    return broker"),
    ),
    fault(
        "a new group starts at the end of the topic",
        (CONSUMING_TESTS, "-k", "new_group"),
        (BROKER, 'auto_offset_reset="earliest"', 'auto_offset_reset="latest"'),
        (BROKER, "    require_safe(broker)\n    return broker", "    return broker"),
    ),
    fault(
        "nobody watches for added partitions once the leader was started again",
        ("tests/contract/test_kafka_groups.py", "-k", "after_the_leader"),
        ("shared/kafka/rewinding.py", "        self._join_as_who_it_is()\n", ""),
    ),
)
MATCHING = (
    fault(
        "what waits counts as known",
        ("tests/contract/test_payments_waiting.py", "-k", "waits"),
        (
            DECIDE,
            "        self.decided.waiting[item.event.id] = item\n",
            (
                "        self.decided.waiting[item.event.id] = item\n"
                "        self.decided.loose[item.event.id] = _entry(item, ())\n"
            ),
        ),
    ),
    fault(
        "what waited is told after the success that freed it",
        "tests/contract/test_refund_first.py",
        (
            DECIDE,
            "        for key in item.event.keys:\n            self._plan_waiting(plan, key)\n        step",
            "        step",
        ),
        (
            DECIDE,
            "        plan.steps.append(step)\n",
            (
                "        plan.steps.append(step)\n"
                "        for key in item.event.keys:\n"
                "            self._plan_waiting(plan, key)\n"
            ),
        ),
    ),
    fault(
        "who waits and who links hold no common lock",
        (CROSSING_TESTS, "-k", "held_at and refund_and_success"),
        (
            PAYMENTS,
            "        if wanted:\n            await rows(tx, LOCK_UNLINKED",
            "        if not wanted:\n            await rows(tx, LOCK_UNLINKED",
        ),
    ),
    fault(
        "nobody looks again once the keys are locked",
        (CROSSING_TESTS, "-k", "held_at and by_its_charge"),
        (
            PAYMENTS,
            (
                "    keys, (early, held, unreadable) = await _lock_keys(tx, {key for event in handled for key in event.keys})\n"
                "    links = await _links(tx, keys, handled)\n"
            ),
            (
                "    keys = {key for event in handled for key in event.keys}\n"
                "    links = await _links(tx, keys, handled)\n"
                "    keys, (early, held, unreadable) = await _lock_keys(tx, keys)\n"
            ),
        ),
    ),
    fault(
        "a payment has one intent",
        FOLD_TESTS,
        (
            FOLD,
            "    if intent_id is not None:\n",
            "    if intent_id is not None and (not known.intents or intent_id in known.intents):\n",
        ),
    ),
    fault(
        "a freed event is told under its liberator's cause",
        (MATCHING_TESTS, "-k", "id_of_its_own"),
        (
            DECIDE,
            '        """Decide about one event of the batch."""\n',
            '        """Decide about one event of the batch."""\n        self._cause = item.event.id\n',
        ),
        (DECIDE, "cause=event.id, at=self._at", "cause=self._cause, at=self._at"),
    ),
    fault(
        "a freed event that is refused is gone",
        (MATCHING_TESTS, "-k", "contradicts_its_payment"),
        (PAYMENTS, "DELETE_WAITING, decided.freed", "DELETE_WAITING, [*decided.freed, *decided.refused_waiting]"),
        (PAYMENTS, "    if decided.freed:\n", "    if decided.freed or decided.refused_waiting:\n"),
    ),
    fault(
        "a freed event that the database cannot hold blames its liberator",
        (MATCHING_TESTS, "-k", "never_blames"),
        ("consumers/payments/handlers.py", "if decided.freed and len(items) == 1:", "if False:"),
    ),
    fault(
        "a freed event is tried before those that free it",
        (MATCHING_TESTS, "-k", "only_it_frees"),
        ("consumers/payments/freeing.py", "in reversed(freed):", "in freed:"),
    ),
)
MONEY = (
    fault(
        "the amount is not compared",
        (REFUSAL_TESTS, "-k", "not_what_was_asked"),
        (DECIDE, "if amount != known.amount_minor", "if amount == -1"),
    ),
    fault(
        "the currency is not compared",
        (REFUSAL_TESTS, "-k", "not_what_was_asked"),
        (DECIDE, "case Paid(currency=currency) if currency.upper() != known.currency:", 'case Paid(currency="none"):'),
    ),
    fault(
        "a partial refund cancels the booking",
        FOLD_TESTS,
        (FOLD, "largest) >= self.amount_minor > 0", "largest) > 0"),
    ),
    fault(
        "a late decline demotes a paid payment",
        FOLD_TESTS,
        (
            FOLD,
            "        if self.paid:\n            return Status.SUCCEEDED\n",
            "        if self.paid and not self.failed:\n            return Status.SUCCEEDED\n",
        ),
    ),
    fault(
        "the last status of a refund wins",
        FOLD_TESTS,
        (FOLD, "_furthest(known, fact)}", "Refund(fact.status, fact.status == 'succeeded', fact.amount_minor)}"),
    ),
    fault(
        "a refund that fails before it was seen is told to nobody",
        (FOLD_TESTS, "-k", "person_is_told_in_any_order"),
        (
            FOLD,
            "if now.refunds is not before.refunds and _undone(now) - _undone(before):",
            "if before.status is Status.REFUNDED and now.status is not Status.REFUNDED:",
        ),
    ),
    fault(
        "the last decline gives the reason",
        FOLD_TESTS,
        (FOLD, "newest = max(known.failure or (created, reason), (created, reason))", "newest = (created, reason)"),
    ),
    fault(
        "the charge's own total is ignored",
        FOLD_TESTS,
        (FOLD, "return replace(known, charge_refunded_minor=max(known.charge_refunded_minor, total))", "return known"),
    ),
    fault(
        "all refunds ever seen are added up",
        FOLD_TESTS,
        (
            FOLD,
            "largest = max((r.amount_minor for r in self.refunds.values() if r.ever_succeeded), default=0)",
            "largest = sum(r.amount_minor for r in self.refunds.values() if r.ever_succeeded)",
        ),
    ),
    fault(
        "a failed refund brings the booking back",
        FOLD_TESTS,
        (
            FOLD,
            "for r in self.refunds.values() if r.ever_succeeded), default=0)",
            "for r in self.refunds.values() if r.status == 'succeeded'), default=0)",
        ),
    ),
    fault(
        "a closed payment is closed anew by later events",
        (CONSUMER_TESTS, "-k", "closed"),
        (PAYMENTS, "then coalesce(p.closed_at, now()) else p.closed_at end", "then now() else null end"),
    ),
    fault(
        "a late success opens a closed payment again",
        FOLD_TESTS,
        (FOLD, "return known if known.paid else replace(known, paid=True)", "return replace(known, paid=True, closed=False)"),
    ),
    fault(
        "a row that checkout closed frees the slot",
        FOLD_TESTS,
        (FOLD, " and (known.slot_free or not known.closed)", ""),
    ),
)
BOOKINGS = (
    fault(
        "an older version overrides a newer one",
        (BOOKINGS_TESTS, "-k", "every_order or older_message"),
        ("consumers/bookings/decide.py", "data.version <= before.version:", "data.version == before.version:"),
    ),
    fault(
        "bookings follow the type of a message",
        (STORM_TESTS, "-k", "death"),
        (
            "consumers/bookings/decide.py",
            "PaymentSnapshot(payment_id, data.version, data.paid, data.cancel_due)",
            'PaymentSnapshot(payment_id, data.version, event.name == "payment.succeeded", data.cancel_due)',
        ),
    ),
    fault(
        "paid is judged by every message",
        BOOKING_TESTS,
        (BOOKING, "if not now.paid or (before is not None and before.paid):", "if not now.paid:"),
    ),
    fault(
        "any payment's refund cancels the booking",
        BOOKING_TESTS,
        (BOOKING, "    if holds and booking.status in", "    if booking.status in"),
    ),
    fault(
        "a refund cancels what took place",
        BOOKING_TESTS,
        (BOOKING, "    if holds and booking.status in {Status.PENDING, Status.CONFIRMED}:", "    if holds:"),
    ),
)
CHECKOUT = (
    fault(
        "a session is bound to a row that was closed",
        (RACE_TESTS, "-k", "never_shown or takes_no_session"),
        (
            "ingress/store.py",
            "where id = $1 and coalesce(stripe_session_id, $2) = $2 and closed_at is null",
            "where id = $1 and coalesce(stripe_session_id, $2) = $2",
        ),
    ),
    fault(
        "a row whose session was shown is closed",
        (RACE_TESTS, "-k", "shown_meanwhile"),
        ("ingress/store.py", "stripe_session_id is not distinct from $3", "$3::text is not distinct from $3::text"),
    ),
)
LETTERS = (
    fault(
        "the mark that a letter was sent is missing",
        (LETTER_TESTS, "-k", "tells_both"),
        ("consumers/email/store.py", "set state = 'sent', sent_at", "set state = state, sent_at"),
    ),
    fault(
        "a lease that still runs is ignored",
        (CLAIM_TESTS, "-k", "lease"),
        (
            "consumers/email/ledger.py",
            "case State.SENDING if not letter.lease_over:",
            "case State.SENDING if letter.lease_over is None:",
        ),
    ),
    fault(
        "a letter is given up after its lease was lost",
        (CLAIM_TESTS, "-k", "mark_that_lost_its_claim"),
        (
            STORE,
            (
                "set state = 'dead', attempts = attempts + $3::int, reason = $4, last_answer = $5,\n"
                "    claim_token = null, lease_until = null, updated_at = now()\nwhere id = $1 and claim_token = $2"
            ),
            (
                "set state = 'dead', attempts = attempts + $3::int, reason = $4, last_answer = $5,\n"
                "    claim_token = null, lease_until = null, updated_at = now()\nwhere id = $1 and $2::uuid is not null"
            ),
        ),
    ),
    fault(
        "a letter leaves though its lease was lost",
        (CLAIM_TESTS, "-k", "does_not_leave"),
        (
            "consumers/email/ledger_writer.py",
            "return [claimed.token in held for claimed in claims]",
            "return [bool(held) or True for _ in claims]",
        ),
    ),
    fault(
        "a letter is marked before its record is published",
        (LADDER_TESTS, "-k", "kafkas_word"),
        (
            UNACCEPTED,
            "        await self.publish_dead_letter(claimed.due, attempts=attempts, reason=reason)\n        if not",
            "        if not",
        ),
        (
            UNACCEPTED,
            '        count_letter(claimed.due, "dead")\n',
            (
                "        await self.publish_dead_letter(claimed.due, attempts=attempts, reason=reason)\n"
                '        count_letter(claimed.due, "dead")\n'
            ),
        ),
    ),
    fault(
        "a cancellation for who was never confirmed",
        (DUE_TESTS, "-k", "before_it_was_confirmed"),
        (LEDGER, "if letter.confirmation is None or not letter.confirmation.went_out:", "if letter.confirmation is None:"),
    ),
    fault(
        "a full refund that cancels nothing is told to nobody",
        ("tests/contract/test_full_refunds.py", "-k", "letter_of_its_own"),
        ("consumers/email/kinds.py", "(in_part or in_full)", "in_part"),
    ),
    fault(
        "a cancellation and a refund's letter tell of the same money",
        ("tests/contract/test_full_refunds.py", "-k", "cancellation_alone"),
        (LEDGER, "    if letter.cancelled_booking is False:\n", "    if letter.cancelled_booking in {True, False}:\n"),
    ),
    fault(
        "a full refund is told to nobody where the confirmation never arrived",
        ("tests/contract/test_full_refunds.py", "-k", "confirmation_died"),
        (LEDGER, "confirmation.state is State.DEAD else", "confirmation.state is State.SENT else"),
    ),
    fault(
        "a full refund's letter is judged before it is known whether a cancellation goes",
        ("tests/contract/test_full_refunds.py", "-k", "whichever_order"),
        (LEDGER, "            return Awaited.CANCELLATION\n", "            return None\n"),
    ),
    fault(
        "a cancellation tells of a refund that failed",
        (DUE_TESTS, "-k", "failed_by_now"),
        (LEDGER, "payment_refunded_minor not in {None, refunded_minor}:", "payment_refunded_minor is None:"),
    ),
    fault(
        "a refund is told although it has changed since",
        (DUE_TESTS, "-k", "swapped"),
        (LEDGER, "if letter.payment_refunded_minor not in {None, letter.refunded_minor}:", "if False:"),
    ),
    fault(
        "a refund is one letter whatever its amount",
        (DUE_TESTS, "-k", "further_part"),
        ("consumers/email/kinds.py", 'cause = f"{data.payment_id}/{refunded}"', "cause = str(data.payment_id)"),
    ),
    fault(
        "every failure of a payment is mailed",
        (DUE_TESTS, "-k", "saw_it_on_the_page"),
        (
            "consumers/email/kinds.py",
            "data.closed_reason == payment.ClosedReason.ASYNC_FAILED",
            'data.status == "failed"',
        ),
    ),
    fault(
        "names are put into HTML as they are",
        ("tests/unit/test_email_compose.py", "-k", "leaves_its_place"),
        ("shared/letters/templates.py", 'select_autoescape(["html"], default=False)', "False"),
    ),
    fault(
        "line breaks in names are kept",
        ("tests/unit/test_email_compose.py", "tests/unit/test_email_names.py", "-k", "leaves_its_place or clean_name"),
        ("consumers/email/names.py", 'line = " ".join(unlinked.split())', "line = unlinked"),
    ),
    fault(
        "a template is put unexamined",
        ("tests/contract/test_letter_versions.py", "-k", "would_not_render"),
        (
            "shared/db/letter_templates.py",
            "        raise Refused(faults)\n",
            '        log.warning("templates.faulty", faults=faults)\n',
        ),
    ),
    fault(
        "an upgrade overwrites what people wrote",
        ("tests/contract/test_letter_versions.py", "-k", "survives"),
        ("shared/db/letter_templates.py", "or before[name].put_by == RELEASE}", "or before[name].put_by}"),
    ),
    fault(
        "a letter is marked as sent before it is handed over",
        (LADDER_TESTS, "-k", "climbs_the_whole_ladder"),
        (
            SENDING,
            "        async with self._conversations:\n",
            '        await self._ledger.sent(claimed, "250")\n        async with self._conversations:\n',
        ),
    ),
    fault(
        "a letter leaves after its time",
        ("tests/contract/test_email_standstill.py", "-k", "stood_still"),
        ("consumers/email/delivery.py", "    if limit.expired():\n", "    if False:\n"),
    ),
    fault(
        "a 5xx to AUTH is taken for the letter's",
        ("tests/contract/test_email_tls.py", "-k", "wrong_password"),
        (
            "consumers/email/delivery.py",
            'if stage < _Stage.RCPT:\n        return ServerTrouble(f"{_step',
            'if stage < _Stage.RCPT and refusal.code < PERMANENT_FROM:\n        return ServerTrouble(f"{_step',
        ),
    ),
    fault(
        "an attempt is counted while the mail server is away",
        (AWAY_TESTS, "-k", "nothing_counted"),
        (STORE, "set state = case when attempts > 0", "set attempts = attempts + 1, state = case when attempts > 0"),
    ),
    fault(
        "a death before DATA counts as a possible duplicate",
        ("tests/contract/test_email_ledger.py", "-k", "before_data"),
        (STORE, "handed_over_at = null,\n", "\n"),
    ),
    fault(
        "what is not due is passed by the next commit",
        "tests/contract/test_kafka_delays.py",
        ("shared/kafka/deferral.py", "            consumer.seek(partition, waiting.offset)\n", ""),
    ),
    fault(
        "the ladder ends a step too early",
        "tests/unit/test_ladder.py",
        ("shared/kafka/retry.py", "if attempts <= len(ladder) else None", "if attempts < len(ladder) else None"),
    ),
    fault(
        "a slow recipient holds up its batch",
        (AWAY_TESTS, "-k", "hangs_holds_up_nobody"),
        (SENDING, "all(send.is_slow() for send in pending.values())", "not pending"),
    ),
    fault(
        "a 250 that the database did not take waits for a batch that never comes",
        (CLAIM_TESTS, "-k", "no_batch_comes"),
        (
            "consumers/email/accepted.py",
            "                self._background.add(self._recording)\n",
            "                self._recording.cancel()\n",
        ),
    ),
)
DOOR = (
    fault(
        "a head may trickle in for ever",
        ("tests/unit/test_connections.py", "-k", "too_slow"),
        (CONNECTIONS, "if waited > HEAD_SECONDS_MAX:", "if waited > 3600:"),
    ),
    fault(
        "an answer may stay unread for ever",
        ("tests/unit/test_connections.py", "-k", "too_slow"),
        (CONNECTIONS, "for since in (self.unread_at, self.closing_at):", "for since in (self.closing_at,):"),
    ),
    fault(
        "any number of answers may stay unread",
        ("tests/unit/test_connections.py", "-k", "too_many_unread"),
        (CONNECTIONS, "if len(self._unread) > UNREAD_CONNECTIONS_MAX:", "if False:"),
    ),
    fault(
        "the rest of a body that an answer has overtaken counts as a head without end",
        ("tests/contract/test_ingress_places.py", "-k", "no_slow_head"),
        (CONNECTIONS, "request.content.on_eof(connection.body_read)", "pass"),
    ),
    fault(
        "what stands behind a request for another protocol is forgotten, or cut in two",
        ("tests/contract/test_webhook_http.py", "-k", "another_protocol"),
        ("ingress/http_rules.py", "if message.upgrade:", "if False:"),
    ),
    fault(
        "one address may take every place",
        ("tests/unit/test_connections.py", "-k", "one_address"),
        (CONNECTIONS, ">= self._per_address_max", "> 10**9"),
    ),
    fault(
        "what waits for Kafka has no bound",
        ("tests/contract/test_ingress_places.py", "-k", "waits_for_kafka"),
        ("ingress/publisher.py", "if self._waiting_records >= WAITING_RECORDS_MAX or", "if False and"),
    ),
    fault(
        "the first of two signature headers counts",
        ("tests/contract/test_ingress_webhook.py", "-k", "two_signature_headers"),
        ("ingress/webhook.py", "if len(signatures) != 1:", "if not signatures:"),
    ),
    fault(
        "a webhook that our own error ended is counted nowhere",
        ("tests/contract/test_ingress_webhook.py", "-k", "counted_once"),
        ("ingress/webhook.py", "            _answered(problems.INTERNAL.code).inc()\n", ""),
    ),
    fault(
        "an RSA key of 1024 bits serves",
        ("tests/unit/test_keys.py", "-k", "fits_its_algorithm"),
        ("ingress/keys.py", "RSA_BITS_MIN = 2048", "RSA_BITS_MIN = 1024"),
    ),
    fault(
        "the webhook's secret signs tokens",
        ("tests/unit/test_keys.py", "-k", "one_purpose"),
        ("ingress/keys.py", 'known.removeprefix(b"whsec_")} for known', "known} for known"),
    ),
)
WIRE = (
    fault(
        "whoever answers in the brokers' place is believed",
        ("tests/contract/test_secured_kafka.py", "-k", "vouches"),
        (
            "shared/kafka/connection.py",
            "return ssl.create_default_context(cafile=kafka.kafka_ssl_ca_file)",
            "return ssl._create_unverified_context()",
        ),
    ),
    fault(
        "a consumer may write what it reads",
        ("tests/contract/test_secured_kafka.py", "-k", "writes_its_own"),
        ("shared/kafka/acls.py", 'Acl(user, Operation.READ, "topic", name)', 'Acl(user, "all", "topic", name)'),
    ),
    fault(
        "a role is never taken what it should not have",
        ("tests/contract/test_ops_roles.py", "-k", "beyond_the_map"),
        ("deploy/ops/roles.py", 'written("revoke", "from", found - everybodys - asked)', "[]"),
    ),
    fault(
        "a release takes rights from the last one, which still runs",
        ("tests/contract/test_ops_roles.py", "-k", "older_release"),
        ("deploy/ops/roles.py", "[] if keep else taken", "taken"),
    ),
    fault(
        "a checkout that the database ended is counted nowhere",
        ("tests/contract/test_ingress_checkout.py", "-k", "without_a_database"),
        ("ingress/checkout_http.py", "            metrics.checkout_requests.labels(outcome=problem.code).inc()\n", ""),
    ),
    fault(
        "one coach's low price calls the operator",
        ("tests/contract/test_checkout_stripe_fails.py", "-k", "of_a_profile"),
        ("ingress/checkout.py", "return checkout_rules.refusal(code)", "return problems.STRIPE_REFUSED"),
    ),
    fault(
        "the address's word about TLS is lost",
        ("tests/contract/test_database_tls.py", "-k", "another_name"),
        ("shared/db/engine.py", 'url.set(drivername="postgresql")', 'url.set(drivername="postgresql", query={})'),
    ),
)
RECONCILIATION = (
    fault(
        "what lies unread in Kafka counts as lost",
        ("tests/contract/reconciliation/test_ops_reconciliation.py", "-k", "behind"),
        ("deploy/ops/reconciliation.py", "raise ConsumerBehind(left)", "pass"),
    ),
    fault(
        "a dead letter is brought again every hour",
        ("tests/contract/reconciliation/test_ops_reconciliation.py", "-k", "again_and_again"),
        ("deploy/ops/reconciliation.py", "processed.keys() | refused", "processed.keys()"),
    ),
    fault(
        "only the newest hundred events are compared",
        ("tests/contract/reconciliation/test_ops_reconciliation.py", "-k", "one_run"),
        (
            "deploy/ops/reconciliation.py",
            "after, more = (events[-1].id, has_more) if events else (None, False)",
            "more = False",
        ),
    ),
    fault(
        "a session whose money is under way counts as paid",
        ("tests/contract/test_stripe_api.py", "-k", "under_way"),
        ("shared/stripe_api.py", "session.payment_status in NOTHING_OWED", 'session.status == "complete"'),
    ),
    fault(
        "whose event is on its way is told to have none",
        ("tests/contract/reconciliation/test_ops_sessions.py", "-k", "on_its_way or brings"),
        ("deploy/ops/sessions.py", "if str(one.payment_id) not in names and one.session_id not in names", ""),
    ),
    fault(
        "rows that stay as they are keep every other from being asked for",
        ("tests/contract/reconciliation/test_ops_sessions.py", "-k", "left_to_the_next"),
        ("deploy/ops/sessions.py", "order by random() limit", "order by p.expires_at limit"),
    ),
)
MIGRATING = (
    fault(
        "a migration wishes for a table for as long as somebody holds it",
        ("tests/journey/test_migrating_under_load.py", "-k", "again_and_again"),
        ("shared/db/migrate.py", "        connection.exec_driver_sql(LOCK_TIMEOUT)\n", ""),
    ),
    fault(
        "nobody writes while an index is built",
        ("tests/journey/test_migrating_under_load.py", "-k", "everybody_writes"),
        (
            "shared/db/migrations/versions/0008_checkouts_that_came_to_nothing.py",
            "create index concurrently payments_with_people",
            "create index payments_with_people",
        ),
    ),
)
FAULTS = (*TRANSACTION, *KAFKA, *MATCHING, *MONEY, *BOOKINGS, *CHECKOUT, *LETTERS, *DOOR, *WIRE, *RECONCILIATION, *MIGRATING)
