#!/usr/bin/env bash
# Generates the Python code of every *.proto below the roots, beside the files.
# With --check: changes nothing, exits 1 when what is committed differs from what the .proto files say.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

cd src
roots=(cilium/api/proto kubelab/cri/proto)
mapfile -t protos < <(find "${roots[@]}" -name '*.proto' | sort)
mapfile -t services < <(grep -l '^service ' "${protos[@]}")
"$python" -m grpc_tools.protoc -I . --python_out="$out" --pyi_out="$out" "${protos[@]}"
"$python" -m grpc_tools.protoc -I . --grpc_python_out="$out" "${services[@]}"

generated() { (cd "$1" && find "${roots[@]}" -name '*_pb2*.py' -o -name '*_pb2.pyi') | sort; }
if [[ ${1:-} == --check ]]; then
    status=0
    diff <(generated "$out") <(generated .) || status=1
    while read -r file; do
        cmp -s "$out/$file" "$file" || { echo "src/$file differs from its .proto: run tools/generate_protos.sh"; status=1; }
    done < <(generated "$out")
    exit $status
fi
while read -r file; do cp "$out/$file" "$file"; done < <(generated "$out")
