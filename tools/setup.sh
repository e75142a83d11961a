#!/usr/bin/env bash
# Installs what the targets need and this machine lacks: Debian packages, uv, the virtual environment.
# Prints one line per thing it does, nothing when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES=(clang-19 llvm-19 libbpf-dev libbpf1 bpftool iproute2 iputils-ping curl iperf3 nftables tcpdump
          ethtool netcat-openbsd procps util-linux containerd runc ${EXTRA_PACKAGES:-})
# A package removed in between must be noticed, so ask dpkg and not a stamp file.
missing=()
for package in "${PACKAGES[@]}"; do
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
done
if (( ${#missing[@]} )); then
    if (( EUID != 0 )); then
        echo "setup: these packages are missing and only root can install them: ${missing[*]}" >&2
        exit 1
    fi
    echo "setup: installing Debian packages: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

UV=$(command -v uv || echo /root/.local/bin/uv)
if [[ ! -x "$UV" ]]; then
    echo "setup: installing uv"
    command -v pip3 >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-pip >/dev/null; }
    pip3 install -q --break-system-packages uv 2>/dev/null || pip3 install -q uv
    hash -r
    UV=$(command -v uv)
fi

stamp=.venv/.synced
if [[ ! -e "$stamp" || uv.lock -nt "$stamp" || pyproject.toml -nt "$stamp" ]]; then
    echo "setup: synchronising the virtual environment"
    "$UV" sync --frozen --all-extras --all-groups --compile-bytecode --quiet --python /usr/bin/python3
    touch "$stamp"
fi
# A lab's containers start on fresh layers: without compiled files every agent would compile all of it at every start.
.venv/bin/python -m compileall -q src
