// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The kernel's part of Writ: each destination of a governed process is passed, taken or refused here.
 *
 * Programs hold no secret and no policy text: what may be reached is a map of addresses that the daemon fills. What is
 * not in it, what cannot be stored, and who cannot be named is refused. Programs and maps are pinned, so all of this
 * holds while the daemon is away.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include "writ.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_MPTCP_ 262
#define ETH_P_IP_ 4
#define DNS_PORT 53
#define SECOND_NS 1000000000ULL
#define EVENTS_PER_SECOND 64
#define LOOPBACK4 bpf_htonl(0x7f000001)
#define NOT_INET 0x10000

#define ALLOW 1
#define DENY 0

/* Before about 6.16 programs of cgroup hooks cannot read task storage; the daemon probes and says so here. */
const volatile __u32 use_task_storage = 1;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct origin);
} sk_origin SEC(".maps");

/* Sockets made by a run, so that its own listeners are known; value: the run. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} sk_run SEC(".maps");

/* Sockets whose destination passes the egress filter. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct destination);
} sk_pass SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct label);
} task_label SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct label);
} tgid_label SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64); /* cgroup id */
	__type(value, struct run);
} runs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 524288);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct destination);
	__type(value, struct rule);
} destinations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct unix_grant);
	__type(value, __u32);
} unix_allowed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow);
	__type(value, struct origin);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct flow);
	__type(value, struct origin);
} questions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);
	if (value)
		(*value)++;
}

static __always_inline struct settings *the_settings(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&settings, &zero);
}

/* ---- who acts ---- */

/* The branch that is not taken is pruned by the verifier, so the object loads on old kernels. */
static __always_inline struct label *label_of_current(void)
{
	if (use_task_storage)
		return bpf_task_storage_get(&task_label, bpf_get_current_task_btf(), 0, 0);
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	return bpf_map_lookup_elem(&tgid_label, &tgid);
}

/* The run of the current task: its cgroup and its label must agree. 0 if they do not. */
static __always_inline __u64 acting_run(struct run **found, struct label **whose)
{
	__u64 cgroup = bpf_get_current_cgroup_id();
	struct run *run = bpf_map_lookup_elem(&runs, &cgroup);
	if (!run)
		return 0;
	struct label *label = label_of_current();
	if (!label)
		return 0;
	if (label->run != run->run)
		return 0;
	*found = run;
	*whose = label;
	return run->run;
}

/* At most so many events a second and run; what is over is counted. */
static __always_inline int may_report(struct run *run)
{
	__u64 now = bpf_ktime_get_ns();
	if (now - run->window_ns > SECOND_NS) {
		run->window_ns = now;
		run->events = 0;
	}
	if (run->events >= EVENTS_PER_SECOND) {
		__sync_fetch_and_add(&run->dropped, 1);
		return 0;
	}
	run->events++;
	return 1;
}

static __always_inline __u64 leader_start(struct task_struct *task)
{
	return BPF_CORE_READ(task, group_leader, start_boottime);
}

static __always_inline struct event *new_event(__u32 kind, __u64 run)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(EVENTS_LOST);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	struct task_struct *task = bpf_get_current_task_btf();
	event->kind = kind;
	event->run = run;
	event->tgid = bpf_get_current_pid_tgid() >> 32;
	event->start_ns = leader_start(task);
	return event;
}

static __always_inline int refuse(struct run *run, struct label *label, struct destination *to, __u32 protocol)
{
	count(REFUSALS);
	if (!run)
		return DENY;
	if (!may_report(run))
		return DENY;
	struct event *event = new_event(REFUSED, run->run);
	if (!event)
		return DENY;
	event->address = to->address;
	event->port = to->port;
	event->protocol = protocol;
	if (label)
		event->exec_generation = label->exec_generation;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return DENY;
}

/* ---- where it wants to go ---- */

static __always_inline void from_v4(struct address *address, __u32 ip)
{
	__builtin_memset(address->bytes, 0, 10);
	address->bytes[10] = 0xff;
	address->bytes[11] = 0xff;
	__builtin_memcpy(&address->bytes[12], &ip, 4);
}

static __always_inline int is_v4(const struct address *address)
{
	const __u32 *word = (const void *)address->bytes;
	return !word[0] && !word[1] && word[2] == bpf_htonl(0xffff);
}

