"""Words -> what a person reads, by one version of all templates; pure.

Jinja2 in its sandbox, with automatic escaping of HTML and access to the words alone: no function, no loop over numbers, no
file. Next: consumers/email/compose.py makes a letter of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath

from jinja2 import DictLoader, StrictUndefined, Template, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shared.letters.words import LETTERS, SUBJECT, Words

SUBJECT_FILE, HTML_FILE, TEXT_FILE = "subject.txt", "body.html", "body.txt"
FRAME = ("layout.html", "parts.html")  # what the letters' HTML has in common
FILES = (*FRAME, *(f"{letter}/{file}" for letter in LETTERS for file in (SUBJECT_FILE, HTML_FILE, TEXT_FILE)))


@dataclass(frozen=True, slots=True)
class Content:
    """What a person reads; the subject is one line."""

    subject: str
    html: str
    text: str


class Templates:
    """One version of all templates, compiled; make it once and keep it."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        """Compile `sources`, which are by the names in FILES; raises jinja2.TemplateError when one is not well-formed."""
        compiler = environment(sources)
        self._letters: dict[str, tuple[Template, Template, Template]] = {
            letter: (
                compiler.get_template(f"{letter}/{SUBJECT_FILE}"),
                compiler.get_template(f"{letter}/{HTML_FILE}"),
                compiler.get_template(f"{letter}/{TEXT_FILE}"),
            )
            for letter in LETTERS
        }

    def render(self, letter: str, words: Words) -> Content:
        """Return the letter's content; raises KeyError when there is no such letter, and whatever its template does."""
        subject, html, text = self._letters[letter]
        line = " ".join(subject.render(words).split())
        return Content(subject=line, html=html.render(words, **{SUBJECT: line}), text=text.render(words))

    def raw_subject(self, letter: str, words: Words) -> str:
        """Return the subject as its template made it, breaks included."""
        return self._letters[letter][0].render(words)


def environment(sources: Mapping[str, str]) -> ImmutableSandboxedEnvironment:
    """Return the Jinja2 environment that compiles these sources."""
    compiler = ImmutableSandboxedEnvironment(
        loader=DictLoader(sources),
        autoescape=select_autoescape(["html"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    compiler.globals.clear()
    return compiler


def released() -> dict[str, str]:
    """Return the files of this release, by name."""
    folder = resources.files("shared.letters") / "seed"
    return {name: folder.joinpath(*PurePosixPath(name).parts).read_text(encoding="utf-8") for name in FILES}
