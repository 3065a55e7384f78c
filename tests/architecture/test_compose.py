"""docker-compose.yml, the cluster's compose.yml and .env.example.

Pinned images, loopback alone, no secret, each process with what it reads. What a cluster has besides: test_cluster.py.
"""

import re

import pytest

from consumers.payments.app import Settings as PaymentsSettings
from deploy.dev.box.pipeline import PROCESSES
from deploy.dev.demo import compose
from shared import environment, settings
from shared.ending import STOP_SECONDS_MAX
from shared.kafka import acls
from tests.architecture import composition
from tests.architecture.source import ROOT
from tests.architecture.test_images import SETTINGS, STAGES
from tests.architecture.test_readme import CONCERNS

TEXTS = [composition.STACK.read_text(), composition.CLUSTER.read_text()]
SERVICES = composition.services(composition.STACK)
CLUSTER = composition.services(composition.CLUSTER)
EVERY = {f"stack: {name}": service for name, service in SERVICES.items()} | {
    f"cluster: {name}": service for name, service in CLUSTER.items()
}
OWN_BUILD = "balancer"  # the cluster's, of a Dockerfile of its own
EXAMPLE = (ROOT / ".env.example").read_text()
ASKED_FOR = {name for text in TEXTS for name in re.findall(r"\$\{([A-Z0-9_]+)", text)}
READ = {name.upper() for concern in CONCERNS for name in concern.model_fields}
SECRET = {name.upper() for concern in CONCERNS for name in environment.secrets_of(concern)}


def example():
    """The variables of .env.example with their values, None for those that stand in a comment."""
    lines = re.findall(r"^(# )?([A-Z0-9_]+)=(.*)$", EXAMPLE, re.MULTILINE)
    return {name: None if commented else value for commented, name, value in lines}


def processes(process):
    """The services of both files that run a process, by their names."""
    return {name: service for name, service in EVERY.items() if re.fullmatch(rf"\w+: {process}(-\d)?", name)}


@pytest.mark.parametrize("name", EVERY)
def test_a_service_is_pinned_and_published_to_this_machine_alone(name):
    """`latest` is another program every day; a port on every address is open to the network."""
    service = EVERY[name]
    _, _, tag = service["image"].partition(":")

    assert tag
    assert tag != "latest"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "privileged" not in service
    if "build" in service:
        assert service["build"] == OWN_BUILD or service["build"]["target"] in STAGES
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_our_own_images_are_built_and_never_pulled():
    """Compose looks on a public hub first, unless it is told to build; there, our names may be anybody's."""
    ours = {name for name, service in EVERY.items() if service["image"].startswith("culturebridge/")}

    assert ours == {name for name, service in EVERY.items() if "build" in service}
    assert ours == {name for name, service in EVERY.items() if service.get("pull_policy") == "build"}


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_is_given_what_it_reads_and_no_more(process):
    """The mail's password is no business of the door, nor Stripe's key of the letters."""
    fields = SETTINGS[process].model_fields
    needed = {name.upper() for name, field in fields.items() if field.is_required()}

    for service in processes(process).values():
        assert needed <= set(service["environment"]) <= {name.upper() for name in fields}


def test_no_secret_stands_in_the_file():
    """Each comes from the environment, and what must be there is asked for."""
    for name, service in EVERY.items():
        for variable, value in service.get("environment", {}).items():
            if variable in SECRET | {"POSTGRES_PASSWORD"}:
                assert not value or re.fullmatch(r".*\$\{[A-Z_]+:(\?.*|-)\}.*", value), f"{name}: {variable}"


def given(name, variables):
    """What a service's container is told, as compose writes it: `${A:-else}`, `${A:+then}`, and `A:` for its own value."""

    def written(text):
        while found := re.search(r"\$\{([A-Z_]+)(?::([-+?])([^${}]*))?\}", text):
            value, sign, other = variables.get(found[1], ""), found[2], found[3]
            text = text.replace(found[0], (other if value else "") if sign == "+" else value or (other if sign == "-" else ""))
        return text

    told = SERVICES[name].get("environment", {}).items()
    return {key: variables.get(key, "") if value is None else written(str(value)) for key, value in told}