static __always_inline int is_loopback(const struct address *address)
{
	const __u32 *word = (const void *)address->bytes;
	if (is_v4(address))
		return address->bytes[12] == 127 || !word[3];
	return !word[0] && !word[1] && !word[2] && (word[3] == bpf_htonl(1) || !word[3]);
}

static __always_inline void asked_for(struct bpf_sock_addr *ctx, struct destination *to, int v6)
{
	if (v6) {
		/* Word by word: the verifier knows these fields at their own size and place only. */
		volatile struct bpf_sock_addr *fields = ctx;
		__u32 *word = (void *)to->address.bytes;
		word[0] = fields->user_ip6[0];
		word[1] = fields->user_ip6[1];
		word[2] = fields->user_ip6[2];
		word[3] = fields->user_ip6[3];
	} else {
		from_v4(&to->address, ctx->user_ip4);
	}
	to->port = bpf_ntohs((__u16)ctx->user_port);
}

static __always_inline void set_ip6(struct bpf_sock_addr *ctx, __u32 a, __u32 b, __u32 c, __u32 d)
{
	volatile struct bpf_sock_addr *fields = ctx;
	fields->user_ip6[0] = a;
	fields->user_ip6[1] = b;
	fields->user_ip6[2] = c;
	fields->user_ip6[3] = d;
}

/* Addresses that the resolver gives out (writ_core::synthetic). */
static __always_inline int is_synthetic(const struct address *address)
{
	const __u32 *word = (const void *)address->bytes;
	if (is_v4(address))
		return address->bytes[12] == 198 && (address->bytes[13] & 0xfe) == 18;
	return word[0] == bpf_htonl(0xfdb80728) && word[1] == bpf_htonl(0x2d800000);
}

/* Leads the socket to a port of the daemon, over the family that was asked for. */
static __always_inline void redirect(struct bpf_sock_addr *ctx, const struct address *asked, __u16 port, int v6)
{
	if (!v6) {
		ctx->user_ip4 = LOOPBACK4;
	} else if (is_v4(asked)) {
		set_ip6(ctx, 0, 0, bpf_htonl(0xffff), LOOPBACK4);
	} else {
		set_ip6(ctx, 0, 0, 0, bpf_htonl(1));
	}
	ctx->user_port = bpf_htons(port);
}

static __always_inline int remember(struct bpf_sock_addr *ctx, const struct destination *to, __u64 run,
				    struct label *label)
{
	struct bpf_sock *sk = ctx->sk;
	if (!sk)
		return 0;
	struct origin *origin = bpf_sk_storage_get(&sk_origin, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!origin)
		return 0;
	__u64 id = bpf_get_current_pid_tgid();
	/* Overwritten as a whole: the socket may have been connected elsewhere before. */
	origin->address = to->address;
	origin->port = to->port;
	origin->family = ctx->family;
	origin->run = run;
	origin->cgroup = bpf_get_current_cgroup_id();
	origin->start_ns = leader_start(bpf_get_current_task_btf());
	origin->cookie = bpf_get_socket_cookie(ctx);
	origin->netns = bpf_get_netns_cookie(ctx);
	origin->tgid = id >> 32;
	origin->tid = id;
	origin->exec_generation = label->exec_generation;
	origin->program_start_ns = label->program_start_ns;
	origin->program_tgid = label->program_tgid;
	return 1;
}

