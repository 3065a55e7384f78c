"""The settings of a process: one frozen class per concern, each with the rules for its variables.

A process's settings are one class that inherits the concerns it needs; code that takes settings names the one concern that it
uses. A broken rule is a ValueError, whose text says what is right and never what was given. The table of variables with their
meaning stands in README.md. Next: environment.py, which reads them.
"""

import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, computed_field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

WEBHOOK_SECRET_CHARACTERS_MIN = 24  # shorter ones are placeholders; an empty one would let anybody sign
JWT_SECRET_BYTES_MIN = 32  # RFC 7518, section 3.2: an HS256 key is at least as long as the hash
CHECKOUT_SESSION_MINUTES_MIN = 31  # Stripe refuses less than 30 minutes from its own clock; one is for the call
CHECKOUT_SESSION_MINUTES_MAX = 1440  # Stripe's limit of 24 hours; a session asks for a minute less, for the clocks

ENV_FILE = ".env"
# No *, which no browser's origin has; an international name in its ASCII form, xn--…. Or an IPv6 address.
ORIGIN_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
DEFAULT_PORTS = {"http": 80, "https": 443}
DATABASE_URL_FORM = "must look like postgresql://user:password@host:port/name"
PORTS_END = 65_536
# libpq's own, https://www.postgresql.org/docs/current/libpq-ssl.html
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def _fault_of_authorities(path: str) -> str | None:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return "holds no certificate in PEM"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


def _authorities(path: str | None) -> str | None:
    if path is not None and (fault := _fault_of_authorities(path)):
        raise ValueError(fault)
    return path


def _can_be_looked_up(host: str) -> bool:
    """Return whether a resolver accepts this name.

    For any other (`db..internal`) Python raises UnicodeError, which is no network error: a client that waits for its server
    would end, and a batch would blame its records.
    """
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _host(name: str) -> str:
    if not _can_be_looked_up(name):
        raise ValueError("must be the name of a host, or its address")
    return name


Authorities = Annotated[str | None, AfterValidator(_authorities)]
Host = Annotated[str, AfterValidator(_host)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode]
AsymmetricAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]


