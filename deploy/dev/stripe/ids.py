"""Ids in Stripe's shapes and lengths: the same seed and the same order of wishes give the same ids.

A payment's intent, charges, refunds, balance transactions and events share the sixteen characters after their prefix
(``pi_3S7LEkDpld3oaqFN1…`` and ``evt_3S7LEkDpld3oaqFN1…``), as real ones do.
"""

import hashlib
import secrets

import msgspec

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ACCOUNT_CHARACTERS = 10
MOMENT_CHARACTERS = 5
STEM_CHARACTERS = 16
TAIL_CHARACTERS = 8


class Mint(msgspec.Struct):
    """What the next id depends on; kept with the world, so that no id is given twice after a restart."""

    seed: int
    given: int = 0

    def characters(self, count: int) -> str:
        """Return ``count`` base62 characters that were never given before."""
        self.given += 1
        return _base62(f"{self.seed}/{self.given}", count)

    def stem(self) -> str:
        """Return the sixteen characters that all objects of one payment share."""
        return "3" + self.characters(MOMENT_CHARACTERS) + self.account

    def of_payment(self, prefix: str, stem: str) -> str:
        """Return an id such as ``ch_…`` that belongs to the payment with this stem."""
        return f"{prefix}_{stem}{self.characters(TAIL_CHARACTERS)}"

    def alone(self, prefix: str) -> str:
        """Return an id such as ``pm_1…`` or ``evt_1…`` that belongs to no payment."""
        return f"{prefix}_1{self.characters(MOMENT_CHARACTERS)}{self.account}{self.characters(TAIL_CHARACTERS)}"

    def session(self) -> str:
        """Return a Checkout Session's id: 66 characters in all."""
        return "cs_test_a1" + self.characters(56)

    def secret(self) -> str:
        """Return a webhook endpoint's signing secret."""
        return "whsec_" + self.characters(32)

    @property
    def account_id(self) -> str:
        """The account's own id. It takes nothing from the sequence of the others, nor does the endpoint's."""
        return f"acct_1{_base62(f'{self.seed}/moment', MOMENT_CHARACTERS)}{self.account}"

    @property
    def endpoint_id(self) -> str:
        """The id of the webhook endpoint that the command line names."""
        moment, tail = (_base62(f"{self.seed}/{part}", n) for part, n in (("we", MOMENT_CHARACTERS), ("tail", TAIL_CHARACTERS)))
        return f"we_1{moment}{self.account}{tail}"

    @property
    def account(self) -> str:
        """The ten characters that every id of one Stripe account carries."""
        return _base62(f"{self.seed}/account", ACCOUNT_CHARACTERS)


def stem_of(object_id: str) -> str:
    """Return the sixteen characters after the prefix of a payment's id."""
    return object_id.partition("_")[2][:STEM_CHARACTERS]


def is_of_payment(object_id: str) -> bool:
    """Return whether an id belongs to a payment, and shares its stem with the payment's other ids."""
    return object_id.partition("_")[2].startswith("3")


def request() -> str:
    """Return a request's id. It is no part of the world, so reads do not change what the seed gives next."""
    return "req_" + "".join(secrets.choice(BASE62) for _ in range(14))


def _base62(text: str, count: int) -> str:
    number = int.from_bytes(hashlib.sha512(text.encode()).digest())
    characters: list[str] = []
    for _ in range(count):
        number, digit = divmod(number, len(BASE62))
        characters.append(BASE62[digit])
    return "".join(characters)
