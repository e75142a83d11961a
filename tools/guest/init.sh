#!/bin/sh
# The guest's first process: mounts, modules by way of the unpacked kernel package, the command, its results, the end.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mkdir -p /run/results /run/netns /run/lock /run/tmp
export TMPDIR=/run/tmp # /tmp stays the machine's: this software may lie there
mount -t virtiofs results /run/results
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
echo /run/results/modprobe >/proc/sys/kernel/modprobe
ip link set lo up
export RESULTS=/run/results
sh "$RESULTS/command" >"$RESULTS/output" 2>&1 </dev/null
echo $? >"$RESULTS/status"
sync
echo o >/proc/sysrq-trigger
sleep 60
