"""Parses an id from untrusted text. Pure.

Enters: text of a token or a URL. Leaves: the id, or None. Python would also accept braces, `urn:uuid:` and digits without
hyphens; an id that can be written in several ways is compared wrongly somewhere. Next: access.py and payments.py.
"""

from uuid import UUID


def canonical_uuid(text: str) -> UUID | None:
    """Return the UUID that is written here in its canonical form (RFC 9562, section 4: 8-4-4-4-12), in any case, or None."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None
