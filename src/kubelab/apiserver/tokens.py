"""Service account tokens.

Owns: signing and checking of JWTs (ES256). Comes in: a service account, a lifetime, an optional bound object. Goes out:
tokens, and the claims of those that are genuine and not expired. Source: RFC 7515, RFC 7519; Kubernetes documentation
"Managing Service Accounts".
"""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from kubelab.apiserver.errors import Unauthorized

ISSUER = "https://kubernetes.default.svc.cluster.local"
_ALGORITHM = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class ServiceAccountClaims:
    namespace: str
    name: str
    uid: str
    pod: str = ""
    pod_uid: str = ""


class Tokens:
    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def issue(
        self,
        account: Mapping[str, Any],
        *,
        seconds: int,
        audiences: list[str] | None = None,
        bound: Mapping[str, Any] | None = None,
    ) -> tuple[str, int]:
        """A token for a ServiceAccount object and its expiry in seconds since the epoch. `bound`: its pod."""
        now = int(time.time())
        metadata = account["metadata"]
        claims: dict[str, Any] = {
            "namespace": metadata["namespace"],
            "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
        }
        if bound:
            claims["pod"] = {"name": bound["name"], "uid": bound.get("uid", "")}
        payload = {
            "iss": ISSUER,
            "aud": audiences or [ISSUER],
            "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}",
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            "kubernetes.io": claims,
        }
        signed = f"{_segment({'alg': 'ES256', 'typ': 'JWT'})}.{_segment(payload)}"
        r, s = utils.decode_dss_signature(self._key.sign(signed.encode(), _ALGORITHM))
        return f"{signed}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}", now + seconds

    def verify(self, token: str) -> ServiceAccountClaims:
        """The claims of a genuine token. Raises Unauthorized. Whether the account still exists is the caller's
        check."""
        try:
            signed, _, signature = token.rpartition(".")
            raw = _decode(signature)
            if len(raw) != 64:
                raise ValueError("an ES256 signature has 64 octets")
            der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            self._key.public_key().verify(der, signed.encode(), _ALGORITHM)
            payload = msgspec.json.decode(_decode(signed.partition(".")[2]))
            claims = payload["kubernetes.io"]
            account, pod = claims["serviceaccount"], claims.get("pod") or {}
        except (InvalidSignature, ValueError, KeyError, TypeError, msgspec.DecodeError) as error:
            raise Unauthorized("Unauthorized: the bearer token is not one of this cluster's") from error
        if payload["exp"] < time.time():
            raise Unauthorized("Unauthorized: the bearer token has expired")
        return ServiceAccountClaims(
            claims["namespace"], account["name"], account["uid"], pod.get("name", ""), pod.get("uid", "")
        )


def _segment(value: Mapping[str, Any]) -> str:
    return _encode(msgspec.json.encode(value))


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
