"""What the release's letters say passes its own examination, and what would fail at sending is refused before."""

import pytest

from consumers.email.kinds import Kind
from shared.letters import examination, words
from shared.letters.templates import FILES, FRAME, Templates, released

SOURCES = released()
CLIENT, HTML, TEXT = "client_confirmation", "client_confirmation/body.html", "client_confirmation/body.txt"
SUBJECT = "client_confirmation/subject.txt"
LAYOUT = SOURCES["layout.html"]
EXTENDS = "{% extends 'layout.html' %}"


def faults(**changes):
    return examination.faults(SOURCES | changes)


def test_the_releases_templates_pass():
    """Every file of every letter, in every case."""
    assert examination.faults(SOURCES) == []
    assert set(SOURCES) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_is_named(name):
    """An earlier version lacks the letters that came later; whoever previews it hears so, and no traceback."""
    found = examination.faults({other: source for other, source in SOURCES.items() if other != name})

    assert found[0] == f"{name}: it is missing"


def test_every_kind_has_its_letters():
    """Client and coach are told of a confirmation and a cancellation, the client alone of money."""
    assert {letter.partition("_")[2] for letter in words.LETTERS} == {str(kind) for kind in Kind}
    both = {f"{role}_{kind}" for role in ("client", "coach") for kind in (Kind.CONFIRMATION, Kind.CANCELLATION)}
    assert set(words.LETTERS) == both | {f"client_{kind}" for kind in (Kind.REFUND, Kind.PAYMENT_FAILED)}


@pytest.mark.parametrize("letter", words.LETTERS)
def test_text_and_html_say_the_same(letter):
    """Whoever reads the text alone misses no value."""
    example = words.example(letter)
    content = Templates(SOURCES).render(letter, example)

    for value in ("Charles Babbage" if letter.startswith("client") else "Ada Lovelace", example["date"], example["booking_id"]):
        assert value in content.text
        assert value in content.html
    if example["refunded"]:
        assert example["refunded"] in content.text
        assert example["refunded"] in content.html