class Concern(BaseSettings):
    """What every concern shares: frozen, an empty variable counts as unset, a `.env` file may hold them."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class Database(Concern):
    """PostgreSQL 14 or newer, reached through asyncpg."""

    database_url: SecretStr

    @field_validator("database_url")
    @classmethod
    def _asyncpg(cls, url: SecretStr) -> SecretStr:
        scheme, separator, rest = url.get_secret_value().partition("://")
        if not separator or scheme not in {"postgresql", "postgresql+asyncpg"}:
            raise ValueError(DATABASE_URL_FORM)
        address = f"postgresql+asyncpg://{rest}"
        _require_ways_of_tls(_address_of_postgresql(address).query)
        return SecretStr(address)


class Kafka(Concern):
    """The cluster, how to connect to it, and the names this installation uses there."""

    kafka_bootstrap_servers: CommaSeparated
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_ca_file: Authorities = None
    kafka_instance_id: str = ""
    topic_prefix: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]{0,80}$")

    @field_validator("kafka_bootstrap_servers", mode="before")
    @classmethod
    def _servers(cls, value: object) -> object:
        servers = _split(value)
        for server in servers:
            host, _, port = server.rpartition(":")
            if not host or not _can_be_looked_up(host) or not port.isdecimal() or not 0 < int(port) < PORTS_END:
                raise ValueError("must look like host:port[,host:port…]")
        return servers

    @model_validator(mode="after")
    def _one_way_in(self) -> "Kafka":
        protocol, user, password = self.kafka_security_protocol, self.kafka_sasl_username, self.kafka_sasl_password
        if bool(user) != bool(password):
            raise ValueError("KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD belong together")
        if protocol.startswith("SASL") and not user:
            raise ValueError(f"KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD are needed with KAFKA_SECURITY_PROTOCOL={protocol}")
        if user and not protocol.startswith("SASL"):
            raise ValueError(f"KAFKA_SASL_USERNAME needs KAFKA_SECURITY_PROTOCOL=SASL_SSL; with {protocol} nobody logs in")
        if protocol == "SASL_PLAINTEXT" and self.kafka_sasl_mechanism == "PLAIN":
            raise ValueError("KAFKA_SASL_MECHANISM=PLAIN would send the password in the clear with SASL_PLAINTEXT")
        if self.kafka_ssl_ca_file and not protocol.endswith("SSL"):
            raise ValueError(f"KAFKA_SSL_CA_FILE needs KAFKA_SECURITY_PROTOCOL=SASL_SSL or SSL; {protocol} is not encrypted")
        return self


class StripeApi(Concern):
    """How we call Stripe, and which signed events are ours: those of the key's mode that name no other account.

    Stripe names an account only in the events of connected ones; an event of another account of ours names none, and is
    kept out by the signing secret, which each endpoint has for itself. An empty base is Stripe itself.
    """

    stripe_secret_key: SecretStr
    stripe_api_base: str | None = None
    stripe_account_id: str | None = Field(default=None, pattern=r"^acct_\w+$")

    @field_validator("stripe_secret_key")
    @classmethod
    def _key(cls, key: SecretStr) -> SecretStr:
        if not key.get_secret_value().startswith(("sk_test_", "sk_live_", "rk_test_", "rk_live_")):
            raise ValueError("must be a secret key of Stripe: sk_test_… or sk_live_…")
        return key

    @computed_field  # type: ignore[prop-decorator]  # mypy does not know decorators upon a property; pydantic asks for it
    @property
    def livemode(self) -> bool:
        """Whether the key moves real money; events of the other mode are ignored."""
        return "_live_" in self.stripe_secret_key.get_secret_value()


class Webhook(Concern):
    """Whose webhooks are accepted: the endpoint's signing secrets, several during a roll."""

    stripe_webhook_secret: Annotated[tuple[SecretStr, ...], NoDecode]

    @field_validator("stripe_webhook_secret", mode="before")
    @classmethod
    def _secrets(cls, value: object) -> object:
        secrets = _split(value)
        for secret in secrets:
            if not secret.startswith("whsec_") or len(secret) < len("whsec_") + WEBHOOK_SECRET_CHARACTERS_MIN:
                raise ValueError("each must be whsec_ and at least 24 more characters, comma-separated")
        if not secrets:
            raise ValueError("must hold at least one secret")
        return secrets

    @property
    def webhook_secrets(self) -> tuple[bytes, ...]:
        """The secrets as the signature check wants them, `whsec_` included."""
        return tuple(secret.get_secret_value().encode() for secret in self.stripe_webhook_secret)


class Smtp(Concern):
    """The mail server that takes our letters."""

    smtp_host: Host
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    # ASCII: not every mail server accepts more (SMTPUTF8), and an international domain has an ASCII form, xn--….
    smtp_from_email: str = Field(pattern=r"^[!#-+\--:=?A-~]+@[!#-+\--:=?A-~]+$")
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_ssl_ca_file: Authorities = None

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> "Smtp":
        if self.smtp_user and self.smtp_security == "none":
            raise ValueError("SMTP_USER would send its password in the clear with SMTP_SECURITY=none")
        if bool(self.smtp_user) != bool(self.smtp_password):
            raise ValueError("SMTP_USER and SMTP_PASSWORD belong together")
        if self.smtp_ssl_ca_file and self.smtp_security == "none":
            raise ValueError("SMTP_SSL_CA_FILE needs SMTP_SECURITY=starttls or tls; none is not encrypted")
        return self


class Jwt(Concern):
    """How bearer tokens are verified: one pinned algorithm and its key."""

    jwt_algorithm: Literal["HS256"] | AsymmetricAlgorithm = "HS256"
    jwt_secret_key: SecretStr | None = None
    jwt_public_key: str | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None

    @model_validator(mode="after")
    def _key_for_the_algorithm(self) -> "Jwt":
        if self.jwt_algorithm != "HS256":
            if not self.jwt_public_key:
                raise ValueError(f"JWT_PUBLIC_KEY is needed with JWT_ALGORITHM={self.jwt_algorithm}")
        elif self.jwt_secret_key is None or len(self.jwt_secret_key.get_secret_value().encode()) < JWT_SECRET_BYTES_MIN:
            raise ValueError("JWT_SECRET_KEY must have at least 32 bytes with JWT_ALGORITHM=HS256")
        return self

    @property
    def jwt_key(self) -> str:
        """The key that checks a signature under the pinned algorithm."""
        if self.jwt_algorithm != "HS256" and self.jwt_public_key:
            return self.jwt_public_key
        assert self.jwt_secret_key is not None
        return self.jwt_secret_key.get_secret_value()


