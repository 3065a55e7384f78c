"""Every API version that we claim to know is tried, and one that we do not know is judged by its shape alone."""

from pathlib import Path
from typing import get_args

import pytest
from stripe.params import WebhookEndpointCreateParams

from consumers.payments import versions
from consumers.payments.translate import Event, Refusal, translate
from shared.domain.payment import ChargeRefunded, DisputeSeen, Failed, Paid, RefundSeen
from shared.stripe_events import API_VERSION, API_VERSIONS_KNOWN
from tests.support.builders import Sale, bytes_of

FOLDER = Path(__file__).parent.parent / "examples" / "stripe" / "versions"
OLDEST = "2025-04-30.basil"
UNKNOWN = "2027-03-31.fennel"


def story(version):
    return [translate(line) for line in (FOLDER / f"{version}.jsonl").read_bytes().splitlines()]


def test_no_version_of_the_library_is_missing_from_the_list():
    """From the oldest that we take to the one that our own client speaks; a newer library makes this red."""
    [literal] = get_args(WebhookEndpointCreateParams.__annotations__["api_version"])
    offered = {version for version in get_args(literal) if version[0].isdigit()}

    assert {version for version in offered if version >= OLDEST} == API_VERSIONS_KNOWN
    assert max(API_VERSIONS_KNOWN) == API_VERSION


def test_no_version_is_known_without_its_examples():
    """A file a version, and no other."""
    assert {path.stem for path in FOLDER.glob("*.jsonl")} == API_VERSIONS_KNOWN


@pytest.mark.parametrize("version", sorted(API_VERSIONS_KNOWN))
def test_a_payment_means_the_same_in_every_version(version):
    """Completed, paid, declined, partly refunded, disputed: the same facts and ids, whatever else came or went."""
    told = story(version)

    assert [event.fact for event in told] == [
        Paid(7500, "usd"),
        Paid(7500, "usd"),
        Failed(1801647002, "insufficient_funds"),
        ChargeRefunded(2500),
        RefundSeen("re_3CultureBridge", "succeeded", 2500),
        DisputeSeen("du_1CultureBridge", "won" if version < "2025-09-30" else "prevented", 7500),
    ]
    assert {event.api_version for event in told} == {version}
    assert {event.intent_id for event in told} == {"pi_3CultureBridge"}
    assert {str(event.payment_id) for event in told[:4]} == {"019c1f6e-7a51-7c2e-9b7d-3f1f0a6d2c11"}


@pytest.mark.parametrize("version", [UNKNOWN, None, "2019-05-16"])
def test_an_unknown_version_is_no_reason_to_refuse(version):
    """What decodes is handled."""
    event = translate(bytes_of(Sale().succeeded() | {"api_version": version}))

    assert isinstance(event, Event)
    assert event.fact == Paid(7500, "usd")


def test_an_unknown_version_is_refused_once_its_shape_is_another():
    """Money is not guessed from a shape that nobody has seen."""
    assert isinstance(translate(bytes_of(Sale().succeeded(amount_received="75.00") | {"api_version": UNKNOWN})), Refusal)


@pytest.mark.parametrize(
    ("version", "label"),
    [(OLDEST, OLDEST), ("2019-05-16", "2019-05-16"), (UNKNOWN, UNKNOWN), (None, "none"), ("", "other"), ("x" * 99, "other")],
)
def test_a_label_is_a_version_or_says_why_not(version, label):
    """Nothing else becomes a time series."""
    assert versions.label(version) == label
