#!/usr/bin/env bash
# Installs what the targets need and this machine lacks: Debian packages, uv, the virtual environment.
# Prints one line per thing it does, nothing when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES=(clang-19 llvm-19 libbpf-dev libbpf1 bpftool iproute2 iputils-ping curl iperf3 nftables tcpdump
          ethtool netcat-openbsd procps util-linux containerd runc
          busybox redis-tools nginx-light bind9-dnsutils wget ${EXTRA_PACKAGES:-})
# Installs packages of which only the programs are wanted: no service starts now, nor, of those that are new here, at the
# next boot.
install_quietly() {
    local policy=/usr/sbin/policy-rc.d service had=()
    for service in nginx containerd; do
        [[ ! -e /lib/systemd/system/$service.service ]] || had+=("$service")
    done
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap "rm -f $policy" EXIT
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    for service in nginx containerd; do
        [[ " ${had[*]} " != *" $service "* && -e /lib/systemd/system/$service.service ]] || continue
        deb-systemd-helper disable "$service.service" >/dev/null 2>&1 || true
        update-rc.d "$service" disable >/dev/null 2>&1 || true
    done
}
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
    install_quietly "${missing[@]}"
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
