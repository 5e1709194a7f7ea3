// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Tiny programs, each of which needs one thing of the kernel: what loads is there. They are never attached. That a type is
 * in BTF proves nothing: some kernels list what they refuse to load.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} of_socket SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} of_task SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

static __always_inline int connects(struct bpf_sock_addr *ctx)
{
	if (ctx->sk)
		bpf_sk_storage_get(&of_socket, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	return 1;
}

SEC("cgroup/connect4") int connect4(struct bpf_sock_addr *ctx)
{
	return connects(ctx);
}

SEC("cgroup/connect6") int connect6(struct bpf_sock_addr *ctx)
{
	return connects(ctx);
}

SEC("cgroup/sendmsg4") int sendmsg4(struct bpf_sock_addr *ctx)
{
	return connects(ctx);
}

SEC("cgroup/recvmsg4") int recvmsg4(struct bpf_sock_addr *ctx)
{
	return connects(ctx);
}

SEC("cgroup/getpeername4") int getpeername4(struct bpf_sock_addr *ctx)
{
	return connects(ctx);
}

SEC("cgroup/bind4") int bind4(struct bpf_sock_addr *ctx)
{
	return 1;
}

SEC("cgroup/sock_create") int sock_create(struct bpf_sock *ctx)
{
	return 1;
}

SEC("sockops") int ops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	if (sk)
		bpf_sk_storage_get(&of_socket, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	return bpf_get_netns_cookie(ctx) != 0;
}

SEC("cgroup_skb/egress") int egress(struct __sk_buff *skb)
{
	return 1;
}

SEC("cgroup_skb/ingress") int ingress(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 1;
	skb->mark = bpf_sk_storage_get(&of_socket, sk, 0, 0) != 0;
	bpf_sk_release(sk);
	return 1;
}

SEC("tp_btf/task_newtask") int BPF_PROG(newtask, struct task_struct *child, __u64 flags)
{
	bpf_task_storage_get(&of_task, child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	void *event = bpf_ringbuf_reserve(&ring, 8, 0);
	if (event)
		bpf_ringbuf_discard(event, 0);
	return 0;
}

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(moved, struct cgroup *to, const char *path, struct task_struct *task, bool threadgroup)
{
	return 0;
}

SEC("cgroup/connect4") int task_storage_in_cgroup(struct bpf_sock_addr *ctx)
{
	return bpf_task_storage_get(&of_task, bpf_get_current_task_btf()->group_leader, 0, 0) != 0;
}

extern void *bpf_cast_to_kern_ctx(void *obj) __ksym __weak;

SEC("cgroup/connect_unix") int connect_unix(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);
	return kern->uaddr != 0;
}

SEC("cgroup/sendmsg_unix") int sendmsg_unix(struct bpf_sock_addr *ctx)
{
	return 1;
}

SEC("lsm/socket_create") int BPF_PROG(lsm, int family, int type, int protocol, int kern)
{
	return 0;
}
