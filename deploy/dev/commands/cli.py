"""`cb-dev`: the world in a box, for development only. Thin: every command asks one other file and shows its answer."""

import contextlib
import io
import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from deploy.dev import settings
from deploy.dev.box import control
from deploy.dev.commands import overview, stripe_switches
from deploy.dev.commands.options import Folder
from deploy.dev.errors import BoxError
from deploy.dev.seed import token
from deploy.dev.services import broker, environment
from deploy.dev.state import Box
from deploy.dev.terminal import Voice

app = typer.Typer(
    name="cb-dev",
    help="The world in a box: PostgreSQL, Kafka, a mailbox and a Stripe sandbox, with the pipeline among them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(stripe_switches.app)
# A hop takes a second on a machine that is busy with other things; longer is no longer slowness.
PATIENCE_SECONDS = 30.0
Patience = Annotated[float, typer.Option("--patience", help="Seconds that each hop may take.", min=0.1)]


class Role(StrEnum):
    """The seeded people."""

    CLIENT = "client"
    COACH = "coach"
    ADMIN = "admin"


@app.command()
def up(
    directory: Folder = None,
    *,
    services_only: Annotated[bool, typer.Option("--services-only", help="Only PostgreSQL and Kafka.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running in the background.")] = False,
    brokers: Annotated[
        int | None, typer.Option("--brokers", help="1, or 3 as in production; a box keeps what it was made with.")
    ] = None,
    secure: Annotated[
        bool, typer.Option("--secure", help="Kafka over TLS, with users and ACLs; a box keeps what it was made with.")
    ] = False,
) -> None:
    """Bring the box up and keep it up until Ctrl-C; join it when it is up already."""
    if brokers not in {None, *broker.COUNTS}:
        raise typer.BadParameter("must be 1 or 3", param_hint="--brokers")
    voice = Voice()
    box = Box(directory)
    if control.is_up(box):
        control.join(box, voice, services_only=services_only, brokers=brokers, secure=secure)
        overview.show_addresses(box, voice)
    elif detach:
        control.detach(box, voice, services_only=services_only, brokers=brokers, secure=secure)
        overview.show_addresses(box, voice)
    else:
        keeping = control.kept_up(directory, voice, services_only=services_only, brokers=brokers, secure=secure)
        with contextlib.suppress(KeyboardInterrupt), keeping:
            overview.show_addresses(box, voice)
            voice.say("box", "stays up until Ctrl-C")
            control.wait_for_ever()


@app.command()
def story(directory: Folder = None, *, patience: Patience = PATIENCE_SECONDS) -> None:
    """Buy one session in the running box and tell each hop; exit status 1 when one is missing."""
    # The pipeline's libraries take a second to import, which the other commands need not pay.
    from deploy.dev.demo import story as telling  # noqa: PLC0415 - see above
    from deploy.dev.demo.target import BoxTarget  # noqa: PLC0415 - as above

    if not telling.tell(BoxTarget(Box(directory)), Voice(), patience_seconds=patience):
        raise typer.Exit(1)


@app.command()
def demo(directory: Folder = None, *, patience: Patience = PATIENCE_SECONDS) -> None:
    """Bring the box up or join it, tell the story, show the addresses; with a terminal stay until Ctrl-C."""
    voice = Voice()
    voice.say("demo", "a box, one purchase in it, and the addresses to open")
    from deploy.dev.demo import demo as showing  # noqa: PLC0415 - as in story

    if not showing.show(directory, voice, patience_seconds=patience):
        raise typer.Exit(1)


@app.command()
def demo_compose(
    *,
    stay: Annotated[bool, typer.Option("--stay", help="Leave the stack up.")] = False,
    patience: Patience = PATIENCE_SECONDS,
) -> None:
    """Bring docker-compose.yml up from nothing, tell the same story in it, take it down; needs a Docker engine."""
    from deploy.dev.demo import compose  # noqa: PLC0415 - as in story

    if not compose.show(Voice(), stay=stay, patience_seconds=patience):
        raise typer.Exit(1)


@app.command()
def simulate(
    directory: Folder = None,
    *,
    seed: Annotated[int, typer.Option(help="What everything is drawn from: the same seed, the same world.")] = 1,
    seeds: Annotated[int, typer.Option(help="How many, from that seed on, one after the other.", min=1)] = 1,
    rate: Annotated[float, typer.Option(help="Customers a second, on average.", min=0.01)] = 2.0,
    seconds: Annotated[float, typer.Option("--for", help="Seconds during which customers come.", min=0.1)] = 30.0,
    bad_days: Annotated[
        bool, typer.Option("--bad-days", help="Webhooks twice, late, lost, in any order; calls to Stripe that fail.")
    ] = False,
    patience: Annotated[float, typer.Option("--patience", help="Seconds that anything may take.", min=0.1)] = 60.0,
) -> None:
    """Let customers pay, fail, leave and dispute, then compare Stripe's books with ours; exit status 1 when they differ."""
    from deploy.dev.simulation import several  # noqa: PLC0415 - as in story
    from deploy.dev.simulation.run import Plan  # noqa: PLC0415 - as in story

    plan = Plan(seed=seed, rate=rate, seconds=seconds, bad_days=bad_days, patience_seconds=patience)
    if not several.simulate(directory, Voice(), plan, seeds=seeds):
        raise typer.Exit(1)


@app.command()
def down(directory: Folder = None) -> None:
    """End everything of the box; its state stays."""
    control.down(Box(directory), Voice())


@app.command()
def reset(directory: Folder = None) -> None:
    """End everything of the box and forget its state: rows, topics, letters, secrets."""
    control.reset(Box(directory), Voice())


@app.command()
def status(directory: Folder = None) -> None:
    """Show what runs, where, and what can be tried; exit status 1 when the box is down."""
    if not overview.show(Box(directory), Voice()):
        raise typer.Exit(1)


@app.command()
def env(directory: Folder = None) -> None:
    """Print `export NAME=value` lines, so that any shell may join: eval "$(cb-dev env)"."""
    sys.stdout.write(environment.exports(control.environment_of(Box(directory))))


@app.command("token")
def print_token(
    role: Annotated[Role, typer.Option("--as", help="Whose.")],
    directory: Folder = None,
) -> None:
    """Print a bearer token of a seeded person, for the API page or curl."""
    sys.stdout.write(f"{token.issue(Box(directory), role)}\n")


def main() -> None:
    """Run the command; what a developer has to know is one message, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that knows no arrow or tick shows a question mark there.
        sys.stdout.reconfigure(errors="replace")
    settings.forget_other_databases()
    try:
        app()
    except BoxError as error:
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(str(error))
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
