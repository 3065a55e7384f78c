"""Stripe's own stripe-mock judges requests: it knows each route's parameters, their types and their words.

Requests enter, as the tour and the product make them; complaints leave: what the sandbox took and stripe-mock refuses, and
what the sandbox refuses by name and stripe-mock would take. Its answers are canned, so that they say nothing else.
"""

import http.client
import re
import subprocess
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

from tests.referees import fetching
from tests.referees.differences import UNMOCKED

READY = re.compile(r"Listening for HTTP at address: 127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Request:
    """One call: `route` with `{id}` in it, what stands there, the form's pairs, and what the sandbox said of it."""

    route: str
    object_id: str
    pairs: tuple
    verdict: str  # "taken", or the code with which it was refused

    @classmethod
    def told(cls, route, object_id, pairs, answer):
        """Make one of what was answered; a declined card is no fault of the request."""
        error = answer.get("error", {"type": "card_error"})
        verdict = "taken" if error["type"] == "card_error" else error.get("code", "refused")
        return cls(route, object_id, tuple(pairs), verdict)

    @property
    def shape(self):
        """What makes two requests the same to a judge of parameters."""
        return self.route, tuple((_unnumbered(name), str(value)[:12]) for name, value in self.pairs), self.verdict

    @property
    def parameters(self):
        """Which parameters of the route are used, however a list is numbered and metadata is named."""
        return {f"{self.route} {_unnumbered(name)}" for name, _ in self.pairs} | {self.route}


def complaints(requests):
    """Return where stripe-mock and the sandbox disagree about these requests, and the entries of UNMOCKED without use."""
    distinct = {request.shape: request for request in requests}.values()
    used, found = Counter(), []
    with _serving() as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for request in distinct:
            if request.route in UNMOCKED:
                used[request.route] += 1
                continue
            pairs = []
            for name, value in request.pairs:
                place = f"{request.route} {name}"
                used[place] += place in UNMOCKED
                pairs += [(name, value)] if place not in UNMOCKED else []
            status, said = _asked(connection, request, pairs)
            if request.verdict == "taken" and status >= 400:
                found.append(f"{request.route} {dict(pairs)}: taken by the sandbox, refused by stripe-mock: {said}")
            elif request.verdict == "parameter_unknown" and status < 400:
                found.append(f"{request.route} {dict(pairs)}: refused by the sandbox, taken by stripe-mock")
    return found + [f"{entry}: no request needs this entry of UNMOCKED" for entry in UNMOCKED if not used[entry]]


def _unnumbered(name):
    return re.sub(r"(metadata\]?)\[.*\]", r"\1[]", re.sub(r"\[\d*\]", "[]", name))


def _asked(connection, request, pairs):
    method, path = request.route.replace("{id}", request.object_id).split()
    form, headers = urlencode(pairs), {"Authorization": "Bearer sk_test_123"}
    if method == "POST":
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    elif form:
        path += f"?{form}"
    connection.request(method, path, body=form if method == "POST" else None, headers=headers)
    answer = connection.getresponse()
    return answer.status, " ".join(answer.read().decode()[:400].split())


@contextmanager
def _serving():
    """Give the port of a stripe-mock that serves while the block runs."""
    command = [str(fetching.built(fetching.STRIPE_MOCK)), "-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            ready = next((match for line in running.stdout if (match := READY.search(line))), None)
            if ready is None:
                raise fetching.Missing("stripe-mock: it ended before it served")
            yield int(ready[1])
        finally:
            running.kill()
