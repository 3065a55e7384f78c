"""The ground under every test: one box for the whole run, a database and a topic prefix for each test.

The box (PostgreSQL and Kafka, real ones) is started once by the process that was called; workers find it in their
environment. A run that asks for nothing but unit tests starts nothing. With CB_TESTS_CONTAINERS set, containers take its
place, for the tests that stand on these two: others have brought what they need themselves, and are left to `make test`.
"""

import asyncio
import gc
import os
import subprocess
import sys
import uuid
from pathlib import Path

import asyncpg
import hypothesis
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from xdist.scheduler import LoadScopeScheduling

from shared import settings
from shared.db import engine as engines
from shared.db import migrate
from shared.kafka import connection as kafka_connection
from tests.support.pool import Pool

# A slow moment of a busy machine is no failure of a property.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

# Where it can be imported, jsonschema builds 38 grammars at once, seven seconds' work, to check international resource
# identifiers; no schema that a test looks at has any.
sys.modules["rfc3987_syntax"] = None

# Four thousand tests are made of millions of objects and no garbage: looking for it took a quarter of the collecting.
gc.disable()

ROOT = Path(__file__).parent.parent
BOXLESS = ("tests/unit", "tests/architecture")
# Each of these makes one thing that all of its tests look at; the house is parsed once.
SHARED = (
    "tests/architecture/",
    "tests/journey/test_box.py",
    "tests/journey/test_box_kept.py",
    "tests/journey/test_demo_ended.py",
    "tests/journey/test_story.py",
    "tests/contract/test_database_tls.py",
    "tests/contract/test_ingress_corpus.py",
    "tests/contract/test_kafka_outages.py",
    "tests/contract/test_ops_roles.py",
    "tests/contract/test_secured_kafka.py",
)
TEMPLATE_GIVEN = "CB_TESTS_TEMPLATE"  # who begins many runs brings one box for all of them, and gives each a template's name
TEMPLATE = os.environ.get(TEMPLATE_GIVEN, "cb_template")
ENGINE_SECONDS_MAX = 10
CONTAINERS_WANTED = "CB_TESTS_CONTAINERS"
# What leads a test to the run's PostgreSQL and Kafka; `door` is tests/contract/test_ingress_corpus.py's, for all of its tests.
LEADING_TO_SERVICES = {"database", "empty_database", "kafka", "door"}
SERVICES = pytest.StashKey()


def pytest_configure(config):
    """Start the box in the controlling process, unless the run needs none."""
    if hasattr(config, "workerinput") or config.option.collectonly or not _needs_a_box(config.args):
        return
    if TEMPLATE_GIVEN not in os.environ:
        services = containers() if CONTAINERS_WANTED in os.environ else first_free_box()
        config.stash[SERVICES] = services
        os.environ |= services.environment
    asyncio.run(_make_template())


def pytest_unconfigure(config):
    """Stop what this process started."""
    services = config.stash.get(SERVICES, None)
    if services is not None:
        services.stop()


def pytest_report_header(config):
    """Say what the tests stand on."""
    services = config.stash.get(SERVICES, None)
    if services is None:
        return None
    return [f"services: {services.name}", f"services: {services.others}"]


def pytest_xdist_auto_num_workers():
    """Two workers more than there are cores: many tests wait for other processes, and for deadlines to pass."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 2


class OneStory(LoadScopeScheduling):
    """Gives each free worker the next test; those that share a demo or a door go to one worker, together and first."""

    def _split_scope(self, nodeid):
        return next((together for together in SHARED if nodeid.startswith(together)), nodeid)


def pytest_xdist_make_scheduler(config, log):
    """Hand tests out one by one."""
    return OneStory(config, log)


def pytest_collection_modifyitems(config, items):
    """Begin with the journeys: they take seconds each, and one that starts last would keep a single worker busy alone."""
    items.sort(key=lambda item: "journey" not in item.path.parts)
    if CONTAINERS_WANTED in os.environ:
        others = [item for item in items if not LEADING_TO_SERVICES & {*item.fixturenames}]
        items[:] = [item for item in items if LEADING_TO_SERVICES & {*item.fixturenames}]
        config.hook.pytest_deselected(items=others)


def pytest_collection_finish(session):
    """Look for garbage from here on, and not among what stays until the end."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def databases():
    """This worker's databases, which its tests hand on."""
    made = Pool(server().replace("+asyncpg", ""), TEMPLATE)
    yield made
    made.close()


@pytest.fixture
def database(databases):
    """Settings of a database of this test's own, migrated, empty; emptied or dropped afterwards."""
    lent = databases.take()
    yield database_settings(lent.name)
    databases.give_back(lent)


@pytest.fixture
async def empty_database():
    """Settings of a database of this test's own without any table."""
    name = f"t_{uuid.uuid4().hex}"
    await _administer(f"create database {name}")
    yield database_settings(name)
    await _administer(f"drop database if exists {name} with (force)")


@pytest.fixture
async def engine(database):
    """An engine on this test's database."""
    made = engines.create(database, application="tests")
    yield made
    await made.dispose()


@pytest.fixture
async def kafka():
    """Settings of Kafka with a topic prefix of this test's own, made by `provision.apply` where needed, deleted afterwards."""
    made = settings.Kafka(
        kafka_bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], topic_prefix=f"t{uuid.uuid4().hex[:12]}."
    )
    yield made
    # Thousands of partitions that nobody reads any more would slow the broker down for every later test.
    admin = AIOKafkaAdminClient(**kafka_connection.for_aiokafka(made))
    await admin.start()
    left = [name for name in await admin.list_topics() if name.startswith(made.topic_prefix)]
    if left:
        await admin.delete_topics(left)
    await admin.close()


def database_settings(name):
    return settings.Database(database_url=f"{server()}/{name}")


def server():
    """Where the run's databases are."""
    return os.environ["DATABASE_URL"].rpartition("/")[0]


def _needs_a_box(arguments):
    paths = [Path(argument.split("::")[0]).resolve() for argument in arguments]
    return not all(any(path.is_relative_to(ROOT / room) for room in BOXLESS) for path in paths)


def first_free_box():
    """Start a box for this run, whose services know their `environment`; its libraries are loaded only where one is needed."""
    from tests.support import run_box

    services = run_box.first_free()
    if services is None:
        raise pytest.UsageError(f"{run_box.BOXES_MAX} test boxes are up already in {run_box.folder_of_boxes()}")
    services.others = of_containers()
    return services


def containers():
    """Start the official images' services in place of a box."""
    from tests.support.containers import NAME, Containers

    services = Containers()
    services.environment = services.start()
    services.name = NAME
    services.others = "tests that stand on neither, or bring a box of their own, are left to `make test`"
    return services


def of_containers():
    """Say whether these tests can run on containers, too."""
    asking = ("docker", "version", "--format", "{{.Server.Version}}")
    try:
        has_engine = subprocess.run(asking, check=False, capture_output=True, timeout=ENGINE_SECONDS_MAX).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        has_engine = False
    if has_engine:
        return "a Docker engine answers, so `make test-containers` runs contract and journeys on the official images, too"
    return "no Docker engine answers, so that nothing here runs on the official images (`make test-containers`)"


async def _make_template():
    await _administer(f"drop database if exists {TEMPLATE} with (force)")
    await _administer(f"create database {TEMPLATE}")
    await migrate.upgrade(database_settings(TEMPLATE))


async def _administer(sql):
    # Without SQLAlchemy, whose engine takes longer to make than a database does.
    url = database_settings("postgres").database_url.get_secret_value()
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    await connection.execute(sql)
    await connection.close()
