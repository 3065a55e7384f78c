"""The rights of our processes in the cluster: the least that the map of topics asks for, and what the cluster allows.

Enters: the Kafka settings and shared/topics.py. Leaves: a report; missing rules are created, rules beyond the map are reported
and left alone. A process logs in as the user of its name (with `TOPIC_PREFIX` before it), writes the topics that the map lets
it write, reads those that it reads and joins the groups by which it does; nobody may create, change or delete anything.
aiokafka has no methods for ACLs (its issue 955), only the protocol's requests. Next: `cb-ops acls` and a secured box call it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aiokafka import AIOKafkaClient
from aiokafka.errors import SecurityDisabled, for_code
from aiokafka.protocol.admin import CreateAclsRequest, DescribeAclsRequest

from shared import errors, settings, topics
from shared.kafka import connection

VISIBLE_SECONDS_MAX = 10.0
VISIBLE_EVERY_SECONDS = 0.05
EVERY_HOST = "*"
EVERY_NAME = "*"
EVERY_USER = "User:*"
ANY = 1  # of whatever code

# The codes of the protocol, https://kafka.apache.org/protocol and the Java client's AclOperation, ResourceType, PatternType.
OPERATIONS: Mapping[int, str] = dict(
    enumerate(
        ("all", "read", "write", "create", "delete", "alter", "describe", "cluster-action", "describe-configs", "alter-configs",
         "idempotent-write", "create-tokens", "describe-tokens", "two-phase-commit"),
        start=2,
    )
)  # fmt: skip
RESOURCES: Mapping[int, str] = dict(
    enumerate(("topic", "group", "cluster", "transactional-id", "delegation-token", "user"), start=2)
)
PATTERNS: Mapping[int, str] = {3: "literal", 4: "prefixed"}
PERMISSIONS: Mapping[int, str] = {2: "deny", 3: "allow"}


class Unguarded(errors.PipelineError):
    """The cluster has no authorizer: every client that reaches it may do everything, whatever ACLs say."""


class Operation(StrEnum):
    """What processes do; each lets its holder see (describe) the resource, too."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """One rule of the cluster; the names are those of Kafka's own tools, in lower case."""

    principal: str
    operation: str
    resource: str
    name: str
    pattern: str = "literal"
    permission: str = "allow"
    host: str = EVERY_HOST

    def __str__(self) -> str:
        star = "*" if self.pattern == "prefixed" else ""
        host = "" if self.host == EVERY_HOST else f" from {self.host}"
        return f"{self.principal} {self.permission} {self.operation} {self.resource} {self.name}{star}{host}"


@dataclass(frozen=True, slots=True)
class Report:
    """How the cluster differs from the map: what was (or, planning, would be) created, what was there, what is beyond it."""

    missing: tuple[Acl, ...]
    unchanged: tuple[Acl, ...]
    beyond: tuple[Acl, ...]


def principal(process: str, *, prefix: str) -> str:
    """Return how the cluster calls a process: the name of its SCRAM user is its own, after `TOPIC_PREFIX`."""
    return f"User:{prefix}{process}"


def wanted(prefix: str) -> frozenset[Acl]:
    """Return all that the processes need, and nothing else. Pure."""
    found = set()
    for topic in topics.ALL:
        name = topic.named(prefix)
        found |= {Acl(principal(process, prefix=prefix), Operation.WRITE, "topic", name) for process in topic.producers}
        for process, group in zip(topic.consumers, topic.groups, strict=True):
            user = principal(process, prefix=prefix)
            found |= {Acl(user, Operation.READ, "topic", name), Acl(user, Operation.READ, "group", prefix + group)}
    return frozenset(found)


