"""How Kafka and PostgreSQL are reached, said by settings alone: what contradicts itself is one line at start."""

import pytest
import trustme

from shared import environment, settings
from shared.db import engine

KAFKA = {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9093"}
USER = {"KAFKA_SASL_USERNAME": "payments", "KAFKA_SASL_PASSWORD": "hush"}
ADDRESS = "postgresql://payments:hush@db:5432/culturebridge"


@pytest.fixture
def authority(tmp_path):
    path = tmp_path / "authority.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def read(monkeypatch, tmp_path):
    """Read settings of a kind from these variables alone."""
    monkeypatch.chdir(tmp_path)

    def settings_of(kind, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return environment.read(kind)

    return settings_of


@pytest.fixture
def told(read, capsys):
    """Read settings of a kind from these variables alone; return the lines that stopped the process."""

    def faults(kind, **variables):
        with pytest.raises(SystemExit, match="2"):
            read(kind, **variables)
        return capsys.readouterr().err.splitlines()

    return faults


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"KAFKA_SASL_USERNAME": "payments"}, "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD belong together"),
        (
            {"KAFKA_SASL_PASSWORD": "hush", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"},
            "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD belong together",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"},
            "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD are needed with KAFKA_SECURITY_PROTOCOL=SASL_SSL",
        ),
        (USER, "KAFKA_SASL_USERNAME needs KAFKA_SECURITY_PROTOCOL=SASL_SSL; with PLAINTEXT nobody logs in"),
        (
            USER | {"KAFKA_SECURITY_PROTOCOL": "SSL"},
            "KAFKA_SASL_USERNAME needs KAFKA_SECURITY_PROTOCOL=SASL_SSL; with SSL nobody logs in",
        ),
        (
            USER | {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_MECHANISM": "PLAIN"},
            "KAFKA_SASL_MECHANISM=PLAIN would send the password in the clear with SASL_PLAINTEXT",
        ),
        (
            USER | {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SSL_CA_FILE": "/none.pem"},
            "KAFKA_SSL_CA_FILE: cannot be read: No such file or directory",
        ),
    ],
)
def test_a_contradiction_about_kafka_is_one_line(told, variables, fault):
    """What is missing, what is in vain, what would be heard by anybody; never a password."""
    assert told(settings.Kafka, **KAFKA, **variables) == [fault]


@pytest.mark.parametrize(
    "server", ["kafka", ":9092", "kafka:", "kafka..svc:9092", f"{'k' * 64}:9092", "kafka:0", "kafka:65536"]
)
def test_a_server_that_cannot_be_is_one_line(told, server):
    """One of several, too; a door that only failed to look it up would wait for it for ever."""
    assert told(settings.Kafka, KAFKA_BOOTSTRAP_SERVERS=f"one:9092,{server}") == [
        "KAFKA_BOOTSTRAP_SERVERS: must look like host:port[,host:port…]"
    ]


@pytest.mark.parametrize("server", ["kafka.svc.:9092", "my_kafka:9092", "10.0.0.1:9092", "[::1]:9092", "bücher.example:65535"])
def test_a_server_by_name_or_address_is_taken(read, server):
    """A name of other letters, too, and one that ends in a dot."""
    assert read(settings.Kafka, KAFKA_BOOTSTRAP_SERVERS=server).kafka_bootstrap_servers == (server,)


def test_a_mail_server_that_cannot_be_is_one_line(told):
    assert told(settings.Smtp, SMTP_HOST="mail..example", SMTP_FROM_EMAIL="noreply@mail.example") == [
        "SMTP_HOST: must be the name of a host, or its address"
    ]


def test_an_authority_without_encryption_is_a_contradiction(told, authority):
    """Whoever names an authority believes that somebody is asked for a certificate."""
    assert told(settings.Kafka, **KAFKA, KAFKA_SSL_CA_FILE=authority) == [
        "KAFKA_SSL_CA_FILE needs KAFKA_SECURITY_PROTOCOL=SASL_SSL or SSL; PLAINTEXT is not encrypted"
    ]


def test_an_authority_for_mail_in_the_clear_is_a_contradiction(read, told, authority):
    """Likewise at the mail server."""
    mail = {"SMTP_HOST": "mail.example", "SMTP_FROM_EMAIL": "noreply@mail.example", "SMTP_SSL_CA_FILE": authority}

    assert read(settings.Smtp, **mail).smtp_ssl_ca_file == authority
    assert told(settings.Smtp, **mail, SMTP_SECURITY="none") == [
        "SMTP_SSL_CA_FILE needs SMTP_SECURITY=starttls or tls; none is not encrypted"
    ]
    assert told(settings.Smtp, **mail | {"SMTP_SSL_CA_FILE": "/none.pem"}) == [
        "SMTP_SSL_CA_FILE: cannot be read: No such file or directory"
    ]


@pytest.mark.parametrize(
    ("key", "moves_money"), [("sk_live_", True), ("rk_live_", True), ("sk_test_", False), ("rk_test_", False)]
)
def test_a_key_says_whose_events_are_ours_whatever_it_may_do(read, key, moves_money):
    """A restricted key of the other mode would have each real event answered with 200, and lost."""
    assert read(settings.StripeApi, STRIPE_SECRET_KEY=key + "k" * 24).livemode is moves_money


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        (
            {"SMTP_USER": "app", "SMTP_PASSWORD": "hush", "SMTP_SECURITY": "none"},
            "SMTP_USER would send its password in the clear with SMTP_SECURITY=none",
        ),
        ({"SMTP_USER": "app"}, "SMTP_USER and SMTP_PASSWORD belong together"),
        ({"SMTP_PASSWORD": "hush"}, "SMTP_USER and SMTP_PASSWORD belong together"),
    ],
)
def test_a_contradiction_about_mail_is_one_line(told, variables, fault):
    """A password that anybody on the way could read, or that nobody would be asked for."""
    mail = {"SMTP_HOST": "mail.example", "SMTP_FROM_EMAIL": "noreply@mail.example"}

    assert told(settings.Smtp, **mail, **variables) == [fault]


