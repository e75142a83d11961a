"""What each pinned map holds. Generated from bpf/maps by tools/generate_views.py: do not edit, run `make views`."""
import numpy as np

from cilium.datapath.generated import structs
from cilium.datapath.mapspec import MapSpec, MapType

MAPS: dict[str, MapSpec] = {
    'cilium_ct': MapSpec('cilium_ct', MapType(9), structs.CT_KEY, structs.CT_ENTRY, 524288, 0),
    'cilium_events': MapSpec('cilium_events', MapType(27), None, None, 16777216, 0),
    'cilium_events_lost': MapSpec('cilium_events_lost', MapType(6), np.dtype('<u4'), np.dtype('<u8'), 8, 0),
    'cilium_frags': MapSpec('cilium_frags', MapType(9), structs.FRAGMENT_KEY, structs.FRAGMENT_PORTS, 8192, 0),
    'cilium_ipcache': MapSpec('cilium_ipcache', MapType(1), structs.IPCACHE_KEY, structs.IPCACHE_ENTRY, 512000, 1),
    'cilium_ipcache_cidr': MapSpec('cilium_ipcache_cidr', MapType(11), structs.IPCACHE_CIDR_KEY, structs.IPCACHE_ENTRY, 512000, 1),
    'cilium_lb_affinity': MapSpec('cilium_lb_affinity', MapType(9), structs.AFFINITY_KEY, structs.AFFINITY_ENTRY, 65536, 0),
    'cilium_lb_affinity_match': MapSpec('cilium_lb_affinity_match', MapType(1), structs.AFFINITY_MATCH_KEY, np.dtype('<u4'), 65536, 1),
    'cilium_lb_backends': MapSpec('cilium_lb_backends', MapType(2), np.dtype('<u4'), structs.BACKEND, 131072, 0),
    'cilium_lb_maglev': MapSpec('cilium_lb_maglev', MapType(13), np.dtype('<u4'), np.dtype('<u4'), 65536, 1, MapSpec('cilium_lb_maglev', MapType(2), np.dtype('<u4'), np.dtype('<u4'), 16381, 5120)),
    'cilium_lb_reverse': MapSpec('cilium_lb_reverse', MapType(9), structs.REVERSE_KEY, structs.REVERSE_ENTRY, 65536, 0),
    'cilium_lb_services': MapSpec('cilium_lb_services', MapType(1), structs.SERVICE_KEY, structs.SERVICE, 65536, 1),
    'cilium_lb_skip': MapSpec('cilium_lb_skip', MapType(1), structs.SKIP_KEY, np.dtype('<u4'), 4096, 1),
    'cilium_lb_slots': MapSpec('cilium_lb_slots', MapType(2), np.dtype('<u4'), np.dtype('<u4'), 524288, 0),
    'cilium_lb_sockets': MapSpec('cilium_lb_sockets', MapType(2), np.dtype('<u4'), structs.SOCKET_MARKS, 1024, 0),
    'cilium_lb_source_ranges': MapSpec('cilium_lb_source_ranges', MapType(11), structs.SOURCE_RANGE_KEY, np.dtype('<u4'), 65536, 1),
    'cilium_lxc': MapSpec('cilium_lxc', MapType(1), structs.ENDPOINT_KEY, structs.ENDPOINT, 65536, 1),
    'cilium_metrics': MapSpec('cilium_metrics', MapType(6), np.dtype('<u4'), structs.METRIC, 1024, 0),
    'cilium_nat_clients': MapSpec('cilium_nat_clients', MapType(2), np.dtype('<u4'), np.dtype('<u8'), 3, 0),
    'cilium_netdev': MapSpec('cilium_netdev', MapType(1), np.dtype('<u4'), structs.NETDEV, 256, 1),
    'cilium_policy': MapSpec('cilium_policy', MapType(1), structs.POLICY_KEY, np.dtype('<u4'), 1048576, 1),
    'cilium_policy_class': MapSpec('cilium_policy_class', MapType(11), structs.POLICY_CLASS_KEY, structs.POLICY_VERDICT, 262144, 1),
    'cilium_policy_counters': MapSpec('cilium_policy_counters', MapType(5), structs.POLICY_COUNTER_KEY, structs.POLICY_COUNTER, 131072, 1),
    'cilium_runtime': MapSpec('cilium_runtime', MapType(2), np.dtype('<u4'), structs.RUNTIME, 1, 0),
    'cilium_sampler': MapSpec('cilium_sampler', MapType(6), np.dtype('<u4'), structs.SAMPLER_SET, 4096, 0),
    'cilium_snat': MapSpec('cilium_snat', MapType(9), structs.NAT_KEY, structs.NAT_ENTRY, 524288, 0),
}
