"""Who is asking: a token is taken only when every rule of RFC 8725 that concerns us is kept."""

import json
from uuid import uuid4

import pytest

from ingress import access
from ingress.access import Caller, Unauthenticated
from shared import clock, settings
from tests.support.tokens import CLAIMS, EC, ES, HEADERS, KEY, PLAIN, RS, RSA, SPELLINGS, USER, claims, raw, token


def jwt_settings(**values):
    return settings.Jwt(_env_file=None, **{"jwt_secret_key": KEY, **values})


def named(headers, **values):
    """Whom these headers name; None = nobody, whatever the reason."""
    found = access.user_id(headers, jwt_settings(**values))
    return None if isinstance(found, Unauthenticated) else found


def asked(bearer, **values):
    return named([f"Bearer {bearer}"], **values)


def test_todays_token_names_its_user():
    """A token as CultureBridge issues it is taken."""
    assert asked(token()) == USER


def test_the_scheme_is_not_case_sensitive():
    """RFC 9110, section 11.1: the name of a scheme may be written in any case."""
    assert named(["bearer " + token()]) == USER


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt"])
def test_the_types_of_access_tokens_are_taken(typ):
    """RFC 9068 names at+jwt; older issuers say JWT."""
    assert asked(token(headers={"typ": typ})) == USER


@pytest.mark.parametrize(("key", "algorithm", "values"), [(RSA, "RS256", RS), (EC, "ES256", ES)])
def test_one_asymmetric_algorithm_can_be_pinned(key, algorithm, values):
    """With a public key the issuer keeps its secret to itself, and may name the key."""
    assert asked(token(key, algorithm), **values) == USER
    assert asked(token(key, algorithm, headers={"kid": "2026-11"}), **values) == USER


def test_issuer_and_audience_are_checked_when_configured():
    """They are optional; set, they must be there and equal."""
    values = {"jwt_issuer": "https://auth.culturebridge.com", "jwt_audience": "payments"}

    assert asked(token(iss="https://auth.culturebridge.com", aud="payments"), **values) == USER
    for wrong in ({}, {"iss": "https://evil.example", "aud": "payments"}, {"iss": "https://auth.culturebridge.com"}):
        assert asked(token(**wrong), **values) is None
    for audience in ("posts", ["payments"], ["payments", "posts"], []):
        assert asked(token(iss="https://auth.culturebridge.com", aud=audience), **values) is None


@pytest.mark.parametrize("headers", [[], ["Bearer"], ["Bearer "], ["Basic " + "a" * 20], ["", ""], ["Token x"]])
def test_no_token_is_nobody(headers):
    """Absent, empty or of another scheme."""
    assert named(headers) is None


def test_two_authorization_headers_are_nobody():
    """What a proxy and we may read differently is not read at all."""
    assert named([f"Bearer {token()}"] * 2) is None


@pytest.mark.parametrize("changes", CLAIMS.values(), ids=CLAIMS.keys())
def test_a_token_with_wrong_claims_is_nobody(changes):
    """A good signature under wrong claims opens nothing."""
    assert asked(raw(PLAIN, json.dumps(claims(**changes)).encode())) is None


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_an_issuer_whose_clock_is_ahead_a_little_is_heard(claim):
    """Who has just logged in is let in; what is to begin later than clocks differ is not there yet."""
    now = int(clock.now().timestamp())

    assert asked(token(**{claim: now + 10})) == USER
    assert asked(token(**{claim: now + 60})) is None


def test_a_token_of_an_issuer_ahead_lives_no_longer():
    """Its end is its end, to the second."""
    now = int(clock.now().timestamp())

    assert asked(token(iat=now - 900, exp=now)) is None
    assert asked(token(iat=now + 10, exp=now)) is None


@pytest.mark.parametrize("absent", ["exp", "iat", "sub"])
def test_null_is_absent(absent):
    """A claim that is there but null is not there."""
    payload = json.dumps({**claims(), absent: None}).encode()

    assert asked(raw(PLAIN, payload)) is None


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_a_token_that_chooses_how_it_is_judged_is_nobody(header):
    """The algorithm is pinned and no header names a key, even under a good signature."""
    assert asked(raw(header, json.dumps(claims()).encode())) is None


