"""What can go wrong with the API server.

KubernetesError       the base
  ConfigError         no way to the API server is configured, or a broken one: names file and field
  Unreachable         no answer: refused, timed out, reset, TLS
  ApiError            the answer was no: status, reason, message
  ObjectError         an object that cannot be a row: field and reason
"""

from __future__ import annotations


class KubernetesError(Exception):
    """Base of the errors of this source."""


class ConfigError(KubernetesError):
    """No way to the API server is configured, or a broken one."""


class Unreachable(KubernetesError):  # noqa: N818  # the state of the server, not a defect
    """The API server gave no answer."""


class ApiError(KubernetesError):
    """The API server refused. `status` is the HTTP status, `reason` its word for machines, such as AlreadyExists."""

    def __init__(self, status: int, reason: str, message: str, *, request: str = "") -> None:
        super().__init__(f"{request}: {status} {reason}: {message}" if request else f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class ObjectError(KubernetesError):
    """An object has a field that cannot be read."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
