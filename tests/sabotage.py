"""Plant known faults into a copy of the project, one at a time, and expect a red test for each: `make sabotage`.

A test suite that has never been seen red proves nothing. Every fault below is one that a system of this kind has shipped
with; the table says what is changed and which tests must notice. Prints a line per fault with the test that caught it, and
exits non-zero when one survived or no longer fits the code it was written for.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIES_AT_ONCE = 2
CAUGHT_WITHIN_SECONDS = 300
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, the replacements that plant it (file, old, new), and where the tests stand that must notice."""

    name: str
    replacements: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "no inbox check",
        (
            (
                "consumers/payments/decide.py",
                "entry = earlier or self._loaded.known.get(item.event.id)",
                "entry = earlier",
            ),
        ),
        ("tests/contract/test_payments_consumer.py",),
    ),
    Fault(
        "offsets committed before the database",
        (
            (
                "shared/kafka/broker.py",
                "                    await self._handle(records)\n                    await self._commit(message)\n",
                "                    await self._commit(message)\n                    await self._handle(records)\n",
            ),
        ),
        ("tests/journey/test_failpoints.py", "-k", "bookings"),
    ),
    Fault(
        "answer before Kafka's acknowledgement",
        (
            (
                "shared/kafka/producer.py",
                "await asyncio.wait_for(asyncio.shield(delivery), max(deadline - clock.monotonic(), 0))",
                "pass",
            ),
        ),
        ("tests/contract", "-k", "kafka or webhook"),
    ),
    Fault(
        "the inbox in a transaction of its own",
        (
            ("shared/kafka/batch.py", "async with self._engine.begin() as tx:", "async with self._engine.connect() as tx:"),
            (
                "shared/kafka/batch.py",
                "applied = await self._consumer.apply(tx, items)\n",
                "applied = await self._consumer.apply(tx, items)\n                await tx.commit()\n",
            ),
            (
                "consumers/bookings/store.py",
                '    """Write what deciding changed, in the transaction that loaded it."""\n',
                (
                    '    """Write what deciding changed, in the transaction that loaded it."""\n'
                    "    await inbox.write(tx, CONSUMER, list(remembered.entries.values()))\n"
                    "    await tx.commit()\n"
                    "    remembered.entries = {}\n"
                ),
            ),
        ),
        ("tests/journey/test_failpoints.py", "-k", "bookings"),
    ),
    Fault(
        "offsets committed by a timer (FastStream's default policy)",
        (
            (
                "shared/kafka/broker.py",
                "            ack_policy=AckPolicy.NACK_ON_ERROR,\n            auto_",
                "            auto_",
            ),
            ("shared/kafka/broker.py", "        ack_policy=AckPolicy.NACK_ON_ERROR,\n        logger", "        logger"),
            ("shared/kafka/broker.py", "    require_safe(broker)\n    return broker", "    return broker"),
        ),
        ("tests/contract", "-k", "kafka"),
    ),
    Fault(
        "a new group starts at the end of the topic",
        (
            ("shared/kafka/broker.py", 'auto_offset_reset="earliest"', 'auto_offset_reset="latest"'),
            ("shared/kafka/broker.py", "    require_safe(broker)\n    return broker", "    return broker"),
        ),
        ("tests/contract", "-k", "kafka"),
    ),
    Fault(
        "a partial refund cancels the booking",
        (("shared/domain/payment.py", "largest) >= self.amount_minor > 0", "largest) > 0"),),
        ("tests/contract/test_payments_consumer.py", "tests/unit"),
    ),
    Fault(
        "a late decline demotes a paid payment",
        (
            (
                "shared/domain/payment.py",
                "        if self.paid:\n            return Status.SUCCEEDED\n",
                "        if self.paid and not self.failed:\n            return Status.SUCCEEDED\n",
            ),
        ),
        ("tests/contract/test_payments_consumer.py", "tests/unit"),
    ),
    Fault(
        "only what is new is published",
        (
            (
                "consumers/payments/decide.py",
                "        if earlier is None:\n            # Whoever",
                "        if False:\n            # Whoever",
            ),
        ),
        ("tests/contract/test_payments_consumer.py",),
    ),
    Fault(
        "what waits counts as known",
        (
            (
                "consumers/payments/decide.py",
                "        self.decided.waiting[item.event.id] = item\n",
                (
                    "        self.decided.waiting[item.event.id] = item\n"
                    "        self.decided.loose[item.event.id] = _entry(item, ())\n"
                ),
            ),
        ),
        ("tests/contract/test_payments_consumer.py",),
    ),
    Fault(
        "what waited is told after the success that freed it",
        (
            (
                "consumers/payments/decide.py",
                "            emitted += self._free(key, found.id)\n        before",
                "        before",
            ),
            (
                "consumers/payments/decide.py",
                "        self.decided.payments[now.id] = now\n",
                (
                    "        self.decided.payments[now.id] = now\n"
                    "        for key in event.keys:\n"
                    "            emitted += self._free(key, found.id)\n"
                ),
            ),
        ),
        ("tests/contract/test_refund_first.py",),
    ),
    Fault(
        "the amount is not compared",
        (("consumers/payments/decide.py", "if amount != known.amount_minor", "if amount == -1"),),
        ("tests/contract/test_payments_consumer.py",),
    ),
    Fault(
        "an older version overrides a newer one",
        (
            (
                "consumers/bookings/handlers.py",
                "if before is not None and data.version <= before.version:",
                "if before is not None and data.version == before.version:",
            ),
        ),
        ("tests/contract/test_bookings_consumer.py",),
    ),
    Fault(
        "the mark that a letter was sent is missing",
        (("consumers/email/store.py", "set state = 'sent', sent_at", "set state = state, sent_at"),),
        ("tests/contract/test_email_handlers.py", "tests/contract/test_email_ledger.py"),
    ),
    Fault(
        "a lease that still runs is ignored",
        (
            (
                "consumers/email/ledger.py",
                "case State.SENDING if not letter.lease_over:",
                "case State.SENDING if letter.lease_over is None:",
            ),
        ),
        ("tests/contract/test_email_handlers.py", "tests/contract/test_email_ledger.py"),
    ),
    Fault(
        "payments are read without a lock",
        (("consumers/payments/store.py", "order by id for no key update\n", "order by id\n"),),
        ("tests/contract/test_payments_concurrency.py",),
    ),
)


