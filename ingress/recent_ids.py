"""The ids of events that this process took lately, in a memory of one size. Pure.

Enters: an id. Leaves: whether it came before. Kept as objects, the ids would lie among those of the requests that brought them
for hours, and Python, which returns memory by the megabyte, would keep each megabyte for the sake of one. Next: back
to webhook.py, for a word in its answer.
"""

from array import array

BUCKETS = 8_192
IDS_OF_BUCKET = 8  # half a megabyte in all


class RecentIds:
    """Some 60,000 ids; what it forgets, and when, hangs on the ids, but never one of the last eight."""

    def __init__(self) -> None:
        self._hashes = array("q", bytes(8 * BUCKETS * IDS_OF_BUCKET))

    def add(self, text: str) -> bool:
        """Remember an id, and return whether it is remembered already; the one of its bucket that is oldest is forgotten."""
        # Python's own hash of 64 bits, keyed anew for each process: nobody can choose ids that meet.
        hashed = hash(text)
        begin = hashed % BUCKETS * IDS_OF_BUCKET
        bucket = self._hashes[begin : begin + IDS_OF_BUCKET]
        known = hashed in bucket
        if known:
            bucket.remove(hashed)
        else:
            bucket.pop(0)
        bucket.append(hashed)
        self._hashes[begin : begin + IDS_OF_BUCKET] = bucket
        return known
