"""What `cb-ops stripe check` makes of an endpoint: missing, extra, wrong, and when that is a failure."""

from dataclasses import replace

import pytest

from deploy.ops import endpoint
from shared.stripe_api import Endpoint
from shared.stripe_events import API_VERSION, Kind

GOOD = Endpoint(
    id="we_1",
    url="https://pay.example/payment/webhook",
    enabled=True,
    events=tuple(Kind),
    api_version=API_VERSION,
    livemode=True,
)


def found(*endpoints, livemode=True, expected="acct_1"):
    findings = endpoint.check(endpoints, livemode=livemode, account_id="acct_1", expected_account_id=expected)
    return [(finding.what, finding.wrong) for finding in findings]


@pytest.mark.parametrize("expected", ["acct_1", None])
def test_of_an_endpoint_that_sends_all_that_we_handle_nothing_is_found(expected):
    """An endpoint that sends what we handle, at our version: nothing to say."""
    assert found(GOOD, expected=expected) == []


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_that_is_not_sent_is_wrong(kind):
    """Each of them, by name."""
    one = replace(GOOD, events=tuple(set(Kind) - {kind}))

    [finding] = endpoint.check([one], livemode=True, account_id="acct_1", expected_account_id=None)

    assert (finding.what, finding.wrong, finding.text) == ("events_missing", True, f"no enabled endpoint sends us {kind}")


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"enabled": False}, [("events_missing", True), ("disabled", True)]),
        ({"livemode": False}, [("events_missing", True), ("another_mode", True)]),
        ({"url": "https://pay.example/payment/webhooks"}, [("no_endpoint", True)]),
        ({"events": ("*",)}, [("events_extra", False)]),
        ({"events": (*Kind, "charge.succeeded")}, [("events_extra", False)]),
        ({"api_version": "2025-09-30.clover"}, [("version_older", False)]),
        ({"api_version": "2019-12-03"}, [("version_unknown", False)]),
        ({"api_version": "2027-03-31.fennel"}, [("version_unknown", False)]),
        ({"api_version": None}, [("version_unset", False)]),
    ],
)
def test_what_is_found_and_whether_it_is_wrong(changes, finding):
    """Wrong is what loses events; what is merely worth knowing fails nothing."""
    assert found(replace(GOOD, **changes)) == finding


def test_no_endpoint_at_all_is_wrong():
    """A fresh account, or another one's key."""
    assert found() == [("no_endpoint", True)]


def test_the_key_of_another_account_is_wrong():
    """Its events would be ignored one and all."""
    assert found(GOOD, expected="acct_2") == [("another_account", True)]


def test_two_endpoints_may_share_the_kinds():
    """During a move the old one and the new one send what we need together; a third that leads elsewhere is noted."""
    kinds = list(Kind)
    halves = [replace(GOOD, id=f"we_{n}", events=tuple(part)) for n, part in enumerate((kinds[:5], kinds[5:]))]
    elsewhere = replace(GOOD, id="we_9", url="https://other.example/hook", events=("*",), enabled=False)

    assert found(*halves, elsewhere) == [("elsewhere", False)]
