"""An id as a stranger spells it. Pure.

What enters: text of a token or an address. What leaves: the id, or nothing: Python takes braces, `urn:uuid:` and digits without
hyphens, too, and what has many spellings is compared wrongly somewhere. Next: access.py and payments.py.
"""

from uuid import UUID


def usual(text: str) -> UUID | None:
    """Return the UUID that is written here in its one usual spelling, in any case, or None."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None
