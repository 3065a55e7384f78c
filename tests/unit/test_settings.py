"""Secrets that stand in files: what a mounted secret gives, and one line for whatever it does not."""

import errno
import os

import pytest
from pydantic import SecretStr

from consumers.email.app import Settings as EmailSettings
from ingress.app import IngressSettings
from shared import settings
from shared.environment import read, secrets_of

URL = "postgresql://app:secret@db:5432/culturebridge"
EMAIL = {
    "DATABASE_URL": URL,
    "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
    "SMTP_HOST": "mail.example",
    "SMTP_FROM_EMAIL": "noreply@culturebridge.example",
}
SECRETS = {
    "DATABASE_URL": URL,
    "KAFKA_SASL_PASSWORD": "correct horse",
    "STRIPE_SECRET_KEY": f"sk_test_{'k' * 24}",
    "STRIPE_WEBHOOK_SECRET": f"whsec_{'a' * 24},whsec_{'b' * 24}",
    "SMTP_PASSWORD": "battery staple",
    "JWT_SECRET_KEY": "j" * 32,
    "JWT_PUBLIC_KEY": "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----",
}


class Everything(settings.Database, settings.Kafka, settings.StripeApi, settings.Webhook, settings.Smtp, settings.Jwt):
    """Every concern that has a secret."""


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """Sets variables of a process whose environment is otherwise empty, in a folder without a .env."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def given(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return given


def refused(kind, capsys):
    """Every line that a process says which does not start."""
    with pytest.raises(SystemExit) as ended:
        read(kind)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_every_secret_may_stand_in_a_file(environment, tmp_path):
    """A line's end that an editor or an orchestrator leaves is no part of it."""
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(f"{value}\n")
    environment(
        **{f"{name}_FILE": tmp_path / name for name in SECRETS},
        KAFKA_BOOTSTRAP_SERVERS="kafka:9092",
        KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        KAFKA_SASL_USERNAME="payments",
        SMTP_HOST="mail.example",
        SMTP_USER="app",
        SMTP_FROM_EMAIL="noreply@culturebridge.example",
    )
    configured = read(Everything)

    assert {*secrets_of(Everything)} == {name.lower() for name in SECRETS}
    assert configured.database_url == SecretStr(URL.replace("postgresql://", "postgresql+asyncpg://"))
    assert configured.kafka_sasl_password == SecretStr(SECRETS["KAFKA_SASL_PASSWORD"])
    assert configured.stripe_secret_key == SecretStr(SECRETS["STRIPE_SECRET_KEY"])
    assert configured.webhook_secrets == tuple(SECRETS["STRIPE_WEBHOOK_SECRET"].encode().split(b","))
    assert configured.smtp_password == SecretStr(SECRETS["SMTP_PASSWORD"])
    assert configured.jwt_key == SECRETS["JWT_SECRET_KEY"]
    assert configured.jwt_public_key == SECRETS["JWT_PUBLIC_KEY"]


def test_a_file_may_be_named_in_the_env_file(environment, tmp_path):
    """`.env` holds whatever the environment may hold."""
    (tmp_path / "url").write_text(URL)
    (tmp_path / ".env").write_text("DATABASE_URL_FILE=url\n")
    environment(DATABASE_URL="")

    assert read(settings.Database).database_url.get_secret_value().endswith("@db:5432/culturebridge")


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\r\n\n", "is empty"),
        (b"postgres\xff", "is not UTF-8 text"),
    ],
)
def test_a_file_that_holds_no_secret_is_one_line(environment, tmp_path, capsys, held, reason):
    """It names the variable and the file, and the variable that it stands for is not called missing as well."""
    file = tmp_path / "url"
    if held is not None:
        file.write_bytes(held)
    environment(DATABASE_URL_FILE=file)

    assert refused(settings.Database, capsys) == [f"DATABASE_URL_FILE: {file} {reason}"]


def test_a_folder_is_no_file(environment, tmp_path, capsys):
    """What an orchestrator mounts where nothing was there."""
    environment(DATABASE_URL_FILE=tmp_path)

    assert refused(settings.Database, capsys) == [f"DATABASE_URL_FILE: {tmp_path} cannot be read: Is a directory"]


