"""Authentication and authorisation: all the rules about tokens and roles.

Enters: the Authorization header. Leaves: a `Caller` whose role is the one in `users` now, or one refusal for all faults, whose
reason goes only to the log. RFC 8725 (JSON Web Token Best Current Practices) is the list behind the checks: one pinned
algorithm, nothing in a token that chooses its own key, one meaning per token. Next: checkout.py and payments.py.
"""

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from ingress import ids, problems, store
from ingress.problems import Problem
from shared import clock, logs, settings

log = logs.get(__name__)

ROLES = frozenset({"client", "coach", "admin"})  # the labels of CultureBridge's enum type `userrole`

TOKEN_CHARACTERS_MAX = 8000  # under the limit of a header line; a token of ours has a few hundred
TOKEN_LIFETIME_SECONDS_MAX = 366 * 24 * 60 * 60  # one that lives longer is a mistake of its issuer, or no token of ours
# The issuer's clock may be ahead of ours: a token that was just issued is accepted. It makes no token live longer.
ISSUER_AHEAD_SECONDS_MAX = 30
# RFC 7515, section 2: base64url without padding. PyJWT makes sure that each segment has only one spelling.
TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# An allow-list, since crit, jku, jwk, x5u, x5c, zip and b64 all let a token choose how it is verified.
HEADER_NAMES = frozenset({"alg", "typ", "kid"})
TYPES = frozenset({"jwt", "at+jwt"})
# The key of HS256 is one shared secret without a name; a public key may carry one, which then chooses nothing.
KEY_NAME = re.compile(r"[A-Za-z0-9._~-]{1,128}")
ID_TOKEN_CLAIMS = frozenset({"nonce", "at_hash", "c_hash"})  # OpenID Connect Core 1.0, section 3.3.2.11


@dataclass(frozen=True, slots=True)
class Caller:
    """An active user, with the role that is in the database."""

    user_id: UUID
    role: str


@dataclass(frozen=True, slots=True)
class Unauthenticated:
    """Why a request is not authenticated, in one word for an operator: a misconfigured issuer gets every request refused."""

    reason: str


def user_id(authorization: Sequence[str], jwt_settings: settings.Jwt) -> UUID | Unauthenticated:
    """Return the user whom a valid access token names, or why there is none; `authorization` is every such header."""
    if len(authorization) != 1:
        return Unauthenticated("several_headers" if authorization else "no_header")
    scheme, _, token = authorization[0].partition(" ")
    if scheme.lower() != "bearer":
        return Unauthenticated("scheme")
    claims = _claims(token.strip(" "), jwt_settings)
    if isinstance(claims, Unauthenticated):
        return claims
    return ids.canonical_uuid(claims["sub"]) or Unauthenticated("subject")


async def identify(request: web.Request, engine: AsyncEngine, jwt_settings: settings.Jwt) -> Caller | Problem:
    """Return the caller, with the role and rights of this moment; raises store.DatabaseAway."""
    subject = user_id(request.headers.getall("Authorization", []), jwt_settings)
    if isinstance(subject, Unauthenticated):
        return _refused(subject.reason)
    async with store.transaction(engine) as tx:
        user = await store.load_user(tx, subject)
    if user is None:
        return _refused("user_unknown")
    if not user.is_active:
        return _refused("user_inactive")
    return Caller(subject, user.role)


def may_pay(caller: Caller, *, client_id: UUID) -> bool:
    """Return whether the caller may open a checkout for a booking: its client, or an admin."""
    return caller.role == "admin" or caller.user_id == client_id


def may_see(caller: Caller, *, client_id: UUID, coach_id: UUID) -> bool:
    """Return whether the caller may see the payment of a booking: its client, its coach, or an admin."""
    return caller.role == "admin" or caller.user_id in {client_id, coach_id}


def _refused(reason: str) -> Problem:
    """Log the reason, which the answer never shows."""
    log.info("caller.refused", reason=reason)
    return problems.UNAUTHORIZED


def _claims(token: str, jwt_settings: settings.Jwt) -> dict[str, Any] | Unauthenticated:
    """Return the claims of a token that the pinned key signed and that is valid now, or why there are none."""
    if len(token) > TOKEN_CHARACTERS_MAX or not TOKEN.fullmatch(token):
        return Unauthenticated("token_form")
    if not _header_is_plain(token, jwt_settings.jwt_algorithm):
        return Unauthenticated("token_header")
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            jwt_settings.jwt_key,
            algorithms=[jwt_settings.jwt_algorithm],
            issuer=jwt_settings.jwt_issuer,
            audience=jwt_settings.jwt_audience,
            leeway=ISSUER_AHEAD_SECONDS_MAX,
            options={
                "require": ["exp", "iat", "sub"],
                "verify_iss": jwt_settings.jwt_issuer is not None,
                "verify_aud": jwt_settings.jwt_audience is not None,
                "strict_aud": jwt_settings.jwt_audience is not None,
            },
        )
        _decoded(token.split(".")[1])
    except jwt.InvalidTokenError as error:
        return Unauthenticated(type(error).__name__)  # InvalidSignatureError, ExpiredSignatureError, InvalidAudienceError, …
    except (ValueError, TypeError, OverflowError, RecursionError):
        return Unauthenticated("token_claims")
    return claims if _is_access_token(claims) else Unauthenticated("no_access_token")


def _header_is_plain(token: str, algorithm: str) -> bool:
    try:
        header = _decoded(token.partition(".")[0])
    except (ValueError, RecursionError):
        return False
    if not isinstance(header, dict) or not header.keys() <= HEADER_NAMES or header.get("alg") != algorithm:
        return False
    if "typ" in header and str(header["typ"]).lower() not in TYPES:
        return False
    if "kid" not in header:
        return True
    return algorithm != "HS256" and isinstance(header["kid"], str) and bool(KEY_NAME.fullmatch(header["kid"]))


def _is_access_token(claims: dict[str, Any]) -> bool:
    issued, expires = claims["iat"], claims["exp"]
    return (
        type(issued) is int
        and type(expires) is int
        # PyJWT gives its leeway to the end of a token as well as to its beginning.
        and clock.now().timestamp() < expires
        and expires - issued <= TOKEN_LIFETIME_SECONDS_MAX
        and claims.get("type", "access") == "access"
        and claims.get("token_use", "access") == "access"
        and ID_TOKEN_CLAIMS.isdisjoint(claims)
        # The role that counts is in the database; a token with a nonsensical one was not made by our issuer.
        and ("role" not in claims or (isinstance(claims["role"], str) and claims["role"] in ROLES))
    )


def _decoded(segment: str) -> Any:
    """Return the JSON of a segment; ValueError when it is no JSON, or has a name twice."""
    content = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    return json.loads(content, object_pairs_hook=_each_name_once)


def _each_name_once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError("a name is said twice")
        members[name] = value
    return members
