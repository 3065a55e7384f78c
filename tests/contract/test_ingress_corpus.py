"""Every line of the corpus and of the list of tokens, as raw bytes, against one running door with its real producer.

After each line an honest webhook is still taken; at the end the topic holds what was answered 2xx, and nothing else.
"""

import asyncio
import json
import uuid
from collections import Counter

import asyncpg
import pytest

from tests.conftest import TEMPLATE, _administer, database_settings
from tests.support import corpus
from tests.support.door import opened
from tests.support.served import ANSWER_SECONDS_MAX, served, statuses
from tests.support.tokens import CLAIMS, EC, ES, HEADERS, KEY, PLAIN, RS, RSA, USER, claims, raw, spellings, token

NOBODY = f"GET /payment/{uuid.UUID(int=0)} HTTP/1.1\r\nHost: door\r\nConnection: close\r\nAuthorization: Bearer ".encode()


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    name = f"t_{uuid.uuid4().hex}"
    database = database_settings(name).database_url.get_secret_value().replace("+asyncpg", "")
    asyncio.run(make_database(name, database))
    with served(tmp_path_factory.mktemp("corpus"), DATABASE_URL=database, JWT_SECRET_KEY=KEY) as made:
        yield made
    asyncio.run(_administer(f"drop database if exists {name} with (force)"))


async def make_database(name, url):
    await _administer(f"create database {name} template {TEMPLATE} strategy file_copy")
    connection = await asyncpg.connect(url)
    await connection.execute(
        "insert into users (id, email, password_hash, role) values ($1, 'ada@example.com', 'x', 'client')", USER
    )
    await connection.close()


def refused(door, sent):
    """Whether only refusals came back, or the connection was closed; and nothing of our inside."""
    heard = door.say(sent)
    assert b"Traceback" not in heard
    assert not any(word in heard for word in (b"ingress", b"aiohttp", b"Python", b"bytearray", b"b'")), heard[:400]
    found = statuses(heard)
    assert all(status == 100 or 400 <= status < 500 for status in found), heard[:400]
    return found


@pytest.mark.parametrize("name", corpus.headers())
def test_a_signature_header_of_somebody_else_is_refused(door, name):
    """400, whatever is wrong with it."""
    assert refused(door, corpus.request(signed=corpus.headers()[name] or b" ")) == [400]
    assert door.is_well()


@pytest.mark.parametrize("name", corpus.bodies())
def test_a_body_of_another_length_framing_or_coding_is_refused(door, name):
    """4xx or an end, at once."""
    refused(door, corpus.bodies()[name])
    assert door.is_well()


@pytest.mark.parametrize("name", corpus.requests())
def test_an_odd_request_is_refused(door, name):
    """4xx or an end; what hides behind it is not heard."""
    refused(door, corpus.requests()[name])
    assert door.is_well()


@pytest.mark.parametrize("name", ["absolute URI whose host is no name", "an authority that is no name"])
def test_a_target_whose_host_is_no_name_is_answered(door, name):
    """Silence would be a connection that hangs, and a fault that nobody wrote down."""
    [status] = refused(door, corpus.requests()[name])
    assert 400 <= status < 500


def test_invalid_utf_8_is_refused_wherever_it_stands(door):
    """JSON is UTF-8: a byte that is none, at every place of a signed body."""
    for place in range(len(corpus.HONEST)):
        body = corpus.HONEST[:place] + b"\xff" + corpus.HONEST[place:]
        assert refused(door, corpus.request(body)) == [400], place
    assert door.is_well()


def test_a_body_altered_by_one_byte_is_refused_wherever_it_was(door):
    """What Stripe signed is what is read, at every place."""
    header = corpus.signature(corpus.HONEST)
    for place, byte in enumerate(corpus.HONEST):
        body = corpus.HONEST[:place] + bytes([byte ^ 1]) + corpus.HONEST[place + 1 :]
        assert refused(door, corpus.request(body, signed=header)) == [400], place
    assert door.is_well()