@pytest.mark.parametrize("name", [*PROCESSES, "topics", "cb-ops"])
@pytest.mark.parametrize("prefix", ["", "stage."])
def test_a_secured_cluster_is_a_matter_of_settings(name, prefix):
    """Each logs in as itself with its own password, by the authority that is mounted; operators are one user everywhere."""
    passwords = {variable: f"of {variable}" for variable in ASKED_FOR if variable.startswith("KAFKA_SASL_PASSWORD_")}
    cluster = {"KAFKA_BOOTSTRAP_SERVERS": "kafka-1:9093,kafka-2:9093", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}
    told = given(name, cluster | passwords | {"KAFKA_SSL_CA_FILE": "./ca.pem", "TOPIC_PREFIX": prefix})
    mounted = SERVICES[name]["volumes"][0]
    user = "cb-ops" if name in {"topics", "cb-ops"} else name

    assert told.pop("KAFKA_SSL_CA_FILE") == mounted["target"]
    assert mounted["read_only"]
    kafka = settings.Kafka(_env_file=None, **{key.lower(): value for key, value in told.items() if value})
    assert kafka.kafka_bootstrap_servers == ("kafka-1:9093", "kafka-2:9093")
    assert f"User:{kafka.kafka_sasl_username}" == acls.principal(user, prefix="" if user == "cb-ops" else prefix)
    assert kafka.kafka_sasl_password.get_secret_value() == f"of KAFKA_SASL_PASSWORD_{user.upper().replace('-', '_')}"


def test_a_mail_server_of_an_authority_of_ones_own_is_a_matter_of_settings():
    """Its file is mounted where the email process looks for it; without one nothing is told."""
    _, mounted = SERVICES["email"]["volumes"]

    assert given("email", {"SMTP_SSL_CA_FILE": "./ca.pem"})["SMTP_SSL_CA_FILE"] == mounted["target"]
    assert (mounted["source"], mounted["read_only"]) == ("${SMTP_SSL_CA_FILE:-/dev/null}", True)
    assert given("email", {})["SMTP_SSL_CA_FILE"] == ""


@pytest.mark.parametrize("name", [*PROCESSES, "topics", "cb-ops"])
def test_without_one_it_is_the_stack_s_own_broker(name):
    """Nothing that was left out of .env is told."""
    told = {key: value for key, value in given(name, {}).items() if key.startswith("KAFKA_") and value}

    assert told == {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"}


def test_the_processes_wait_for_tables_and_topics():
    """One-shot services that ended well, each after what it needs is healthy; who waits for them lets `up --wait` end."""
    for process in PROCESSES:
        for service in processes(process).values():
            waits = {name: wait["condition"] for name, wait in service["depends_on"].items()}
            assert waits == {"migrate": "service_completed_successfully", "topics": "service_completed_successfully"}
    for services in (SERVICES, CLUSTER):
        brokers = [name for name in services if name.startswith("kafka")]
        assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
        assert services["topics"]["depends_on"] == {broker: {"condition": "service_healthy"} for broker in brokers}


def test_a_process_has_time_to_drain():
    """Docker kills after the grace period."""
    for process in PROCESSES:
        for service in processes(process).values():
            assert float(service["stop_grace_period"].removesuffix("s")) > STOP_SECONDS_MAX


def test_the_example_names_every_variable():
    """Of the processes and of the compose files; one that nobody reads is not promised."""
    assert set(example()) == READ | ASKED_FOR


def test_the_example_holds_no_secret_and_asks_for_each_that_is_needed():
    """Whoever copies it fills in what has no value; a value that everybody knows would be worse than none."""
    empty = {name for name, value in example().items() if value == ""}
    required = {name for text in TEXTS for name in re.findall(r"\$\{([A-Z_]+):\?", text)}

    assert not {name for name in SECRET | {"POSTGRES_PASSWORD"} if example()[name]}
    assert empty == (SECRET | {"POSTGRES_PASSWORD"}) & (required | {"JWT_SECRET_KEY"})
    assert required <= {name for name, value in example().items() if value is not None}


def test_the_demo_publishes_every_port_that_it_uses():
    """Its stack never meets another one's ports."""
    published = {f"PUBLISHED_{name}_PORT" for name in compose.DEMO.published}

    assert published == set(re.findall(r"PUBLISHED_[A-Z0-9_]+", compose.DEMO.file.read_text())) - {
        "PUBLISHED_PROMETHEUS_PORT",
        "PUBLISHED_GRAFANA_PORT",
    }
    assert set(compose.SERVICES.values()) <= set(SERVICES)


def test_a_process_reads_what_the_tests_here_know():
    """The settings of a process are its concerns' alone, so that no variable is forgotten above."""
    assert {name.upper() for kind in SETTINGS.values() for name in kind.model_fields} <= READ
    assert issubclass(PaymentsSettings, settings.Concern)
