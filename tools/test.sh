#!/usr/bin/env bash
# All tests this machine can run, shared by processes (tests/lanes.py); what was skipped is counted with its reason at
# the end. Arguments go to pytest: `-n 0` runs all in one process, cheapest first.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python -m pytest tests -n 3 --max-worker-restart 0 "$@"
