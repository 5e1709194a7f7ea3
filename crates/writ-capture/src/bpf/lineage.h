/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* How labels follow processes: forks, programs that they execute, exits, and moves between cgroups. */
#ifndef WRIT_LINEAGE_H
#define WRIT_LINEAGE_H

#define CLONE_THREAD 0x00010000ULL
#define CLONE_INTO_CGROUP 0x200000000ULL

/* A labelled task that is no longer where its label holds: the hooks do not see it, so the daemon must end it. */
static __always_inline void check_place(struct task_struct *task, struct cgroup *now, const struct kept *kept)
{
	struct place *place = place_of(now);
	__u32 kind = 0, governed = kept->label.governed;
	if (kept->label.run && !(governed & OF_PROGRAM)) {
		if (!place)
			kind = LEFT_CGROUP;
		else if (!holds(&kept->label, place))
			kind = LEFT_CGROUP;
	} else if (place) {
		/* It brings sockets that were made elsewhere. */
		governed = place->governed;
		if (governed)
			kind = ENTERED;
	}
	if (!kind)
		return;
	struct event *event = new_event(kind, kept->label.run, governed);
	if (!event)
		return;
	set_process(event, task);
	event->exec_generation = kept->program.generation;
	bpf_ringbuf_submit(event, 0);
}

