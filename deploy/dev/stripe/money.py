"""How Stripe counts money: minor units per currency, the smallest charge, and the form a person reads.

Sources: docs.stripe.com/currencies (presentment currencies, zero-decimal and special cases, minimum and maximum amounts).
"""

import re
from copy import copy
from decimal import Decimal

from babel import Locale, UnknownLocaleError

from deploy.dev.stripe.errors import bad_parameter

# What a charge may be made in, as Stripe lists it: an account of some country may know fewer.
CURRENCIES = (
    "usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf "
    "clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf idr ils "
    "inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk "
    "mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp "
    "sle sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xcg xof xpf yer zar zmw"
).split()
ZERO_DECIMALS = frozenset("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split())
THREE_DECIMALS = frozenset("bhd jod kwd omr tnd".split())
STEPS = dict.fromkeys(THREE_DECIMALS, 10) | {"isk": 100, "ugx": 100}

AMOUNT_MAX = 99_999_999  # eight digits
MAXIMUMS = {"idr": 999_999_999_999}  # twelve
MINIMUMS = {
    "usd": 50, "aed": 200, "aud": 50, "brl": 50, "cad": 50, "chf": 50, "czk": 1500, "dkk": 250, "eur": 50, "gbp": 30,
    "hkd": 400, "huf": 17500, "inr": 50, "jpy": 50, "mxn": 1000, "myr": 200, "nok": 300, "nzd": 50, "pln": 200,
    "ron": 200, "sek": 300, "sgd": 50, "thb": 1000,
}  # fmt: skip


def is_currency(code: str) -> bool:
    """Return whether Stripe charges in the currency of this lower-case code."""
    return code in CURRENCIES


def amount_min(currency: str) -> int:
    """Return the smallest charge in this currency, in minor units."""
    return MINIMUMS.get(currency, 1)


def amount_max(currency: str) -> int:
    """Return the largest charge in this currency, in minor units."""
    return MAXIMUMS.get(currency, AMOUNT_MAX)


def step(currency: str) -> int:
    """Return what an amount in this currency must be a multiple of, in minor units."""
    return STEPS.get(currency, 1)


def require_step(amount_minor: int, currency: str, *, param: str) -> None:
    """Refuse an amount that is no multiple of the currency's step, and name the parameter."""
    if amount_minor % step(currency):
        message = f"Amounts in {currency} must be evenly divisible by {step(currency)}."
        raise bad_parameter(message, param, "parameter_invalid_integer")


def places(currency: str) -> int:
    """Return how many decimals an amount in this currency is told with."""
    return 0 if currency in ZERO_DECIMALS else 3 if currency in THREE_DECIMALS else 2


def decimal(amount_minor: int, currency: str) -> Decimal:
    """Return the amount in the currency's own unit."""
    return Decimal(amount_minor).scaleb(-places(currency))


def spell(amount_minor: int, currency: str, language: str | None = None) -> str:
    """Return the amount as a person reads it: ``$75.00``, ``¥7,500``, ``75,00 €``."""
    locale = _locale(language)
    # Stripe's decimals and not CLDR's, which differ for some currencies and would round; none where they are always 00.
    shown = 0 if step(currency) == 10 ** places(currency) else places(currency)
    pattern = copy(locale.currency_formats["standard"])
    pattern.frac_prec = (shown, shown)
    spelled = pattern.apply(decimal(amount_minor, currency), locale, currency=currency.upper(), currency_digits=False)
    # CLDR asks for a gap between a letter and a digit ("KWD 5.120"), which Babel does not make.
    return re.sub(r"(?<=[A-Za-z])(?=[0-9])", "\N{NO-BREAK SPACE}", spelled)


def _locale(language: str | None) -> Locale:
    try:
        return Locale.parse(language or "en_US", sep="-" if language and "-" in language else "_")
    except (ValueError, UnknownLocaleError):
        return Locale.parse("en_US")
