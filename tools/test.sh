#!/usr/bin/env bash
# All tests this machine can run, cheapest first; what was skipped is counted with its reason at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python -m pytest tests "$@"