/* At the end of copy_process(): threads, forks and the kernel's io_uring workers alike. */
SEC("tp_btf/task_newtask") int BPF_PROG(writ_newtask, struct task_struct *child, __u64 flags)
{
	struct kept kept = {};
	read_kept(bpf_get_current_task_btf(), &kept);
	/* Born elsewhere: no move will be seen. */
	if (flags & CLONE_INTO_CGROUP)
		check_place(child, child->cgroups->dfl_cgrp, &kept);
	if (!kept.label.run && !kept.program.tgid && !kept.mark)
		return 0;
	int labelled = kept.label.run != 0;
	/*
	 * A thread is asked through its leader. It keeps a copy of its own because it becomes the leader if it executes a
	 * program. Not of what was assigned: a copy would outlive that.
	 */
	if ((flags & CLONE_THREAD) && kept.label.governed)
		labelled = 0;
	if (labelled)
		bpf_task_storage_get(&task_label, child, &kept.label, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (kept.program.tgid)
		bpf_task_storage_get(&task_program, child, &kept.program, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (kept.mark)
		bpf_task_storage_get(&task_mark, child, &kept.mark, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (flags & CLONE_THREAD)
		return 0;
	if (!use_task_storage) {
		__u32 tgid = child->tgid;
		if (labelled)
			bpf_map_update_elem(&tgid_label, &tgid, &kept.label, BPF_ANY);
		if (kept.program.tgid)
			bpf_map_update_elem(&tgid_program, &tgid, &kept.program, BPF_ANY);
		if (kept.mark)
			bpf_map_update_elem(&tgid_mark, &tgid, &kept.mark, BPF_ANY);
	}
	return 0;
}

static __always_inline int is_watched(const struct watch *watch)
{
	return bpf_get_current_ancestor_cgroup_id(watch->level) == watch->cgroup;
}

/* The mark of a task that executes this: what it has, or the program's own if that is governed. */
static __always_inline __u32 mark_of(struct task_struct *task, struct linux_binprm *bprm, int launched)
{
	__u32 *kept = bpf_task_storage_get(&task_mark, task, 0, 0);
	__u64 home;
	if (kept) {
		if (place_of_program(*kept, &home))
			return *kept;
	}
	struct watch *watch = the_watch();
	if (launched || !watch)
		return 0;
	if (!watch->programs || !is_watched(watch))
		return 0;
	struct dentry *dentry = BPF_CORE_READ(bprm, file, f_path.dentry);
	struct entry entry = {};
	entry.folder = BPF_CORE_READ(dentry, d_parent, d_inode, i_ino);
	entry.device = BPF_CORE_READ(dentry, d_sb, s_dev);
	bpf_probe_read_kernel_str(entry.name, sizeof(entry.name), BPF_CORE_READ(dentry, d_name.name));
	__u32 *found = bpf_map_lookup_elem(&programs, &entry);
	if (!found)
		return 0;
	__u32 mark = *found;
	__u32 tgid = task->tgid;
	bpf_task_storage_get(&task_mark, task, &mark, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!use_task_storage)
		bpf_map_update_elem(&tgid_mark, &tgid, &mark, BPF_ANY);
	return mark;
}

/* The task is the leader by now, whoever it was before; a thread that became it has no assignment. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(writ_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct label *label = bpf_task_storage_get(&task_label, task, 0, 0);
	struct program *program = bpf_task_storage_get(&task_program, task, 0, 0);
	__u32 tgid = task->tgid;
	__u64 run = 0, home = 0;
	__u32 governed = 0;
	if (label) {
		__u32 generation = 0;
		if (program)
			generation = program->generation;
		if (label->generation == generation) {
			run = label->run;
			governed = label->governed;
		}
	}
	__u32 mark = mark_of(task, bprm, run && !governed);
	if (!run) {
		/* Of those without a label only who is governed is watched. */
		struct place *place = subtree_of_current(&home);
		if (!place)
			place = place_of_program(mark, &home);
		if (!use_task_storage)
			bpf_map_delete_elem(&tgid_label, &tgid);
		if (!place)
			return 0;
		governed = place->governed;
	}
	if (!program)
		program = bpf_task_storage_get(&task_program, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!program) {
		/* It could not be counted, so nobody may believe a label that it has. */
		bpf_task_storage_delete(&task_label, task);
		bpf_map_delete_elem(&tgid_label, &tgid);
		count(EVENTS_LOST);
		return 0;
	}
	struct program before = *program;
	program->generation++;
	program->start_ns = leader_start(task);
	program->tgid = tgid;
	if (label && run)
		label->generation = program->generation;
	if (!use_task_storage) {
		struct program copy = *program;
		bpf_map_update_elem(&tgid_program, &tgid, &copy, BPF_ANY);
		if (label && run) {
			struct label kept = *label;
			bpf_map_update_elem(&tgid_label, &tgid, &kept, BPF_ANY);
		}
	}
	struct event *event = new_event(EXECUTED, run, governed);
	if (!event)
		return 0;
	set_process(event, task);
	event->parent = BPF_CORE_READ(task, real_parent, tgid);
	event->exec_generation = before.generation + 1;
	event->program_start_ns = before.start_ns;
	event->program_tgid = before.tgid;
	bpf_probe_read_kernel_str(event->path, sizeof(event->path), bprm->filename);
	/* Whoever is held is to be looked at before it asks for anything. */
	bpf_ringbuf_submit(event, run ? BPF_RB_NO_WAKEUP : 0);
	return 0;
}

SEC("tp_btf/sched_process_exit") int BPF_PROG(writ_exit, struct task_struct *task)
{
	if (task->pid != task->tgid)
		return 0;
	__u32 tgid = task->tgid;
	if (bpf_task_storage_get(&task_program, task, 0, 0))
		bpf_map_delete_elem(&tgid_program, &tgid);
	if (!use_task_storage)
		bpf_map_delete_elem(&tgid_mark, &tgid);
	struct label *label = bpf_task_storage_get(&task_label, task, 0, 0);
	if (!label)
		return 0;
	bpf_map_delete_elem(&tgid_label, &tgid);
	struct event *event = new_event(EXITED, label->run, label->governed);
	if (!event)
		return 0;
	set_process(event, task);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(writ_moved, struct cgroup *to, const char *path, struct task_struct *task, bool threadgroup)
{
	struct kept kept = {};
	read_kept(task, &kept);
	check_place(task, to, &kept);
	return 0;
}

#endif
