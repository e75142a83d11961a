"""What the server refuses, and how it says so.

Owns the tree of API errors. Each one renders the `Status` object that the HTTP layer sends and that in-process callers
catch by class:

    ApiError
    ├── BadRequest 400         ├── AlreadyExists 409
    ├── Unauthorized 401       ├── Conflict 409
    ├── Forbidden 403          ├── Expired 410
    ├── NotFound 404           ├── Invalid 422
    ├── MethodNotAllowed 405   ├── TooManyRequests 429
    ├── NotAcceptable 406      └── InternalError 500, Unavailable 503
    └── UnsupportedMediaType 415, GatewayTimeout 504, ServerFault 500 (without a reason)

Source: Kubernetes API conventions, "Response Status Kind".
"""

# ruff: noqa: N818 - the classes bear the names of the API's error reasons

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Cause:
    """One fault of one field, as in `details.causes`.

    `reason` is a cause type of the API conventions: FieldValueRequired, FieldValueInvalid, FieldValueDuplicate,
    FieldValueNotSupported, FieldValueForbidden, FieldValueTypeInvalid, FieldValueNotFound, FieldValueTooLong.
    """

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class ApiError(Exception):
    """Base of all refusals; carries everything the `Status` object shows."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(
        self,
        message: str,
        *,
        group: str = "",
        kind: str = "",
        name: str = "",
        causes: Sequence[Cause] = (),
        retry_after: int = 0,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.group = group
        self.kind = kind
        self.name = name
        self.causes = tuple(causes)
        self.retry_after = retry_after
        self.metadata = metadata or {}

    def status(self) -> dict[str, Any]:
        """The error as a `v1.Status` object."""
        details: dict[str, Any] = {}
        if self.name:
            details["name"] = self.name
        if self.group:
            details["group"] = self.group
        if self.kind:
            details["kind"] = self.kind
        if self.causes:
            details["causes"] = [
                {
                    **({"reason": c.reason} if c.reason else {}),
                    "message": c.message,
                    **({"field": c.field} if c.field else {}),
                }
                for c in self.causes
            ]
        if self.retry_after:
            details["retryAfterSeconds"] = self.retry_after
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
            **({"reason": self.reason} if self.reason else {}),
        }
        if details:
            status["details"] = details
        status["code"] = self.code
        return status


class BadRequest(ApiError):
    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    code, reason = 406, "NotAcceptable"


class AlreadyExists(ApiError):
    code, reason = 409, "AlreadyExists"


class Conflict(ApiError):
    code, reason = 409, "Conflict"


class Expired(ApiError):
    """The asked resourceVersion lies before the watch window, or a continue token is too old: list again."""

    code, reason = 410, "Expired"


class RequestEntityTooLarge(ApiError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    code, reason = 422, "Invalid"


class TooManyRequests(ApiError):
    code, reason = 429, "TooManyRequests"


class InternalError(ApiError):
    code, reason = 500, "InternalError"


class ServerFault(ApiError):
    """500 without a reason: what the real server has no name for."""

    code, reason = 500, ""


class Unavailable(ApiError):
    code, reason = 503, "ServiceUnavailable"


class GatewayTimeout(ApiError):
    code, reason = 504, "Timeout"


def too_large(wanted: int, current: int) -> GatewayTimeout:
    """A version was asked for that this server has not reached."""
    cause = Cause("", "ResourceVersionTooLarge", "Too large resource version")
    return GatewayTimeout(f"Too large resource version: {wanted}, current: {current}", causes=[cause], retry_after=1)


def qualified(plural: str, group: str) -> str:
    """`deployments.apps`, `pods`: how messages name a resource."""
    return f"{plural}.{group}" if group else plural


def not_found(*, group: str, plural: str, name: str) -> NotFound:
    return NotFound(f'{qualified(plural, group)} "{name}" not found', group=group, kind=plural, name=name)


def already_exists(*, group: str, plural: str, name: str) -> AlreadyExists:
    return AlreadyExists(f'{qualified(plural, group)} "{name}" already exists', group=group, kind=plural, name=name)


def conflict(*, group: str, plural: str, name: str, why: str = "") -> Conflict:
    why = why or ("the object has been modified; please apply your changes to the latest version and try again")
    return Conflict(
        f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}',
        group=group,
        kind=plural,
        name=name,
    )


def forbidden(*, group: str, plural: str, name: str, why: str, causes: Sequence[Cause] = ()) -> Forbidden:
    subject = f'{qualified(plural, group)} "{name}"' if name else qualified(plural, group)
    return Forbidden(f"{subject} is forbidden: {why}", group=group, kind=plural, name=name, causes=causes)


def invalid(*, group: str, kind: str, name: str, causes: Sequence[Cause]) -> Invalid:
    """422 with one cause per faulty field; the message lists them all."""
    subject = f"{kind}.{group}" if group else kind
    text = str(causes[0]) if len(causes) == 1 else f"[{', '.join(str(c) for c in causes)}]"
    return Invalid(f'{subject} "{name}" is invalid: {text}', group=group, kind=kind, name=name, causes=causes)


def internal(text: str) -> InternalError:
    """500 in the words of the real server."""
    return InternalError(f"Internal error occurred: {text}", causes=[Cause("", "", text)])


def of_status(status: dict[str, Any]) -> ApiError:
    """The error that somebody else's `Status` object is."""

    class StatusError(ApiError):
        code, reason = int(status["code"]), str(status.get("reason") or "")

    details = status.get("details") or {}
    causes = [
        Cause(str(c.get("field") or ""), str(c.get("reason") or ""), str(c.get("message") or ""))
        for c in details.get("causes") or ()
    ]
    return StatusError(
        str(status.get("message") or ""),
        group=str(details.get("group") or ""),
        kind=str(details.get("kind") or ""),
        name=str(details.get("name") or ""),
        causes=causes,
        retry_after=int(details.get("retryAfterSeconds") or 0),
    )
