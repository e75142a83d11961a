"""Map keys, map values and event records as numpy dtypes. Generated from bpf/maps by tools/generate_views.py: do not edit, run `make views`."""
import numpy as np

Dtype = np.dtype[np.void]

ANSWER_BUDGET: Dtype = np.dtype(
    [
        ('since', '<u8'),
        ('used', '<u4'),
        ('pad', '<u4'),
    ]
)
assert ANSWER_BUDGET.itemsize == 16

CT_KEY: Dtype = np.dtype(
    [
        ('low', 'u1', (16,)),
        ('high', 'u1', (16,)),
        ('low_port', '>u2'),
        ('high_port', '>u2'),
        ('protocol', 'u1'),
        ('pad', 'u1'),
        ('zone', '<u2'),
    ]
)
assert CT_KEY.itemsize == 40

CT_ENTRY: Dtype = np.dtype(
    [
        ('expires', '<u8'),
        ('packets', '<u8', (2,)),
        ('bytes', '<u8', (2,)),
        ('reported', '<u8', (2,)),
        ('told_bytes', '<u8', (2,)),
        ('told_packets', '<u4', (2,)),
        ('policy_epoch', '<u4'),
        ('client_identity', '<u4'),
        ('server_identity', '<u4'),
        ('egress_cookie', '<u4'),
        ('ingress_cookie', '<u4'),
        ('proxy_port', '>u2'),
        ('rev_nat', '<u2'),
        ('endpoints', '<u2', (2,)),
        ('flags', 'u1'),
        ('tcp_flags', 'u1', (2,)),
        ('pad', 'u1'),
    ]
)
assert CT_ENTRY.itemsize == 112

ENDPOINT_KEY: Dtype = np.dtype(
    [
        ('address', 'u1', (16,)),
    ]
)
assert ENDPOINT_KEY.itemsize == 16

ENDPOINT: Dtype = np.dtype(
    [
        ('ifindex', '<u4'),
        ('identity', '<u4'),
        ('ingress_policy', '<u4'),
        ('egress_policy', '<u4'),
        ('id', '<u2'),
        ('flags', '<u2'),
        ('mac', 'u1', (6,)),
        ('node_mac', 'u1', (6,)),
    ]
)
assert ENDPOINT.itemsize == 32

EVENT: Dtype = np.dtype(
    [
        ('time', '<u8'),
        ('type', 'u1'),
        ('point', 'u1'),
        ('reason', 'u1'),
        ('direction', 'u1'),
        ('verdict', 'u1'),
        ('protocol', 'u1'),
        ('tcp_flags', 'u1'),
        ('flags', 'u1'),
        ('source', 'u1', (16,)),
        ('destination', 'u1', (16,)),
        ('source_port', '>u2'),
        ('destination_port', '>u2'),
        ('ifindex', '<u4'),
        ('source_identity', '<u4'),
        ('destination_identity', '<u4'),
        ('source_endpoint', '<u2'),
        ('destination_endpoint', '<u2'),
        ('length', '<u4'),
        ('egress_cookie', '<u4'),
        ('ingress_cookie', '<u4'),
        ('translated', 'u1', (16,)),
        ('translated_port', '>u2'),
        ('egress_match', 'u1'),
        ('ingress_match', 'u1'),
        ('ext_error', 'u1'),
        ('pad', 'u1', (3,)),
        ('packets', '<u4'),
        ('tunnel_vni', '<u4'),
        ('source_mac', 'u1', (6,)),
        ('destination_mac', 'u1', (6,)),
        ('pad2', '<u4'),
    ]
)
assert EVENT.itemsize == 128

SOCK_EVENT: Dtype = np.dtype(
    [
        ('time', '<u8'),
        ('type', 'u1'),
        ('point', 'u1'),
        ('unset', 'u1', (2,)),
        ('verdict', 'u1'),
        ('protocol', 'u1'),
        ('unset2', 'u1', (2,)),
        ('source', 'u1', (16,)),
        ('destination', 'u1', (16,)),
        ('source_port', '>u2'),
        ('destination_port', '>u2'),
        ('unset3', 'u1', (28,)),
        ('translated', 'u1', (16,)),
        ('translated_port', '>u2'),
        ('unset4', 'u1', (6,)),
        ('socket_cookie', '<u8'),
        ('cgroup_id', '<u8'),
        ('netns_cookie', '<u8'),
    ]
)
assert SOCK_EVENT.itemsize == 128