def test_an_env_file_that_is_not_utf_8_is_one_line(environment, tmp_path, capsys):
    """It was written where letters are other bytes; what it holds is nobody's guess, so that nothing else is said of it."""
    (tmp_path / ".env").write_bytes("SMTP_FROM_EMAIL=büro@example.org\n".encode("latin-1"))

    assert refused(settings.Database, capsys) == [".env: is not UTF-8 text"]


def test_an_env_file_that_cannot_be_read_is_one_line(environment, tmp_path, capsys, monkeypatch):
    """It is another user's."""
    (tmp_path / ".env").write_text(f"DATABASE_URL={URL}\n")

    def refuse(*_arguments, **_options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("dotenv.main.open", refuse, raising=False)

    assert refused(settings.Database, capsys) == [".env: cannot be read: Permission denied"]


def test_a_secret_has_one_place(environment, tmp_path, capsys):
    """With both set nobody could say which holds."""
    (tmp_path / "url").write_text(URL)
    environment(DATABASE_URL=URL, DATABASE_URL_FILE=tmp_path / "url")

    assert refused(settings.Database, capsys) == ["DATABASE_URL_FILE: DATABASE_URL is set as well; only one of the two may be"]


@pytest.mark.parametrize(
    "address", ["noreply", "a b@example.org", "nöreply@example.org", "noreply@bücher.example", "<a@example.org>"]
)
def test_a_sender_that_no_letter_could_carry_is_refused_at_start(environment, capsys, address):
    """Else each letter would fail when it is written."""
    environment(**EMAIL | {"SMTP_FROM_EMAIL": address})

    [line] = refused(EmailSettings, capsys)
    assert line.startswith("SMTP_FROM_EMAIL: ")


@pytest.mark.parametrize("address", ["no-reply+letters@example.org", "o'brien@xn--bcher-kva.example", "a@localhost"])
def test_a_sender_is_any_address_in_ascii(environment, address):
    """Plus signs, apostrophes and a domain of other letters in its own spelling are everyday."""
    environment(**EMAIL | {"SMTP_FROM_EMAIL": address})

    assert read(EmailSettings).smtp_from_email == address


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://App.CultureBridge.com", "https://app.culturebridge.com"),
        ("https://app.culturebridge.com:443/", "https://app.culturebridge.com"),
        ("https://app.culturebridge.com:", "https://app.culturebridge.com"),
        ("https://app.culturebridge.com:8443", "https://app.culturebridge.com:8443"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_an_origin_is_compared_as_browsers_send_it(environment, written, sent):
    """Else its pages would be sent back to, and never hear an answer."""
    environment(CHECKOUT_ALLOWED_ORIGINS=written)

    assert read(settings.Checkout).checkout_allowed_origins == (sent,)


def test_an_optional_secret_that_cannot_be_read_stops_the_process_too(environment, capsys):
    """A mail server without its password would be noticed only by the first letter."""
    environment(**EMAIL, SMTP_USER="app", SMTP_PASSWORD_FILE="/nowhere/password")

    assert refused(EmailSettings, capsys) == ["SMTP_PASSWORD_FILE: /nowhere/password cannot be read: No such file or directory"]


def test_what_a_file_holds_is_judged_like_the_variable(environment, tmp_path, capsys):
    """The fault names the secret, and never what it is."""
    (tmp_path / "key").write_text("pk_live_wrong")
    environment(STRIPE_SECRET_KEY_FILE=tmp_path / "key")

    assert refused(settings.StripeApi, capsys) == ["STRIPE_SECRET_KEY: must be a secret key of Stripe: sk_test_… or sk_live_…"]


def test_every_fault_is_told_at_once(environment, capsys):
    """Files, variables and what is missing, a line each."""
    environment(STRIPE_SECRET_KEY_FILE="/nowhere/key", INGRESS_PORT="door")
    lines = refused(IngressSettings, capsys)

    assert "STRIPE_SECRET_KEY_FILE: /nowhere/key cannot be read: No such file or directory" in lines
    assert "DATABASE_URL: is not set" in lines
    assert any(line.startswith("INGRESS_PORT: ") for line in lines)
    assert len(lines) == len({line.partition(":")[0] for line in lines})
    assert "STRIPE_SECRET_KEY: is not set" not in lines
