"""The ids of the events that this process took most recently, in memory of a fixed size. Pure.

Enters: an id. Leaves: whether it came before. As Python objects the ids would lie for hours among the objects of the requests
that brought them, and Python, which returns memory by the megabyte, would keep a whole megabyte for one of them. Next: back to
webhook.py, for a word in its answer.
"""

from array import array

BUCKETS = 8_192
IDS_OF_BUCKET = 8  # half a megabyte in all


class RecentIds:
    """About 60,000 ids; which one it forgets depends on their hashes, but it never forgets one of the last eight."""

    def __init__(self) -> None:
        self._hashes = array("q", bytes(8 * BUCKETS * IDS_OF_BUCKET))

    def add(self, text: str) -> bool:
        """Store an id, and return whether it was stored already; a new one replaces the oldest of its bucket."""
        # Python's own hash of 64 bits, keyed anew for each process: a sender cannot choose ids that collide.
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