def main() -> int:
    """Plant every fault, or those whose name contains the given words; return the exit status."""
    parser = argparse.ArgumentParser(prog="make sabotage", description=__doc__)
    parser.add_argument("words", nargs="*", help="only faults whose name contains one of these")
    words = parser.parse_args().words
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        survived = [fault for fault, caught in pool.map(_try, chosen) if not caught]
    print(f"{len(chosen) - len(survived)} of {len(chosen)} planted faults caught")
    return 1 if survived else 0


def _try(fault: Fault) -> tuple[Fault, bool]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        copy = Path(folder)
        # The database server may run as another user, who must be able to walk to its data.
        copy.chmod(0o755)
        _copy_tracked(copy)
        misfit = _plant(fault, copy)
        if misfit:
            print(f"MISFIT    {fault.name}: {misfit}", flush=True)
            return fault, False
        culprit = _first_red(fault, copy)
    seconds = time.monotonic() - started
    print(f"{'caught' if culprit else 'SURVIVED':9} {fault.name} ({seconds:.0f} s) {culprit or ''}", flush=True)
    return fault, culprit is not None


def _copy_tracked(copy: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if (ROOT / name).exists():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)


def _plant(fault: Fault, copy: Path) -> str | None:
    for name, old, new in fault.replacements:
        file = copy / name
        text = file.read_text()
        if text.count(old) != 1:
            return f"{name} holds the text to replace {text.count(old)} times"
        file.write_text(text.replace(old, new))
    return None


def _first_red(fault: Fault, copy: Path) -> str | None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout=120", *fault.tests]
    try:
        run = subprocess.run(command, cwd=copy, check=False, capture_output=True, text=True, timeout=CAUGHT_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"{fault.name}: the tests did not end", flush=True)
        return None
    # 1 = tests ran and some failed. Anything else (nothing collected, a broken conftest) proves nothing.
    failed = FAILED.search(run.stdout)
    if run.returncode == 1 and failed:
        return failed.group(1)
    if run.returncode != 0:
        print(run.stdout[-2000:], run.stderr[-2000:], flush=True)
    return None


if __name__ == "__main__":
    sys.exit(main())
