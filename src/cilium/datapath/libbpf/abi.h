/* What we use of libbpf.so.1 (1.1 is enough) and of bpf(2), as cffi reads it: no preprocessor, no compiler.
 * tools/generate_libbpf.py turns this file into cilium/datapath/generated/libbpf.py. */

typedef uint8_t __u8;
typedef uint16_t __u16;
typedef uint32_t __u32;
typedef uint64_t __u64;

/* ---- libbpf ---- */

struct bpf_object;
struct bpf_map;
struct bpf_program;
struct btf;

struct bpf_object_open_opts {
	size_t sz;
	const char *object_name;
	bool relaxed_maps;
	const char *pin_root_path;
	__u32 reserved; /* libbpf: an unnamed 32-bit field */
	const char *kconfig;
	const char *btf_custom_path;
	char *kernel_log_buf;
	size_t kernel_log_size;
	__u32 kernel_log_level;
};

/* The third argument is a va_list. Where it is an array (x86-64) or a large struct (arm64) it is passed by address. */
typedef int (*libbpf_print_fn_t)(int level, const char *format, void *arguments);
libbpf_print_fn_t libbpf_set_print(libbpf_print_fn_t fn);
uint32_t libbpf_major_version(void);
uint32_t libbpf_minor_version(void);

struct bpf_object *bpf_object__open_file(const char *path, const struct bpf_object_open_opts *opts);
int bpf_object__load(struct bpf_object *obj);
void bpf_object__close(struct bpf_object *obj);
struct btf *bpf_object__btf(const struct bpf_object *obj);
struct bpf_map *bpf_object__next_map(const struct bpf_object *obj, const struct bpf_map *map);
struct bpf_program *bpf_object__next_program(const struct bpf_object *obj, struct bpf_program *prog);

const char *bpf_map__name(const struct bpf_map *map);
int bpf_map__fd(const struct bpf_map *map);
__u32 bpf_map__type(const struct bpf_map *map);
__u32 bpf_map__key_size(const struct bpf_map *map);
__u32 bpf_map__value_size(const struct bpf_map *map);
__u32 bpf_map__max_entries(const struct bpf_map *map);
__u32 bpf_map__map_flags(const struct bpf_map *map);
bool bpf_map__is_internal(const struct bpf_map *map);
const char *bpf_map__pin_path(const struct bpf_map *map);
int bpf_map__set_pin_path(struct bpf_map *map, const char *path);
int bpf_map__set_max_entries(struct bpf_map *map, __u32 max_entries);
void *bpf_map__initial_value(struct bpf_map *map, size_t *psize);
int bpf_map__reuse_fd(struct bpf_map *map, int fd);

const char *bpf_program__name(const struct bpf_program *prog);
const char *bpf_program__section_name(const struct bpf_program *prog);
int bpf_program__fd(const struct bpf_program *prog);
int bpf_program__set_autoload(struct bpf_program *prog, bool autoload);
int bpf_program__set_log_buf(struct bpf_program *prog, char *log_buf, size_t log_size);

struct btf *btf__parse(const char *path, void *btf_ext);
const void *btf__raw_data(const struct btf *btf, __u32 *size);
void btf__free(struct btf *btf);

struct bpf_tc_hook {
	size_t sz;
	int ifindex;
	int attach_point; /* BPF_TC_INGRESS 1, BPF_TC_EGRESS 2 */
	__u32 parent;
};

struct bpf_tc_opts {
	size_t sz;
	int prog_fd;
	__u32 flags;
	__u32 prog_id;
	__u32 handle;
	__u32 priority;
};

int bpf_tc_hook_create(struct bpf_tc_hook *hook);
int bpf_tc_attach(const struct bpf_tc_hook *hook, struct bpf_tc_opts *opts);
int bpf_tc_detach(const struct bpf_tc_hook *hook, const struct bpf_tc_opts *opts);
int bpf_tc_query(const struct bpf_tc_hook *hook, struct bpf_tc_opts *opts);

/* ---- libc ---- */

long syscall(long number, ...);
int setns(int fd, int nstype);
int unshare(int flags);
int statfs(const char *path, long *buffer); /* 64-bit: f_type is its first word */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int vsnprintf(char *buffer, size_t size, const char *format, void *arguments);

/* ---- bpf(2): the members of union bpf_attr, one struct per command ---- */

struct attr_map_create {
	__u32 map_type, key_size, value_size, max_entries, map_flags, inner_map_fd, numa_node;
	char map_name[16];
};

struct attr_map_number {
	__u32 id, next_id, open_flags;
};

struct attr_map_element {
	__u32 map_fd;
	__u64 key;
	__u64 value; /* or the next key */
	__u64 flags;
};

struct attr_batch {
	__u64 in_batch, out_batch, keys, values;
	__u32 count;
	__u32 map_fd;
	__u64 elem_flags, flags;
};

struct attr_object {
	__u64 pathname;
	__u32 bpf_fd, file_flags;
};

struct attr_test_run {
	__u32 prog_fd, retval, data_size_in, data_size_out;
	__u64 data_in, data_out;
	__u32 repeat, duration, ctx_size_in, ctx_size_out;
	__u64 ctx_in, ctx_out;
	__u32 flags, cpu, batch_size;
};

struct attr_query {
	__u32 target, attach_type, query_flags, attach_flags;
	__u64 prog_ids;
	__u32 count, pad;
	__u64 prog_attach_flags, link_ids, link_attach_flags, revision;
};

struct attr_info {
	__u32 bpf_fd, info_len;
	__u64 info;
};

struct attr_link_create {
	__u32 prog_fd, target, attach_type, flags;
	__u32 relative;
	__u64 expected_revision;
};

struct attr_link_update {
	__u32 link_fd, new_prog_fd, flags, old_prog_fd;
};

struct attr_link_detach {
	__u32 link_fd;
};

struct link_info {
	__u32 type, id, prog_id;
	__u64 words[8]; /* the union, 8-byte aligned */
};

struct map_info {
	__u32 type, id, key_size, value_size, max_entries, map_flags;
	char name[16];
	__u32 ifindex, btf_vmlinux_value_type_id;
	__u64 netns_dev, netns_ino;
	__u32 btf_id, btf_key_type_id, btf_value_type_id, btf_vmlinux_id;
	__u64 map_extra;
};

struct btf_info {
	__u64 btf;
	__u32 btf_size, id;
	__u64 name;
	__u32 name_len, kernel_btf;
};

struct prog_info {
	__u32 type, id;
	__u8 tag[8];
	__u32 jited_prog_len, xlated_prog_len;
	__u64 jited_prog_insns, xlated_prog_insns, load_time;
	__u32 created_by_uid, nr_map_ids;
	__u64 map_ids;
	char name[16];
};