class Checkout(Concern):
    """Where a customer may be sent back to, and how long a session stays payable."""

    checkout_allowed_origins: CommaSeparated
    checkout_session_minutes: int = Field(default=60, ge=CHECKOUT_SESSION_MINUTES_MIN, le=CHECKOUT_SESSION_MINUTES_MAX)

    @field_validator("checkout_allowed_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        origins = tuple(_origin(part.removesuffix("/")) for part in _split(value))
        if not origins:
            raise ValueError("must hold at least one origin")
        return origins


class Http(Concern):
    """Where the door listens, and how many connections it accepts."""

    ingress_host: str = "0.0.0.0"  # noqa: S104 - a service in a container listens on every address
    ingress_port: int = Field(default=8000, ge=1, le=65535)
    ingress_reuse_port: bool = False
    ingress_connections_max: int = Field(default=4096, ge=16, le=65_536)
    ingress_connections_per_address_max: int = Field(default=2048, ge=1)


class Health(Concern):
    """Health and metrics: the port of a process, 0 for none. A default that is taken gives way; a set one does not."""

    health_port: int = Field(ge=0, le=65535)
    # One family, since port 0 would give each family a port of its own.
    health_host: str = "0.0.0.0"  # noqa: S104 - a scraper comes from outside

    @property
    def health_port_is_strict(self) -> bool:
        """Whether exactly this port was set."""
        return "health_port" in self.model_fields_set


def _split(value: object) -> tuple[str, ...]:
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, tuple | list) else ()
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _origin(text: str) -> str:
    """Return an origin as browsers send it, which is how it is compared (RFC 6454, section 6.2); ValueError if it is none."""
    parts = urlsplit(text)
    loopback = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise ValueError("each must be an https origin (http only for loopback), comma-separated")
    if f"{parts.scheme}://{parts.netloc}" != text or not ORIGIN_HOST.fullmatch(parts.hostname or "") or "@" in parts.netloc:
        raise ValueError("each must be a bare origin: https://host[:port]")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in {None, DEFAULT_PORTS[parts.scheme]} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _address_of_postgresql(address: str) -> URL:
    """Return an address's parts; raises ValueError, which repeats nothing of the address, unless every part is valid."""
    try:
        parts = make_url(address)
    except (ArgumentError, ValueError):
        raise ValueError(DATABASE_URL_FORM) from None
    if parts.port is not None and not 0 < parts.port < PORTS_END:
        raise ValueError(DATABASE_URL_FORM)
    if "@" in (parts.host or ""):
        raise ValueError("an @ in the user or the password must be written as %40")
    several = parts.query.get("host", ())
    hosts = (parts.host or "", *((several,) if isinstance(several, str) else several))
    if not all(host.startswith("/") or _can_be_looked_up(host) for host in hosts):  # a path is a socket of this machine
        raise ValueError(DATABASE_URL_FORM)
    return parts


def _require_ways_of_tls(query: Mapping[str, Sequence[str] | str]) -> None:
    """Raise ValueError unless what an address of PostgreSQL says about TLS is possible, in libpq's meaning."""
    asked = {name: value if isinstance(value, str) else value[-1] for name, value in query.items()}
    mode, authorities = asked.get("sslmode"), asked.get("sslrootcert")
    if "ssl" in asked:
        raise ValueError("use sslmode=… instead of ssl=…")
    if mode is not None and mode not in SSL_MODES:
        raise ValueError(f"sslmode must be one of {', '.join(SSL_MODES)}")
    if mode is not None and mode.startswith("verify") and authorities is None:
        raise ValueError(f"sslmode={mode} needs sslrootcert=FILE, the authorities that may sign the server's certificate")
    if authorities is not None and (fault := _fault_of_authorities(authorities)):
        raise ValueError(f"sslrootcert {fault}")
