"""All templates -> the faults for which they must not be put; pure.

Templates that pass render for every booking: every variable is known, every example of every letter renders, a subject is one
line, and in none of them can a name become markup. Next: shared/db/letter_templates.py refuses them, or puts them.
"""

import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser

from jinja2 import Environment, TemplateError, TemplateSyntaxError, meta, nodes

from shared.letters.templates import FILES, HTML_FILE, Templates, environment
from shared.letters.words import LETTERS, NAMES, SUBJECT, Words, examples, hostile

SUBJECT_CHARACTERS_MAX = 200
HTML_BYTES_MAX = 100_000  # Gmail cuts off what lies behind 102 kB
TAGS_REFUSED = frozenset("script iframe object embed form input button link base svg video audio".split())  # stripped, or spam
ATTRIBUTES_THAT_FETCH = frozenset({"src", "srcset", "background", "poster"})
FETCHES = re.compile(r"url\(|@import", re.IGNORECASE)  # in a style

Elements = list[tuple[str, tuple[tuple[str, str | None], ...]]]  # an HTML's tags, each with its attributes


def faults(sources: Mapping[str, str]) -> list[str]:
    """Return why letters cannot be written by these templates (by name); an empty list when they can.

    A file that belongs to none of our letters is a newer release's, which was rolled back: whatever it says, no letter is
    written by it, unless a file of ours names it.
    """
    compiler = environment(sources)
    known = [f"{name}: it is missing" for name in FILES if name not in sources]
    known += [fault for name in sorted(sources.keys() & set(FILES)) for fault in _of_source(compiler, sources, name)]
    if known:
        return known
    templates = Templates(sources)
    return [fault for letter in LETTERS for fault in _of_letter(templates, letter)]


def _of_source(compiler: Environment, sources: Mapping[str, str], name: str) -> Iterator[str]:
    try:
        tree = compiler.parse(sources[name])
        compiler.compile(tree)
    except TemplateSyntaxError as error:
        yield f"{name}, line {error.lineno}: {error.message}"
        return
    known = NAMES | ({SUBJECT} if name.endswith(".html") else set())
    defined = {defined for node in tree.body for defined in _defined(node)}  # Jinja2 believes it undeclared inside a block
    for unknown in sorted(meta.find_undeclared_variables(tree) - known - defined):
        yield f"{name}: there is no variable {unknown}; there are {', '.join(sorted(known))}"
    for kind, there in ((nodes.Filter, compiler.filters), (nodes.Test, compiler.tests)):
        for node in tree.find_all(kind):
            if node.name not in there:
                yield f"{name}, line {node.lineno}: there is no {kind.__name__.lower()} {node.name}"
    for other in meta.find_referenced_templates(tree):
        if other not in sources:
            yield f"{name}: it names the file {other}, which is not there"


def _defined(node: nodes.Node) -> Iterator[str]:
    match node:
        case nodes.Import(target=str(name)) | nodes.Macro(name=str(name)) | nodes.Assign(target=nodes.Name(name=str(name))):
            yield name
        case nodes.FromImport(names=names):
            yield from (name if isinstance(name, str) else name[1] for name in names)
        case _:
            pass


def _of_letter(templates: Templates, letter: str) -> Iterator[str]:
    """Yield the first fault that an example shows."""
    for words in examples(letter):
        if fault := _of_example(templates, letter, words):
            yield f"{letter}: {fault}"
            return


def _of_example(templates: Templates, letter: str, words: Words) -> str | None:
    try:
        content, attacked = templates.render(letter, words), templates.render(letter, hostile(words))
        lines = templates.raw_subject(letter, words).splitlines()
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        return f"an example does not render: {error}"
    if len(lines) > 1 or not content.subject.isprintable():
        return "the subject is more than one line, or holds a control character"
    if not 0 < len(content.subject) <= SUBJECT_CHARACTERS_MAX:
        return f"the subject of an example has {len(content.subject)} characters; 1 to {SUBJECT_CHARACTERS_MAX} fit"
    if not content.text.strip():
        return "the text is empty"
    if len(content.html.encode()) > HTML_BYTES_MAX:
        return f"the HTML is longer than {HTML_BYTES_MAX} bytes, and mail programs would cut it off"
    elements = _elements(content.html)
    if refused := _refused(elements):
        return f"the HTML holds {refused}, which mail programs take away or distrust"
    if _elements(attacked.html) != elements:
        return f"in {HTML_FILE} a name can become markup; leave escaping on"
    return None


def _refused(elements: Elements) -> str | None:
    for tag, attributes in elements:
        if tag in TAGS_REFUSED:
            return f"a {tag} element"
        for name, value in attributes:
            if name.startswith("on") or (name in ATTRIBUTES_THAT_FETCH and not (value or "").startswith("data:")):
                return f"the attribute {name}"
            if name == "style" and FETCHES.search(value or ""):
                return "a style that fetches something"
    return None


def _elements(html: str) -> Elements:
    reader = _Elements()
    reader.feed(html)
    reader.close()
    return reader.found


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: Elements = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "style":
            self.found.append(("style", (("style", data),)))  # what it says, as an attribute would
