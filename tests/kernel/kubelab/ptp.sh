#!/bin/sh
# A CNI plugin in one screen: a routed veth pair per pod, addresses counted up in a file. For tests only.
# Leaves a line per call in /run/ptp.calls; fails when /run/ptp.fail exists.
set -e
input=$(cat)
version=$(printf '%s' "$input" | sed 's/.*"cniVersion": *"\([^"]*\)".*/\1/')
has_previous=no; case "$input" in *'"prevResult"'*) has_previous=yes;; esac
echo "$CNI_COMMAND $CNI_CONTAINERID $has_previous $CNI_ARGS" >> /run/ptp.calls
fail() { printf '{"cniVersion":"%s","code":%s,"msg":"%s","details":"%s"}\n' "$version" "$1" "$2" "$3"; exit 1; }
host="p$(printf '%s' "$CNI_CONTAINERID" | cut -c1-12)"
case "$CNI_COMMAND" in
ADD)
    [ ! -e /run/ptp.fail ] || fail 11 "try again later" "the network is not there yet"
    exec 9>/run/ptp.lock; flock 9  # pods of one moment get numbers of their own
    number=$(( $(cat /run/ptp.count 2>/dev/null || echo 1) + 1 ))
    echo "$number" > /run/ptp.count
    base=$(cat /run/ptp.base 2>/dev/null || echo 1)
    v4="10.244.$base.$number"; v6="fd00:10:244:$base::$number"
    ip link add "$host" type veth peer name ptp-tmp netns "$CNI_NETNS"
    nsenter --net="$CNI_NETNS" ip -batch - >&2 <<END
link set ptp-tmp name eth0
link set eth0 up
addr add $v4/32 dev eth0
addr add $v6/128 dev eth0 nodad
route add 169.254.1.1/32 dev eth0
route add default via 169.254.1.1 dev eth0 onlink
END
    ip -batch - >&2 <<END
link set $host up
addr add 169.254.1.1/32 dev $host
route add $v4/32 dev $host
route add $v6/128 dev $host
END
    gateway=$(ip -6 -o addr show dev "$host" scope link | sed 's/.*inet6 \([^/]*\).*/\1/')
    nsenter --net="$CNI_NETNS" ip -6 route add default via "$gateway" dev eth0 >&2 || true
    printf '{"cniVersion":"%s","interfaces":[{"name":"%s"},{"name":"eth0","sandbox":"%s"}],' "$version" "$host" "$CNI_NETNS"
    printf '"ips":[{"address":"%s/32","interface":1},{"address":"%s/128","interface":1}]}\n' "$v4" "$v6"
    ;;
DEL) ip link del "$host" 2>/dev/null || true ;;
CHECK) ip link show "$host" >/dev/null 2>&1 || fail 7 "no device $host" "" ;;
VERSION) printf '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}\n' ;;
esac
