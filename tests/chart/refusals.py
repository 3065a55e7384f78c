"""Values that are wrong, each with a word of what Helm must say of it; nothing of them may be rendered.

And values that are right, although few would give them: with what comes of those each process would start.
"""

import copy
from concurrent.futures import ThreadPoolExecutor

from tests.chart import pods, rendering
from tests.chart.rendering import LEAST

PLACE = {"name": "culturebridge", "key": "KEY"}
SSL = {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_FILE": "/etc/culturebridge/kafka-ca.pem"}
IN_THE_CLEAR = {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "payments"}
# The path of a value (none: several values), the value, and what is said.
WRONG = (
    ("settings.KAFKA_BOOTSTRAP_SERVERS", None, "KAFKA_BOOTSTRAP_SERVERS"),
    ("settings.KAFKA_BOOTSTRAP_SERVERS", "kafka", "KAFKA_BOOTSTRAP_SERVERS"),
    ("settings.CHECKOUT_ALLOWED_ORIGINS", "http://culturebridge.example", "CHECKOUT_ALLOWED_ORIGINS"),
    ("settings.CHECKOUT_ALLOWED_ORIGINS", "https://culturebridge.example,https://*.example", "CHECKOUT_ALLOWED_ORIGINS"),
    ("settings.INGRESS_HOST", "127.0.0.1", "INGRESS_HOST"),
    ("settings.HEALTH_HOST", "127.0.0.1", "HEALTH_HOST"),
    ("settings.INGRESS_PORT", 8001, "INGRESS_PORT and HEALTH_PORT"),
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
    ("monitoring.serviceMonitor", True, "network.metrics.from"),
    ("monitoring.alerts", "deploy/observability/prometheus/alerts.yml", "no groups of rules"),
    # Each well by itself; what no process would start with together.
    ("settings", LEAST["settings"] | {"JWT_ALGORITHM": "RS256"}, "JWT_PUBLIC_KEY"),
    ("secrets", {"JWT_SECRET_KEY": None, "JWT_PUBLIC_KEY": PLACE}, "JWT_SECRET_KEY"),
    ("settings.KAFKA_SECURITY_PROTOCOL", "SASL_SSL", "KAFKA_SASL_USERNAME and KAFKA_SECURITY_PROTOCOL"),
    ("settings.KAFKA_SASL_USERNAME", "payments", "KAFKA_SASL_PASSWORD belong together"),
    ("secrets.KAFKA_SASL_PASSWORD", PLACE, "KAFKA_SASL_PASSWORD belong together"),
    ("processes.email.settings.KAFKA_SASL_USERNAME", "email", "email: the setting KAFKA_SASL_USERNAME"),
    ("settings.KAFKA_SSL_CA_FILE", "/etc/ssl/certs/ca-certificates.crt", "PLAINTEXT is not encrypted"),
    ("settings", LEAST["settings"] | SSL, "certificates does not mount"),
    ("", {"settings": LEAST["settings"] | IN_THE_CLEAR, "secrets": {"KAFKA_SASL_PASSWORD": PLACE}}, "in the clear"),
    ("settings.SMTP_USER", "culturebridge", "SMTP_PASSWORD belong together"),
    ("secrets.SMTP_PASSWORD", PLACE, "SMTP_PASSWORD belong together"),
    ("settings", LEAST["settings"] | {"SMTP_SECURITY": "none", "SMTP_SSL_CA_FILE": "/etc/ssl/ca.pem"}, "not encrypted"),
)
RIGHT = (
    {"settings": {"INGRESS_CONNECTIONS_PER_ADDRESS_MAX": 1_000_000}},
    {"settings": {"CHECKOUT_ALLOWED_ORIGINS": "https://Shop.example:8443/,http://localhost:3000,http://[::1]"}},
    {"settings": {"INGRESS_HOST": "::", "HEALTH_HOST": "::"}},
    {"settings": {"JWT_ALGORITHM": "ES256"}, "secrets": {"JWT_SECRET_KEY": None, "JWT_PUBLIC_KEY": PLACE}},
    {"settings": {"SMTP_USER": "culturebridge"}, "secrets": {"SMTP_PASSWORD": PLACE}},
    {"settings": SSL, "certificates": {"kafka-ca.pem": PLACE}},
    {"settings": IN_THE_CLEAR | {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"}, "secrets": {"KAFKA_SASL_PASSWORD": PLACE}},
    {"processes": {"payments": {"settings": {"KAFKA_INSTANCE_ID": ""}}}},
)


def complaints():
    """Return the wrong values that are taken, or refused in words that do not name them."""
    with ThreadPoolExecutor(4) as several:
        return [told for told in several.map(lambda wrong: _judged(*wrong), WRONG) if told]


def complaints_of_right():
    """Return the right values that are refused, or with which a process would not start."""
    with ThreadPoolExecutor(4) as several:
        told = zip(RIGHT, several.map(_started, RIGHT), strict=True)
        return [f"{values}: {line}" for values, lines in told for line in lines]


def _started(values):
    whole = LEAST | values | {"settings": LEAST["settings"] | values.get("settings", {})}
    try:
        manifests = rendering.rendered(whole)
    except rendering.Refused as refused:
        return [str(refused)]
    return [line for name, pod in manifests.pods.items() for line in pods.complaints(name, pod["spec"])]


def _judged(path, value, word):
    values = copy.deepcopy(LEAST)
    *holders, last = path.split(".")
    holder = values
    for step in holders:
        holder = holder.setdefault(step, {})
    holder |= {last: value} if path else value
    try:
        rendering.rendered(values)
    except rendering.Refused as refused:
        return None if word in str(refused) else f"{path}={value!r} is refused without a word of {word}: {refused}"
    return f"{path}={value!r} is rendered"
