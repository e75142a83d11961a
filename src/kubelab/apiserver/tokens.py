"""Service account tokens.

Owns: signing and checking of JWTs (ES256). Comes in: a service account, a lifetime, an optional bound object. Goes out:
tokens, and the claims of those that are genuine and not expired. Source: RFC 7515, RFC 7519; Kubernetes documentation
"Managing Service Accounts".
"""

import base64
import hashlib
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from kubelab.apiserver.errors import Unauthorized

ISSUER = "https://kubernetes.default.svc.cluster.local"
LEGACY_ISSUER = "kubernetes/serviceaccount"
_LEGACY = f"{LEGACY_ISSUER}/"
_ALGORITHM = ec.ECDSA(hashes.SHA256())
_PODS_USUAL_SECONDS, _EXTENDED_SECONDS = 3607, 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class BoundObject:
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class ServiceAccountClaims:
    """`legacy`: the Secret that holds the token; such tokens have neither audiences nor an end."""

    namespace: str
    name: str
    uid: str
    pod: BoundObject | None = None
    secret: BoundObject | None = None
    node: BoundObject | None = None
    audiences: tuple[str, ...] = ()
    token_id: str = ""
    legacy: str | None = None


class Tokens:
    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        public = key.public_key()
        point, der = public.public_numbers(), serialization.PublicFormat.SubjectPublicKeyInfo
        digest = hashlib.sha256(public.public_bytes(serialization.Encoding.DER, der)).digest()
        self._key_id = _encode(digest)
        self.public_keys = {
            "keys": [
                {
                    "use": "sig",
                    "kty": "EC",
                    "kid": self._key_id,
                    "crv": "P-256",
                    "alg": "ES256",
                    "x": _encode(point.x.to_bytes(32, "big")),
                    "y": _encode(point.y.to_bytes(32, "big")),
                }
            ]
        }
        """What others need to check tokens themselves (a JSON Web Key Set)."""

    def issue(
        self,
        account: Mapping[str, Any],
        *,
        seconds: int,
        audiences: Sequence[str] = (),
        bound: Mapping[str, BoundObject] | None = None,
    ) -> tuple[str, int]:
        """A token for a ServiceAccount object and its expiry in seconds since the epoch.

        `bound`: what it dies with, by claim: pod, secret, node. What the admission of pods asks for (3607 s) lives
        for a year, as clients exist that never read their token again; the expiry that is told is the asked one.
        """
        now = int(time.time())
        metadata = account["metadata"]
        claims: dict[str, Any] = {
            "namespace": metadata["namespace"],
            "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
        }
        for kind, reference in (bound or {}).items():
            claims[kind] = {"name": reference.name, "uid": reference.uid}
        lifetime = seconds
        if seconds == _PODS_USUAL_SECONDS and "pod" in claims and tuple(audiences or (ISSUER,)) == (ISSUER,):
            lifetime = _EXTENDED_SECONDS
            claims["warnafter"] = now + seconds
        payload = {
            "iss": ISSUER,
            "aud": list(audiences) or [ISSUER],
            "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}",
            "jti": str(uuid.uuid4()),
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "kubernetes.io": claims,
        }
        return self._sign(payload), now + seconds

    def issue_legacy(self, account: Mapping[str, Any], secret: str) -> str:
        """The token of a Secret of type kubernetes.io/service-account-token: it has no end but the Secret's."""
        metadata = account["metadata"]
        payload = {
            "iss": LEGACY_ISSUER,
            "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}",
            f"{_LEGACY}namespace": metadata["namespace"],
            f"{_LEGACY}secret.name": secret,
            f"{_LEGACY}service-account.name": metadata["name"],
            f"{_LEGACY}service-account.uid": metadata["uid"],
        }
        return self._sign(payload)

    def verify(self, token: str) -> ServiceAccountClaims:
        """The claims of a genuine token. Raises Unauthorized. Whether the account still exists is the caller's
        check."""
        try:
            payload = self._payload(token)
            if payload["iss"] == LEGACY_ISSUER:
                return ServiceAccountClaims(
                    payload[f"{_LEGACY}namespace"],
                    payload[f"{_LEGACY}service-account.name"],
                    payload[f"{_LEGACY}service-account.uid"],
                    legacy=payload[f"{_LEGACY}secret.name"],
                )
            claims = payload["kubernetes.io"]
            account = claims["serviceaccount"]
            if payload["exp"] < time.time():
                raise Unauthorized("service account token has expired")
            return ServiceAccountClaims(
                claims["namespace"],
                account["name"],
                account["uid"],
                pod=_bound(claims, "pod"),
                secret=_bound(claims, "secret"),
                node=_bound(claims, "node"),
                audiences=tuple(payload["aud"]),
                token_id=payload.get("jti", ""),
            )
        except (InvalidSignature, ValueError, KeyError, TypeError, msgspec.DecodeError) as error:
            raise Unauthorized("the bearer token is not one of this cluster's") from error

    def is_in(self, secret: Mapping[str, Any], token: str) -> bool:
        """Whether a Secret holds this very token."""
        return (secret.get("data") or {}).get("token") == base64.b64encode(token.encode()).decode()

    def _sign(self, payload: Mapping[str, Any]) -> str:
        signed = f"{_segment({'alg': 'ES256', 'kid': self._key_id, 'typ': 'JWT'})}.{_segment(payload)}"
        r, s = utils.decode_dss_signature(self._key.sign(signed.encode(), _ALGORITHM))
        return f"{signed}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def _payload(self, token: str) -> Any:
        signed, _, signature = token.rpartition(".")
        raw = _decode(signature)
        if len(raw) != 64:
            raise ValueError("an ES256 signature has 64 octets")
        der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        self._key.public_key().verify(der, signed.encode(), _ALGORITHM)
        return msgspec.json.decode(_decode(signed.partition(".")[2]))


def _bound(claims: Mapping[str, Any], kind: str) -> BoundObject | None:
    found = claims.get(kind)
    return BoundObject(found["name"], found.get("uid", "")) if found else None


def _segment(value: Mapping[str, Any]) -> str:
    return _encode(msgspec.json.encode(value))


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
