/* One map of each kind, a ring, and programs small enough to see through: what the kernel tests load. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct row {
	__u32 a;
	__be16 b;
	__u16 c;
};

struct prefix {
	__u32 prefixlen;
	__u8 bytes[4];
};

#define MAP(NAME, TYPE, KEY, VALUE, ENTRIES, FLAGS)       \
	struct {                                          \
		__uint(type, TYPE);                       \
		__type(key, KEY);                         \
		__type(value, VALUE);                     \
		__uint(max_entries, ENTRIES);             \
		__uint(pinning, LIBBPF_PIN_BY_NAME);      \
		__uint(map_flags, FLAGS);                 \
	} NAME SEC(".maps")

MAP(tiny_hash, BPF_MAP_TYPE_HASH, __u32, struct row, 20000, 0);
MAP(tiny_lru, BPF_MAP_TYPE_LRU_HASH, __u32, struct row, 20000, 0);
MAP(tiny_lpm, BPF_MAP_TYPE_LPM_TRIE, struct prefix, struct row, 20000, BPF_F_NO_PREALLOC);
MAP(tiny_array, BPF_MAP_TYPE_ARRAY, __u32, struct row, 64, 0);
MAP(tiny_percpu, BPF_MAP_TYPE_PERCPU_HASH, __u32, __u32, 1000, 0);
MAP(tiny_percpu_array, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct row, 16, 0);

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__type(key, __u32);
	__uint(max_entries, 100);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(key_size, 4);
		__uint(value_size, 4);
		__uint(max_entries, 16);
		__uint(map_flags, BPF_F_INNER_MAP | BPF_F_MMAPABLE);
	});
} tiny_nested SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} tiny_ring SEC(".maps");

const volatile __u32 config_number = 7;
const volatile __u8 config_small = 1;
const volatile __u8 config_address[16] = {};

/* Returns the constants and leaves the address in the packet. */
SEC("tc")
int constants(struct __sk_buff *skb)
{
	__u8 copy[16];

	for (int i = 0; i < 16; i++)
		copy[i] = config_address[i];
	bpf_skb_store_bytes(skb, 0, copy, 16, 0);
	skb->mark = skb->mark + 1;
	return config_number + config_small;
}

/* One record per packet: the packet's length. */
SEC("tc")
int emit(struct __sk_buff *skb)
{
	__u64 *record = bpf_ringbuf_reserve(&tiny_ring, 8, 0);

	if (!record)
		return TC_ACT_SHOT;
	*record = skb->len;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return TC_ACT_OK;
}

/* Counts packets in slot config_number % 16 of the array. */
SEC("tc")
int count(struct __sk_buff *skb)
{
	__u32 slot = config_number % 16;
	struct row *row = bpf_map_lookup_elem(&tiny_array, &slot);

	if (row)
		__sync_fetch_and_add(&row->a, 1);
	return TC_ACT_UNSPEC;
}

/* Returns what the array under key config_number has at the packet's length; 7777: it has none, or there is no array. */
SEC("tc")
int nested(struct __sk_buff *skb)
{
	__u32 key = config_number, index = skb->len, *value;
	void *array = bpf_map_lookup_elem(&tiny_nested, &key);

	value = array ? bpf_map_lookup_elem(array, &index) : NULL;
	return value ? *value : 7777;
}

SEC("cgroup/connect4")
int refuse(struct bpf_sock_addr *context)
{
	return 0;
}

SEC("cgroup/connect4")
int allow(struct bpf_sock_addr *context)
{
	return 1;
}

SEC("tc")
int drop(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

SEC("xdp")
int frame_drop(struct xdp_md *xdp)
{
	return XDP_DROP;
}

SEC("xdp")
int frame_pass(struct xdp_md *xdp)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
