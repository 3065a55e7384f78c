"""Values that are wrong, each with a word of what Helm must say of it; nothing of them may be rendered."""

import copy
from concurrent.futures import ThreadPoolExecutor

from tests.chart import rendering
from tests.chart.rendering import LEAST

PLACE = {"name": "culturebridge", "key": "KEY"}
# The path of a value, the value, and what is said.
WRONG = (
    ("settings.KAFKA_BOOTSTRAP_SERVERS", None, "KAFKA_BOOTSTRAP_SERVERS"),
    ("settings.KAFKA_BOOTSTRAP_SERVERS", "kafka", "KAFKA_BOOTSTRAP_SERVERS"),
    ("settings.SMTP_FROM_EMAIL", None, "SMTP_FROM_EMAIL"),
    ("settings.SMTP_SECURITY", "ssl", "SMTP_SECURITY"),
    ("settings.CHECKOUT_SESSION_MINUTES", 30, "CHECKOUT_SESSION_MINUTES"),
    ("settings.SMTP_PASSWORD", "in the clear", "SMTP_PASSWORD"),
    ("settings.KAFKA_BOOTSTRAP_SERVER", "kafka:9092", "KAFKA_BOOTSTRAP_SERVER"),
    ("settings.KAFKA_INSTANCE_ID", "the same for all", "KAFKA_INSTANCE_ID"),
    ("secrets.DATABASE_URL", "postgresql://user:password@host/name", "DATABASE_URL"),
    ("secrets.STRIPE_SECRET_KEY", None, "STRIPE_SECRET_KEY"),
    ("secrets.JWT_SECRET_KEY", None, "JWT_SECRET_KEY"),
    ("secrets.SMTP_HOST", PLACE, "SMTP_HOST"),
    ("image.repository", None, "/image': missing property 'repository'"),
    ("image.repository", "", "/image/repository'"),
    ("image", {}, "/image/repository'"),
    ("image.tag", "latest", "tag"),
    ("processes.ingress.replicas.min", 1, "min"),
    ("processes.payments.replicas.max", 13, "max"),
    ("processes.payments.replicas", {"min": 5, "max": 4}, "min is greater than max"),
    ("processes.payments.settings.HEALTH_PORT", 0, "HEALTH_PORT"),
    ("processes.letters", {}, "letters"),
    ("door.ingress.enabled", True, "host"),
    ("network.kafka.to", [], "kafka"),
    ("network.smtp.to", [{"cidr": "203.0.113.25/32"}], "smtp"),
    ("tasks.topics.brokers", 0, "brokers"),
    ("tasks.inbox-prune.schedule", "daily", "schedule"),
    ("tasks.stripe-reconcile.schedule", "* * * *", "schedule"),
)


def complaints():
    """Return the wrong values that are taken, or refused in words that do not name them."""
    with ThreadPoolExecutor(4) as several:
        return [told for told in several.map(lambda wrong: _judged(*wrong), WRONG) if told]


def _judged(path, value, word):
    values = copy.deepcopy(LEAST)
    *holders, last = path.split(".")
    holder = values
    for step in holders:
        holder = holder.setdefault(step, {})
    holder[last] = value
    try:
        rendering.rendered(values)
    except rendering.Refused as refused:
        return None if word in str(refused) else f"{path}={value!r} is refused without a word of {word}: {refused}"
    return f"{path}={value!r} is rendered"
