"""success_url and cancel_url lead to allowed origins and nowhere else."""

import pytest

from ingress.return_urls import is_allowed

ORIGINS = ("https://app.culturebridge.com", "http://localhost:3000", "https://pay.example:8443")

ALLOWED = [
    "https://app.culturebridge.com",
    "https://app.culturebridge.com/",
    "https://app.culturebridge.com/booking/success?session_id={CHECKOUT_SESSION_ID}",
    "https://app.culturebridge.com/a/../b?x=https://evil.example#top",
    "https://app.culturebridge.com?paid=1",
    "https://app.culturebridge.com#paid",
    "https://app.culturebridge.com:443/booking",
    "https://APP.CultureBridge.com/booking",
    "HTTPS://app.culturebridge.com/booking",
    "https://app.culturebridge.com/mail@home",
    "http://localhost:3000/booking",
    "https://pay.example:8443/x",
    "https://app.culturebridge.com/" + "a" * 2018,
]
REFUSED = [
    "",
    " ",
    "/booking",
    "booking",
    "//app.culturebridge.com/booking",
    "http://app.culturebridge.com/booking",
    "ftp://app.culturebridge.com/",
    "javascript:alert(1)",
    "javascript://app.culturebridge.com/%0aalert(1)",
    "data:text/html,x",
    "https:app.culturebridge.com",
    "https:/app.culturebridge.com",
    "https:///app.culturebridge.com",
    "https://",
    "https://evil.example",
    "https://evil.example/https://app.culturebridge.com",
    "https://evil.example/?https://app.culturebridge.com",
    "https://evil.example#https://app.culturebridge.com",
    "https://app.culturebridge.com.evil.example/",
    "https://app.culturebridge.com.",
    "https://app.culturebridge.comevil.example",
    "https://evilapp.culturebridge.com",
    "https://evil.app.culturebridge.com",
    "https://culturebridge.com",
    "https://app.culturebridge.com@evil.example/",
    "https://app.culturebridge.com:443@evil.example/",
    "https://user@app.culturebridge.com/",
    "https://user:password@app.culturebridge.com/",
    "https://@app.culturebridge.com/",
    "https://evil.example\\@app.culturebridge.com/",
    "https://app.culturebridge.com\\@evil.example/",
    "https://app.culturebridge.com\\.evil.example/",
    "https:\\\\app.culturebridge.com/",
    "https://app.culturebridge.com/a\\b",
    "https://app.culturebridge.com%2eevil.example/",
    "https://app.culturebridge.com%00.evil.example/",
    "https://app%2eculturebridge.com/",
    "https://app.culturebridge.com:444/",
    "https://app.culturebridge.com:0443x/",
    "https://app.culturebridge.com:99999/",
    "https://app.culturebridge.com:0/",
    "https://app.culturebridge.com:-1/",
    "https://[app.culturebridge.com]/",
    "https://[::1]/",
    "https://127.0.0.1/",
    "http://127.0.0.1:3000/",
    "http://localhost/",
    "http://localhost:3001/",
    "https://localhost:3000/",
    "http://localhost:3000.evil.example/",
    "https://pay.example/",
    "https://app.culturebridge.com/\n",
    "\nhttps://app.culturebridge.com/",
    "https://app.culturebridge.com/\r\nSet-Cookie: a=b",
    "https://app.cul\tturebridge.com/",
    "https://app.culturebridge.com/\x00",
    "https://app.culturebridge.com/ space",
    " https://app.culturebridge.com/",
    "https://app.culturebridge.com/\u2028",
    "https://app.culturebridge.com/\u202egnp",
    "https://\u0430pp.culturebridge.com/",
    "https://app\u3002culturebridge\u3002com/",
    "https://\uff41pp.culturebridge.com/",
    "https://app.culturebridge.com/<script>",
    'https://app.culturebridge.com/"x',
    "https://app.culturebridge.com/`x`",
    "https://app.culturebridge.com/" + "a" * 2019,
]


@pytest.mark.parametrize("url", ALLOWED)
def test_an_allowed_origin_takes_any_path(url):
    """The origin decides; path, query and fragment belong to the client."""
    assert is_allowed(url, ORIGINS)


@pytest.mark.parametrize("url", REFUSED)
def test_no_customer_is_ever_led_to_a_foreign_address(url):
    """No spelling of a foreign address passes, nor one that a browser may read differently."""
    assert not is_allowed(url, ORIGINS)
