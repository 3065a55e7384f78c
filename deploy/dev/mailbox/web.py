"""The HTTP side: a page for people, JSON for programs.

A letter's HTML is never part of our page: it is a document of its own, without scripts, forms or network, in a sandboxed frame.
"""

from importlib import resources
from typing import Protocol

import jinja2
import msgspec
from aiohttp import web

from deploy.dev.mailbox.letters import Letters
from deploy.dev.mailbox.switches import Switches
from deploy.dev.mailbox.wording import Ask, Unknown, Wording

PAGE_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; frame-src 'self'"
LETTER_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


class Owner(Protocol):
    """The part of the mailbox that the page uses."""

    store: Letters

    @property
    def switches(self) -> Switches:
        """The present faults and delays."""

    async def switch(self, switches: Switches) -> None:
        """Set all switches."""


def application(owner: Owner, ask_wording: Ask) -> web.Application:
    """Return the site of this mailbox; `ask_wording` tells what letters say by now."""
    site = _Site(owner, ask_wording)
    app = web.Application()
    app.add_routes([web.get(path, _page_file) for path in PAGE_FILES])
    app.add_routes(
        [
            web.get("/api/letters", site.list_letters),
            web.delete("/api/letters", site.clear_letters),
            web.get("/api/switches", site.show_switches),
            web.put("/api/switches", site.set_switches),
            web.get("/letters/{id}.eml", site.show_source),
            web.get("/letters/{id}.html", site.show_html),
            web.get("/wording", site.show_wording),
            web.get("/wording/{letter}.html", site.show_example),
        ]
    )
    return app


class _Site:
    """The answers; each method is a route of `application`."""

    def __init__(self, owner: Owner, ask_wording: Ask) -> None:
        self._owner = owner
        self._ask_wording = ask_wording

    async def list_letters(self, request: web.Request) -> web.Response:
        """Show all letters, oldest first; `?after=ID` only the newer ones. `X-Total-Count` says how many there are."""
        letters = self._owner.store.after(request.query.get("after", ""))
        return _json(letters, headers={"X-Total-Count": str(len(self._owner.store))})

    async def clear_letters(self, _request: web.Request) -> web.Response:
        """Forget all letters; says how many they were."""
        return _json({"deleted": self._owner.store.clear()})

    async def show_switches(self, _request: web.Request) -> web.Response:
        """Show what is switched on now."""
        return _json(self._owner.switches)

    async def set_switches(self, request: web.Request) -> web.Response:
        """Replace all switches; `{}` makes the server friendly again, and what is misspelt is a 400."""
        try:
            switches = msgspec.json.decode(await request.read(), type=Switches)
        except msgspec.DecodeError as fault:
            return _json({"detail": str(fault)}, status=400)
        await self._owner.switch(switches)
        return _json(self._owner.switches)

    async def show_source(self, request: web.Request) -> web.Response:
        """Show the exact bytes of a letter, as a file that mail programs open."""
        raw = self._owner.store.raw(request.match_info["id"])
        if raw is None:
            raise web.HTTPNotFound
        return web.Response(body=raw, content_type="message/rfc822")

    async def show_html(self, request: web.Request) -> web.Response:
        """Show a letter's HTML as a document that can do nothing."""
        letter = self._owner.store.letter(request.match_info["id"])
        if letter is None or letter.html is None:
            raise web.HTTPNotFound
        return _harmless(letter.html)

    async def show_wording(self, _request: web.Request) -> web.Response:
        """Show an example of every letter."""
        wording = await self._wording()
        page = _page("wording.html").render(version=wording.version, letters=wording.letters)
        return web.Response(text=page, content_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})

    async def show_example(self, request: web.Request) -> web.Response:
        """Show the HTML of one letter's example."""
        content = (await self._wording()).letters.get(request.match_info["letter"])
        if content is None:
            raise web.HTTPNotFound
        return _harmless(content.html)

    async def _wording(self) -> Wording:
        try:
            return await self._ask_wording()
        except Unknown as why:
            raise web.HTTPServiceUnavailable(text=f"What letters say cannot be told just now: {why}\n") from why


def _harmless(html: str) -> web.Response:
    return web.Response(text=html, content_type="text/html", headers={"Content-Security-Policy": LETTER_POLICY})


def _page(name: str) -> jinja2.Template:
    return jinja2.Environment(loader=jinja2.PackageLoader(str(__package__), "page"), autoescape=True).get_template(name)


async def _page_file(request: web.Request) -> web.Response:
    name, content_type = PAGE_FILES[request.path]
    body = (resources.files(__package__) / "page" / name).read_bytes()
    headers = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"}
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)


def _json(answer: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode(answer)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)
