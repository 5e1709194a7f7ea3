/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Records shared by the kernel programs and the daemon. The Rust side is record.rs, where a test pins the layouts. */
#ifndef WRIT_H
#define WRIT_H

#define PATH_MAX_RECORDED 128
#define UNIX_PATH_BYTES 108

enum verdict { REFUSE = 0, TAKE = 1, PASS = 2 };

/* An address in 16 bytes: IPv4 as ::ffff:a.b.c.d. Ports are in host order everywhere. */
struct address {
	__u8 bytes[16];
};

/* Who opened a socket, and to where. */
struct origin {
	struct address address;
	__u64 run; /* 0: a governed process that has none yet */
	__u64 cgroup;
	__u64 start_ns;
	__u64 cookie;
	__u64 netns;
	__u32 tgid;
	__u32 tid;
	__u32 exec_generation;
	__u16 port;
	__u16 led; /* the daemon's port to which it was led */
	__u64 program_start_ns; /* the process that executed the program, see `struct program` */
	__u32 program_tgid;
	__u32 governed; /* by which it is governed, for a process that Writ did not launch */
};

/*
 * By what a process is governed that Writ did not launch: a number that the daemon chose. With this bit it is a program,
 * which the process executed or descends from; without it, a cgroup, which it is in.
 */
#define OF_PROGRAM 0x80000000U
/* The key in `places` of what is governed by a program: ids of cgroups do not get there. */
#define PROGRAM_PLACE 0x8000000000000000ULL

/*
 * To which run a process belongs. Written by the daemon, and copied to children. It holds for the generation that the
 * daemon had looked at: if the process executed another program before this was written, it means nothing.
 */
struct label {
	__u64 run;
	__u32 governed; /* what it holds under; 0: it holds in the cgroup of its run */
	__u32 generation;
};

/* What a process executes; nothing before its first exec under our eyes. A fork keeps the program of its parent. */
struct program {
	__u64 start_ns;
	__u32 tgid;
	__u32 generation;
};

struct destination {
	struct address address;
	__u16 port;
	__u16 pad[3];
};

struct rule {
	struct address real; /* for PASS */
	__u16 real_port;
	__u16 verdict;
	__u32 pad;
};

/* Where a socket was let through to, and for which run. */
struct passed {
	struct destination to;
	__u64 run;
};

/* What is narrower in a place than it was made. */
enum limit {
	UNIX_LISTED = 1, /* of a subtree: only listed Unix sockets may be connected to */
	NOTHING_PASSES = 2, /* of a run that is over: what would pass is led to the relay, which tells it so */
};

/* Whose processes are governed: the cgroup of a run, the root of a subtree that Writ did not make, or a program. */
struct place {
	__u64 run;
	__u64 window_ns; /* start of the second in which `events` are counted */
	__u32 events;
	__u32 dropped;
	__u32 governed;
	__u32 limits;
};

/* A Unix socket that a run, or everyone in a subtree, may connect to; the path is padded with zeros. */
struct unix_grant {
	__u64 run;
	__u32 governed;
	char path[UNIX_PATH_BYTES];
};

struct settings {
	__u16 relay_port;
	__u16 resolver_port;
	__u32 pad;
};

/* Where processes are governed that Writ did not launch. */
struct watch {
	__u64 cgroup; /* 0: nowhere */
	__u32 level; /* how deep it lies */
	__u32 containers; /* if not 0: new cgroups of containers are governed as this, until the daemon says otherwise */
	__u32 programs; /* whether programs are governed */
	__u32 pad;
};

#define CGROUP_PATH_BYTES 256
#define PROGRAM_NAME_BYTES 64

/* A cgroup to be governed once it is made: by its path from the root, or by a name below nothing but slices. */
struct awaited {
	char path[CGROUP_PATH_BYTES];
};

/* A program, by its folder and its name there: what is put in its place later is the same program. */
struct entry {
	__u64 folder; /* inode */
	__u32 device; /* as the kernel writes it */
	__u32 pad;
	char name[PROGRAM_NAME_BYTES];
};

/*
 * A flow on loopback, from SYN to accept. As much of the four as tells two live sockets apart: with less, one run's flow
 * would overwrite another's.
 */
struct flow {
	__u64 netns;
	struct address address; /* of the run's end, as it is on the wire */
	__u32 port;
	__u32 to; /* the daemon's port */
};

enum event_kind { REFUSED = 1, EXECUTED = 2, EXITED = 3, LEFT_CGROUP = 4, ENTERED = 5, MADE = 6, UNHEARD = 7 };

struct event {
	__u64 run;
	__u64 start_ns;
	struct address address;
	__u32 kind;
	__u32 tgid;
	__u32 parent; /* tgid of the parent, for EXECUTED */
	__u32 exec_generation;
	__u32 protocol; /* for REFUSED: IPPROTO_*, or 0x10000 + family for what is not inet */
	__u16 port;
	__u16 pad;
	__u64 program_start_ns; /* for EXECUTED: the program that led to this one */
	__u32 program_tgid;
	__u32 governed;
	char path[PATH_MAX_RECORDED]; /* program or unix socket */
};

/* Counters, by index in the per-CPU array. */
enum counter { TAKEN, PASSED, REFUSALS, FLOWS, FLOW_MISSES, EGRESS_DROPS, EVENTS_LOST, COUNTERS };

#endif