@pytest.mark.parametrize(
    "kind", [b"text/plain", b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded", None]
)
def test_the_signature_alone_counts_not_the_type(door, kind):
    """A body that Stripe signed is an event under any name, or none."""
    body = corpus.HONEST.replace(b"evt_corpus", b"evt_" + uuid.uuid4().hex.encode())
    sent = corpus.request(body, headers=[b"Content-Type: " + kind] if kind else [])

    assert statuses(door.say(sent, silent_seconds=ANSWER_SECONDS_MAX)) == [200]
    door.taken.append(body)


@pytest.mark.parametrize("name", corpus.signed())
def test_what_is_signed_but_hostile_is_stored_or_refused(door, name):
    """200 only for what has an id of an event; the consumer judges the rest (tests/journey/test_hostile_events.py)."""
    assert door.deliver(corpus.signed()[name]) in {200, 400}
    assert door.is_well()


def asked(door, bearer):
    """Ask for a payment with these bytes as the token."""
    return statuses(door.say(NOBODY + bearer + b"\r\n\r\n", silent_seconds=ANSWER_SECONDS_MAX))


def test_a_good_token_is_let_in(door):
    """Else a list of 401 would prove nothing."""
    assert asked(door, token().encode()) == [404]


FORGED = {
    **{name: lambda changes=changes: raw(PLAIN, bytes_of_claims(changes)) for name, changes in CLAIMS.items()},
    **{f"header {name}": lambda header=header: raw(header, bytes_of_claims({})) for name, header in HEADERS.items()},
    **{name: lambda name=name: spellings()[name] for name in spellings()},
    "a claim twice": lambda: raw(PLAIN, bytes_of_claims({})[:-1] + b',"sub":"%s"}' % str(USER).encode()),
    "claims a list": lambda: raw(PLAIN, b"[]"),
    "a deleted user": lambda: token(sub=str(uuid.uuid4())),
    "a service": lambda: token(sub=str(uuid.uuid4()), role=None, scope="payments"),
    "of the webhook's secret": lambda: token(corpus.SECRET),
    "of the webhook's secret without its prefix": lambda: token(corpus.SECRET.removeprefix("whsec_")),
    "of an empty secret": lambda: raw(PLAIN, bytes_of_claims({}), key=""),
    "by RSA": lambda: token(RSA, "RS256"),
    "by ECDSA": lambda: token(EC, "ES256"),
}


def bytes_of_claims(changes):
    return json.dumps(claims(**changes)).encode()


@pytest.mark.parametrize("name", FORGED)
def test_a_token_that_is_none_opens_nothing(door, name):
    """401; 400 when it is no header at all."""
    bearer = FORGED[name]().encode()

    assert asked(door, bearer) == [400 if len(bearer) > 8_190 or b"\n" in bearer else 401]


@pytest.mark.parametrize(("pinned", "key"), [(RS, "RS256"), (ES, "ES256")], ids=["RS256", "ES256"])
async def test_under_a_public_key_no_other_way_of_signing_opens(database, pinned, key):
    """The published key is no secret, algorithms are not swapped, and zeroes are no signature (CVE-2022-21449)."""
    zeroes = b'{"alg":"%s","typ":"JWT"}' % key.encode()
    bearers = [
        raw(PLAIN, bytes_of_claims({}), key=pinned["jwt_public_key"]),
        token(EC, "ES256") if key == "RS256" else token(RSA, "RS256"),
        raw(zeroes, bytes_of_claims({}), b"\0" * 64),
        raw(zeroes, bytes_of_claims({}), b"\0" * 256),
        raw(b'{"alg":"none"}', bytes_of_claims({}), b""),
    ]
    async with opened(database, jwt_secret_key=None, **pinned) as made:
        for bearer in bearers:
            status, _ = await made.payment(uuid.UUID(int=0), bearer)
            assert status == 401, bearer


def test_the_topic_holds_what_was_taken_and_nothing_else(door):
    """Every 2xx is in the log, byte by byte, and nothing that was refused is."""
    assert door.is_well()

    assert Counter(door.stored()) == Counter(door.taken)
