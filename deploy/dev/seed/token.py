"""Bearer tokens of the box's people, as CultureBridge issues them: HS256, `sub` the user's id, no issuer, no audience."""

import uuid
from datetime import timedelta

import jwt

from deploy.dev.errors import BoxError
from deploy.dev.seed.people import PEOPLE
from deploy.dev.state import Box
from shared import clock

VALID_FOR = timedelta(hours=12)  # a day's work on the API page


def issue(box: Box, role: str) -> str:
    """Return a token of the person of that role, signed with this box's secret; BoxError when it has none yet."""
    person = PEOPLE[role]
    if not (known := box.read("secrets")):
        raise BoxError(f"there is no box in {box.home} to be a {role} of; bring one up with: {box.command('up --detach')}")
    return signed(known["JWT_SECRET_KEY"], user_id=person.id, email=person.email, role=person.role)


def signed(secret: str, *, user_id: uuid.UUID, email: str, role: str) -> str:
    """Return a token of any user."""
    now = clock.now()
    claims = {"sub": str(user_id), "email": email, "role": role, "iat": now, "exp": now + VALID_FOR}
    return jwt.encode(claims, secret, algorithm="HS256")
