"""`cb-dev stripe …`: the Stripe sandbox's switches. Thin: each command is one call under /_sandbox, shown as it answers.

What every switch does: deploy/dev/stripe/README.md. The sandbox itself refuses words that it does not know.
"""

import http.client
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from deploy.dev.box import control
from deploy.dev.commands.options import Folder
from deploy.dev.errors import BoxError
from deploy.dev.state import Box

app = typer.Typer(name="stripe", help="The Stripe sandbox's switches.", no_args_is_help=True)

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
TIMEOUT_SECONDS = 10.0
# It listens on this machine: a company's proxy, which the environment may name, does not lead there.
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# In words of our own, since the sandbox takes half a second to import; a test holds them to its.
FORGERIES = "stale_timestamp, wrong_signature, wrong_livemode, foreign_account, thin_event, oversized, not_utf8"
FAULTS = "error_before, error_after, conflict, rate_limit, hang_before, hang_after, cut"

Number = TypeVar("Number", int, float)

Url = Annotated[str, typer.Option("--url", help="The sandbox's address; default: that of the running box.")]
Times = Annotated[int, typer.Option("--times", help="How often.")]
Event = Annotated[str, typer.Argument(metavar="EVENT", help="evt_…, as `stripe show` tells it.")]
Endpoint = Annotated[str | None, typer.Option("--endpoint", help="we_…; default: all.")]


@app.command()
def show(directory: Folder = None, url: Url = "") -> None:
    """Show the switches, what is armed, and every delivery with its attempts."""
    shown = {name: _call(directory, url, "GET", name) for name in ("clock", "faults", "losses", "deliveries")}
    _print(shown)


@app.command()
def deliveries(
    directory: Folder = None,
    url: Url = "",
    *,
    twins: Annotated[int, typer.Option(help="Further Event objects for each change.")] = 0,
    duplicates: Annotated[int, typer.Option(help="Further copies of an event.")] = 0,
    duplicate_share: Annotated[float, typer.Option(help="Of how many events, 0 to 1.")] = 1.0,
    delay_ms: Annotated[int, typer.Option(help="How late all come.")] = 0,
    reorder_ms: Annotated[int, typer.Option(help="Each waits a random part of it more.")] = 0,
    order: Annotated[str, typer.Option(help="as_born, oldest_last, newest_first, or positions: 3,0,1,2.")] = "as_born",
    forge: Annotated[list[str] | None, typer.Option(help=f"A forgery beside each event; may be repeated: {FORGERIES}.")] = None,
    drop_first: Annotated[int, typer.Option(help="Attempts of each delivery that get lost.")] = 0,
    retry: Annotated[str, typer.Option(help="Seconds between attempts, such as 1,2,4; or live.")] = "",
    seed: Annotated[int | None, typer.Option(help="Begin the dice anew.")] = None,
) -> None:
    """Disturb deliveries from now on; what is left out is at rest."""
    words: dict[str, Any] = {
        "twins": twins,
        "duplicates": duplicates,
        "duplicate_share": duplicate_share,
        "delay_ms": delay_ms,
        "reorder_ms": reorder_ms,
        "order": _numbers(int, order, "--order") if order[:1].isdigit() else order,
        "forgeries": forge or [],
        "drop_first": drop_first,
        "seed": seed,
    }
    if retry:
        words["retry_schedule_seconds"] = retry if retry == "live" else _numbers(float, retry, "--retry")
    _print(_call(directory, url, "PUT", "deliveries", words))


@app.command()
def pause(directory: Folder = None, url: Url = "", *, endpoint: Endpoint = None) -> None:
    """Hold every delivery, or those to one endpoint."""
    _print(_call(directory, url, "POST", "deliveries/pause", {"endpoint": endpoint}))


@app.command()
def resume(directory: Folder = None, url: Url = "", *, endpoint: Endpoint = None) -> None:
    """Go on with what was held."""
    _print(_call(directory, url, "POST", "deliveries/resume", {"endpoint": endpoint}))


@app.command()
def redeliver(event: Event, directory: Folder = None, url: Url = "", *, endpoint: Endpoint = None) -> None:
    """Send an event once more, delivered or not."""
    _print(_call(directory, url, "POST", f"events/{_part(event)}/redeliver", {"endpoint": endpoint}))


