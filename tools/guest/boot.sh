#!/usr/bin/env bash
# Runs a command in a QEMU guest with Debian's kernel, for what this machine's kernel lacks (Geneve, WireGuard, ESP...).
#
#   tools/guest/boot.sh RESULTS COMMAND...
#
# The guest's root is this machine's, read-only; RESULTS is the one directory it can write (in it: $RESULTS). The
# command's output goes to RESULTS/output, its exit status is ours; the console to RESULTS/console. Needs root and
# qemu-system-x86, kmod (make test-guest installs them); no network but apt's for the kernel, which is kept in the cache.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
results=$(realpath "$1")
shift
SECONDS_TO_LIVE=${GUEST_TIMEOUT:-600}
MEMORY=${GUEST_MEMORY:-2G}
VIRTIOFSD=$(command -v virtiofsd || echo /usr/lib/qemu/virtiofsd)

if [[ -z ${GUEST_PRIVATE:-} ]]; then
    kernel=$("$here/kernel.sh")
    exec env GUEST_PRIVATE=1 GUEST_KERNEL="$kernel" unshare --mount --propagation private bash "$0" "$results" "$@"
fi

work=$(mktemp -d)
children=()
finish() {
    (( ${#children[@]} == 0 )) || kill "${children[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    umount -R "$work/root" 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap finish EXIT

mkdir "$work/root"
mount --bind / "$work/root"
mount -o remount,bind,ro "$work/root"
software=$(findmnt -no TARGET -T "$here")
[[ $software == / ]] || mount -o ro --bind "$software" "$work/root$software"
printf '%q ' "$@" >"$results/command"
printf '#!/bin/sh\nexec %s -d %q "$@"\n' "$(command -v modprobe)" "$GUEST_KERNEL" >"$results/modprobe"
chmod +x "$results/modprobe"
rm -f "$results/status"

share() { # tag, directory, cache policy
    "$VIRTIOFSD" --socket-path="$work/$1.sock" -o "source=$2" -o sandbox=chroot -o "cache=$3" >"$work/$1.log" 2>&1 &
    children+=($!)
    until [[ -S "$work/$1.sock" ]]; do
        kill -0 "${children[-1]}" 2>/dev/null || { cat "$work/$1.log" >&2; exit 1; }
        sleep 0.02
    done
}
share rootfs "$work/root" always
share results "$results" none

version=$(ls "$GUEST_KERNEL/lib/modules")
timeout "$SECONDS_TO_LIVE" qemu-system-x86_64 -M q35,accel=tcg -cpu max -smp 1 -m "$MEMORY" \
    -nographic -nodefaults -no-reboot -serial stdio \
    -object "memory-backend-memfd,id=mem,size=$MEMORY,share=on" -numa node,memdev=mem \
    -chardev "socket,id=rootfs,path=$work/rootfs.sock" -device vhost-user-fs-pci,chardev=rootfs,tag=rootfs \
    -chardev "socket,id=results,path=$work/results.sock" -device vhost-user-fs-pci,chardev=results,tag=results \
    -kernel "$GUEST_KERNEL/boot/vmlinuz-$version" \
    -append "console=ttyS0 quiet panic=-1 root=rootfs rootfstype=virtiofs ro init=$here/init.sh" \
    </dev/null >"$results/console" 2>&1 || true

if [[ ! -s "$results/status" ]]; then
    echo "guest: it ended without a result (or not within $SECONDS_TO_LIVE s); the end of its console:" >&2
    tail -n 30 "$results/console" >&2
    exit 125
fi
exit "$(<"$results/status")"
