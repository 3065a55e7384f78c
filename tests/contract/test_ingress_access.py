"""Every address of the door against every kind of caller: who gets what, and what browsers hear."""

import json
import re
import uuid

import pytest
from structlog.testing import capture_logs

from ingress import pages, problems
from shared import metrics
from shared.domain.payment import ClosedReason
from tests.support import description
from tests.support.door import ORIGIN, URLS, Person, bearer, meeting, opened, person, sandbox


async def cast(door):
    """One booking, and everybody who may ask about it."""
    booked, other = await meeting(door.engine), await meeting(door.engine)
    actors = {
        "client": booked.client,
        "other client": other.client,
        "coach": booked.coach,
        "other coach": other.coach,
        "admin": await person(door.engine, "admin"),
        "demoted admin": await person(door.engine, "admin"),
        "inactive client": await person(door.engine, "client", is_active=False),
        "inactive admin": await person(door.engine, "admin", is_active=False),
        "deleted user": Person("admin"),
        "service": Person("service").token(scope="payments", role=None),
        "expired": booked.client.token(exp=1),
        "refresh token": booked.client.token(type="refresh"),
        "anonymous": None,
        "nonsense": "nonsense",
    }
    # In the middle of its session: the token still says admin.
    await door.sql("update users set role = 'client' where id = $1", actors["demoted admin"].id)
    return booked, actors


NOBODIES = ("inactive client", "inactive admin", "deleted user", "service", "expired", "refresh token", "anonymous", "nonsense")
NOBODY = dict.fromkeys(NOBODIES, 401)
SOMEBODIES = ("client", "other client", "coach", "other coach", "admin", "demoted admin")
ACTORS = (*SOMEBODIES, *NOBODIES)
MATRIX = {
    "POST /payment/checkout": {
        "client": 201, "other client": 403, "coach": 403, "other coach": 403, "admin": 201, "demoted admin": 403, **NOBODY,
    },
    "GET /payment/{payment_id}": {
        "client": 200, "other client": 403, "coach": 200, "other coach": 403, "admin": 200, "demoted admin": 403, **NOBODY,
    },
    # The signature alone counts: a token neither helps nor hurts.
    "POST /payment/webhook": dict.fromkeys(ACTORS, 400),
    "GET /openapi.json": dict.fromkeys(ACTORS, 200),
    "GET /docs": dict.fromkeys(ACTORS, 200),
}  # fmt: skip
PAGES = {"GET /openapi.json", "GET /docs"}


def routes_of(door):
    """The addresses with their methods; what a browser asks beforehand is no address of its own."""
    return {f"{route.method} {route.resource.canonical}" for route in door.routes if route.method not in {"OPTIONS", "HEAD"}}


async def test_every_caller_gets_what_is_theirs(door):
    """The whole matrix, asked of every address that there is: a new one without its row, or a missing cell, fails."""
    booked, actors = await cast(door)
    _, paid = await door.checkout(booked.booking_id, booked.client)
    seen = {}
    for route in sorted(routes_of(door)):
        method, path = route.split()
        seen[route] = {}
        for name, actor in actors.items():
            if method == "POST":
                await door.sql("delete from payments where id <> $1", uuid.UUID(paid["payment_id"]))
                await door.sql("update payments set closed_at = now()")
            body = {"json": {"booking_id": str(booked.booking_id), **URLS}} if method == "POST" else {}
            address = path.replace("{payment_id}", paid["payment_id"])
            async with door.http.request(method, address, headers=bearer(actor), **body) as answer:
                seen[route][name] = answer.status

    assert seen == MATRIX


async def test_every_route_is_documented(door):
    """What is open to strangers is told to them, but for the pages that tell it."""
    documented = {
        f"{method.upper()} {path}" for path, methods in json.loads(pages.OPENAPI)["paths"].items() for method in methods
    }

    assert documented == routes_of(door) - PAGES


async def test_the_role_is_the_databases(door):
    """A token that says admin is a client's token when its user is a client; a demoted admin is none."""
    booked, actors = await cast(door)
    liar = actors["other client"].token(role="admin")

    assert (await door.checkout(booked.booking_id, liar))[0] == 403

    await door.sql("update users set role = 'client' where id = $1", actors["admin"].id)
    assert (await door.checkout(booked.booking_id, actors["admin"]))[0] == 403


