"""Refusals in the words of Stripe's API. Next: ``gate`` turns them into answers."""

from typing import Any

Json = dict[str, Any]


class ApiError(Exception):
    """A request that Stripe refuses.

    ``executed`` says whether Stripe had begun the work: only then is the answer kept under the idempotency key.
    ``details`` are further fields of the error, such as what a bank said about a card.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        executed: bool = True,
        details: Json | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.executed = executed
        self.details = details or {}

    def body(self, request_id: str) -> Json:
        """Return the answer's body; absent fields are absent, not null."""
        error: Json = self.details | {"message": self.message, "type": self.kind}
        if self.code:
            error["code"] = self.code
            error["doc_url"] = "https://stripe.com/docs/error-codes/" + self.code.replace("_", "-")
        if self.param:
            error["param"] = self.param
        error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return {"error": error}


def bad_parameter(message: str, param: str | None, code: str | None = None) -> ApiError:
    """Return the refusal of a parameter: it comes before any work, so the idempotency key stays free."""
    return ApiError(400, message, code=code, param=param, executed=False)


def missing_object(noun: str, object_id: str, *, param: str = "id", status: int = 404) -> ApiError:
    """Return the refusal of an id that names nothing (400 where the id was a parameter)."""
    return ApiError(status, f"No such {noun}: '{object_id}'", code="resource_missing", param=param)
