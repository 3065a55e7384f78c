"""No secret stands in the repository, and one that did would be seen."""

import secrets

import pytest

from tests.support import leaks

# Drawn values that are no secret: where, and why.
KNOWN = {
    f"tests/examples/stripe/{name}.json": "the intent's id, before a secret that is blotted out"
    for name in ("payment_intent.canceled", "payment_intent.succeeded", "payment_intent.succeeded.2026-08")
}


def test_no_file_holds_a_secret():
    """What was pushed once is known for ever; then only a new secret helps."""
    found = {name: leaks.leaks(text) for name, text in leaks.tracked()}

    assert {name: lines for name, lines in found.items() if lines and name not in KNOWN} == {}
    assert all(found[name] for name in KNOWN)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("STRIPE_SECRET_KEY=sk_live_", "", "key of Stripe"),
        ('stripe_key = "rk_test_', '"', "key of Stripe"),
        ("- whsec_", "", "webhook's secret"),
        ("DATABASE_URL=postgresql://app:", "@db/name", "password in an address"),
        ('"smtp_password": "', '"', "assigned secret"),
        ("JWT_SECRET_KEY=", "", "assigned secret"),
        ("-----BEGIN RSA PRIVATE KEY-----\n", "", "private key"),
    ],
)
def test_a_secret_is_seen_where_it_is_planted(before, after, kind):
    """Each shape, with a value as a machine draws it."""
    assert (1, kind) in leaks.leaks(before + secrets.token_hex(24) + after)


@pytest.mark.parametrize(
    "line",
    [
        f"whsec_{'a' * 32}",
        "postgresql://user:password@host:5432/name",
        "STRIPE_SECRET_KEY=sk_test_…",
        "token = issue_a_token_for(client)",
        "JWT_SECRET_KEY: ${JWT_SECRET_KEY:?see .env.example}",
        "secret: a-secret-that-is-made-of-words",
    ],
)
def test_what_is_plainly_made_up_is_no_secret(line):
    """Else nobody would read the list."""
    assert leaks.leaks(line) == []
