"""Idempotency keys: one key, one effect, one answer, in every case that Stripe's own API was seen to tell apart."""

import asyncio

import pytest
import stripe

from tests.support.sandboxes import opened, order
from tests.support.waiting import until

CREATE = "POST /v1/checkout/sessions"
INTENTS = "POST /v1/payment_intents"
KEY = {"Authorization": "Bearer sk_test_x"}
INTENT = {"amount": "5000", "currency": "usd"}
OTHER = {"amount": "7000", "currency": "usd"}
DECLINED = INTENT | {"payment_method": "pm_card_chargeDeclined", "confirm": "true"}
DAY_SECONDS = 24 * 60 * 60


async def asked(world, form, headers=KEY):
    """One call under the key `k`: its status, code or type of error, and whether it is a replay."""
    url = f"{world.url}/v1/payment_intents"
    async with world.http.post(url, data=form, headers={**headers, "Idempotency-Key": "k"}) as answer:
        error = (await answer.json()).get("error", {})
        return answer.status, error.get("code") or error.get("type"), answer.headers.get("Idempotent-Replayed") == "true"


# What comes first under a key -> its status, and whether that is the key's answer from then on.
@pytest.mark.parametrize(
    ("fault", "form", "headers", "status", "kept"),
    [
        (None, INTENT, KEY, 200, True),
        (None, INTENT | {"amount": "1"}, KEY, 400, True),
        (None, DECLINED, KEY, 402, True),
        ("error_after", INTENT, KEY, 500, True),
        ("error_before", INTENT, KEY, 500, False),
        (None, INTENT | {"wat": "1"}, KEY, 400, False),
        (None, INTENT | {"amount": "many"}, KEY, 400, False),
        (None, INTENT, {}, 401, False),
        ("rate_limit", INTENT, KEY, 429, False),
        ("conflict", INTENT, KEY, 409, False),
    ],
)
async def test_an_idempotency_key_keeps_an_answer_only_once_the_work_had_begun(world, fault, form, headers, status, kept):
    """Once the work had begun its answer stays, errors too, and other words are refused; what came before leaves no trace."""
    if fault:
        await world.switch("POST", "faults", {"route": INTENTS, "kind": fault})
    first = await asked(world, form, headers)
    again, other = await asked(world, form), await asked(world, OTHER)

    assert (first[0], first[2]) == (status, False)
    if kept:
        assert again == (*first[:2], True)
        assert other == (400, "idempotency_error", False)
    else:
        assert not again[2]
        assert again[0] == (400 if status == 400 else 200)
        assert other[:2] == ((200, None) if status == 400 else (400, "idempotency_error"))


async def test_a_key_is_kept_for_a_day(world):
    """Of the sandbox's clock; then it is as new."""
    await asked(world, INTENT)
    await world.switch("POST", "clock", {"advance_seconds": DAY_SECONDS - 60})
    late = await asked(world, INTENT)
    await world.switch("POST", "clock", {"advance_seconds": 120})

    assert late == (200, None, True)
    assert await asked(world, OTHER) == (200, None, False)


async def test_the_same_key_gives_the_same_session(world):
    """One session, the same bytes, marked as replayed, with a new request id."""
    first, again = [await world.client.v1.checkout.sessions.create_async(order(), {"idempotency_key": "k"}) for _ in range(2)]

    assert first.id == again.id
    assert first.last_response.body == again.last_response.body
    assert first.last_response.request_id != again.last_response.request_id
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert again.last_response.headers["Idempotent-Replayed"] == "true"


async def test_a_key_with_other_parameters_is_refused(world):
    """It would be another request."""
    await world.client.v1.checkout.sessions.create_async(order(), {"idempotency_key": "k"})
    with pytest.raises(stripe.IdempotencyError, match="Try using a key other than 'k'"):
        await world.client.v1.checkout.sessions.create_async(order(amount=1), {"idempotency_key": "k"})


async def test_a_refused_parameter_leaves_the_key_free(world):
    """Nothing had begun, so the corrected request may use it."""
    with pytest.raises(stripe.InvalidRequestError):
        await world.client.v1.checkout.sessions.create_async(order(wat=1), {"idempotency_key": "k"})
    await world.client.v1.checkout.sessions.create_async(order(), {"idempotency_key": "k"})


async def test_a_stored_error_is_replayed(world):
    """An error of the work itself is the key's answer from then on."""
    for replayed in (None, "true"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await world.client.v1.checkout.sessions.create_async(order(amount=1), {"idempotency_key": "k"})
        assert refused.value.code == "amount_too_small"
        assert refused.value.headers.get("Idempotent-Replayed") == replayed


async def test_a_key_in_use_is_a_conflict(world):
    """While the first call hangs, the second is told so; when the first hangs up, the key is free."""
    await world.switch("POST", "faults", {"route": CREATE, "kind": "hang_before", "seconds": 60})
    url, headers = f"{world.url}/v1/checkout/sessions", {"Authorization": "Bearer sk_test_x", "Idempotency-Key": "k"}
    first = asyncio.create_task(world.http.post(url, headers=headers).__aenter__())
    await until(lambda: nothing_armed(world), "the first call hangs")
    async with world.http.post(url, headers=headers) as second:
        assert second.status == 409
        assert "currently another in-progress request" in (await second.json())["error"]["message"]
    first.cancel()

    async def is_free():
        async with world.http.post(url, headers=headers) as third:
            return third.status == 400

    await until(is_free, "the key is free")


async def test_keys_outlive_a_restart(tmp_path, webhook):
    """A killed sandbox does not sell twice."""
    made = []
    for _ in range(2):
        async with opened(tmp_path, webhook) as world:
            made.append(await world.client.v1.checkout.sessions.create_async(order(), {"idempotency_key": "k"}))

    assert made[0].id == made[1].id


async def nothing_armed(world):
    return (await world.switch("GET", "faults"))[1] == []
