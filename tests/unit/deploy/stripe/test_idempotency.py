"""One key, one effect, one answer."""

import pytest

from deploy.dev.stripe.errors import ApiError
from deploy.dev.stripe.idempotency import KEEP_SECONDS, Answers, Fresh, fingerprint

ONE, OTHER = fingerprint("POST", "/v1/refunds", [("a", "1")]), fingerprint("POST", "/v1/refunds", [("a", "2")])


def test_a_settled_key_gives_its_answer_again():
    """Whatever was answered, an error included, is answered again for a day."""
    answers = Answers()
    answers.begin("k", ONE, now=0)
    kept = answers.settle("k", 500, "{}", now=0)

    assert kept == answers.begin("k", ONE, now=KEEP_SECONDS - 1)
    assert Fresh() == answers.begin("k", ONE, now=KEEP_SECONDS)


@pytest.mark.parametrize("settled", [True, False])
def test_other_parameters_are_refused(settled):
    """A key names one request, at work or answered."""
    answers = Answers()
    answers.begin("k", ONE, now=0)
    if settled:
        answers.settle("k", 200, "{}", now=0)

    with pytest.raises(ApiError) as refused:
        answers.begin("k", OTHER, now=1)

    assert (refused.value.status, refused.value.kind) == (400, "idempotency_error")


def test_a_key_at_work_is_refused_until_it_is_released():
    """Two at once would be two effects."""
    answers = Answers()
    answers.begin("k", ONE, now=0)
    with pytest.raises(ApiError) as refused:
        answers.begin("k", ONE, now=0)
    answers.release("k")

    assert refused.value.status == 409
    assert Fresh() == answers.begin("k", OTHER, now=0)


def test_the_order_of_parameters_does_not_matter():
    """The same wishes are the same request."""
    pairs = [("a", "1"), ("b", "2")]

    assert fingerprint("POST", "/x", pairs) == fingerprint("POST", "/x", pairs[::-1])
    assert fingerprint("POST", "/x", pairs) != fingerprint("POST", "/y", pairs)