/* The run that owns the socket which would receive this; 0 if nobody's or nobody would. */
static __always_inline __u64 receiver_run(void *ctx, struct bpf_sock_tuple *tuple, __u32 size, int tcp)
{
	struct bpf_sock *sk;
	if (tcp)
		sk = bpf_sk_lookup_tcp(ctx, tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(ctx, tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	__u64 *owner = bpf_sk_storage_get(&sk_run, sk, 0, 0);
	__u64 run = 0;
	if (owner)
		run = *owner;
	bpf_sk_release(sk);
	return run;
}

/* Does a socket of the same run listen there? Only asked for loopback; the egress filter asks again, packet by packet. */
static __always_inline int own_listener(struct bpf_sock_addr *ctx, const struct destination *to, __u64 run, int tcp)
{
	struct bpf_sock_tuple tuple = {};
	/* A connected datagram socket receives from its peer only, so it must be told from where this comes. */
	__u16 source = 0;
	struct bpf_sock *sk = ctx->sk;
	if (!tcp && sk)
		source = bpf_htons(sk->src_port);
	__u32 size;
	if (is_v4(&to->address)) {
		__builtin_memcpy(&tuple.ipv4.daddr, &to->address.bytes[12], 4);
		tuple.ipv4.dport = bpf_htons(to->port);
		if (source) {
			tuple.ipv4.saddr = sk->src_ip4 ? sk->src_ip4 : LOOPBACK4;
			tuple.ipv4.sport = source;
		}
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(&tuple.ipv6.daddr, to->address.bytes, 16);
		tuple.ipv6.dport = bpf_htons(to->port);
		if (source) {
			/* ::1 is the only loopback address there is. */
			tuple.ipv6.saddr[3] = bpf_htonl(1);
			tuple.ipv6.sport = source;
		}
		size = sizeof(tuple.ipv6);
	}
	return receiver_run(ctx, &tuple, size, tcp) == run;
}

static __always_inline int pass(struct bpf_sock_addr *ctx, const struct destination *to, const struct rule *rule, int v6)
{
	struct bpf_sock *sk = ctx->sk;
	if (!sk)
		return DENY;
	struct destination *open = bpf_sk_storage_get(&sk_pass, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!open)
		return DENY;
	open->address = rule->real;
	open->port = rule->real_port;
	__u32 word[4];
	__builtin_memcpy(word, rule->real.bytes, 16);
	if (v6) {
		set_ip6(ctx, word[0], word[1], word[2], word[3]);
	} else {
		if (!is_v4(&rule->real))
			return DENY;
		ctx->user_ip4 = word[3];
	}
	ctx->user_port = bpf_htons(rule->real_port);
	count(PASSED);
	return ALLOW;
}

static __always_inline int take(struct bpf_sock_addr *ctx, const struct destination *to, __u64 run, struct label *label,
				__u16 port, int v6)
{
	if (!port)
		return DENY;
	if (!remember(ctx, to, run, label))
		return DENY;
	redirect(ctx, &to->address, port, v6);
	count(TAKEN);
	return ALLOW;
}

/* connect(2) for TCP and UDP, sendmsg(2) for UDP. */
static __always_inline int decide(struct bpf_sock_addr *ctx, int v6, int connecting)
{
	struct destination to = {};
	struct run *run = 0;
	struct label *label = 0;
	asked_for(ctx, &to, v6);
	__u64 tag = acting_run(&run, &label);
	if (!tag)
		return refuse(0, 0, &to, ctx->protocol);
	struct settings *set = the_settings();
	if (!set)
		return DENY;
	int tcp = ctx->type == SOCK_STREAM;
	/* Every resolver that a run knows of is the daemon's. */
	if (to.port == DNS_PORT)
		return take(ctx, &to, tag, label, set->resolver_port, v6);
	if (tcp) {
		struct rule *rule = bpf_map_lookup_elem(&destinations, &to);
		if (rule) {
			if (rule->verdict == TAKE)
				return take(ctx, &to, tag, label, set->relay_port, v6);
			if (rule->verdict == PASS)
				return pass(ctx, &to, rule, v6);
		}
	}
	if (is_loopback(&to.address)) {
		if (own_listener(ctx, &to, tag, tcp))
			return ALLOW;
	}
	/* Resolvers connect datagram sockets to learn their own address and send nothing. What is sent all the same is
	 * dropped and reported by the egress filter. */
	if (connecting && !tcp && is_synthetic(&to.address))
		return ALLOW;
	return refuse(run, label, &to, ctx->protocol);
}

SEC("cgroup/connect4") int writ_connect4(struct bpf_sock_addr *ctx)
{
	return decide(ctx, 0, 1);
}

SEC("cgroup/connect6") int writ_connect6(struct bpf_sock_addr *ctx)
{
	return decide(ctx, 1, 1);
}

SEC("cgroup/sendmsg4") int writ_sendmsg4(struct bpf_sock_addr *ctx)
{
	return decide(ctx, 0, 0);
}

SEC("cgroup/sendmsg6") int writ_sendmsg6(struct bpf_sock_addr *ctx)
{
	return decide(ctx, 1, 0);
}

/* ---- what the program sees: the destination that it asked for ---- */

static __always_inline int restore(struct bpf_sock_addr *ctx, int v6, int datagram)
{
	struct bpf_sock *sk = ctx->sk;
	if (!sk)
		return ALLOW;
	struct origin *origin = bpf_sk_storage_get(&sk_origin, sk, 0, 0);
	if (!origin)
		return ALLOW;
	struct settings *set = the_settings();
	if (!set)
		return ALLOW;
	__u16 port = bpf_ntohs((__u16)ctx->user_port);
	if (port != set->resolver_port) {
		if (datagram)
			return ALLOW;
		if (port != set->relay_port)
			return ALLOW;
	}
	__u32 word[4];
	__builtin_memcpy(word, origin->address.bytes, 16);
	if (v6) {
		set_ip6(ctx, word[0], word[1], word[2], word[3]);
	} else {
		ctx->user_ip4 = word[3];
	}
	ctx->user_port = bpf_htons(origin->port);
	return ALLOW;
}

SEC("cgroup/recvmsg4") int writ_recvmsg4(struct bpf_sock_addr *ctx)
{
	return restore(ctx, 0, 1);
}

SEC("cgroup/recvmsg6") int writ_recvmsg6(struct bpf_sock_addr *ctx)
{
	return restore(ctx, 1, 1);
}

SEC("cgroup/getpeername4") int writ_getpeername4(struct bpf_sock_addr *ctx)
{
	return restore(ctx, 0, 0);
}

SEC("cgroup/getpeername6") int writ_getpeername6(struct bpf_sock_addr *ctx)
{
	return restore(ctx, 1, 0);
}

/* ---- sockets and ports ---- */

static __always_inline int bind(struct bpf_sock_addr *ctx)
{
	struct settings *set = the_settings();
	if (!set)
		return DENY;
	__u16 port = bpf_ntohs((__u16)ctx->user_port);
	if (!port)
		return ALLOW;
	return port != set->relay_port && port != set->resolver_port;
}

SEC("cgroup/bind4") int writ_bind4(struct bpf_sock_addr *ctx)
{
	return bind(ctx);
}

SEC("cgroup/bind6") int writ_bind6(struct bpf_sock_addr *ctx)
{
	return bind(ctx);
}

/* TCP, MPTCP and UDP; nothing else of the internet families is made. */
SEC("cgroup/sock_create") int writ_sock_create(struct bpf_sock *ctx)
{
	struct destination none = {};
	struct run *run = 0;
	struct label *label = 0;
	__u64 tag = acting_run(&run, &label);
	if (!tag)
		return DENY;
	__u32 protocol = ctx->protocol;
	int stream = ctx->type == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP_);
	int datagram = ctx->type == SOCK_DGRAM && protocol == IPPROTO_UDP;
	if (!stream && !datagram)
		return refuse(run, label, &none, protocol ? protocol : 255);
	__u64 *owner = bpf_sk_storage_get(&sk_run, ctx, &tag, BPF_SK_STORAGE_GET_F_CREATE);
	return owner ? ALLOW : DENY;
}

/* Unix sockets: by exact path; a kernel before 6.7 has no such hook, and the mount namespace alone hides them. */
extern void *bpf_cast_to_kern_ctx(void *obj) __ksym __weak;

static __always_inline int unix_socket(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);
	struct sockaddr_un *un = (struct sockaddr_un *)kern->uaddr;
	struct unix_grant grant = {};
	struct run *run = 0;
	struct label *label = 0;
	grant.run = acting_run(&run, &label);
	if (!grant.run) {
		count(REFUSALS);
		return DENY;
	}
	bpf_probe_read_kernel_str(grant.path, sizeof(grant.path), &un->sun_path);
	/* An abstract name begins with a zero and is never listed. */
	if (grant.path[0] && bpf_map_lookup_elem(&unix_allowed, &grant))
		return ALLOW;
	count(REFUSALS);
	if (!run)
		return DENY;
	if (!may_report(run))
		return DENY;
	struct event *event = new_event(REFUSED, run->run);
	if (!event)
		return DENY;
	event->protocol = NOT_INET + 1;
	__builtin_memcpy(event->path, grant.path, sizeof(grant.path));
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return DENY;
}

