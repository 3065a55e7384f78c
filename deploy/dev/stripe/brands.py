"""Which network a card number belongs to, and how that network prints its cards. Pure. Next: ``cards``, and the form's script.

Ranges are those of ISO/IEC 7812 as the networks publish them; codes are Stripe's (docs.stripe.com/api/payment_methods).
"""

import itertools
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Brand:
    """A network.

    ``code`` and ``display_code`` are Stripe's two words for it, ``name`` what people say. ``starts`` is how its numbers
    begin, as a pattern that Python and JavaScript read alike. ``groups`` is how the digits stand on the card.
    """

    code: str
    display_code: str
    name: str
    starts: str
    groups: tuple[int, ...] = (4, 4, 4, 4)
    cvc_digits: int = 3

    def spaced(self, digits: str) -> str:
        """Return a whole number as it stands on the card."""
        ends = itertools.accumulate(self.groups)
        return " ".join(digits[end - size : end] for size, end in zip(self.groups, ends, strict=True))


VISA = Brand("visa", "visa", "Visa", "4")
BRANDS = (
    VISA,
    Brand("mastercard", "mastercard", "Mastercard", "5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"),
    Brand("amex", "american_express", "American Express", "3[47]", (4, 6, 5), cvc_digits=4),
    Brand("discover", "discover", "Discover", "6011|64[4-9]|65"),
    Brand("diners", "diners_club", "Diners Club", "30[0-5]|3[689]"),
    Brand("jcb", "jcb", "JCB", "35(?:2[89]|[3-8])"),
    Brand("unionpay", "union_pay", "UnionPay", "62"),
)
BY_CODE = {brand.code: brand for brand in BRANDS}


def of(number: str) -> Brand | None:
    """Return the network of a number, or of its first digits once they tell; None for a network that is not known."""
    return next((brand for brand in BRANDS if re.match(brand.starts, number)), None)