async def test_refusals_of_tokens_are_all_alike(door):
    """Absent, wrong and inactive cannot be told apart."""
    _, actors = await cast(door)
    answers = [await door.payment(uuid.uuid4(), actors[name]) for name in NOBODIES]

    assert all(answer == answers[0] for answer in answers)
    async with door.http.get(f"/payment/{uuid.uuid4()}") as answer:
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "payment_id", ["123e4567-e89b-12d3-a456-426614174000", "1", "0", "x" * 36, "{}", "null", "' or 1=1--", "%00"]
)
async def test_no_such_payment_is_404(door, payment_id):
    """Whatever the id looks like."""
    admin = await person(door.engine, "admin")

    status, body = await door.payment(payment_id.replace("%00", "%2500"), admin)

    assert (status, body["code"]) == (404, "payment_not_found")


async def test_no_such_booking_is_404(door):
    """404 booking_not_found."""
    status, body = await door.checkout(uuid.uuid4(), await person(door.engine, "admin"))

    assert (status, body["code"]) == (404, "booking_not_found")


SHOWN = {
    "pending": ("", {"status": "pending", "amount_refunded": "0.00", "failure_reason": None}),
    "succeeded": ("status = 'succeeded', paid = true", {"status": "succeeded", "failure_reason": None}),
    "failed": (
        "status = 'failed', failed = true, failure_reason = 'insufficient_funds'",
        {"status": "failed", "failure_reason": "insufficient_funds"},
    ),
    "failed by a card that is not the customer's": (
        "status = 'failed', failed = true, failure_reason = 'stolen_card'",
        {"status": "failed", "failure_reason": "generic_decline"},
    ),
    "failed, then paid": (
        "status = 'succeeded', failed = true, failure_reason = 'insufficient_funds'",
        {"status": "succeeded", "failure_reason": None},
    ),
    "partly refunded": (
        "status = 'succeeded', amount_refunded_minor = 2500",
        {"status": "succeeded", "amount_refunded": "25.00"},
    ),
    "refunded": ("status = 'refunded', amount_refunded_minor = 7500", {"status": "refunded", "amount_refunded": "75.00"}),
    "older and refunded": (
        "status = 'refunded', amount_minor = null",
        {"status": "refunded", "amount": "75.00", "amount_refunded": "75.00"},
    ),
    "older and paid": ("status = 'succeeded', amount_minor = null", {"amount": "75.00", "amount_refunded": "0.00"}),
}


@pytest.mark.parametrize("case", SHOWN)
async def test_a_payment_is_shown_as_it_is(door, case):
    """Lower-case status, exact amounts, the reason only while it failed, moments in RFC 3339 with a Z."""
    change, expected = SHOWN[case]
    booked = await meeting(door.engine)
    _, made = await door.checkout(booked.booking_id, booked.client)
    if change:
        await door.sql(f"update payments set {change}")

    async with door.http.get(f"/payment/{made['payment_id']}", headers=bearer(booked.client)) as answer:
        shown = json.loads(await answer.text(), parse_float=str)

    assert {name: shown[name] for name in expected} == expected
    assert shown["booking_id"] == str(booked.booking_id)
    assert shown["created_at"].endswith("Z")
    assert shown["updated_at"].endswith("Z")
    assert answer.headers["Cache-Control"] == "no-store"


