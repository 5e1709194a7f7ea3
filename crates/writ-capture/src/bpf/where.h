/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Addresses, as hooks and packets show them. */
#ifndef WRIT_WHERE_H
#define WRIT_WHERE_H

#define AF_INET 2
#define LOOPBACK4 bpf_htonl(0x7f000001)

static __always_inline void from_v4(struct address *address, __u32 ip)
{
	__builtin_memset(address->bytes, 0, 10);
	address->bytes[10] = 0xff;
	address->bytes[11] = 0xff;
	__builtin_memcpy(&address->bytes[12], &ip, 4);
}

/* Word by word: the verifier knows the fields of a context at their own size and place only. */
#define FROM_V6(address, field)                                   \
	do {                                                      \
		volatile typeof(*(field)) *words = (field);       \
		__u32 *word = (void *)(address)->bytes;           \
		word[0] = words[0];                               \
		word[1] = words[1];                               \
		word[2] = words[2];                               \
		word[3] = words[3];                               \
	} while (0)

static __always_inline int is_v4(const struct address *address)
{
	const __u32 *word = (const void *)address->bytes;
	return !word[0] && !word[1] && word[2] == bpf_htonl(0xffff);
}

static __always_inline int same(const struct address *one, const struct address *other)
{
	const __u64 *a = (const void *)one->bytes, *b = (const void *)other->bytes;
	return a[0] == b[0] && a[1] == b[1];
}

static __always_inline int is_loopback(const struct address *address)
{
	const __u32 *word = (const void *)address->bytes;
	if (is_v4(address))
		return address->bytes[12] == 127 || !word[3];
	return !word[0] && !word[1] && !word[2] && (word[3] == bpf_htonl(1) || !word[3]);
}

/* Addresses that the resolver gives out (writ_core::synthetic). */
static __always_inline int is_synthetic(const struct address *address)
{
	const __u32 *word = (const void *)address->bytes;
	if (is_v4(address))
		return address->bytes[12] == 198 && (address->bytes[13] & 0xfe) == 18;
	return word[0] == bpf_htonl(0xfdb80728) && word[1] == bpf_htonl(0x2d800000);
}

/* ---- of connect(2), sendmsg(2) and their like ---- */

static __always_inline void asked_for(struct bpf_sock_addr *ctx, struct destination *to, int v6)
{
	if (v6)
		FROM_V6(&to->address, ctx->user_ip6);
	else
		from_v4(&to->address, ctx->user_ip4);
	to->port = bpf_ntohs((__u16)ctx->user_port);
}

static __always_inline void set_address(struct bpf_sock_addr *ctx, const struct address *address, __u16 port, int v6)
{
	__u32 word[4];
	__builtin_memcpy(word, address->bytes, 16);
	if (v6) {
		volatile struct bpf_sock_addr *fields = ctx;
		fields->user_ip6[0] = word[0];
		fields->user_ip6[1] = word[1];
		fields->user_ip6[2] = word[2];
		fields->user_ip6[3] = word[3];
	} else {
		ctx->user_ip4 = word[3];
	}
	ctx->user_port = bpf_htons(port);
}

/* Leads the socket to a port of the daemon, over the family that was asked for. */
static __always_inline void redirect(struct bpf_sock_addr *ctx, const struct address *asked, __u16 port, int v6)
{
	struct address loopback = {};
	if (is_v4(asked))
		from_v4(&loopback, LOOPBACK4);
	else
		loopback.bytes[15] = 1;
	set_address(ctx, &loopback, port, v6);
}

/* ---- of packets ---- */

struct packet {
	struct address from, to;
	__u32 at; /* where the transport begins */
	__u16 source, port;
	__u8 protocol;
	__u8 pad[3];
};

/* 0 for what is neither TCP nor UDP, or cannot be read. An IPv6 extension header makes `protocol` something else. */
static __always_inline int read_packet(struct __sk_buff *skb, struct packet *packet)
{
	__u8 first = 0;
	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return 0;
	if (first >> 4 == 4) {
		__u32 ip[2] = {};
		if (bpf_skb_load_bytes(skb, 12, ip, 8) || bpf_skb_load_bytes(skb, 9, &packet->protocol, 1))
			return 0;
		from_v4(&packet->from, ip[0]);
		from_v4(&packet->to, ip[1]);
		packet->at = (first & 15) * 4;
	} else if (first >> 4 == 6) {
		if (bpf_skb_load_bytes(skb, 8, packet->from.bytes, 16) ||
		    bpf_skb_load_bytes(skb, 24, packet->to.bytes, 16) ||
		    bpf_skb_load_bytes(skb, 6, &packet->protocol, 1))
			return 0;
		packet->at = 40;
	} else {
		return 0;
	}
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP)
		return 0;
	__be16 ports[2] = {};
	if (bpf_skb_load_bytes(skb, packet->at, ports, sizeof(ports)))
		return 0;
	packet->source = bpf_ntohs(ports[0]);
	packet->port = bpf_ntohs(ports[1]);
	return 1;
}

static __always_inline struct bpf_sock *socket_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	return sk ? bpf_sk_fullsock(sk) : 0;
}

/* ---- of both: the socket that would receive a packet ---- */

static __always_inline __u32 set_tuple(struct bpf_sock_tuple *tuple, const struct address *from, __u16 source,
				       const struct address *to, __u16 port)
{
	if (is_v4(to)) {
		__builtin_memcpy(&tuple->ipv4.saddr, &from->bytes[12], 4);
		__builtin_memcpy(&tuple->ipv4.daddr, &to->bytes[12], 4);
		tuple->ipv4.sport = bpf_htons(source);
		tuple->ipv4.dport = bpf_htons(port);
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(&tuple->ipv6.saddr, from->bytes, 16);
	__builtin_memcpy(&tuple->ipv6.daddr, to->bytes, 16);
	tuple->ipv6.sport = bpf_htons(source);
	tuple->ipv6.dport = bpf_htons(port);
	return sizeof(tuple->ipv6);
}

#endif
