"""One simulation from its first customer to the comparison.

Enters: a plan and a box that is up. Leaves: a Report. Nothing is written but rows of people and bookings; everything else
goes through what customers and support people use. Next: show.py tells it.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from deploy.dev.box import control
from deploy.dev.demo.purchase import TROUBLE, letters_before
from deploy.dev.errors import BoxError
from deploy.dev.seed import token
from deploy.dev.services import kafka_settings
from deploy.dev.simulation import bad_days, books, comparison, letters, outcomes, persons, quiet, store, told, watch
from deploy.dev.simulation.comparison import NOTHING, Difference
from deploy.dev.simulation.customer import Customer, Places
from deploy.dev.simulation.desk import Desk
from deploy.dev.simulation.letters import Accepted, Addresses
from deploy.dev.simulation.patience import Hindered, Patience
from deploy.dev.simulation.persons import Ending
from deploy.dev.simulation.quiet import Cluster
from deploy.dev.simulation.rows import Rows
from deploy.dev.simulation.steps import Step, Tell
from deploy.dev.simulation.store import Booked
from deploy.dev.simulation.support import Support
from deploy.dev.state import Box
from shared import clock, settings, topics
from shared.db import engine as engines

ENDS_WITHIN_SECONDS = 5.0


@dataclass(frozen=True)
class Plan:
    """What to simulate: `rate` customers a second for so many `seconds`; `patience_seconds` for each thing that is awaited."""

    seed: int
    rate: float
    seconds: float
    bad_days: bool
    patience_seconds: float


@dataclass(frozen=True)
class Report:
    """The result: how many bookings ended how, and the differences."""

    outcomes: Mapping[str, int]
    differences: tuple[Difference, ...]


async def simulate(box: Box, plan: Plan, tell: Tell) -> Report:
    """Run all customers, wait until everything is quiet, compare.

    BoxError when the box is not up, loses a process, or is told to lose events, which nobody could find again.
    """
    variables = control.environment_of(box)
    simulating = asyncio.create_task(_simulate(variables, plan, tell))
    watching = asyncio.create_task(watch.until_one_ends(box))
    try:
        await asyncio.wait({simulating, watching}, return_when=asyncio.FIRST_COMPLETED)
        if simulating.done() and isinstance(simulating.exception(), TROUBLE):
            # Perhaps a process has just ended, which whoever watches will see at the next look.
            await asyncio.wait({watching}, timeout=2 * watch.LOOK_EVERY_SECONDS)
        if watching.done():
            await watching
        return await simulating
    except TROUBLE as error:
        raise BoxError(f"the simulation could not go on: {type(error).__name__}: {error}") from error
    finally:
        for task in (simulating, watching):
            task.cancel()
        # Python 3.11 may lose a cancellation in the moment in which a connection is made, and a group cancels its tasks but
        # once: whoever has not heard it is told again when the loop ends.
        ended, _ = await asyncio.wait({simulating, watching}, timeout=ENDS_WITHIN_SECONDS)
        for task in ended:
            if not task.cancelled():
                task.exception()


async def _simulate(variables: Mapping[str, str], plan: Plan, tell: Tell) -> Report:
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=0))
        )
        reached = await stack.enter_async_context(quiet.reaching(kafka_settings.of(variables)))
        engine = engines.create(settings.Database(database_url=SecretStr(variables["DATABASE_URL"])), application="simulation")
        stack.push_async_callback(engine.dispose)
        return await _Run(variables, plan, tell, http, reached, engine).make()


class _Run:
    """The connections and state of one simulation."""

    def __init__(
        self,
        variables: Mapping[str, str],
        plan: Plan,
        tell: Tell,
        http: aiohttp.ClientSession,
        cluster: Cluster,
        engine: AsyncEngine,
    ) -> None:
        self._plan, self._tell, self._http, self._cluster, self._engine = plan, tell, http, cluster, engine
        self._sandbox, self._mailbox = variables["CB_DEV_SANDBOX_URL"], variables["CB_DEV_MAILBOX_URL"]
        api = variables["CB_DEV_INGRESS_URL"]
        self._places = Places(api, success_url=f"{self._mailbox}/", cancel_url=f"{api}/docs")
        self._secret = variables["JWT_SECRET_KEY"]
        self._patience = Patience(plan.patience_seconds)
        self._desk = Desk(http, self._sandbox, variables["STRIPE_SECRET_KEY"], self._patience)
        self._support = Support(self._desk, self._patience, tell)
        self._hindered: list[Difference] = []

    async def make(self) -> Report:
        """Make it."""
        await self._refuse_losses()
        crowd = persons.draw(self._plan.seed, rate=self._plan.rate, seconds=self._plan.seconds)
        last_letter = await letters_before(self._http, self._mailbox)
        dead_before = await self._cluster.dead_letters()
        told_from = await self._cluster.ends(topics.PAYMENTS_EVENTS, topics.BOOKINGS_EVENTS)
        began_on = int(clock.now().timestamp())
        booked = await store.book(self._engine, crowd)
        began_at = clock.monotonic()
        async with self._bad_days(), asyncio.TaskGroup() as living:
            for one in booked:
                await asyncio.sleep(began_at + one.person.arrives_seconds - clock.monotonic())
                living.create_task(self._live(one))
        bookings = [one.booking_id for one in booked]
        try:
            await self._patience.until(
                "quiet", lambda: quiet.look(self._http, self._sandbox, self._cluster, self._engine, bookings)
            )
        except Hindered as never:
            self._hindered.append(Difference("quiet", "-", never.why, "cb-dev status"))
        differences = [*self._hindered, *await self._dead_letters(dead_before)]
        papers = await self._papers(began_on, bookings)
        ours = await store.read(self._engine, bookings, outcomes.stripe_ids(papers))
        prices = {one.booking_id: (one.person.price_minor, one.person.coach.currency) for one in booked}
        addresses = {one.booking_id: Addresses(one.client_email, one.coach_email) for one in booked}
        mailbox = await self._accepted(last_letter)
        differences += comparison.compare(papers, ours, prices)
        differences += letters.compare(papers, ours, mailbox, addresses, prices)
        messages = await self._cluster.since(told_from)
        differences += told.compare(
            papers,
            ours,
            payments=told.newest(messages[topics.PAYMENTS_EVENTS.name]),
            bookings=told.newest(messages[topics.BOOKINGS_EVENTS.name]),
            shown=await self._shown(booked, ours),
        )
        return Report(outcomes.count(papers, ours), tuple(differences))

    async def _live(self, booked: Booked) -> None:
        """Run one person to the end of what was drawn, or to what hinders them."""
        person = booked.person
        customer = Customer(self._http, self._places, self._bearer(booked), booked.booking_id, self._patience, self._tell)
        self._tell(Step.CAME)
        try:
            for nth, visit in enumerate(person.visits):
                opened = await customer.visit(nth, visit)
                if visit.ending is Ending.EXPIRED:
                    await self._support.expire(opened.session_id)
                if not person.hasty or nth < len(person.visits) - 1:
                    await customer.sees(opened.payment_id, visit.ending)
            for nth, act in enumerate(person.acts):
                name = f"{booked.booking_id}/{nth}"
                await self._support.act(opened.session_id, act, name=name, comes_back=person.refunds_come_back)
        except Hindered as hindered:
            self._tell(Step.HINDERED)
            what = f"customer {person.number}: {hindered.what}"
            self._hindered.append(Difference(what, "-", hindered.why, comparison.why(booked.booking_id)))
        self._tell(Step.WENT)

    @contextlib.asynccontextmanager
    async def _bad_days(self) -> AsyncIterator[None]:
        """Set the drawn switches inside the block, if bad days are wanted; clear them afterwards."""
        if not self._plan.bad_days:
            yield
            return
        pulling = asyncio.create_task(self._pull(bad_days.draw(self._plan.seed, seconds=self._plan.seconds)))
        try:
            yield
        finally:
            pulling.cancel()
            await asyncio.gather(pulling, return_exceptions=True)
            await self._switch("DELETE", "faults", {})
            await self._switch("PUT", "deliveries", bad_days.REST)

    async def _pull(self, switches: Sequence[bad_days.Switch]) -> None:
        began_at = clock.monotonic()
        for switch in switches:
            await asyncio.sleep(began_at + switch.after_seconds - clock.monotonic())
            await self._switch(switch.method, switch.path, switch.words)

    async def _switch(self, method: str, path: str, words: Mapping[str, object]) -> None:
        async with self._http.request(method, f"{self._sandbox}/_sandbox/{path}", json=dict(words)) as answer:
            answer.raise_for_status()

    async def _refuse_losses(self) -> None:
        async with self._http.get(f"{self._sandbox}/_sandbox/losses") as answer:
            if armed := [f"{loss['type']} {loss['times']} times" for loss in await answer.json()]:
                raise BoxError(
                    f"the sandbox will lose events ({', '.join(armed)}), which nobody can be asked about;"
                    " put it to rest with: cb-dev stripe clear"
                )

    async def _papers(self, began_on: int, bookings: Sequence[str]) -> tuple[books.Paper, ...]:
        since = {"created[gte]": str(began_on)}
        lists = {name: [one async for one in self._desk.every(path, since)] for name, path in books.PATHS.items()}
        return books.papers(lists, frozenset(bookings))

    async def _accepted(self, after: str) -> list[Accepted]:
        async with self._http.get(f"{self._mailbox}/api/letters", params={"after": after}) as answer:
            return [Accepted(one["message_id"], tuple(one["to"]), one["text"] or "") for one in await answer.json()]

    async def _shown(self, booked: Sequence[Booked], ours: Rows) -> dict[str, told.Json]:
        """Return what the API shows each payment's client about it."""
        bearers = {one.booking_id: self._bearer(one) for one in booked}
        shown: dict[str, told.Json] = {}
        for payment in ours.payments:
            headers = {"Authorization": f"Bearer {bearers[payment.booking_id]}"}
            async with self._http.get(f"{self._places.api}/payment/{payment.id}", headers=headers) as answer:
                shown[payment.id] = json.loads(await answer.read(), parse_float=str)
        return shown

    def _bearer(self, booked: Booked) -> str:
        return token.signed(self._secret, user_id=booked.client_id, email=booked.client_email, role="client")

    async def _dead_letters(self, before: Mapping[str, int]) -> list[Difference]:
        after = await self._cluster.dead_letters()
        return [
            Difference(f"dead letters in {topic}", NOTHING, str(count - before[topic]), "cb-ops dlt list")
            for topic, count in after.items()
            if count != before[topic]
        ]
