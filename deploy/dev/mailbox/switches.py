"""The faults and delays of the mail server as one JSON object: what `PUT /api/switches` takes and `GET` shows."""

from typing import Annotated, Literal, TypeAlias

import msgspec

Stage: TypeAlias = Literal["connect", "ehlo", "auth", "mail", "rcpt", "data"]
Code: TypeAlias = Annotated[int, msgspec.Meta(ge=400, le=599)]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What goes wrong at one stage of the conversation.

    `at` "data" means the answer to the letter's final dot. `what` is an SMTP code (400 to 599) that is answered, or "cut": the
    connection ends without an answer and the letter is not kept; or "hang": it stays open without one; or "accept_then_cut"
    (only at "data"): the letter is kept and the connection ends before the 250. `recipient` limits the fault to one address
    (stages "rcpt" and "data"), `times` to so many occasions.
    """

    at: Stage
    what: Code | Literal["cut", "accept_then_cut", "hang"]
    recipient: str | None = None
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        """Refuse impossible values, so that a typing error is answered 400 and does not switch all faults off."""
        if self.what == "accept_then_cut" and self.at != "data":
            raise ValueError("accept_then_cut happens only at data: before it there is no letter to accept")
        if self.recipient is not None and self.at not in {"rcpt", "data"}:
            raise ValueError(f"at {self.at} no recipient is known yet")


class Switches(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All switches; the default is a friendly server.

    `listening` false: nobody answers on the port, and open conversations are cut. `delay_seconds` passes before each answer,
    and before each byte of it with `byte_by_byte`. `starttls` counts where the mailbox has a certificate: "absent" does not
    offer it, "broken" offers it and answers the handshake with nonsense. The first fault that fits an occasion decides.
    """

    listening: bool = True
    delay_seconds: Annotated[float, msgspec.Meta(ge=0, le=600)] = 0.0
    byte_by_byte: bool = False
    starttls: Literal["offered", "absent", "broken"] = "offered"
    faults: tuple[Fault, ...] = ()

    def fault(self, at: Stage, recipients: list[str]) -> Fault | None:
        """Return the first fault that fits this stage and these recipients (lower case is not assumed)."""
        known = {recipient.casefold() for recipient in recipients}
        fits = (f for f in self.faults if f.at == at and (f.recipient is None or f.recipient.casefold() in known))
        return next(fits, None)

    def spent(self, fault: Fault) -> "Switches":
        """Return the switches after this fault happened once more."""
        if fault.times is None:
            return self
        left = [msgspec.structs.replace(fault, times=fault.times - 1)] if fault.times > 1 else []
        place = self.faults.index(fault)
        return msgspec.structs.replace(self, faults=(*self.faults[:place], *left, *self.faults[place + 1 :]))