SEC("cgroup/connect_unix") int writ_connect_unix(struct bpf_sock_addr *ctx)
{
	return unix_socket(ctx);
}

SEC("cgroup/sendmsg_unix") int writ_sendmsg_unix(struct bpf_sock_addr *ctx)
{
	return unix_socket(ctx);
}

/* ---- hand-off ---- */

static __always_inline int is_v4_on_the_wire(struct bpf_sock_ops *ctx)
{
	if (ctx->family == AF_INET)
		return 1;
	return !ctx->remote_ip6[0] && !ctx->remote_ip6[1] && ctx->remote_ip6[2] == bpf_htonl(0xffff);
}

/* The flow as seen from the run's end. */
static __always_inline void outgoing(struct bpf_sock_ops *ctx, struct flow *flow)
{
	flow->netns = bpf_get_netns_cookie(ctx);
	flow->port = ctx->local_port;
	flow->to = bpf_ntohl(ctx->remote_port);
	if (is_v4_on_the_wire(ctx)) {
		from_v4(&flow->address, ctx->local_ip4);
		return;
	}
	volatile struct bpf_sock_ops *fields = ctx;
	__u32 *word = (void *)flow->address.bytes;
	word[0] = fields->local_ip6[0];
	word[1] = fields->local_ip6[1];
	word[2] = fields->local_ip6[2];
	word[3] = fields->local_ip6[3];
}

