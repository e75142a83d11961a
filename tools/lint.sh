#!/usr/bin/env bash
# The gate: style, types, layers, sizes, generated code.
set -euo pipefail
cd "$(dirname "$0")/.."
# One command per line: in `a && b` a failing `a` would not end the script.
echo "lint: ruff";           ruff check -q .
ruff format --check -q .
echo "lint: mypy";           mypy --no-error-summary
echo "lint: import-linter";  lint-imports --no-logo 2>/dev/null | tail -n 12 || { lint-imports; exit 1; }
echo "lint: sizes";          python tools/size_gate.py
echo "lint: generated code"; python tools/generate_views.py --check
python tools/generate_libbpf.py --check
bash tools/generate_protos.sh --check
echo "lint: documents";      python tools/generate_reference.py --check
python tools/check_links.py
echo "lint: all passed"
