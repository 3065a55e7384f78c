"""Names as people have them, and as people who mean harm type them."""

HOSTILE = [
    "Eve\r\nBcc: victim@example.org",
    "Eve\nX-Injected: 1",
    "Eve\rX-Injected: 1",
    "Eve\u2028X-Injected: 1\u2029\x85\x0b\x0c\x1c\x1d\x1e",
    "Eve\x00\x01\x1b[31m\x7f",
    "\u202eevE\u202d \u2066Mallory\u2069 \u200f",
    "<img src=x onerror=alert(1)>",
    "</td></tr></table><script>alert(1)</script>",
    '"><a href="https://evil.example">click</a>',
    "{{7*7}} {% for x in y %} {{ ''.__class__ }} {# c #}",
    "Eve <eve@evil.example>, Mallory",
    "https://evil.example/x www.evil.example",
    "evil\u200c.example evil\u0335.example evil.\u200dexample evil\u3002example evil\uff0eexample evil\uff61example",
    "=?utf-8?q?=0d=0aBcc:_victim@example.org?=",
    "x" * 10_000,
    "é" * 10_000,
    "Ж" * 70 + " " + "語" * 70,
    "&amp; &lt;b&gt; &#10;Bcc: x",
    "'; drop table letters; --",
    "\ufeff\U000e0041\U000e0042Eve",
    "\u2067Eve\u2068\u061c\u200e\u202a\u202b\u202c",
    "Eve\\nATTENDEE:mailto:eve@evil.example;X=1,2",
    "-->Eve<!-- <![endif]--> <![CDATA[ ]]>",
    "Eve\N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}\tMallory \N{REPLACEMENT CHARACTER}",
    "'\" onmouseover=alert(1) x='\"",
]

REAL = ["José María", "李小龍", "O'Brien-Smith", "علی\u200cرضا", "क्\u200dष", "J. R. R. Tolkien"]  # noqa: RUF001 - names in their own scripts
