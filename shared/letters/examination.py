"""All templates -> the faults for which they must not be put; pure.

What passes here renders whatever booking it meets: every variable is known, every example of every letter renders, a subject
is one line, and no name can become markup. Next: whoever puts a template refuses it, or puts it.
"""

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser

from jinja2 import Environment, TemplateError, TemplateSyntaxError, meta, nodes

from shared.letters.templates import FILES, HTML_FILE, Templates, environment
from shared.letters.words import LETTERS, NAMES, SUBJECT, Words, example, examples, hostile

SUBJECT_CHARACTERS_MAX = 200
HTML_BYTES_MAX = 100_000  # Gmail cuts off what lies behind 102 kB
TAGS_REFUSED = frozenset("script iframe object embed form input button link base svg video audio".split())  # stripped, or spam
ATTRIBUTES_THAT_FETCH = frozenset({"src", "srcset", "background", "poster"})


def faults(sources: Mapping[str, str]) -> list[str]:
    """Return why these templates, by name, cannot be sent by; an empty list when they can."""
    compiler = environment(sources)
    known = [f"{name}: it is missing" for name in FILES if name not in sources]
    known += [fault for name in sorted(sources) for fault in _of_source(compiler, sources, name)]
    if known:
        return known
    templates = Templates(sources)
    return [fault for letter in LETTERS for fault in _of_letter(templates, letter)]


def _of_source(compiler: Environment, sources: Mapping[str, str], name: str) -> Iterator[str]:
    if name not in FILES:
        yield f"{name}: no letter has such a file"
        return
    try:
        tree = compiler.parse(sources[name])
        compiler.compile(tree)
    except TemplateSyntaxError as error:
        yield f"{name}, line {error.lineno}: {error.message}"
        return
    known = NAMES | ({SUBJECT} if name.endswith(".html") else set())
    imported = {node.target for node in tree.find_all(nodes.Import)}  # Jinja2 believes them undeclared inside a block
    for unknown in sorted(meta.find_undeclared_variables(tree) - known - imported):
        yield f"{name}: there is no variable {unknown}; there are {', '.join(sorted(known))}"
    for kind, there in ((nodes.Filter, compiler.filters), (nodes.Test, compiler.tests)):
        for node in tree.find_all(kind):
            if node.name not in there:
                yield f"{name}, line {node.lineno}: there is no {kind.__name__.lower()} {node.name}"
    for other in meta.find_referenced_templates(tree):
        if other not in sources:
            yield f"{name}: it names the file {other}, which is not there"


def _of_letter(templates: Templates, letter: str) -> Iterator[str]:
    """Yield the first fault that an example shows; where none does, whether a name can become markup."""
    for words in examples(letter):
        if fault := _of_example(templates, letter, words):
            yield f"{letter}: {fault}"
            return
    plain, attacked = (_elements(templates.render(letter, words(letter)).html) for words in (example, hostile))
    if plain != attacked:
        yield f"{letter}: in {HTML_FILE} a name can become markup; leave escaping on"


def _of_example(templates: Templates, letter: str, words: Words) -> str | None:
    try:
        content = templates.render(letter, words)
        line = templates.raw_subject(letter, words).removesuffix("\n")
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        return f"an example does not render: {error}"
    if not line.isprintable():
        return "the subject is more than one line, or holds a control character"
    if not 0 < len(line) <= SUBJECT_CHARACTERS_MAX:
        return f"the subject of an example has {len(line)} characters; 1 to {SUBJECT_CHARACTERS_MAX} fit"
    if not content.text.strip():
        return "the text is empty"
    if len(content.html.encode()) > HTML_BYTES_MAX:
        return f"the HTML is longer than {HTML_BYTES_MAX} bytes, and mail programs would cut it off"
    if refused := _refused(content.html):
        return f"the HTML holds {refused}, which mail programs take away or distrust"
    return None


def _refused(html: str) -> str | None:
    for tag, attributes in _elements(html):
        if tag in TAGS_REFUSED:
            return f"a {tag} element"
        for name, value in attributes:
            if name.startswith("on") or (name in ATTRIBUTES_THAT_FETCH and not (value or "").startswith("data:")):
                return f"the attribute {name}"
            if name == "style" and "url(" in (value or ""):
                return "a style that fetches something"
    return None


def _elements(html: str) -> list[tuple[str, tuple[tuple[str, str | None], ...]]]:
    reader = _Elements()
    reader.feed(html)
    reader.close()
    return reader.found


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(attrs)))