@pytest.mark.parametrize(("minutes", "is_fine"), [("30", False), ("31", True), ("1440", True), ("1441", False)])
def test_a_session_is_as_long_as_stripe_lets_it_be(read, minutes, is_fine):
    """Else each checkout would be refused, and not the setting."""
    given = {"CHECKOUT_ALLOWED_ORIGINS": "https://app.culturebridge.com", "CHECKOUT_SESSION_MINUTES": minutes}

    if is_fine:
        assert read(settings.Checkout, **given).checkout_session_minutes == int(minutes)
    else:
        with pytest.raises(SystemExit, match="2"):
            read(settings.Checkout, **given)


def test_a_file_that_holds_no_certificate_is_told(told, tmp_path):
    """Not at the first connection, where nobody looks."""
    (tmp_path / "note.pem").write_text("to be done")

    assert told(settings.Kafka, **KAFKA, KAFKA_SSL_CA_FILE=str(tmp_path / "note.pem")) == [
        "KAFKA_SSL_CA_FILE: holds no certificate in PEM"
    ]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
def test_a_user_over_tls_is_what_it_takes(read, authority, mechanism):
    """The four variables of a secured cluster together."""
    secured = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": mechanism, "KAFKA_SSL_CA_FILE": authority}

    assert read(settings.Kafka, **KAFKA, **USER, **secured).kafka_sasl_mechanism == mechanism


def test_scram_without_tls_is_possible_for_who_asks_for_it_by_name(read):
    """Its password does not travel, but all else does in the clear: never a default."""
    assert read(settings.Kafka, **KAFKA, **USER, KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT").kafka_sasl_username == "payments"


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("sslmode=verified", "sslmode must be one of disable, allow, prefer, require, verify-ca, verify-full"),
        (
            "sslmode=verify-full",
            "sslmode=verify-full needs sslrootcert=FILE, the authorities that may sign the server's certificate",
        ),
        ("sslmode=verify-full&sslrootcert=/none.pem", "sslrootcert cannot be read: No such file or directory"),
        ("ssl=require", "use sslmode=… instead of ssl=…"),
    ],
)
def test_a_contradiction_about_the_database_is_one_line(told, query, fault):
    """A slip in the address must not end in a connection that nobody verified."""
    assert told(settings.Database, DATABASE_URL=f"{ADDRESS}?{query}") == [f"DATABASE_URL: {fault}"]


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("postgresql://u:secret@db:54x2/name", "must look like postgresql://user:password@host:port/name"),
        ("postgresql://u:secret@db:99999/name", "must look like postgresql://user:password@host:port/name"),
        ("postgresql://u:secret@db..internal/name", "must look like postgresql://user:password@host:port/name"),
        ("postgresql://u:secret@/name?host=one&host=.two", "must look like postgresql://user:password@host:port/name"),
        ("postgresql://u:sec@ret@db/name", "an @ in the user or the password must be written as %40"),
        ("postgresql://u:sec?ret@db/name?sslmode=verified", f"sslmode must be one of {', '.join(settings.SSL_MODES)}"),
    ],
)
def test_an_address_that_cannot_be_is_one_line_without_a_word_of_it(told, address, fault):
    """Later its port would be a traceback, half of the password a host, and a dot too many the fault of each event."""
    assert told(settings.Database, DATABASE_URL=address) == [f"DATABASE_URL: {fault}"]


def test_what_an_address_says_about_tls_reaches_the_driver(read, authority):
    """asyncpg reads the address itself, as libpq does."""
    configured = read(settings.Database, DATABASE_URL=f"{ADDRESS}?sslmode=verify-full&sslrootcert={authority}")

    assert engine.dsn(configured).startswith(f"{ADDRESS}?sslmode=verify-full&sslrootcert=")


@pytest.mark.parametrize(
    ("password", "encoded"), [("pa/ss?word", "pa%2Fss%3Fword"), ("a:b#c", "a%3Ab%23c"), ("per%2Fcent", "per%2Fcent")]
)
def test_a_password_that_is_not_encoded_still_arrives(read, password, encoded):
    """Passwords are made by machines, and addresses by hand."""
    configured = read(settings.Database, DATABASE_URL=f"postgresql://payments:{password}@db/culturebridge")

    assert engine.dsn(configured).startswith(f"postgresql://payments:{encoded}@db/culturebridge?")


def test_a_socket_of_this_machine_is_an_address(read):
    """Its path is no name, and may be longer than any."""
    path = f"/run/{'p' * 64}"

    assert read(settings.Database, DATABASE_URL=f"postgresql://payments@/culturebridge?host={path}").database_url


def test_several_hosts_are_several_hosts(read):
    """A standby that was named is tried."""
    configured = read(settings.Database, DATABASE_URL="postgresql://payments@/culturebridge?host=one:5432&host=two:5432")

    assert "one%3A5432%2Ctwo%3A5432" in engine.dsn(configured)


@pytest.mark.parametrize(("said", "asked"), [("", "primary"), ("?target_session_attrs=any", "any")])
def test_the_primary_is_asked_for_unless_the_address_says_otherwise(read, said, asked):
    configured = read(settings.Database, DATABASE_URL=f"{ADDRESS}{said}")

    assert engine.dsn(configured) == f"{ADDRESS}?target_session_attrs={asked}"
