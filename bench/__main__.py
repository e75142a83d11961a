"""`python -m bench [NAME...]`: runs benchmarks one after the other and prints a table of figures. Needs root.

One that fails says so and ends; the others run all the same, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import traceback

from bench.figures import Figure, lines
from bench.options import Options

NAMES = (
    "same_node", "cross_node", "cni_add", "policy_change", "restart", "hubble_ring", "policy_compile", "policy_kernel",
    "policy_verdict", "lab_up", "lab_cost", "api_server", "services", "service_packets", "node_port", "service_sync",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; none: all")
    parser.add_argument("--rounds", type=int, default=Options().rounds, help="alternated rounds of each comparison")
    parser.add_argument("--full", action="store_true", help="run as long as the targets say (60 s of events)")
    parser.add_argument(
        "--services", type=counts, default=Options().services, metavar="N,N…",
        help="how many services there are, in turn: %(default)s",
    )  # fmt: skip
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    options = Options(rounds=arguments.rounds, full=arguments.full, services=arguments.services)
    figures: list[Figure] = []
    failed: list[str] = []
    loads = [os.getloadavg()[0]]
    for name in arguments.names or NAMES:
        started = time.monotonic()
        try:
            measure(name, options, figures)
        except Exception:  # what others measured shall not be lost
            traceback.print_exc()
            failed.append(name)
        loads.append(os.getloadavg()[0])
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print("\n".join(lines(figures)))
    print(
        f"\nload average {min(loads):.1f} - {max(loads):.1f} on {os.cpu_count()} CPUs; without other work it is 1 to 2"
    )
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def measure(name: str, options: Options, figures: list[Figure]) -> None:
    """Adds its figures as they come, each printed at once."""
    for figure in importlib.import_module(f"bench.{name}").run(options):
        print(lines([figure])[2], file=sys.stderr, flush=True)
        figures.append(figure)


def counts(text: str) -> tuple[int, ...]:
    """Rising numbers with commas between them. Raises ValueError."""
    found = tuple(int(part) for part in text.split(","))
    if min(found) < 1 or list(found) != sorted(set(found)):
        raise ValueError(text)
    return found


if __name__ == "__main__":
    sys.exit(main())