async def test_what_a_bank_said_of_a_card_is_not_for_the_coach(door):
    """That it failed is, and how the chance to pay ended; an admin sees what the client sees."""
    booked = await meeting(door.engine)
    _, made = await door.checkout(booked.booking_id, booked.client)
    readers = (booked.client, booked.coach, await person(door.engine, "admin"))
    told = {}
    for reason in ("insufficient_funds", "expired"):
        await door.sql(f"update payments set status = 'failed', failed = true, failure_reason = '{reason}'")
        told[reason] = [(await door.payment(made["payment_id"], reader))[1]["failure_reason"] for reader in readers]

    assert told == {
        "insufficient_funds": ["insufficient_funds", "generic_decline", "insufficient_funds"],
        "expired": ["expired"] * 3,
    }


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/payment/checkout"), ("GET", "/payment/123e4567-e89b-12d3-a456-426614174000")]
)
async def test_allowed_origins_may_ask_from_a_browser(door, method, path):
    """A preflight names the method and the headers; the answer names the origin; errors can be read too."""
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": method}

    async with door.http.options(path, headers=asked) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Access-Control-Allow-Methods"] == method
        allowed = answer.headers["Access-Control-Allow-Headers"]
        assert allowed == "Authorization, Content-Type, Idempotency-Key"
        assert all(f"`{header}`" in description.DESCRIPTION["info"]["description"] for header in allowed.split(", "))
        assert "Origin" in answer.headers["Vary"]
    async with door.http.request(method, path, headers={"Origin": ORIGIN}) as answer:
        assert answer.status == 401
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/payment/checkout"), ("HEAD", "/payment/checkout"), ("POST", f"/payment/{uuid.UUID(int=1)}")]
)
async def test_a_browser_reads_that_a_method_is_wrong(door, method, path):
    """405 and no fault of CORS: these pass every preflight (https://fetch.spec.whatwg.org/#cors-safelisted-method)."""
    async with door.http.request(method, path, headers={"Origin": ORIGIN}) as answer:
        assert answer.status == 405
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Vary"] == "Origin"
    async with door.http.request(method, path, headers={"Origin": "https://evil.example"}) as answer:
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{ORIGIN}.evil.example", f"{ORIGIN}/", "*"])
async def test_other_origins_hear_nothing(door, origin):
    """No header of CORS for anybody else."""
    for method in ("OPTIONS", "POST"):
        async with door.http.request(method, "/payment/checkout", headers={"Origin": origin}) as answer:
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]


async def test_health_and_metrics_are_not_at_this_door(door):
    """They have a port of their own; here they are 404 like anything else."""
    for path in ("/health/live", "/health/ready", "/metrics", "/", "/admin", "/payment", "/.env"):
        async with door.http.get(path) as answer:
            assert (answer.status, answer.content_type) == (404, "application/problem+json"), path


async def test_without_the_database_it_is_503_and_webhooks_go_on(database):
    """PostgreSQL away: people are told to come again, Stripe is served all the same."""
    nowhere = database.model_copy(update={"database_url": type(database.database_url)("postgresql+asyncpg://cb@127.0.0.1:9/x")})
    async with opened(nowhere) as door:
        somebody = Person("client")
        paying = await door.checkout(uuid.uuid4(), somebody)
        looking = await door.payment(uuid.uuid4(), somebody)
        webhook = await door.deliver(b'{"id": "evt_1", "livemode": false}')

    assert [(status, body["code"]) for status, body in (paying, looking)] == [(503, "database_unavailable")] * 2
    assert webhook == (200, {"status": "accepted"})


async def test_a_lost_connection_is_503_once(door):
    """The server ended our connections: one answer may suffer, the pool mends itself."""
    booked = await meeting(door.engine)
    await door.checkout(booked.booking_id, booked.client)
    await door.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )

    answers = [await door.payment(uuid.uuid4(), booked.client) for _ in range(15)]

    assert {status for status, _ in answers} <= {404, 503}
    assert answers[-1][0] == 404


async def test_a_bug_of_ours_tells_nothing(door):
    """500 with a constant body: no table, no statement, no trace; the alert CheckoutsFail stands on its count."""
    booked = await meeting(door.engine)
    await door.sql("alter table payments rename to payments_elsewhere")
    counted = metrics.checkout_requests.labels("internal")._value
    before = counted.get()

    status, body = await door.checkout(booked.booking_id, booked.client)

    assert (status, body["code"]) == (500, "internal")
    assert "payments_elsewhere" not in json.dumps(body)
    assert counted.get() == before + 1


async def test_the_description_is_valid_and_its_examples_fit(door):
    """OpenAPI 3.1, and every example is what its schema says."""
    import openapi_spec_validator  # half a second, which no other test of this file needs

    async with door.http.get("/openapi.json") as answer:
        told = json.loads(await answer.text())
    openapi_spec_validator.validate(told)

    checked = 0
    for methods in told["paths"].values():
        for operation in methods.values():
            contents = [operation["requestBody"]] if "requestBody" in operation else []
            for response in [*contents, *operation["responses"].values()]:
                for content in response["content"].values():
                    examples = [content["example"]] if "example" in content else []
                    examples += [example["value"] for example in content.get("examples", {}).values()]
                    for example in examples:
                        description.validator(content["schema"]).validate(example)
                        checked += 1
    assert checked > 20


