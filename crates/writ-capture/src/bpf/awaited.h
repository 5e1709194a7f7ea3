/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Cgroups that are governed from the moment they are made, and forgotten when they are removed. */
#ifndef WRIT_AWAITED_H
#define WRIT_AWAITED_H

#define CONTAINER_ID_BYTES 64
#define NAME_MASK (CGROUP_PATH_BYTES - 1)

/* Too large for the stack. */
struct scratch {
	struct awaited key;
	char name[CGROUP_PATH_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* Whether a name of this length ends so. */
static __always_inline int ends_with(const char *name, __u32 length, const char *end, __u32 of)
{
	if (length < of)
		return 0;
	for (__u32 at = 0; at < of; at++) {
		if (name[(length - of + at) & NAME_MASK] != end[at])
			return 0;
	}
	return 1;
}

/* The length of a cgroup's name, which is copied. */
static __always_inline __u32 read_name(struct cgroup *cgroup, char *name)
{
	long read = bpf_probe_read_kernel_str(name, CGROUP_PATH_BYTES, BPF_CORE_READ(cgroup, kn, name));
	return read > 0 ? read - 1 : 0;
}

/* What lies above a cgroup. */
struct above {
	int watched; /* the cgroup that is watched */
	int governed; /* a subtree that is governed already */
	int slices; /* slices and nothing else */
};

static __always_inline void look_above(struct cgroup *cgroup, const struct watch *watch, struct above *above,
				       struct scratch *scratch)
{
	above->slices = 1;
	for (int level = 0; level < DEPTH_MAX; level++) {
		struct cgroup_subsys_state *parent = BPF_CORE_READ(cgroup, self.parent);
		if (!parent)
			return;
		cgroup = BPF_CORE_READ(parent, cgroup);
		__u64 id = BPF_CORE_READ(cgroup, kn, id);
		if (id == watch->cgroup)
			above->watched = 1;
		struct place *place = bpf_map_lookup_elem(&places, &id);
		if (place)
			above->governed = 1;
		/* The root has no parent and no name. */
		if (!BPF_CORE_READ(cgroup, self.parent))
			return;
		__u32 length = read_name(cgroup, scratch->name);
		if (!ends_with(scratch->name, length, ".slice", 6))
			above->slices = 0;
	}
}

/* Runtimes name a container's cgroup by its id: 64 hex digits at the end, or before `.scope`. */
static __always_inline int is_container(const char *name, __u32 length)
{
	if (ends_with(name, length, ".scope", 6))
		length -= 6;
	if (length < CONTAINER_ID_BYTES)
		return 0;
	for (__u32 at = 0; at < CONTAINER_ID_BYTES; at++) {
		char digit = name[(length - CONTAINER_ID_BYTES + at) & NAME_MASK];
		if (!((digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f')))
			return 0;
	}
	return 1;
}

/* As what a new cgroup is governed: 0 for almost all. */
static __always_inline __u32 wanted(struct cgroup *made, const char *path, const struct watch *watch,
				    struct scratch *scratch)
{
	struct above above = {};
	look_above(made, watch, &above, scratch);
	if (!above.watched || above.governed)
		return 0;
	__builtin_memset(&scratch->key, 0, sizeof(scratch->key));
	bpf_probe_read_kernel_str(scratch->key.path, sizeof(scratch->key.path), path);
	__u32 *found = bpf_map_lookup_elem(&awaited, &scratch->key);
	if (found)
		return *found;
	__u32 length = read_name(made, scratch->name);
	if (above.slices) {
		__builtin_memset(&scratch->key, 0, sizeof(scratch->key));
		read_name(made, scratch->key.path);
		found = bpf_map_lookup_elem(&awaited, &scratch->key);
		if (found)
			return *found;
	}
	return is_container(scratch->name, length) ? watch->containers : 0;
}

/* Before anybody can enter the cgroup. */
SEC("tp_btf/cgroup_mkdir") int BPF_PROG(writ_made, struct cgroup *made, const char *path)
{
	__u32 zero = 0;
	struct watch *watch = the_watch();
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &zero);
	/* Those of version 1 have roots of their own. */
	if (!watch || !scratch || BPF_CORE_READ(made, root, hierarchy_id))
		return 0;
	struct place place = {};
	place.governed = wanted(made, path, watch, scratch);
	if (!place.governed)
		return 0;
	__u64 id = BPF_CORE_READ(made, kn, id);
	bpf_map_update_elem(&places, &id, &place, BPF_NOEXIST);
	struct event *event = new_event(MADE, 0, place.governed);
	if (event)
		bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("tp_btf/cgroup_rmdir") int BPF_PROG(writ_removed, struct cgroup *removed, const char *path)
{
	__u64 id = BPF_CORE_READ(removed, kn, id);
	struct place *place = bpf_map_lookup_elem(&places, &id);
	if (!place || BPF_CORE_READ(removed, root, hierarchy_id))
		return 0;
	__u32 governed = place->governed;
	if (!governed)
		return 0;
	bpf_map_delete_elem(&places, &id);
	struct event *event = new_event(MADE, 0, governed);
	if (event)
		bpf_ringbuf_submit(event, 0);
	return 0;
}

#endif
