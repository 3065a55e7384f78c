"""Form bodies mean what Stripe takes them to mean, in every spelling."""

import contextlib
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as some

from deploy.dev.stripe import forms, params
from deploy.dev.stripe.errors import ApiError
from tests.support.stripe_offline import OfflineStripe


@pytest.mark.parametrize(
    ("body", "tree"),
    [
        ("a=1&b=", {"a": "1", "b": ""}),
        ("a[b][0][c]=1&a[b][0][d]=2&a[b][1][c]=3", {"a": {"b": {"0": {"c": "1", "d": "2"}, "1": {"c": "3"}}}}),
        ("a%5Bb%5D=x", {"a": {"b": "x"}}),
        ("a[]=1&a[]=2", {"a": {"0": "1", "1": "2"}}),
        ("a[][b]=1&a[][c]=2&a[][b]=3", {"a": {"0": {"b": "1", "c": "2"}, "1": {"b": "3"}}}),
        ("metadata[a key]=v", {"metadata": {"a key": "v"}}),
        ("a=1&a=2", {"a": "2"}),
    ],
)
def test_every_spelling_gives_its_tree(body, tree):
    """Indexed, bare and encoded brackets are read alike."""
    assert tree == forms.parse(parse_qsl(body, keep_blank_values=True))


@pytest.mark.parametrize("body", ["a[b=1", "[a]=1", "a=1&a[b]=2", "a[b]=1&a=2", "a" + "[b]" * 20 + "=1", "a]=1"])
def test_nonsense_is_refused(body):
    """A name that fits no tree is a 400, never a crash."""
    with pytest.raises(ApiError) as refused:
        forms.parse(parse_qsl(body, keep_blank_values=True))

    assert refused.value.status == 400


@given(some.lists(some.tuples(some.text(alphabet="ab[]0", max_size=12), some.text(max_size=3)), max_size=8))
def test_any_body_is_a_tree_or_a_refusal(pairs):
    """No body breaks the parser."""
    with contextlib.suppress(ApiError):
        assert isinstance(forms.parse(pairs), dict)


def test_refusals_name_the_parameter_by_path():
    """Whoever made the mistake is told where it is."""
    rules = {"items": params.each(params.group({"amount": params.integer(least=1)}))}
    wrong = [
        ("items[0][wat]=1", "items[0][wat]", "parameter_unknown"),
        ("items[0][amount]=abc", "items[0][amount]", "parameter_invalid_integer"),
        ("items[0][amount]=0", "items[0][amount]", "parameter_invalid_integer"),
        ("wat=1", "wat", "parameter_unknown"),
    ]

    for body, param, code in wrong:
        with pytest.raises(ApiError) as refused:
            params.read(forms.parse(parse_qsl(body)), rules)
        assert (param, code, False) == (refused.value.param, refused.value.code, refused.value.executed)


def test_lists_keep_the_order_of_their_numbers():
    """Ten comes after nine, however they are spelled."""
    body = "&".join(f"a[{number}]={number}" for number in (10, 9, 0))

    assert params.each(params.text())(forms.parse(parse_qsl(body))["a"], "a") == ["0", "9", "10"]


@pytest.mark.parametrize(
    ("call", "wish", "param"),
    [
        ("GET /v1/charges", {"starting_after": ""}, "starting_after"),
        ("GET /v1/refunds", {"payment_intent": ""}, "payment_intent"),
        ("GET /v1/events", {"limit": ""}, "limit"),
        ("GET /v1/events", {"types": [""]}, "types[0]"),
        ("GET /v1/charges", {"expand": [""]}, "expand[0]"),
        ("POST /v1/payment_intents", {"amount": 5000, "currency": "usd", "description": ""}, "description"),
        ("POST /v1/refunds", {"payment_intent": "pi_x", "amount": ""}, "amount"),
        ("POST /v1/products", {"name": "Tea", "images": ""}, "images"),
    ],
)
def test_a_parameter_that_cannot_be_unset_is_not_empty(call, wish, param):
    """Stripe takes an empty value for an attempt to unset, and says so."""
    with pytest.raises(ApiError) as refused:
        OfflineStripe(seed=1).call(call, wish)

    assert (refused.value.param, refused.value.code, refused.value.executed) == (param, "parameter_invalid_empty", False)


def test_a_status_that_no_session_has_lists_nothing():
    """It is refused, as at Stripe: a misspelt filter must not look like an empty shop."""
    with pytest.raises(ApiError, match="must be one of open, complete, or expired"):
        OfflineStripe(seed=1).call("GET /v1/checkout/sessions", {"status": "paid"})


def test_an_empty_value_unsets_what_can_be_unset():
    """A text of an update, a list, metadata as a whole and one pair of it."""
    bank = OfflineStripe(seed=1)
    url = "https://teapots.example/"
    tea = {"description": "Green", "unit_label": "pot", "images": [url], "url": url}
    made = bank.call("POST /v1/products", {"name": "Tea", "metadata": {"a": "1", "b": "2"}} | tea)
    gone = bank.call("POST /v1/products/{id}", {"metadata": {"a": ""}} | dict.fromkeys(tea, ""), made["id"])

    assert {name: gone[name] for name in tea} == {"description": None, "unit_label": None, "images": [], "url": None}
    assert gone["metadata"] == {"b": "2"}
    assert bank.call("POST /v1/products/{id}", {"metadata": ""}, made["id"])["metadata"] == {}