def test_the_problems_of_the_description_are_ours():
    """Each word for word, whichever Python runs, its code in the enum that clients switch over; none of ours is left out."""
    ours = {problem.code: problem for problem in vars(problems).values() if isinstance(problem, problems.Problem)}
    seen = set()
    for (_, _, status), response in description.RESPONSES.items():
        content = response["content"].get(problems.CONTENT_TYPE, {"examples": {}})
        for code, example in content["examples"].items():
            problem, value = ours[code], example["value"]
            assert json.loads(problems.answer(problem).body).items() <= value.items()
            assert (problem.status, value["title"]) == (status, response["description"])
            assert code in content["schema"]["allOf"][1]["properties"]["code"]["enum"]
            assert set(problem.headers) <= set(response.get("headers", ())), code
            seen.add(code)

    of_no_call = set(re.findall(r"`(\w+)` \(4\d\d\)", description.DESCRIPTION["info"]["description"]))
    assert of_no_call == {problems.NOT_FOUND.code, problems.METHOD_NOT_ALLOWED.code, problems.NO_HTTP.code}
    assert seen | of_no_call == ours.keys()


def test_who_waits_for_a_second_card_is_told_to_wait():
    """Until the event of the card that paid has come, `failed` is of the card before; only an end is not waited for."""
    told = description.DESCRIPTION["paths"]["/payment/{payment_id}"]["get"]["description"]
    while_asking = told.partition("ask every two seconds")[2].partition("After half a minute")[0]

    ends = {*ClosedReason} - {ClosedReason.REFUNDED}
    assert set(re.findall(r"`(\w+)`", while_asking)) == {"pending", "failed", "succeeded", *ends}


def test_an_answer_may_gain_a_field():
    """A client whose types are generated from the description takes what a newer door adds; requests are exact."""
    closed = {
        name for name, schema in description.DESCRIPTION["components"]["schemas"].items() if "additionalProperties" in schema
    }

    assert closed == {"CheckoutRequest"}


async def test_the_page_needs_nobody_else(door):
    """The page to read and try runs under a policy that allows its own script and style, and asks no other host."""
    async with door.http.get("/docs") as answer:
        text, policy = await answer.text(), answer.headers["Content-Security-Policy"]

    assert (answer.status, answer.content_type) == (200, "text/html")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert policy.count("'sha256-") == 2
    assert "http://" not in text.replace("http:\\/\\/", "")
    assert "https://" not in text
    assert " style=" not in text
    assert " on" + "click=" not in text


@pytest.mark.parametrize("url", ["http://127.0.0.1:3000/ok", "http://localhost:3000/ok"])
async def test_a_listed_loopback_origin_may_be_http(database, tmp_path, url):
    """For a developer's own machine, when it is listed."""
    origin = url.removesuffix("/ok")
    async with sandbox(tmp_path / "stripe") as stripe, opened(database, stripe=stripe, checkout_allowed_origins=origin) as door:
        booked = await meeting(door.engine)

        assert (await door.checkout(booked.booking_id, booked.client))[0] == 422
        urls = dict.fromkeys(URLS, url)
        assert (await door.checkout(booked.booking_id, booked.client, **urls))[0] == 201


@pytest.mark.parametrize(
    ("actor", "reason"),
    [
        ("deleted user", "user_unknown"),
        ("inactive client", "user_inactive"),
        ("expired", "ExpiredSignatureError"),
        ("anonymous", "no_header"),
    ],
)
async def test_the_log_alone_says_why_somebody_was_sent_away(door, actor, reason):
    """One answer for all of them; an operator hears a word, and nothing of the token."""
    _, actors = await cast(door)

    with capture_logs() as said:
        async with door.http.get(f"/payment/{uuid.uuid4()}", headers=bearer(actors[actor])) as answer:
            assert (answer.status, (await answer.json())["code"]) == (401, problems.UNAUTHORIZED.code)

    assert said == [{"event": "caller.refused", "log_level": "info", "reason": reason}]
