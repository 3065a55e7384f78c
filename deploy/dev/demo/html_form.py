"""An HTML form as a browser without a script sees it: its fields, and what a press of its button would send."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

# What a browser never sends although it has a name: a button is sent only when it is the one that was pressed.
UNSENT_TYPES = frozenset({"button", "file", "image", "reset", "submit"})

CHOICE_TYPES = frozenset({"checkbox", "radio"})  # sent only where they are checked


@dataclass
class Form:
    """The form of a page. `fields` holds what would be sent as it stands, by name."""

    action: str = ""
    method: str = "get"
    fields: dict[str, str] = field(default_factory=dict)
    heading: str = ""


def read(page: str) -> Form | None:
    """Return the first form of a page with its first heading; None when the page has no form."""
    reader = _Reader()
    reader.feed(page)
    if reader.form is not None:
        reader.form.heading = " ".join("".join(reader.heading).split())
    return reader.form


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.form: Form | None = None
        self.heading: list[str] = []
        self._inside_form = False
        self._inside_heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and self.form is None:
            self.form = Form(given.get("action", ""), given.get("method", "get").lower())
            self._inside_form = True
        elif tag == "input" and self._inside_form and self.form and given.get("name"):
            if given.get("type", "text") not in UNSENT_TYPES and (given.get("type") not in CHOICE_TYPES or "checked" in given):
                self.form.fields[given["name"]] = given.get("value", "")
        elif tag == "h1" and not self.heading:
            self._inside_heading = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside_form = False
        elif tag == "h1":
            self._inside_heading = False

    def handle_data(self, data: str) -> None:
        if self._inside_heading:
            self.heading.append(data)