/* The same flow as seen from the daemon's end. */
static __always_inline void incoming(struct bpf_sock_ops *ctx, struct flow *flow)
{
	flow->netns = bpf_get_netns_cookie(ctx);
	flow->port = bpf_ntohl(ctx->remote_port);
	flow->to = ctx->local_port;
	if (is_v4_on_the_wire(ctx)) {
		from_v4(&flow->address, ctx->remote_ip4);
		return;
	}
	volatile struct bpf_sock_ops *fields = ctx;
	__u32 *word = (void *)flow->address.bytes;
	word[0] = fields->remote_ip6[0];
	word[1] = fields->remote_ip6[1];
	word[2] = fields->remote_ip6[2];
	word[3] = fields->remote_ip6[3];
}

/*
 * Run side: the source port is known and the SYN not sent yet, so the flow is there before anyone can accept. It ends
 * with the socket, before the port is free: whoever has the port next is somebody else.
 */
SEC("sockops") int writ_sockops_run(struct bpf_sock_ops *ctx)
{
	int closed = ctx->op == BPF_SOCK_OPS_STATE_CB && ctx->args[1] == BPF_TCP_CLOSE;
	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB && !closed)
		return 1;
	struct bpf_sock *sk = ctx->sk;
	if (!sk)
		return 1;
	struct origin *origin = bpf_sk_storage_get(&sk_origin, sk, 0, 0);
	if (!origin)
		return 1;
	struct flow flow = {};
	outgoing(ctx, &flow);
	if (closed) {
		bpf_map_delete_elem(&flows, &flow);
		return 1;
	}
	/* Without word of its end the flow would outlive the socket: better a miss. */
	if (bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG))
		return 1;
	bpf_map_update_elem(&flows, &flow, origin, BPF_ANY);
	count(FLOWS);
	return 1;
}

