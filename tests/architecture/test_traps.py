"""Features of FastStream and aiokafka that lose messages or open doors, and are therefore used nowhere.

Why each is a trap stands beside it; what is used instead is tested by behaviour in tests/contract.
"""

import ast

import pytest

from tests.architecture.source import ROOT, module, product

TRAPS = {
    "AsgiFastStream": "its docs page takes unauthenticated POSTs that publish to any topic, and can stop the live consumer",
    "try_it_out_path": "the same door",
    "KafkaRouter": "its subscribers ignore the broker's ack policy and fall back to committing before handling",
    "ExceptionMiddleware": "it swallows what a handler raises, and the batch is acknowledged unprocessed",
    "publish_batch": "it ignores keys: a whole batch goes to one random partition",
    "BatchPublisher": "the same",
    "max_workers": "handlers of one partition run side by side, and offsets pass what is not done",
    "key_deserializer": "when it raises, records of other partitions already taken are lost with the next commit",
    "value_deserializer": "the same",
    "ACK_FIRST": "it commits before the work is done",
    "enable_auto_commit": "offsets follow a clock and not the work",
    "getone": "it moves the position before the record is handled",
}
# Where a name of the list stands because it is denied: read each time when this list grows.
DENIED = {
    "enable_auto_commit": {"shared/kafka/broker.py", "deploy/ops/insights.py"},
}


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_is_used_nowhere(name):
    """Whoever needs it has to read here first why it is not used."""
    users = {one.path for one in product() if name in one.names}

    assert users == DENIED.get(name, set()), TRAPS[name]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("from faststream.asgi import AsgiFastStream", "AsgiFastStream"),
        ("app = faststream.asgi.AsgiFastStream(broker)", "AsgiFastStream"),
        ("router = kafka.KafkaRouter()", "KafkaRouter"),
        ("await broker.publish_batch(*m, topic=t)", "publish_batch"),
        ("broker.subscriber(t, max_workers=4)", "max_workers"),
        ('broker.subscriber(t, **{"max_workers": 4})', "max_workers"),
        ("AIOKafkaConsumer(value_deserializer=json.loads)", "value_deserializer"),
        ("from faststream import ExceptionMiddleware as E", "ExceptionMiddleware"),
        ("policy = AckPolicy.ACK_FIRST", "ACK_FIRST"),
    ],
)
def test_a_trap_is_seen_where_it_is_planted(text, name):
    """The rule itself is tried, in each way in which a name can be used."""
    assert name in module("planted.py", text).names


def test_auto_commit_is_named_only_to_be_refused():
    """The broker's factory demands False of every subscription, and the operator's reader has no group."""
    tree = ast.parse((ROOT / "deploy/ops/insights.py").read_text())
    set_to = [node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "enable_auto_commit"]
    assert [value.value for value in set_to] == [False]
