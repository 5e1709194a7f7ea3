// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The kernel's part of Writ: each destination of a governed process is passed, taken or refused here.
 *
 * Programs hold no secret and no policy text: what may be reached is a map of addresses that the daemon fills. What is
 * not in it, what cannot be stored, and who cannot be named is refused. Programs and maps are pinned, so all of this
 * holds while the daemon is away.
 *
 * They are loaded twice: for the cgroup of all runs, and for the cgroup below which other processes are to be governed.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include "writ.h"
#include "maps.h"
#include "who.h"
#include "where.h"
#include "lineage.h"
#include "awaited.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_MPTCP_ 262
#define DNS_PORT 53
#define NOT_INET 0x10000

/* The hooks of both families, which differ in the fields that they may read. */
#define BOTH(hook, call)                                                                        \
	SEC("cgroup/" #hook "4") int writ_##hook##4(struct bpf_sock_addr *ctx) { return call(0); } \
	SEC("cgroup/" #hook "6") int writ_##hook##6(struct bpf_sock_addr *ctx) { return call(1); }

/* ---- where it may go ---- */

static __always_inline int refuse(const struct actor *actor, const struct destination *to, __u32 protocol)
{
	struct event *event = new_refusal(actor);
	if (!event)
		return DENY;
	event->address = to->address;
	event->port = to->port;
	event->protocol = protocol;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return DENY;
}

/* Leads a socket to the daemon, and keeps with it who opened it and to where. */
static __always_inline int take(struct bpf_sock_addr *ctx, const struct destination *to, const struct actor *actor,
				__u16 port, int v6)
{
	struct bpf_sock *sk = ctx->sk;
	if (!port || !sk)
		return DENY;
	struct origin *origin = bpf_sk_storage_get(&sk_origin, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!origin)
		return DENY;
	__u64 id = bpf_get_current_pid_tgid();
	/* Overwritten as a whole: the socket may have been connected elsewhere before. */
	origin->address = to->address;
	origin->port = to->port;
	origin->led = port;
	origin->run = actor->run;
	origin->governed = actor->place->governed;
	origin->cgroup = bpf_get_current_cgroup_id();
	origin->start_ns = leader_start(bpf_get_current_task_btf());
	origin->cookie = bpf_get_socket_cookie(ctx);
	origin->netns = bpf_get_netns_cookie(ctx);
	origin->tgid = id >> 32;
	origin->tid = id;
	origin->exec_generation = actor->program.generation;
	origin->program_start_ns = actor->program.start_ns;
	origin->program_tgid = actor->program.tgid;
	redirect(ctx, &to->address, port, v6);
	count(TAKEN);
	return ALLOW;
}

static __always_inline int pass(struct bpf_sock_addr *ctx, const struct rule *rule, __u64 run, int v6)
{
	struct bpf_sock *sk = ctx->sk;
	if (!sk)
		return DENY;
	if (!v6 && !is_v4(&rule->real))
		return DENY;
	struct passed *open = bpf_sk_storage_get(&sk_pass, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!open)
		return DENY;
	open->to.address = rule->real;
	open->to.port = rule->real_port;
	open->run = run;
	set_address(ctx, &rule->real, rule->real_port, v6);
	count(PASSED);
	return ALLOW;
}

/* The place of the socket that would receive this; 0 if nobody's or nobody would. */
static __always_inline __u64 receiver_home(void *ctx, struct bpf_sock_tuple *tuple, __u32 size, int tcp)
{
	struct bpf_sock *sk;
	if (tcp)
		sk = bpf_sk_lookup_tcp(ctx, tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(ctx, tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	__u64 *kept = bpf_sk_storage_get(&sk_home, sk, 0, 0);
	__u64 home = 0;
	if (kept)
		home = *kept;
	bpf_sk_release(sk);
	return home;
}

/* Does a socket of the same place listen there? Only asked for loopback; the egress filter asks again, packet by packet. */
static __always_inline int own_listener(struct bpf_sock_addr *ctx, const struct destination *to, __u64 home, int tcp)
{
	struct address from = {};
	__u16 source = 0;
	struct bpf_sock *sk = ctx->sk;
	/* A connected datagram socket receives from its peer only, so it must be told from where this comes. */
	if (!tcp && sk)
		source = sk->src_port;
	if (source) {
		/* ::1 is the only loopback address there is. */
		if (is_v4(&to->address))
			from_v4(&from, sk->src_ip4 ? sk->src_ip4 : LOOPBACK4);
		else
			from.bytes[15] = 1;
	}
	struct bpf_sock_tuple tuple = {};
	__u32 size = set_tuple(&tuple, &from, source, &to->address, to->port);
	return receiver_home(ctx, &tuple, size, tcp) == home;
}

/* connect(2) for TCP and UDP, sendmsg(2) for UDP. */
static __always_inline int decide(struct bpf_sock_addr *ctx, int v6, int connecting)
{
	struct destination to = {};
	struct actor actor = {};
	asked_for(ctx, &to, v6);
	int who = acting(&actor);
	if (who == NOT_OURS)
		return ALLOW;
	if (who == DENY) {
		count(REFUSALS);
		return DENY;
	}
	struct settings *set = the_settings();
	if (!set)
		return DENY;
	int tcp = ctx->type == SOCK_STREAM;
	/* Every resolver that a governed process knows of is the daemon's. */
	if (to.port == DNS_PORT)
		return take(ctx, &to, &actor, set->resolver_port, v6);
	if (tcp) {
		struct rule *rule = bpf_map_lookup_elem(&destinations, &to);
		if (rule) {
			/* Nothing passes by for whoever is not known yet, or not welcome any more. */
			int may_pass = actor.run && !(actor.place->limits & NOTHING_PASSES);
			if (rule->verdict == PASS && may_pass)
				return pass(ctx, rule, actor.run, v6);
			if (rule->verdict == TAKE || rule->verdict == PASS)
				return take(ctx, &to, &actor, set->relay_port, v6);
		}
	}
	if (is_loopback(&to.address)) {
		if (own_listener(ctx, &to, actor.home, tcp))
			return ALLOW;
	}
	/* Resolvers connect datagram sockets to learn their own address and send nothing. What is sent all the same is
	 * dropped and reported by the egress filter. */
	if (connecting && !tcp && is_synthetic(&to.address))
		return ALLOW;
	return refuse(&actor, &to, ctx->protocol);
}

#define DECIDE_CONNECT(v6) decide(ctx, v6, 1)
#define DECIDE_SENDMSG(v6) decide(ctx, v6, 0)
BOTH(connect, DECIDE_CONNECT)
BOTH(sendmsg, DECIDE_SENDMSG)

/* ---- what the program sees: the destination that it asked for ---- */

static __always_inline int restore(struct bpf_sock_addr *ctx, int v6)
{
	struct bpf_sock *sk = ctx->sk;
	if (!sk)
		return ALLOW;
	struct origin *origin = bpf_sk_storage_get(&sk_origin, sk, 0, 0);
	if (!origin)
		return ALLOW;
	/* Compared with the port of then: since a restart the daemon may have others. */
	if (bpf_ntohs((__u16)ctx->user_port) == origin->led)
		set_address(ctx, &origin->address, origin->port, v6);
	return ALLOW;
}

#define RESTORE(v6) restore(ctx, v6)
BOTH(recvmsg, RESTORE)
BOTH(getpeername, RESTORE)

/* ---- sockets and ports ---- */

static __always_inline int bind(struct bpf_sock_addr *ctx)
{
	struct actor actor = {};
	if (acting(&actor) == NOT_OURS)
		return ALLOW;
	struct settings *set = the_settings();
	if (!set)
		return DENY;
	__u16 port = bpf_ntohs((__u16)ctx->user_port);
	if (!port)
		return ALLOW;
	return port != set->relay_port && port != set->resolver_port;
}

#define BIND(v6) bind(ctx)
BOTH(bind, BIND)

/* TCP, MPTCP and UDP; nothing else of the internet families is made. */
SEC("cgroup/sock_create") int writ_sock_create(struct bpf_sock *ctx)
{
	struct destination none = {};
	struct actor actor = {};
	int who = acting(&actor);
	if (who != ALLOW)
		return who == NOT_OURS;
	__u32 protocol = ctx->protocol;
	int stream = ctx->type == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP_);
	int datagram = ctx->type == SOCK_DGRAM && protocol == IPPROTO_UDP;
	if (!stream && !datagram)
		return refuse(&actor, &none, protocol ? protocol : 255);
	__u64 home = actor.home;
	return bpf_sk_storage_get(&sk_home, ctx, &home, BPF_SK_STORAGE_GET_F_CREATE) ? ALLOW : DENY;
}

/* Unix sockets: by exact path; a kernel before 6.7 has no such hook, and the mount namespace alone hides them. */
extern void *bpf_cast_to_kern_ctx(void *obj) __ksym __weak;

static __always_inline int is_granted(struct unix_grant *grant, __u64 run, __u32 governed)
{
	grant->run = run;
	grant->governed = governed;
	return bpf_map_lookup_elem(&unix_allowed, grant) != 0;
}

static __always_inline int unix_socket(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);
	struct sockaddr_un *un = (struct sockaddr_un *)kern->uaddr;
	struct unix_grant grant = {};
	struct actor actor = {};
	int who = acting(&actor);
	if (who == NOT_OURS)
		return ALLOW;
	if (who == DENY) {
		count(REFUSALS);
		return DENY;
	}
	__u32 governed = actor.place->governed;
	if (governed && !(actor.place->limits & UNIX_LISTED))
		return ALLOW;
	bpf_probe_read_kernel_str(grant.path, sizeof(grant.path), &un->sun_path);
	/* An abstract name begins with a zero and is never listed. */
	if (grant.path[0]) {
		if (actor.run && is_granted(&grant, actor.run, 0))
			return ALLOW;
		if (governed && is_granted(&grant, 0, governed))
			return ALLOW;
	}
	struct event *event = new_refusal(&actor);
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

/* The flow of a socket, which is the run's end of it or the daemon's. */
static __always_inline void read_flow(struct bpf_sock_ops *ctx, struct flow *flow, int of_run)
{
	__u32 local = ctx->local_port, remote = bpf_ntohl(ctx->remote_port);
	flow->netns = bpf_get_netns_cookie(ctx);
	flow->port = of_run ? local : remote;
	flow->to = of_run ? remote : local;
	int v4 = is_v4_on_the_wire(ctx);
	if (of_run) {
		if (v4)
			from_v4(&flow->address, ctx->local_ip4);
		else
			FROM_V6(&flow->address, ctx->local_ip6);
	} else {
		if (v4)
			from_v4(&flow->address, ctx->remote_ip4);
		else
			FROM_V6(&flow->address, ctx->remote_ip6);
	}
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
	read_flow(ctx, &flow, 1);
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
	read_flow(ctx, &flow, 0);
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

/*
 * Daemon side of a question. The datagram is marked where it meets the resolver's socket, past every firewall, with a
 * number that leads to the socket which it came from. Whoever has the sender's port by the time the datagram is read
 * does not matter; one that no governed socket sent carries 0.
 */
SEC("cgroup_skb/ingress") int writ_ingress(struct __sk_buff *skb)
{
	struct packet packet = {};
	if (!read_packet(skb, &packet) || packet.protocol != IPPROTO_UDP)
		return ALLOW;
	struct settings *set = the_settings();
	if (!set)
		return ALLOW;
	__u16 resolver = set->resolver_port;
	if (packet.port != resolver)
		return ALLOW;
	skb->mark = 0;
	if (!is_loopback(&packet.from))
		return ALLOW;
	struct bpf_sock_tuple tuple = {};
	__u32 size = set_tuple(&tuple, &packet.to, packet.port, &packet.from, packet.source);
	struct bpf_sock *sk = bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return ALLOW;
	struct origin copy = {};
	struct origin *origin = bpf_sk_storage_get(&sk_origin, sk, 0, 0);
	if (origin)
		copy = *origin;
	bpf_sk_release(sk);
	if (copy.led != resolver)
		return ALLOW;
	__u32 mark = bpf_get_prandom_u32() | 1;
	if (!bpf_map_update_elem(&questions, &mark, &copy, BPF_NOEXIST))
		skb->mark = mark;
	return ALLOW;
}

/* ---- the second barrier: whatever dodged the hooks above ---- */

/* Was the socket let through to where this goes? */
static __always_inline int is_passed(struct bpf_sock *sk, const struct packet *packet)
{
	struct passed *open = bpf_sk_storage_get(&sk_pass, sk, 0, 0);
	if (!open)
		return 0;
	return same(&packet->to, &open->to.address) && packet->port == open->to.port;
}

/*
 * Whether nobody listens yet in the network of whoever was led to the daemon. What is sent there would be answered with
 * a refusal: it waits instead, and the daemon is told.
 */
static __always_inline int is_unheard(struct __sk_buff *skb)
{
	struct bpf_sock *sk = socket_of(skb);
	if (!is_watch || !sk)
		return 0;
	struct origin *origin = bpf_sk_storage_get(&sk_origin, sk, 0, 0);
	if (!origin)
		return 0;
	__u64 network = origin->netns;
	if (bpf_map_lookup_elem(&heard, &network))
		return 0;
	struct event *event = new_event(UNHEARD, 0, origin->governed);
	if (event) {
		event->tgid = origin->tgid;
		event->start_ns = origin->start_ns;
		event->exec_generation = origin->exec_generation;
		bpf_ringbuf_submit(event, 0);
	}
	return 1;
}

/*
 * On loopback. A connect hook looked at the receiver before; since then a datagram socket's peer, or the member that a
 * group of SO_REUSEPORT picks for this source, may be somebody else. Asked for each datagram and each first packet.
 */
static __always_inline int may_loop(struct __sk_buff *skb, const struct packet *packet)
{
	int tcp = packet->protocol == IPPROTO_TCP;
	struct settings *set = the_settings();
	if (!set)
		return 0;
	if (packet->port == set->resolver_port || (tcp && packet->port == set->relay_port))
		return is_unheard(skb) ? LOSE : ALLOW;
	if (tcp) {
		__u8 flags = 0;
		if (bpf_skb_load_bytes(skb, packet->at + 13, &flags, 1))
			return 0;
		/* SYN without ACK (RFC 9293 section 3.1). */
		if ((flags & 0x12) != 0x02)
			return 1;
	}
	struct bpf_sock *sk = socket_of(skb);
	if (!sk)
		return 0;
	if (tcp && is_passed(sk, packet))
		return 1;
	__u64 *kept = bpf_sk_storage_get(&sk_home, sk, 0, 0);
	if (!kept)
		return 0;
	__u64 home = *kept;
	struct bpf_sock_tuple tuple = {};
	__u32 size = set_tuple(&tuple, &packet->from, packet->source, &packet->to, packet->port);
	return receiver_home(skb, &tuple, size, tcp) == home;
}

static __always_inline int may_leave(struct __sk_buff *skb, const struct packet *packet)
{
	if (packet->protocol != IPPROTO_TCP)
		return 0;
	struct bpf_sock *sk = socket_of(skb);
	if (!sk)
		return 0;
	return is_passed(sk, packet);
}

/* The place of the socket that sends this. */
static __always_inline struct place *place_of_sender(struct __sk_buff *skb)
{
	__u64 id = bpf_skb_cgroup_id(skb);
	struct place *place = bpf_map_lookup_elem(&places, &id);
	if (place)
		return place;
	for (int level = 1; level < DEPTH_MAX; level++) {
		id = bpf_skb_ancestor_cgroup_id(skb, level);
		if (!id)
			return 0;
		place = bpf_map_lookup_elem(&places, &id);
		if (place) {
			if (place->governed)
				return place;
		}
	}
	return 0;
}

/* Whatever came so far dodged the hooks, or was a datagram on a connected socket. Who sent it may be gone. */
static __always_inline void report_dropped(struct __sk_buff *skb, const struct packet *packet)
{
	struct place *place = place_of_sender(skb);
	if (!place)
		return;
	if (!may_report(place))
		return;
	struct event *event = new_event(REFUSED, place->run, place->governed);
	if (!event)
		return;
	event->address = packet->to;
	event->port = packet->port;
	event->protocol = packet->protocol;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

/* Whether this is sent from where the watch governs: by a socket that was made there, or in a cgroup that is there. */
static __always_inline int is_governed(struct __sk_buff *skb)
{
	struct bpf_sock *sk = socket_of(skb);
	struct place *place = 0;
	__u64 *home = 0;
	if (sk)
		home = bpf_sk_storage_get(&sk_home, sk, 0, 0);
	if (home)
		place = bpf_map_lookup_elem(&places, home);
	else
		place = place_of_sender(skb);
	if (!place)
		return 0;
	return place->governed != 0;
}

SEC("cgroup_skb/egress") int writ_egress(struct __sk_buff *skb)
{
	struct packet packet = {};
	if (is_watch && !is_governed(skb))
		return ALLOW;
	if (read_packet(skb, &packet)) {
		int may = is_loopback(&packet.to) ? may_loop(skb, &packet) : may_leave(skb, &packet);
		if (may)
			return may;
	}
	count(EGRESS_DROPS);
	report_dropped(skb, &packet);
	return DENY;
}