@pytest.mark.parametrize("bearer", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_token_has_one_spelling(bearer):
    """Three segments of canonical base64url, none missing, none bent."""
    assert asked(bearer) is None


def test_a_claim_said_twice_is_nobody():
    """Two readers could take different ones."""
    payload = json.dumps(claims()).encode()[:-1] + b',"sub":"%s"}' % str(uuid4()).encode()

    assert asked(raw(PLAIN, payload)) is None


@pytest.mark.parametrize("payload", [b"[]", b"null", b"{", b'"x"', b"\xff", b'{"a":' * 1500])
def test_claims_that_are_no_object_are_nobody(payload):
    """What is inside must be one JSON object."""
    assert asked(raw(PLAIN, payload)) is None


def test_a_token_that_another_key_signed_names_nobody():
    """Neither a stranger's key nor the webhook's secret signs tokens."""
    assert asked(token("x" * 40)) is None
    assert asked(token("whsec_" + "a" * 40)) is None


def test_the_public_key_is_no_shared_secret():
    """HS256 over the published key is the classic confusion."""
    forged = raw(PLAIN, json.dumps(claims()).encode(), key=RS["jwt_public_key"])

    assert asked(forged, **RS) is None


def test_algorithms_are_not_swapped():
    """A token of one asymmetric algorithm is nothing under another."""
    assert asked(token(EC, "ES256"), **RS) is None
    assert asked(token(RSA, "RS256"), **ES) is None


def test_psychic_signatures_are_refused():
    """ECDSA with r = s = 0 verifies in a careless implementation (CVE-2022-21449)."""
    assert asked(raw(b'{"alg":"ES256","typ":"JWT"}', json.dumps(claims()).encode(), b"\0" * 64), **ES) is None


@pytest.mark.parametrize("name", ["../key", "x' or 1=1--", "a\0", ""])
def test_a_public_keys_name_is_plain(name):
    """The name of a key chooses nothing, and must not look as if it tried."""
    assert asked(token(RSA, "RS256", headers={"kid": name}), **RS) is None


CLIENT, COACH, OTHER = uuid4(), uuid4(), uuid4()


@pytest.mark.parametrize(
    ("caller", "pays", "sees"),
    [
        (Caller(CLIENT, "client"), True, True),
        (Caller(OTHER, "client"), False, False),
        (Caller(COACH, "coach"), False, True),
        (Caller(OTHER, "coach"), False, False),
        (Caller(OTHER, "admin"), True, True),
        (Caller(CLIENT, "coach"), True, True),
    ],
)
def test_who_may_pay_and_who_may_see(caller, pays, sees):
    """The booking's client and admins pay; its coach sees as well; nobody else does either."""
    assert pays == access.may_pay(caller, client_id=CLIENT)
    assert sees == access.may_see(caller, client_id=CLIENT, coach_id=COACH)


NOW = int(clock.now().timestamp())
REASONS = {
    "no header": ([], "no_header"),
    "two headers": ([f"Bearer {token()}"] * 2, "several_headers"),
    "another scheme": (["Basic YTpi"], "scheme"),
    "no token": (["Bearer x"], "token_form"),
    "a key that is named": ([f"Bearer {token(headers={'kid': '1'})}"], "token_header"),
    "another key": ([f"Bearer {token('k' * 32)}"], "InvalidSignatureError"),
    "an issuer an hour ahead": ([f"Bearer {token(iat=NOW + 3600, exp=NOW + 7200)}"], "ImmatureSignatureError"),
    "yesterday's": ([f"Bearer {token(iat=NOW - 7200, exp=NOW - 3600)}"], "ExpiredSignatureError"),
    "a list of audiences": ([f"Bearer {token(aud=['payments'])}"], "InvalidAudienceError"),
    "a token to refresh": ([f"Bearer {token(aud='payments', type='refresh')}"], "no_access_token"),
    "no id of a user": ([f"Bearer {token(aud='payments', sub='7')}"], "subject"),
}


@pytest.mark.parametrize(("headers", "reason"), REASONS.values(), ids=REASONS.keys())
def test_an_operator_is_told_why(headers, reason):
    """Where everybody is sent away it is mostly the issuer that is set up wrongly, or we are: the word says where to look."""
    assert access.user_id(headers, jwt_settings(jwt_audience="payments")) == Unauthenticated(reason)
