"""grpc_health_probe: whether a gRPC server is SERVING.

    run.py grpc-health-probe -addr=HOST:PORT [-service NAME] [-connect-timeout 1s] [-rpc-timeout 1s]

Status 0: it is; 2: no connection; 3: no answer in time; 4: it is not. Flags about TLS are refused.
"""

from __future__ import annotations

import posix

from kubelab.grpc_health import NoHealthError
from kubelab.standin import client
from kubelab.standin.flags import Flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

UNITS = (("ms", 0.001), ("s", 1.0), ("m", 60.0))


def seconds(text: str, default: float = 1.0) -> float:
    """A duration as Go writes it, of one unit."""
    for unit, factor in UNITS:
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdecimal():
            return float(number) * factor
    return default


def end(status: int, text: str) -> NoReturn:
    posix.write(2 if status else 1, f"{text}\n".encode())
    raise SystemExit(status)


def main(arguments: list[str]) -> NoReturn:
    flags = Flags(arguments, ("v", "tls", "tls-no-verify", "spiffe", "gzip", "alts"))
    address = flags.get("addr")
    if not address:
        end(1, "error: --addr not specified")
    if flags.on("tls") or flags.on("alts") or flags.on("spiffe"):
        end(1, "error: this stand-in speaks without TLS only")
    timeout = max(seconds(flags.get("rpc-timeout")), seconds(flags.get("connect-timeout")))
    try:
        serving = client.healthy(*client.split(address), flags.get("service"), timeout)
    except TimeoutError:
        end(3, f"timeout: no answer of {address} within {timeout:g} s")
    except NoHealthError as error:
        end(3, f"error: {error}")
    except OSError as error:
        end(2, f"error: failed to connect service {address}: {error}")
    end(0 if serving else 4, f"status: {'SERVING' if serving else 'NOT_SERVING'}")
