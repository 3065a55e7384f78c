"""What the shop does at Stripe: money back, disputes, sessions that nobody will pay. Through Stripe's API alone.

Enters: an act that was drawn. Leaves: nothing; the act has come to its end at Stripe then. Next: books.py reads what Stripe
made of it.
"""

from typing import Any, assert_never

from deploy.dev.simulation.desk import Desk, Unknown
from deploy.dev.simulation.patience import NotYet, Patience
from deploy.dev.simulation.persons import Accept, Act, Answer, GiveBack, Wait
from deploy.dev.simulation.steps import Step, Tell

Json = dict[str, Any]

OPEN = frozenset({"needs_response", "warning_needs_response", "under_review", "warning_under_review"})


class Support:
    """A support person of the shop; several acts may be under way at once."""

    def __init__(self, desk: Desk, patience: Patience, tell: Tell) -> None:
        self._desk = desk
        self._patience = patience
        self._tell = tell

    async def expire(self, session_id: str) -> None:
        """End a session that its customer left."""
        await self._desk.post(f"/v1/checkout/sessions/{session_id}/expire", {}, key=f"expire {session_id}")
        self._tell(Step.EXPIRED)

    async def act(self, session_id: str, act: Act, *, name: str, comes_back: bool) -> None:
        """Do one act about a session that was paid; `name` is of this act alone, `comes_back`: the refund will fail."""
        intent_id = (await self._desk.get(f"/v1/checkout/sessions/{session_id}"))["payment_intent"]
        match act:
            case GiveBack():
                await self._give_back(intent_id, act, name, end="failed" if comes_back else "succeeded")
            case Answer(evidence=evidence):
                await self._decide(intent_id, "", {"evidence[uncategorized_text]": evidence}, name)
            case Accept():
                await self._decide(intent_id, "/close", {}, name)
            case Wait():
                await self._dispute(intent_id)
            case _ as never:
                assert_never(never)

    async def _give_back(self, intent_id: str, act: GiveBack, name: str, *, end: str) -> None:
        refund = await self._patience.until(f"refund {name}", lambda: self._refund(intent_id, act, name))
        await self._until("refund", f"/v1/refunds/{refund['id']}", frozenset({end}))
        self._tell(Step.REFUNDED)

    async def _refund(self, intent_id: str, act: GiveBack, name: str) -> Json:
        """Refund once: after an unknown outcome, try again only when the list shows that nothing was done under the key."""
        words = {
            "payment_intent": intent_id,
            "amount": str(act.amount_minor),
            "reason": act.reason,
            "metadata[act]": name,
        }
        nth = 0
        while True:
            try:
                return await self._desk.post("/v1/refunds", words, key=f"{name} {nth}")
            except Unknown:
                nth += 1
            async for refund in self._desk.every("/v1/refunds", {"payment_intent": intent_id}):
                if refund["metadata"].get("act") == name:
                    return refund

    async def _decide(self, intent_id: str, path: str, words: dict[str, str], name: str) -> None:
        dispute = await self._dispute(intent_id)
        where = f"/v1/disputes/{dispute['id']}"
        await self._desk.post(where + path, words, key=name)
        await self._until("dispute", where, frozenset({"won", "lost", "warning_closed"}))

    async def _dispute(self, intent_id: str) -> Json:
        async def look() -> Json:
            listed = (await self._desk.get("/v1/disputes", {"payment_intent": intent_id}))["data"]
            if not listed:
                raise NotYet("the bank asks nothing")
            first: Json = listed[0]
            return first

        dispute = await self._patience.until("dispute", look)
        self._tell(Step.DISPUTED)
        return dispute

    async def _until(self, what: str, path: str, statuses: frozenset[str]) -> None:
        async def look() -> None:
            status = (await self._desk.get(path))["status"]
            if status not in statuses:
                raise NotYet(f"it is {status}")

        await self._patience.until(f"end of the {what}", look)
