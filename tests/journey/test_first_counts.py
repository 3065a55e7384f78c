"""What an alert counts is 0 before it happens: of a series that begins at one, Prometheus's increase() shows nothing."""

from shared import topics
from shared.letters.words import LETTERS


async def test_a_webhook_that_ends_in_an_error_of_ours(pipeline):
    """WebhooksBroken."""
    await pipeline.start("ingress")
    await pipeline.until_ready("ingress")

    assert 'webhook_requests_total{outcome="internal"} 0.0' in await pipeline.metrics("ingress")


async def test_letters_that_are_given_up_and_records_that_are_passed_over(pipeline, kafka):
    """LettersGivenUp and RecordsPassedOver: every letter that there is, and every topic that the process reads."""
    await pipeline.start("email")
    await pipeline.until_ready("email")
    lines = await pipeline.metrics("email")

    letters = [letter.partition("_")[::2] for letter in LETTERS]
    read = [topic.named(kafka.topic_prefix) for topic in (topics.BOOKINGS_EVENTS, topics.PAYMENTS_EVENTS, *topics.EMAIL_LADDER)]
    assert {line for line in lines if line.startswith("letters_total{")} == {
        f'letters_total{{kind="{kind}",outcome="dead",role="{role}"}} 0.0' for role, kind in letters
    }
    assert {line for line in lines if line.startswith("kafka_records_passed_over_total{")} == {
        f'kafka_records_passed_over_total{{topic="{topic}"}} 0.0' for topic in read
    }
