#!/usr/bin/env bash
# Fetches and unpacks Debian's cloud kernel for the guest; prints the directory. What is there already is kept.
set -euo pipefail
META=linux-image-6.12-cloud-amd64
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cilium-guest
package=$(apt-cache depends --important "$META" 2>/dev/null | awk '$1 == "Depends:" { print $2; exit }')
if [[ -z $package ]]; then
    found=$(ls -d "$cache"/linux-image-* 2>/dev/null | tail -n 1 || true) # offline, or other lists: what was fetched before
    [[ -n $found ]] || { echo "guest: apt knows no $META: apt-get update" >&2; exit 1; }
    echo "$found"
    exit
fi
target=$cache/$package
if [[ ! -d $target ]]; then
    fresh=$(mktemp -d "$(mkdir -p "$cache" && echo "$cache")/.fetch-XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    (cd "$fresh" && apt-get download -qq "$package" >/dev/null 2>&1) || { echo "guest: cannot fetch $package" >&2; exit 1; }
    dpkg-deb -x "$fresh"/*.deb "$fresh/tree"
    depmod -b "$fresh/tree" "$(ls "$fresh/tree/lib/modules")"
    mv -T "$fresh/tree" "$target" 2>/dev/null || [[ -d $target ]] # another one may have been faster
fi
echo "$target"