@pytest.mark.parametrize(
    ("name", "text", "because"),
    [
        (SUBJECT, "{{ nobody }}", "there is no variable nobody"),
        (TEXT, "{% if cancelled and booking_id == '' %}{{ nobody }}{% endif %}x", "there is no variable nobody"),
        (TEXT, "{{ range(3) }}", "there is no variable range"),
        (TEXT, "{{ 1 +", "line 1: unexpected"),
        (TEXT, "{% for x in date %}{{ x }}", "line 1"),
        (TEXT, "{% if first_name == '' %}{{ date | nonsense }}{% endif %}", "no filter"),
        (TEXT, "{% if date is nonsense %}{% endif %}", "nonsense"),
        (TEXT, "{% include 'secrets.txt' %}", "names the file secrets.txt"),
        (TEXT, "{% include date %}", "names the file None"),
        (TEXT, "{{ date.__class__.__mro__ }}", "does not render"),
        (TEXT, "{{ date.day }}", "does not render"),
        (TEXT, "{{ 'for ' + coach_name }}", "does not render"),
        (TEXT, "{% if cancelled %}{{ 1 / 0 }}{% endif %}x", "does not render"),
        # What only the most usual booking has: two names, a zone with an offset, a currency with a sign and decimals.
        (TEXT, "Hello {{ (coach_name or 'dear coach').split(' ')[1] }}", "does not render"),
        (TEXT, "{{ time }} in {{ time_zone.split('/')[1] }}", "does not render"),
        (TEXT, "{{ amount.split('$')[1] }} dollars", "does not render"),
        (SUBJECT, "{{ amount.split('.')[0] }} and {{ amount.split('.')[1] }} cents", "does not render"),
        ("layout.html", EXTENDS, "does not render"),
        (TEXT, " \n ", "the text is empty"),
        (SUBJECT, "Two\nlines", "more than one line"),
        (SUBJECT, "Two\r\nBcc: eve@evil.example", "more than one line"),
        (SUBJECT, "{% if cancelled %}A\n\nB{% else %}A{% endif %}", "more than one line"),
        (SUBJECT, "A bell \x07", "control character"),
        (SUBJECT, "{{ '' }}", "0 characters"),
        (SUBJECT, "x" * 201, "201 characters"),
        (HTML, "<p>{{ coach_name | safe }}</p>", "can become markup"),
        (HTML, "{% autoescape false %}<p>{{ coach_name }}</p>{% endautoescape %}", "can become markup"),
        ("client_cancellation/body.html", "{% if not refunded %}{{ coach_name | safe }}{% endif %}", "can become markup"),
        (HTML, "<p>x{% if not coach_name %}{{ client_name | safe }}{% endif %}</p>", "can become markup"),
        (HTML, "<p>x{% if cancelled %}{{ first_name | safe }}{% endif %}</p>", "can become markup"),
        (HTML, "<p onclick='x()'>x</p>", "attribute onclick"),
        (HTML, "<script>x</script>", "a script element"),
        (HTML, "<img alt='' src='https://evil.example/pixel.gif'>", "attribute src"),
        (HTML, "<p style=\"background:url('https://evil.example')\">x</p>", "fetches something"),
        (HTML, "<style>@import 'https://evil.example/font.css';</style>", "fetches something"),
        (HTML, "<style>p { background: URL(https://evil.example/pixel.gif) }</style>", "fetches something"),
        (HTML, "<link rel='stylesheet' href='https://evil.example'>", "a link element"),
        (HTML, "x" * 100_001, "cut it off"),
        ("layout.html", LAYOUT.replace("{{ subject }}", "{{ titel }}"), "there is no variable titel"),
        ("parts.html", "{% macro heading(text) %}{{ text }}{% endmacro %}", "does not render"),
    ],
)
def test_what_would_fail_at_sending_is_refused(name, text, because):
    """Syntax, unknown variables also where no example goes, header breaks, markup by names, what mail programs distrust."""
    found = faults(**{name: text})

    assert any(because in fault for fault in found), found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (SUBJECT, "Booked, {{ first_name or 'dear client' }}\n"),
        (SUBJECT, "{{ amount }}:\N{NO-BREAK SPACE}booked\n"),
        (TEXT, "{% if coach_name is none %}x{% else %}{{ coach_name | upper }}{% endif %}"),
        (TEXT, "7 * 7 is {{ 7 * 7 }}"),
        (HTML, "<p>{{ coach_name }}</p><a href='https://culturebridge.com'>Bookings</a>"),
        # What a file defines, and uses in the frame's blocks.
        (HTML, EXTENDS + "{% set hello = 'Hello' %}{% block next %}{{ hello }}{% endblock %}"),
        (HTML, EXTENDS + "{% macro row(value) %}{{ value }}{% endmacro %}{% block next %}{{ row(date) }}{% endblock %}"),
        (HTML, EXTENDS + "{% from 'parts.html' import heading, item as row %}{% block next %}{{ row(date) }}{% endblock %}"),
        (HTML, "<img alt='' src='data:image/png;base64,AAAA'>"),
    ],
)
def test_what_renders_is_taken(name, text):
    """The examination is no jail."""
    assert faults(**{name: text}) == []


def test_a_name_is_never_a_template():
    """What somebody typed is shown, not evaluated."""
    example = words.example(CLIENT) | {"coach_name": "{{ 7*7 }} {% raw %}"}
    content = Templates(SOURCES).render(CLIENT, example)

    assert content.subject == "Booking Confirmed: Session with {{ 7*7 }} {% raw %}"
    assert "{{ 7*7 }}" in content.text
    assert "49" not in content.html


def test_the_frame_is_in_every_letter():
    """Language, direction, title; colours for dark mode; the tables that lay out say so."""
    for letter in words.LETTERS:
        content = Templates(SOURCES).render(letter, words.example(letter))
        assert '<html lang="en" dir="ltr">' in content.html
        assert f"<title>{content.subject}</title>" in content.html
        assert "prefers-color-scheme: dark" in content.html
        assert content.html.count("<table") - content.html.count('role="presentation"') == 1  # the one of the details
    assert set(FRAME) <= set(FILES)


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        *((ink, "#ffffff") for ink in ("#1d2523", "#5f6b67", "#0f766e")),
        *((ink, "#1e2423") for ink in ("#eef2f0", "#a9b5b1", "#5eead4")),
    ],
)
def test_words_can_be_read_in_light_and_dark(ink, paper):
    """WCAG 2.2, 1.4.3: a contrast of at least 4.5 to 1; and these are the colours that the frame uses."""
    lighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
    assert ink in LAYOUT
    assert paper in LAYOUT