FRAGMENT_KEY: Dtype = np.dtype(
    [
        ('source', 'u1', (16,)),
        ('destination', 'u1', (16,)),
        ('id', '>u4'),
        ('protocol', 'u1'),
        ('pad', 'u1', (3,)),
    ]
)
assert FRAGMENT_KEY.itemsize == 40

FRAGMENT_PORTS: Dtype = np.dtype(
    [
        ('source', '>u2'),
        ('destination', '>u2'),
        ('icmp_type', 'u1'),
        ('shape', 'u1'),
        ('pad', '<u2'),
    ]
)
assert FRAGMENT_PORTS.itemsize == 8

IPCACHE_KEY: Dtype = np.dtype(
    [
        ('cluster', '<u4'),
        ('pad', '<u4'),
        ('address', 'u1', (16,)),
    ]
)
assert IPCACHE_KEY.itemsize == 24

IPCACHE_CIDR_KEY: Dtype = np.dtype(
    [
        ('prefixlen', '<u4'),
        ('cluster', '<u4'),
        ('address', 'u1', (16,)),
    ]
)
assert IPCACHE_CIDR_KEY.itemsize == 24

IPCACHE_ENTRY: Dtype = np.dtype(
    [
        ('tunnel_endpoint', 'u1', (16,)),
        ('identity', '<u4'),
        ('encrypt_key', 'u1'),
        ('flags', 'u1'),
        ('pad', '<u2'),
    ]
)
assert IPCACHE_ENTRY.itemsize == 24

METRIC: Dtype = np.dtype(
    [
        ('packets', '<u8'),
        ('bytes', '<u8'),
    ]
)
assert METRIC.itemsize == 16

NAT_KEY: Dtype = np.dtype(
    [
        ('source', 'u1', (16,)),
        ('destination', 'u1', (16,)),
        ('source_port', '>u2'),
        ('destination_port', '>u2'),
        ('protocol', 'u1'),
        ('direction', 'u1'),
        ('pad', '<u2'),
    ]
)
assert NAT_KEY.itemsize == 40

NAT_ENTRY: Dtype = np.dtype(
    [
        ('source', 'u1', (16,)),
        ('destination', 'u1', (16,)),
        ('source_port', '>u2'),
        ('destination_port', '>u2'),
        ('backend', '<u4'),
        ('created', '<u8'),
        ('used', '<u8'),
        ('service', '<u4'),
        ('flags', 'u1'),
        ('pad', 'u1', (3,)),
    ]
)
assert NAT_ENTRY.itemsize == 64

NAT_WORK: Dtype = np.dtype(
    [
        ('forward', NAT_KEY),
        ('reverse', NAT_KEY),
        ('mapping', NAT_ENTRY),
        ('back', NAT_ENTRY),
    ]
)
assert NAT_WORK.itemsize == 208

NEAR_ROW: Dtype = np.dtype(
    [
        ('address', 'u1', (16,)),
        ('endpoint', ENDPOINT),
        ('policy_epoch', '<u4'),
        ('known', '<u4'),
        ('pad', '<u8'),
    ]
)
assert NEAR_ROW.itemsize == 64

NEAR_ROWS: Dtype = np.dtype(
    [
        ('rows', NEAR_ROW, (256,)),
    ]
)
assert NEAR_ROWS.itemsize == 16384

NEIGHBOUR_KEY: Dtype = np.dtype(
    [
        ('address', 'u1', (16,)),
        ('ifindex', '<u4'),
        ('pad', '<u4'),
    ]
)
assert NEIGHBOUR_KEY.itemsize == 24

NETDEV: Dtype = np.dtype(
    [
        ('masquerade4', 'u1', (16,)),
        ('masquerade6', 'u1', (16,)),
        ('mac', 'u1', (6,)),
        ('flags', '<u2'),
    ]
)
assert NETDEV.itemsize == 40

POLICY_KEY: Dtype = np.dtype(
    [
        ('policy', '<u4'),
        ('identity', '<u4'),
    ]
)
assert POLICY_KEY.itemsize == 8

POLICY_CLASS_KEY: Dtype = np.dtype(
    [
        ('prefixlen', '<u4'),
        ('class', '<u4'),
        ('protocol', 'u1'),
        ('port', 'u1', (2,)),
        ('pad', 'u1'),
    ]
)
assert POLICY_CLASS_KEY.itemsize == 12

