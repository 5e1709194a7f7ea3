/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Who acts, where, and how that is told. */
#ifndef WRIT_WHO_H
#define WRIT_WHO_H

#define ALLOW 1
#define DENY 0
/* Of an actor. */
#define NOT_OURS 2
/* Of a packet: lost without an error, so that it is sent again. */
#define LOSE 2
#define SECOND_NS 1000000000ULL
#define EVENTS_PER_SECOND 64
/* Levels of cgroups that are looked through; a subtree whose root lies deeper cannot be governed (govern.rs). */
#define DEPTH_MAX 32

/* Before about 6.16 programs of cgroup hooks cannot read task storage; the daemon probes and says so here. */
const volatile __u32 use_task_storage = 1;

/*
 * Which of the two loads this is. One is attached to the cgroup of all runs, where whoever cannot be named is refused. The
 * other one is attached where processes may be that Writ did not launch, among others that are nobody's business.
 */
const volatile __u32 is_watch = 0;

/* ---- labels ---- */

/* A thread is asked through its leader. The branch that is not taken is pruned, so the object loads on old kernels. */
static __always_inline struct label *kept_label(struct task_struct *task)
{
	if (use_task_storage)
		return bpf_task_storage_get(&task_label, task->group_leader, 0, 0);
	__u32 tgid = task->tgid;
	return bpf_map_lookup_elem(&tgid_label, &tgid);
}

static __always_inline struct program *kept_program(struct task_struct *task)
{
	if (use_task_storage)
		return bpf_task_storage_get(&task_program, task->group_leader, 0, 0);
	__u32 tgid = task->tgid;
	return bpf_map_lookup_elem(&tgid_program, &tgid);
}

static __always_inline __u32 *kept_mark(struct task_struct *task)
{
	if (use_task_storage)
		return bpf_task_storage_get(&task_mark, task->group_leader, 0, 0);
	__u32 tgid = task->tgid;
	return bpf_map_lookup_elem(&tgid_mark, &tgid);
}

/* A process as it is kept: zeros for what is not. The label only if it was made for what runs. */
struct kept {
	struct label label;
	struct program program;
	__u32 mark; /* the program by which it is governed */
	__u32 pad;
};

static __always_inline void read_kept(struct task_struct *task, struct kept *kept)
{
	struct program *program = kept_program(task);
	if (program)
		kept->program = *program;
	__u32 *mark = kept_mark(task);
	if (mark)
		kept->mark = *mark;
	struct label *label = kept_label(task);
	if (!label)
		return;
	if (label->generation == kept->program.generation)
		kept->label = *label;
}

/* ---- places ---- */

/* The governed subtree in which the current task is. */
static __always_inline struct place *subtree_of_current(__u64 *id)
{
	for (int level = 1; level < DEPTH_MAX; level++) {
		*id = bpf_get_current_ancestor_cgroup_id(level);
		if (!*id)
			return 0;
		struct place *place = bpf_map_lookup_elem(&places, id);
		if (place) {
			if (place->governed)
				return place;
		}
	}
	return 0;
}

/* What is governed by this program, wherever it is. */
static __always_inline struct place *place_of_program(__u32 mark, __u64 *id)
{
	if (!mark)
		return 0;
	*id = PROGRAM_PLACE | mark;
	return bpf_map_lookup_elem(&places, id);
}

/* The place of a cgroup: its own, or the governed subtree above it. */
static __always_inline struct place *place_of(struct cgroup *cgroup)
{
	for (int level = 0; level < DEPTH_MAX; level++) {
		__u64 id = BPF_CORE_READ(cgroup, kn, id);
		struct place *place = bpf_map_lookup_elem(&places, &id);
		if (place) {
			if (!level || place->governed)
				return place;
		}
		struct cgroup_subsys_state *parent = BPF_CORE_READ(cgroup, self.parent);
		if (!parent)
			return 0;
		cgroup = BPF_CORE_READ(parent, cgroup);
	}
	return 0;
}

/* Whether a label holds in this place. */
static __always_inline int holds(const struct label *label, const struct place *place)
{
	if (place->governed)
		return place->governed == label->governed;
	return place->run == label->run;
}

/* Who acts. `run` is 0 for a process of a governed subtree that was given none. */
struct actor {
	struct place *place;
	__u64 home; /* cgroup id of the place */
	__u64 run;
	struct program program;
};

/*
 * Where the current task is, and for which run it acts. In the cgroup of a run, cgroup and label must agree: DENY if they
 * do not. Elsewhere a label suffices if it was given under what governs the task; without one the task acts for nobody
 * yet. NOT_OURS: nothing governs it here.
 */
static __always_inline int acting(struct actor *actor)
{
	struct kept kept = {};
	read_kept(bpf_get_current_task_btf(), &kept);
	actor->program = kept.program;
	actor->home = bpf_get_current_cgroup_id();
	actor->place = bpf_map_lookup_elem(&places, &actor->home);
	if (!is_watch) {
		if (!actor->place)
			return DENY;
		if (actor->place->governed || !holds(&kept.label, actor->place))
			return DENY;
		actor->run = kept.label.run;
		return ALLOW;
	}
	if (actor->place) {
		if (!actor->place->governed)
			return NOT_OURS;
	} else {
		actor->place = subtree_of_current(&actor->home);
		if (!actor->place)
			actor->place = place_of_program(kept.mark, &actor->home);
		if (!actor->place)
			return NOT_OURS;
	}
	if (holds(&kept.label, actor->place))
		actor->run = kept.label.run;
	return ALLOW;
}

/* ---- events ---- */

/* At most so many events a second and place; what is over is counted. */
static __always_inline int may_report(struct place *place)
{
	__u64 now = bpf_ktime_get_ns();
	if (now - place->window_ns > SECOND_NS) {
		place->window_ns = now;
		place->events = 0;
	}
	if (place->events >= EVENTS_PER_SECOND) {
		__sync_fetch_and_add(&place->dropped, 1);
		return 0;
	}
	place->events++;
	return 1;
}

static __always_inline __u64 leader_start(struct task_struct *task)
{
	return BPF_CORE_READ(task, group_leader, start_boottime);
}

static __always_inline struct event *new_event(__u32 kind, __u64 run, __u32 governed)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(EVENTS_LOST);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->kind = kind;
	event->run = run;
	event->governed = governed;
	return event;
}

static __always_inline void set_process(struct event *event, struct task_struct *task)
{
	event->tgid = task->tgid;
	event->start_ns = leader_start(task);
}

/* The event of a refusal, if it may be told. */
static __always_inline struct event *new_refusal(const struct actor *actor)
{
	count(REFUSALS);
	if (!actor->place)
		return 0;
	/* In the cgroup of a run, but not to be named. */
	if (!actor->run && !actor->place->governed)
		return 0;
	if (!may_report(actor->place))
		return 0;
	struct event *event = new_event(REFUSED, actor->run, actor->place->governed);
	if (!event)
		return 0;
	set_process(event, bpf_get_current_task_btf());
	event->exec_generation = actor->program.generation;
	return event;
}

#endif