def compared(present: Iterable[Acl], *, prefix: str) -> Report:
    """Compare what a cluster allows with what is wanted. Pure.

    Beyond it is every other rule about our users (and about all users), topics and groups, whether it allows or denies.
    """
    there, asked = frozenset(present), wanted(prefix)
    users = {acl.principal for acl in asked} | {EVERY_USER}
    ours = {(acl.resource, acl.name) for acl in asked} | {("topic", topic.named(prefix)) for topic in topics.ALL}
    beyond = {acl for acl in there - asked if acl.principal in users or any(_covers(acl, one) for one in ours)}
    return Report(tuple(sorted(asked - there)), tuple(sorted(asked & there)), tuple(sorted(beyond)))


async def plan(kafka: settings.Kafka) -> Report:
    """Compare and change nothing. Raises Unguarded, or KafkaError when the cluster refuses."""
    async with _connected(kafka) as client:
        return compared(await _present(client), prefix=kafka.topic_prefix)


async def apply(kafka: settings.Kafka) -> Report:
    """Create what is missing, and return once the cluster applies it; deletes nothing. Raises as `plan` does."""
    async with _connected(kafka) as client:
        report = compared(await _present(client), prefix=kafka.topic_prefix)
        await _create(client, report.missing)
        async with asyncio.timeout(VISIBLE_SECONDS_MAX):
            while not set(report.missing) <= await _present(client):  # noqa: ASYNC110 - Kafka notifies nobody of it
                await asyncio.sleep(VISIBLE_EVERY_SECONDS)
    return report


def _covers(acl: Acl, resource: tuple[str, str]) -> bool:
    kind, name = resource
    if acl.resource != kind:
        return False
    return name.startswith(acl.name) if acl.pattern == "prefixed" else acl.name in {name, EVERY_NAME}


@asynccontextmanager
async def _connected(kafka: settings.Kafka) -> AsyncIterator[AIOKafkaClient]:
    client = AIOKafkaClient(**connection.for_aiokafka(kafka), client_id="culturebridge-acls")
    try:
        await connection.until_answers(kafka, client.bootstrap, stopping=None)
        yield client
    finally:
        await client.close()


async def _present(client: AIOKafkaClient) -> set[Acl]:
    everything = DescribeAclsRequest(ANY, None, ANY, None, None, ANY, ANY)
    answer = await client.send(client.get_random_node(), everything)
    _require_done(answer.error_code, answer.error_message)
    return {
        Acl(user, _named(OPERATIONS, operation), _named(RESOURCES, kind), name, _named(PATTERNS, pattern),
            _named(PERMISSIONS, permission), host)
        for kind, name, pattern, rules in answer.resources
        for user, host, operation, permission in rules
    }  # fmt: skip


class _Creations(CreateAclsRequest):
    """A request for many rules; aiokafka's own creates one, and each would wait for the controllers' quorum."""

    def __init__(self, rules: Sequence[tuple[object, ...]]) -> None:
        self._rules = rules

    def build(self, request_struct_class: Any) -> Any:
        """Return the request; its first version, of brokers older than 2.0, has no patterns."""
        return request_struct_class(self._rules)


async def _create(client: AIOKafkaClient, rules: Sequence[Acl]) -> None:
    if not rules:
        return
    creations = [
        (
            _code(RESOURCES, acl.resource),
            acl.name,
            _code(PATTERNS, acl.pattern),
            acl.principal,
            acl.host,
            _code(OPERATIONS, acl.operation),
            _code(PERMISSIONS, acl.permission),
        )
        for acl in rules
    ]
    answer = await client.send(client.get_random_node(), _Creations(creations))
    for code, message in answer.creation_responses:
        _require_done(code, message)


def _require_done(code: int, message: str | None) -> None:
    error = for_code(code)
    if error is SecurityDisabled:
        raise Unguarded("no authorizer is configured: whoever reaches the brokers may do everything")
    if code:
        raise error(message or error.__name__)


def _named(names: Mapping[int, str], code: Any) -> str:
    return names.get(code, f"code-{code}")  # of a cluster that is newer than this release


def _code(names: Mapping[int, str], name: str) -> int:
    return next(code for code, known in names.items() if known == name)