POLICY_VERDICT: Dtype = np.dtype(
    [
        ('cookie', '<u4'),
        ('proxy_port', '>u2'),
        ('flags', 'u1'),
        ('match', 'u1'),
        ('auth_type', 'u1'),
        ('pad', 'u1', (3,)),
    ]
)
assert POLICY_VERDICT.itemsize == 12

POLICY_COUNTER_KEY: Dtype = np.dtype(
    [
        ('cookie', '<u4'),
        ('writer', '<u4'),
    ]
)
assert POLICY_COUNTER_KEY.itemsize == 8

POLICY_COUNTER: Dtype = np.dtype(
    [
        ('packets', '<u8'),
        ('bytes', '<u8'),
    ]
)
assert POLICY_COUNTER.itemsize == 16

RUNTIME: Dtype = np.dtype(
    [
        ('policy_epoch', '<u4'),
        ('flags', '<u4'),
        ('aggregation', '<u8'),
    ]
)
assert RUNTIME.itemsize == 16

SAMPLER_SET: Dtype = np.dtype(
    [
        ('tag', '<u4', (2,)),
        ('time', '<u4', (2,)),
    ]
)
assert SAMPLER_SET.itemsize == 16

SERVICE_KEY: Dtype = np.dtype(
    [
        ('address', 'u1', (16,)),
        ('port', '>u2'),
        ('protocol', 'u1'),
        ('scope', 'u1'),
        ('pad', '<u4'),
    ]
)
assert SERVICE_KEY.itemsize == 24

SERVICE: Dtype = np.dtype(
    [
        ('id', '<u4'),
        ('slots', '<u4'),
        ('count', '<u4'),
        ('affinity_timeout', '<u4'),
        ('flags', '<u2'),
        ('pad', '<u2'),
    ]
)
assert SERVICE.itemsize == 20

BACKEND: Dtype = np.dtype(
    [
        ('address', 'u1', (16,)),
        ('port', '>u2'),
        ('protocol', 'u1'),
        ('state', 'u1'),
        ('pad', '<u4'),
    ]
)
assert BACKEND.itemsize == 24

REVERSE_KEY: Dtype = np.dtype(
    [
        ('cookie', '<u8'),
        ('address', 'u1', (16,)),
        ('port', '>u2'),
        ('pad', 'u1', (6,)),
    ]
)
assert REVERSE_KEY.itemsize == 32

REVERSE_ENTRY: Dtype = np.dtype(
    [
        ('address', 'u1', (16,)),
        ('port', '>u2'),
        ('pad', '<u2'),
        ('id', '<u4'),
        ('netns_cookie', '<u8'),
    ]
)
assert REVERSE_ENTRY.itemsize == 32

SOURCE_RANGE_KEY: Dtype = np.dtype(
    [
        ('prefixlen', '<u4'),
        ('service', '<u4'),
        ('address', 'u1', (16,)),
    ]
)
assert SOURCE_RANGE_KEY.itemsize == 24

AFFINITY_KEY: Dtype = np.dtype(
    [
        ('client', 'u1', (16,)),
        ('service', '<u4'),
        ('kind', 'u1'),
        ('pad', 'u1', (3,)),
    ]
)
assert AFFINITY_KEY.itemsize == 24

AFFINITY_ENTRY: Dtype = np.dtype(
    [
        ('used', '<u8'),
        ('backend', '<u4'),
        ('pad', '<u4'),
    ]
)
assert AFFINITY_ENTRY.itemsize == 16

AFFINITY_MATCH_KEY: Dtype = np.dtype(
    [
        ('service', '<u4'),
        ('backend', '<u4'),
    ]
)
assert AFFINITY_MATCH_KEY.itemsize == 8

SKIP_KEY: Dtype = np.dtype(
    [
        ('netns_cookie', '<u8'),
        ('address', 'u1', (16,)),
        ('port', '>u2'),
        ('protocol', 'u1'),
        ('pad', 'u1', (5,)),
    ]
)
assert SKIP_KEY.itemsize == 32

SOCKET_MARKS: Dtype = np.dtype(
    [
        ('marked', 'u1', (64,)),
    ]
)
assert SOCKET_MARKS.itemsize == 64

MAC: Dtype = np.dtype(
    [
        ('bytes', 'u1', (6,)),
    ]
)
assert MAC.itemsize == 6
