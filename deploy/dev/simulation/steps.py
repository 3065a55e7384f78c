"""What is seen of a simulation while it runs: steps, each told once when it is made."""

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """What somebody just did, or what was done to them."""

    CAME = "came"
    PAID = "paid"
    DECLINED = "declined"
    LEFT = "left"
    EXPIRED = "expired"
    REFUNDED = "refunds"
    DISPUTED = "disputes"
    HINDERED = "hindered"
    WENT = "went"


Tell = Callable[[Step], None]
