"""Who may do what in the cluster, as it follows from the map of topics."""

import pytest

from shared import topics
from shared.kafka import acls
from shared.kafka.acls import Acl


def of(process, operation, resource):
    return {
        acl.name
        for acl in acls.wanted("")
        if (acl.principal, acl.operation, acl.resource) == (f"User:{process}", operation, resource)
    }


def test_the_door_writes_what_stripe_says_and_nothing_else():
    """Who stands towards the internet reads nothing: no topic, no group."""
    assert of("ingress", "write", "topic") == {"stripe.events"}
    assert of("ingress", "read", "topic") == of("ingress", "read", "group") == set()


def test_the_payments_consumer_has_its_three_topics():
    """It reads what Stripe says, writes what that means, and puts aside what it cannot take."""
    assert of("payments", "read", "topic") == {"stripe.events"}
    assert of("payments", "write", "topic") == {"payments.events", "stripe.events.dlt"}
    assert of("payments", "read", "group") == {"payments"}


def test_nobody_may_do_more_than_read_and_write_what_is_named():
    """No rule creates, alters or deletes, none is for a pattern of names or for everybody."""
    found = acls.wanted("")

    assert {acl.operation for acl in found} == {"read", "write"}
    assert {(acl.pattern, acl.permission) for acl in found} == {("literal", "allow")}
    assert {acl.principal for acl in found} == {f"User:{process}" for process in topics.PROCESSES}


def test_staging_beside_production_has_users_of_its_own():
    """The prefix stands before topics, groups and users: who is let in there has no right here."""
    found = acls.wanted("stage.")

    assert all(acl.name.startswith("stage.") and acl.principal.startswith("User:stage.") for acl in found)
    assert not found & acls.wanted("")


@pytest.mark.parametrize(
    "extra",
    [
        Acl("User:payments", "write", "topic", "stripe.events"),
        Acl("User:payments", "read", "topic", "somebody.elses"),
        Acl("User:stranger", "read", "topic", "stripe.events"),
        Acl("User:stranger", "all", "topic", "payments", "prefixed"),
        Acl("User:stranger", "read", "topic", "*"),
        Acl("User:stranger", "read", "group", "email"),
        Acl("User:*", "read", "topic", "somebody.elses"),
        Acl("User:ingress", "write", "topic", "stripe.events", permission="deny"),
    ],
)
def test_what_goes_beyond_the_map_is_told(extra):
    """More for ours, ours for others, for everybody, by pattern, or a rule that keeps ours out."""
    report = acls.compared({*acls.wanted(""), extra}, prefix="")

    assert (report.missing, report.beyond) == ((), (extra,))


@pytest.mark.parametrize(
    "other",
    [
        Acl("User:stranger", "read", "topic", "somebody.elses"),
        Acl("User:stranger", "read", "topic", "stripe.events.dlt.of.theirs"),
        Acl("User:stranger", "read", "group", "stripe.events"),
        Acl("User:stage.payments", "read", "topic", "stage.stripe.events"),
    ],
)
def test_what_others_do_among_themselves_is_not_our_business(other):
    """A cluster has more than ours."""
    assert acls.compared({other}, prefix="").beyond == ()


def test_a_rule_is_told_as_kafkas_own_tools_say_it():
    """Who, whether, what, upon what."""
    assert str(Acl("User:payments", "read", "topic", "stripe.events")) == "User:payments allow read topic stripe.events"
    assert str(Acl("User:x", "all", "group", "e", "prefixed", "deny", "10.0.0.1")) == "User:x deny all group e* from 10.0.0.1"
