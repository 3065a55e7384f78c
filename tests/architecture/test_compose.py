"""docker-compose.yml and .env.example: pinned images, loopback alone, no secret, each process with what it reads."""

import re

import pytest
import yaml

from consumers.payments.app import Settings as PaymentsSettings
from deploy.dev import composed
from deploy.dev.pipeline import PROCESSES
from shared import settings
from shared.kafka.service import STOP_SECONDS_MAX
from tests.architecture.source import ROOT
from tests.architecture.test_images import SETTINGS, STAGES
from tests.architecture.test_readme import CONCERNS

TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES = yaml.safe_load(TEXT)["services"]
EXAMPLE = (ROOT / ".env.example").read_text()
ASKED_FOR = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
READ = {name.upper() for concern in CONCERNS for name in concern.model_fields}
SECRET = {name.upper() for concern in CONCERNS for name in settings.secrets_of(concern)}


def example():
    """The variables of .env.example with their values, None for those that stand in a comment."""
    lines = re.findall(r"^(# )?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE)
    return {name: None if commented else value for commented, name, value in lines}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_and_published_to_this_machine_alone(name):
    """`latest` is another program every day; a port on every address is open to the network."""
    service = SERVICES[name]
    _, _, tag = service["image"].partition(":")

    assert tag
    assert tag != "latest"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "privileged" not in service
    if "build" in service:
        assert service["build"]["target"] in STAGES
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_is_given_what_it_reads_and_no_more(process):
    """The mail's password is no business of the door, nor Stripe's key of the letters."""
    given = set(SERVICES[process]["environment"])
    fields = SETTINGS[process].model_fields
    needed = {name.upper() for name, field in fields.items() if field.is_required()}

    assert given <= {name.upper() for name in fields}
    assert needed <= given


def test_no_secret_stands_in_the_file():
    """Each comes from the environment, and what must be there is asked for."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if variable in SECRET | {"POSTGRES_PASSWORD"}:
                assert value is None or re.search(r"\$\{[A-Z_]+:\?", value), f"{name}: {variable}"


def test_the_processes_wait_for_tables_and_topics():
    """One-shot services that ended well, each after what it needs is healthy; who waits for them lets `up --wait` end."""
    for process in PROCESSES:
        waits = {name: wait["condition"] for name, wait in SERVICES[process]["depends_on"].items()}
        assert waits == {"migrate": "service_completed_successfully", "topics": "service_completed_successfully"}
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}


def test_a_process_has_time_to_drain():
    """Docker kills after the grace period."""
    for process in PROCESSES:
        assert float(SERVICES[process]["stop_grace_period"].removesuffix("s")) > STOP_SECONDS_MAX


def test_the_example_names_every_variable():
    """Of the processes and of docker-compose.yml; one that nobody reads is not promised."""
    assert set(example()) == READ | ASKED_FOR


def test_the_example_holds_no_secret_and_asks_for_each_that_is_needed():
    """Whoever copies it fills in what has no value; a value that everybody knows would be worse than none."""
    empty = {name for name, value in example().items() if value == ""}
    required = set(re.findall(r"\$\{([A-Z_]+):\?", TEXT))

    assert not {name for name in SECRET | {"POSTGRES_PASSWORD"} if example()[name]}
    assert empty == (SECRET | {"POSTGRES_PASSWORD"}) & (required | {"JWT_SECRET_KEY"})
    assert required <= {name for name, value in example().items() if value is not None}


def test_the_demo_publishes_every_port_that_it_uses():
    """Its stack never meets another one's ports."""
    published = {f"PUBLISHED_{name}_PORT" for name in composed.PUBLISHED}

    assert published == {name for name in ASKED_FOR if name.startswith("PUBLISHED_")} - {
        "PUBLISHED_PROMETHEUS_PORT",
        "PUBLISHED_GRAFANA_PORT",
    }
    assert set(composed.SERVICES.values()) <= set(SERVICES)


def test_a_process_reads_what_the_tests_here_know():
    """The settings of a process are its concerns' alone, so that no variable is forgotten above."""
    assert {name.upper() for kind in SETTINGS.values() for name in kind.model_fields} <= READ
    assert issubclass(PaymentsSettings, settings.Concern)