/* Daemon side: the accepted socket learns who opened it. A miss stays unknown, and the relay refuses it. */
SEC("sockops") int writ_sockops_daemon(struct bpf_sock_ops *ctx)
{
	if (ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	struct bpf_sock *sk = ctx->sk;
	if (!sk)
		return 1;
	struct flow flow = {};
	incoming(ctx, &flow);
	struct origin *origin = bpf_map_lookup_elem(&flows, &flow);
	if (!origin) {
		count(FLOW_MISSES);
		return 1;
	}
	struct origin copy = *origin;
	bpf_sk_storage_get(&sk_origin, sk, &copy, BPF_SK_STORAGE_GET_F_CREATE);
	bpf_map_delete_elem(&flows, &flow);
	return 1;
}

/* ---- the second barrier: whatever dodged the hooks above ---- */

static __always_inline int to_passed(struct __sk_buff *skb, const struct address *address, __u32 at)
{
	struct bpf_sock *sk = skb->sk;
	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	struct destination *open = bpf_sk_storage_get(&sk_pass, sk, 0, 0);
	if (!open)
		return 0;
	__u16 port = 0;
	if (bpf_skb_load_bytes(skb, at + 2, &port, 2))
		return 0;
	const __u64 *a = (const void *)address->bytes, *b = (const void *)open->address.bytes;
	return a[0] == b[0] && a[1] == b[1] && bpf_ntohs(port) == open->port;
}

/* A question leaves for the resolver: its source leads back to who asked. */
static __always_inline void note_question(struct __sk_buff *skb, const struct address *from, __u16 port)
{
	struct bpf_sock *sk = skb->sk;
	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	struct origin *origin = bpf_sk_storage_get(&sk_origin, sk, 0, 0);
	if (!origin)
		return;
	struct flow flow = { .netns = origin->netns, .address = *from, .port = port };
	bpf_map_update_elem(&questions, &flow, origin, BPF_ANY);
}

/* Would this packet on loopback be received by a socket of the run that sends it, or by a passed destination? */
static __always_inline int stays_inside(struct __sk_buff *skb, const struct address *from, const struct address *to,
					__u16 source, __u16 port, int tcp)
{
	struct bpf_sock *sk = skb->sk;
	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	struct destination *open = bpf_sk_storage_get(&sk_pass, sk, 0, 0);
	if (tcp && open) {
		const __u64 *a = (const void *)to->bytes, *b = (const void *)open->address.bytes;
		if (a[0] == b[0] && a[1] == b[1] && port == open->port)
			return 1;
	}
	__u64 *owner = bpf_sk_storage_get(&sk_run, sk, 0, 0);
	if (!owner)
		return 0;
	__u64 run = *owner;
	struct bpf_sock_tuple tuple = {};
	__u32 size;
	if (is_v4(to)) {
		__builtin_memcpy(&tuple.ipv4.saddr, &from->bytes[12], 4);
		__builtin_memcpy(&tuple.ipv4.daddr, &to->bytes[12], 4);
		tuple.ipv4.sport = bpf_htons(source);
		tuple.ipv4.dport = bpf_htons(port);
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(&tuple.ipv6.saddr, from->bytes, 16);
		__builtin_memcpy(&tuple.ipv6.daddr, to->bytes, 16);
		tuple.ipv6.sport = bpf_htons(source);
		tuple.ipv6.dport = bpf_htons(port);
		size = sizeof(tuple.ipv6);
	}
	return receiver_run(skb, &tuple, size, tcp) == run;
}

/*
 * On loopback. A connect hook looked at the receiver before; since then a datagram socket's peer, or the member that a
 * group of SO_REUSEPORT picks for this source, may be somebody else. Asked for each datagram and each first packet.
 */
static __always_inline int may_loop(struct __sk_buff *skb, const struct address *from, const struct address *to,
				    __u8 protocol, __u32 at)
{
	struct {
		__be16 source, port;
	} ports = {};
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return 0;
	if (bpf_skb_load_bytes(skb, at, &ports, sizeof(ports)))
		return 0;
	struct settings *set = the_settings();
	if (!set)
		return 0;
	__u16 source = bpf_ntohs(ports.source), port = bpf_ntohs(ports.port);
	if (protocol == IPPROTO_UDP) {
		if (port != set->resolver_port)
			return stays_inside(skb, from, to, source, port, 0);
		note_question(skb, from, source);
		return 1;
	}
	if (port == set->relay_port || port == set->resolver_port)
		return 1;
	__u8 flags = 0;
	if (bpf_skb_load_bytes(skb, at + 13, &flags, 1))
		return 0;
	/* SYN without ACK (RFC 9293 section 3.1). */
	if ((flags & 0x12) != 0x02)
		return 1;
	return stays_inside(skb, from, to, source, port, 1);
}

/* Whatever came so far dodged the hooks, or was a datagram on a connected socket. */
static __always_inline void report_dropped(struct __sk_buff *skb, const struct address *address, __u8 protocol, __u32 at)
{
	__u64 cgroup = bpf_skb_cgroup_id(skb);
	struct run *run = bpf_map_lookup_elem(&runs, &cgroup);
	if (!run)
		return;
	if (!may_report(run))
		return;
	__u16 port = 0;
	bpf_skb_load_bytes(skb, at + 2, &port, 2);
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(EVENTS_LOST);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->kind = REFUSED;
	event->run = run->run;
	event->address = *address;
	event->port = bpf_ntohs(port);
	event->protocol = protocol;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

SEC("cgroup_skb/egress") int writ_egress(struct __sk_buff *skb)
{
	struct address from = {}, to = {};
	__u8 first = 0, protocol = 0;
	__u32 at = 0;
	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		goto drop;
	if (first >> 4 == 4) {
		__u32 ip[2] = {};
		if (bpf_skb_load_bytes(skb, 12, ip, 8) || bpf_skb_load_bytes(skb, 9, &protocol, 1))
			goto drop;
		from_v4(&from, ip[0]);
		from_v4(&to, ip[1]);
		at = (first & 15) * 4;
	} else if (first >> 4 == 6) {
		if (bpf_skb_load_bytes(skb, 8, from.bytes, 16) || bpf_skb_load_bytes(skb, 24, to.bytes, 16))
			goto drop;
		/* An extension header makes `protocol` something else than TCP or UDP, which is dropped. */
		if (bpf_skb_load_bytes(skb, 6, &protocol, 1))
			goto drop;
		at = 40;
	} else {
		goto drop;
	}
	if (is_loopback(&to)) {
		if (may_loop(skb, &from, &to, protocol, at))
			return ALLOW;
	} else if (protocol == IPPROTO_TCP && to_passed(skb, &to, at)) {
		return ALLOW;
	}
drop:
	count(EGRESS_DROPS);
	report_dropped(skb, &to, protocol, at);
	return DENY;
}

/* ---- labels ---- */

/* Inside copy_process(): threads, forks and the kernel's io_uring workers alike. */
SEC("tp_btf/task_newtask") int BPF_PROG(writ_newtask, struct task_struct *child, __u64 flags)
{
	struct label *label = bpf_task_storage_get(&task_label, bpf_get_current_task_btf(), 0, 0);
	if (!label)
		return 0;
	struct label copy = *label;
	bpf_task_storage_get(&task_label, child, &copy, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!use_task_storage) {
		__u32 tgid = child->tgid;
		bpf_map_update_elem(&tgid_label, &tgid, &copy, BPF_ANY);
	}
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(writ_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct label *label = bpf_task_storage_get(&task_label, task, 0, 0);
	if (!label)
		return 0;
	__u64 before_start_ns = label->program_start_ns;
	__u32 before_tgid = label->program_tgid;
	label->exec_generation++;
	label->program_start_ns = leader_start(task);
	label->program_tgid = task->tgid;
	if (!use_task_storage) {
		__u32 tgid = task->tgid;
		struct label copy = *label;
		bpf_map_update_elem(&tgid_label, &tgid, &copy, BPF_ANY);
	}
	struct event *event = new_event(EXECUTED, label->run);
	if (!event)
		return 0;
	event->parent = BPF_CORE_READ(task, real_parent, tgid);
	event->exec_generation = label->exec_generation;
	event->program_start_ns = before_start_ns;
	event->program_tgid = before_tgid;
	bpf_probe_read_kernel_str(event->path, sizeof(event->path), bprm->filename);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_process_exit") int BPF_PROG(writ_exit, struct task_struct *task)
{
	struct label *label = bpf_task_storage_get(&task_label, task, 0, 0);
	if (!label)
		return 0;
	if (task->pid != task->tgid)
		return 0;
	__u32 tgid = task->tgid;
	bpf_map_delete_elem(&tgid_label, &tgid);
	struct event *event = new_event(EXITED, label->run);
	if (event)
		bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

/* A labelled task that is moved out of its run's cgroup: the hooks no longer see it, so the daemon must end it. */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(writ_moved, struct cgroup *to, const char *path, struct task_struct *task, bool threadgroup)
{
	struct label *label = bpf_task_storage_get(&task_label, task, 0, 0);
	if (!label)
		return 0;
	__u64 cgroup = to->kn->id;
	struct run *run = bpf_map_lookup_elem(&runs, &cgroup);
	if (run) {
		if (run->run == label->run)
			return 0;
	}
	struct event *event = new_event(LEFT_CGROUP, label->run);
	if (!event)
		return 0;
	event->tgid = task->tgid;
	event->start_ns = leader_start(task);
	bpf_ringbuf_submit(event, 0);
	return 0;
}