@app.command()
def forge(
    event: Event,
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {FORGERIES}.")],
    directory: Folder = None,
    url: Url = "",
    *,
    endpoint: Endpoint = None,
) -> None:
    """Send a forgery of an event, once."""
    _print(_call(directory, url, "POST", f"events/{_part(event)}/forge", {"kind": kind, "endpoint": endpoint}))


@app.command()
def fault(
    route: Annotated[str, typer.Argument(metavar="ROUTE", help="Method and path: POST /v1/checkout/sessions.")],
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {FAULTS}.")],
    directory: Folder = None,
    url: Url = "",
    *,
    times: Times = 1,
    seconds: Annotated[float, typer.Option(help="How long a hang lasts.")] = 60.0,
) -> None:
    """Let the next calls of a route fail, such as: fault "POST /v1/refunds" error_after."""
    _print(_call(directory, url, "POST", "faults", {"route": route, "kind": kind, "times": times, "seconds": seconds}))


@app.command()
def lose(
    kind: Annotated[str, typer.Argument(metavar="TYPE")], directory: Folder = None, url: Url = "", *, times: Times = 1
) -> None:
    """Let the next events of a type never come to be: no webhook, no list."""
    _print(_call(directory, url, "POST", "losses", {"type": kind, "times": times}))


@app.command()
def clock(advance: str, directory: Folder = None, url: Url = "") -> None:
    """Set the sandbox's clock forward: 90s, 30m, 2h or 3d."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", advance)
    if match is None:
        raise typer.BadParameter("give a number and a unit: 90s, 30m, 2h or 3d")
    _print(_call(directory, url, "POST", "clock", {"advance_seconds": float(match[1]) * UNIT_SECONDS[match[2]]}))


@app.command()
def roll(
    endpoint: str,
    directory: Folder = None,
    url: Url = "",
    *,
    overlap_seconds: Annotated[float, typer.Option(help="How long the old secret goes on signing, too.")] = 86400.0,
) -> None:
    """Give a webhook endpoint a new secret."""
    _print(_call(directory, url, "POST", f"webhook_endpoints/{_part(endpoint)}/roll", {"overlap_seconds": overlap_seconds}))


@app.command()
def clear(directory: Folder = None, url: Url = "") -> None:
    """Put every switch to rest."""
    _print(_call(directory, url, "POST", "clear"))


def _numbers(kind: Callable[[str], Number], typed: str, option: str) -> list[Number]:
    """Return numbers that were typed with commas between them."""
    try:
        return [kind(number) for number in typed.split(",")]
    except ValueError:
        raise typer.BadParameter("give numbers with commas between them, such as 1,2,4", param_hint=option) from None


def _part(typed: str) -> str:
    """Return an id as a part of a path, whatever was typed for it."""
    return urllib.parse.quote(typed, safe="")


def _call(directory: Folder, url: str, method: str, path: str, words: object = None) -> object:
    base = (url or control.environment_of_whole(Box(directory))["CB_DEV_SANDBOX_URL"]).rstrip("/")
    body = json.dumps(words).encode() if words is not None else None
    try:
        request = urllib.request.Request(f"{base}/_sandbox/{path}", data=body, method=method)  # noqa: S310 - our own sandbox
        with DIRECTLY.open(request, timeout=TIMEOUT_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            raise BoxError(_refusal(base, refused)) from None
    except urllib.error.URLError as gone:
        raise BoxError(f"no sandbox answers at {base}: {gone.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as other:
        raise BoxError(f"no sandbox answers at {base}: {other}") from None


def _refusal(base: str, refused: urllib.error.HTTPError) -> str:
    """Return why the sandbox refuses the words; a server that is not the sandbox answers in another shape."""
    try:
        return f"the sandbox refuses: {json.load(refused)['error']}"
    except (ValueError, LookupError, TypeError):
        return f"no sandbox answers at {base}: its answer is {refused.code} {refused.reason}"


def _print(shown: object) -> None:
    sys.stdout.write(json.dumps(shown, indent=2) + "\n")
