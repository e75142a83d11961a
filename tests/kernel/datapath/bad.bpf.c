/* The verifier must refuse this: it reads beyond the packet. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int beyond(struct __sk_buff *skb)
{
	return *(__u8 *)(long)skb->data_end;
}

char _license[] SEC("license") = "GPL";
