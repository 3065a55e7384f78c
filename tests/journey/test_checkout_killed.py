"""A checkout that dies at any step is resumed by the next one, never doubled."""

import asyncio
import os
import sys
import uuid
from pathlib import Path

import pytest

from tests.support.door import ORIGIN, WEBHOOK_SECRET, meeting, opened, person, sandbox

ROOT = Path(__file__).parent.parent.parent
CROSSINGS_MAX = 30


@pytest.fixture
async def door(database, tmp_path):
    async with sandbox(tmp_path / "stripe") as stripe, opened(database, stripe=stripe) as made:
        yield made


async def killed_at_each_crossing(door, database, admin, meetings):
    """Run one checkout per meeting, each dying one crossing later; give the crossings by name, in order."""
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database.database_url.get_secret_value(),
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "STRIPE_SECRET_KEY": "sk_test_" + "k" * 24,
        "STRIPE_API_BASE": door.stripe.settings.public_url,
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "JWT_SECRET_KEY": "j" * 32,
        "CHECKOUT_ALLOWED_ORIGINS": ORIGIN,
    }
    bookings = [str(booked.booking_id) for booked in meetings]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.journey.checkout_killed", str(admin.id), *bookings,
        env=environment, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 120)
    lines = [line for line in out.decode().splitlines() if line.startswith(("killed", "passed"))]
    assert lines, err.decode()
    assert lines[-1] == "passed 0", (lines, err.decode())
    return [line.removeprefix("killed ") for line in lines[:-1]]


async def test_dying_anywhere_never_leaves_a_payable_orphan_or_a_second_session(door, database):
    """Killed at the k-th crossing for every k: the next call pays the same row with the same session, or is shown it."""
    admin = await person(door.engine, "admin")
    meetings = [await meeting(door.engine) for _ in range(CROSSINGS_MAX)]

    crossings = await killed_at_each_crossing(door, database, admin, meetings)

    assert {"before insert_payment", "before create_session", "after create_session", "after commit"} <= set(crossings)
    for crossing, booked in zip(crossings, meetings, strict=False):
        status, body = await door.checkout(booked.booking_id, booked.client)

        assert status == 201 or body["code"] == "payment_already_exists", (crossing, body)
        assert body["url"], crossing
        rows = await door.sql("select id, stripe_session_id, closed_at from payments where booking_id = $1", booked.booking_id)
        assert rows == [(uuid.UUID(body["payment_id"]), body["session_id"], None)], crossing
        sessions = [s["id"] for s in door.sessions() if s["metadata"]["booking_id"] == str(booked.booking_id)]
        assert sessions == [body["session_id"]], crossing


async def test_dying_while_an_expired_session_is_replaced(door, database):
    """The old row is closed and the new one stands, or neither: killed between them, the next call starts over."""
    admin = await person(door.engine, "admin")
    meetings = [await meeting(door.engine) for _ in range(CROSSINGS_MAX)]
    old = {}
    for booked in meetings:
        _, body = await door.checkout(booked.booking_id, booked.client)
        door.expire_at_stripe(body["session_id"])
        old[booked.booking_id] = body["session_id"]
    await door.sql("update payments set expires_at = now() - interval '1 minute'")

    crossings = await killed_at_each_crossing(door, database, admin, meetings)

    assert {"after retrieve_session", "after close_payment", "after insert_payment"} <= set(crossings)
    for crossing, booked in zip(crossings, meetings, strict=False):
        status, body = await door.checkout(booked.booking_id, booked.client)

        assert status == 201 or body["code"] == "payment_already_exists", (crossing, body)
        assert body["url"], crossing
        rows = await door.sql(
            "select stripe_session_id, closed_at is null from payments where booking_id = $1 order by id", booked.booking_id
        )
        assert rows == [(old[booked.booking_id], False), (body["session_id"], True)], crossing
