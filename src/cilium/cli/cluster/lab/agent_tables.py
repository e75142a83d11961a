"""Tables of the agent on this node, in one document: `python -m cilium.cli.cluster.lab.agent_tables NAME…`.

It is run in a node; one process for all tables, since they are asked for again and again.
"""

from __future__ import annotations

import json
import sys

import click

from cilium.cli.dbg.client import get


def main(names: list[str]) -> int:
    try:
        json.dump({name: get(f"/statedb/{name}") for name in names}, sys.stdout)
    except click.ClickException as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
