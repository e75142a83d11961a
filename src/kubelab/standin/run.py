"""Starts a stand-in: `python -S -E -I run.py NAME ARGUMENT…`; NAME is a module of this package with a `main`.

Stand-ins are started hundreds of times on one machine: without `site` and the modules of a usual start it takes 20 ms
and 9 MB instead of 80 and 20. They import only modules written in C, each other, and little else when it is needed.
"""

from __future__ import annotations

import sys


def load(name: str) -> object:
    """The module. Raises ImportError."""
    package = __file__.rpartition("/")[0]
    source = package.rpartition("/")[0].rpartition("/")[0]
    if source not in sys.path:
        sys.path.append(source)
    return __import__(f"kubelab.standin.{name.replace('-', '_')}", fromlist=("main",))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.stderr.write("usage: run.py NAME ARGUMENT…\n")
        raise SystemExit(2)
    main = getattr(load(sys.argv[1]), "main", None)
    if main is None:
        sys.stderr.write(f"{sys.argv[1]}: no stand-in of this name\n")
        raise SystemExit(2)
    main(sys.argv[2:])
