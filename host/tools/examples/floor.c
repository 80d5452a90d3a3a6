/* What the sandbox of a tool costs at least: the same namespaces, mounts, cgroups, identity, Landlock and seccomp, in
 * straight lines. For each byte on stdin it runs /bin/true in one, and writes a byte. Arguments: the directory that is
 * the workspace, then the cgroups (of version 1, or one of version 2) in which it makes its own. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <grp.h>
#include <unistd.h>

#define UID 0x71000000
#define TRY(call) do { if ((call) < 0) { perror(#call); _exit(99); } } while (0)

int mount(const char *, const char *, const char *, unsigned long, const void *);
static int open_tree_(const char *path, int recursive)
{
	return syscall(SYS_open_tree, AT_FDCWD, path, 1 | O_CLOEXEC | (recursive ? AT_RECURSIVE : 0));
}
static int set(int tree, uint64_t attributes, int userns, int recursive)
{
	struct mount_attr it = { .attr_set = attributes, .userns_fd = userns };
	return syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &it, sizeof it);
}
static int put(int tree, const char *at) { return syscall(SYS_move_mount, tree, "", AT_FDCWD, at, 4); }
static int make(const char *kind, const char *size, const char *mode, uint64_t attributes)
{
	int context = syscall(SYS_fsopen, kind, 1);
	if (size) {
		syscall(SYS_fsconfig, context, 1, "size", size, 0);
		syscall(SYS_fsconfig, context, 1, "nr_inodes", "16384", 0);
		syscall(SYS_fsconfig, context, 1, "mode", mode, 0);
	}
	TRY(syscall(SYS_fsconfig, context, 6, 0, 0, 0));
	int tree = syscall(SYS_fsmount, context, 1, attributes);
	close(context);
	return tree;
}
static void text(const char *path, const char *what)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	if (file >= 0) {
		if (write(file, what, strlen(what)) < 0) {}
		close(file);
	}
}

/* A root that all share, in a namespace of its own. */
static int template(void)
{
	int ready[2], hold[2];
	char path[64], byte;
	TRY(pipe2(ready, O_CLOEXEC) | pipe2(hold, O_CLOEXEC));
	int pid = fork();
	if (!pid) {
		static const char *dirs[] = { "/usr", "/etc/alternatives", "/etc/ssl/certs" };
		static const char *links[] = { "/bin", "/sbin", "/lib", "/lib64" };
		static const char *files[] = { "/etc/ld.so.cache", "/etc/services", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom" };
		int trees[3], others[7];
		char to[4][256] = { 0 };
		close(ready[0]), close(hold[1]);
		TRY(unshare(CLONE_NEWNS));
		TRY(mount(0, "/", 0, 1 << 18 | 1 << 14, 0));
		for (int i = 0; i < 3; i++) trees[i] = open_tree_(dirs[i], 1);
		for (int i = 0; i < 7; i++) others[i] = open_tree_(files[i], 0);
		for (int i = 0; i < 4; i++) if (readlink(links[i], to[i], 255) < 0) {}
		TRY(put(make("tmpfs", "4194304", "755", 6), "/tmp"));
		TRY(chdir("/tmp"));
		TRY(syscall(SYS_pivot_root, ".", "."));
		TRY(syscall(SYS_umount2, ".", 2));
		TRY(chdir("/"));
		mkdir("/usr", 0755), mkdir("/etc", 0755), mkdir("/dev", 0755), mkdir("/tmp", 0755), mkdir("/proc", 0755);
		mkdir("/workspace", 0755), mkdir("/etc/ssl", 0755);
		for (int i = 0; i < 4; i++) if (to[i][0] && symlink(to[i], links[i]) < 0) {}
		for (int i = 0; i < 3; i++) if (trees[i] >= 0) {
			mkdir(dirs[i], 0755);
			set(trees[i], 7, 0, 1);
			TRY(put(trees[i], dirs[i]));
		}
		for (int i = 0; i < 7; i++) if (others[i] >= 0) {
			close(open(files[i], O_CREAT | O_WRONLY, 0644));
			set(others[i], i < 2 ? 7 : 10, 0, 0);
			TRY(put(others[i], files[i]));
		}
		if (write(ready[1], "", 1) < 0 || read(hold[0], &byte, 1) < 0) {}
		_exit(0);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1) exit(98);
	sprintf(path, "/proc/%d/ns/mnt", pid);
	int namespace = open(path, O_RDONLY | O_CLOEXEC);
	close(ready[0]), close(hold[0]), close(hold[1]);
	waitpid(pid, 0, 0);
	return namespace;
}

/* A user namespace that makes files of root those of the tool. */
static int mapping(void)
{
	char path[64], map[64];
	int hold[2];
	TRY(pipe2(hold, O_CLOEXEC));
	struct clone_args arguments = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
	int pid = syscall(SYS_clone3, &arguments, sizeof arguments);
	if (!pid) {
		char byte;
		close(hold[1]);
		if (read(hold[0], &byte, 1) < 0) {}
		_exit(0);
	}
	sprintf(map, "0 %d 1", UID);
	sprintf(path, "/proc/%d/uid_map", pid), text(path, map);
	sprintf(path, "/proc/%d/gid_map", pid), text(path, map);
	sprintf(path, "/proc/%d/ns/user", pid);
	int namespace = open(path, O_RDONLY | O_CLOEXEC);
	close(hold[0]), close(hold[1]);
	waitpid(pid, 0, 0);
	return namespace;
}

static void allow(int ruleset, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr it = { access, open(path, O_PATH | O_CLOEXEC) };
	TRY(syscall(SYS_landlock_add_rule, ruleset, 1, &it, 0));
	close(it.parent_fd);
}

static void tool(int stdio[3])
{
	static struct sock_filter filter[128];
	struct sock_fprog program = { 0, filter };
	for (int i = 0; i < 3; i++) dup2(stdio[i], i);
	if (nice(10) < 0) {}
	setsid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	TRY(chdir("/"));
	static const int kinds[] = { RLIMIT_CPU, RLIMIT_CORE, RLIMIT_NOFILE, RLIMIT_FSIZE, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE };
	static const rlim_t values[] = { 601, 0, 1024, 1 << 30, 65536, 0 };
	for (int i = 0; i < 6; i++) setrlimit(kinds[i], &(struct rlimit){ values[i], values[i] });
	struct landlock_ruleset_attr rights = { .handled_access_fs = (1 << 15) - 1 };
	int ruleset = syscall(SYS_landlock_create_ruleset, &rights, sizeof rights, 0);
	allow(ruleset, "/", 1 | 4 | 8);
	allow(ruleset, "/dev", 2 | 4), allow(ruleset, "/proc", 2 | 4);
	allow(ruleset, "/workspace", (1 << 15) - 1), allow(ruleset, "/tmp", (1 << 15) - 1);
	TRY(syscall(SYS_landlock_restrict_self, ruleset, 0));
	close(ruleset);
	filter[program.len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
	for (int i = 0; i < 100; i++)
		filter[program.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1000 + i, 101 - i, 0);
	filter[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	filter[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	for (int i = 0; i < 100; i++) filter[1 + i].jt = 100 - i;
	TRY(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
	execve("/bin/true", (char *[]){ "/bin/true", 0 }, (char *[]){ 0 });
	perror("execve /bin/true");
	_exit(97);
}

static void init(int namespace, int bind, int stdio[3], int *tasks, int groups, int report)
{
	sigset_t all;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < groups; i++) TRY(write(tasks[i], "0", 1));
	sigemptyset(&all), sigaddset(&all, SIGCHLD), sigaddset(&all, SIGTERM), sigprocmask(SIG_BLOCK, &all, 0);
	text("/proc/self/oom_score_adj", "1000");
	int proc = make("proc", 0, 0, 2 | 4 | 8);
	TRY(setns(namespace, CLONE_NEWNS));
	TRY(unshare(CLONE_NEWNS));
	TRY(put(make("tmpfs", "67108864", "1777", 2 | 4), "/tmp"));
	TRY(put(proc, "/proc"));
	TRY(put(bind, "/workspace"));
	TRY(sethostname("tool", 4));
	struct ifreq loopback = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	TRY(ioctl(control, SIOCSIFFLAGS, &loopback));
	close(control);
	for (int i = 0; i < 3; i++) TRY(fchown(stdio[i], UID, UID));
	for (int i = 0; prctl(PR_CAPBSET_DROP, i, 0, 0, 0) == 0; i++) {}
	TRY(setgroups(0, 0));
	TRY(setresgid(UID, UID, UID));
	TRY(setresuid(UID, UID, UID));
	TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	prctl(PR_SET_PDEATHSIG, SIGKILL), prctl(PR_SET_DUMPABLE, 0);
	int pid = fork(), status;
	if (!pid) tool(stdio);
	TRY(waitpid(pid, &status, 0));
	kill(-1, SIGKILL);
	while (wait(0) > 0) {}
	if (write(report, &status, sizeof status) < 0) {}
	_exit(0);
}

int main(int count, char **arguments)
{
	char path[8][512], byte;
	int groups = count - 2 < 8 ? count - 2 : 8, dying = 0;
	int namespace = template(), map = mapping();
	for (unsigned run = 0; read(0, &byte, 1) == 1; run++) {
		int tasks[8], stdio[6], report[2], status = -1;
		char file[600];
		for (int i = 0; i < groups; i++) {
			sprintf(path[i], "%s/floor-%d-%u", arguments[i + 2], getpid(), run);
			TRY(mkdir(path[i], 0755));
			sprintf(file, "%s/memory.limit_in_bytes", path[i]), text(file, "536870912");
			sprintf(file, "%s/memory.memsw.limit_in_bytes", path[i]), text(file, "536870912");
			sprintf(file, "%s/memory.swappiness", path[i]), text(file, "0");
			sprintf(file, "%s/memory.max", path[i]), text(file, "536870912");
			sprintf(file, "%s/pids.max", path[i]), text(file, "128");
			sprintf(file, "%s/cpu.shares", path[i]), text(file, "200");
			sprintf(file, "%s/tasks", path[i]);
			if ((tasks[i] = open(file, O_WRONLY | O_CLOEXEC)) < 0) {
				sprintf(file, "%s/cgroup.procs", path[i]);
				TRY(tasks[i] = open(file, O_WRONLY | O_CLOEXEC));
			}
		}
		TRY(pipe2(stdio, O_CLOEXEC) | pipe2(stdio + 2, O_CLOEXEC) | pipe2(stdio + 4, O_CLOEXEC));
		TRY(pipe2(report, O_CLOEXEC));
		int bind = open_tree_(arguments[1], 0);
		TRY(set(bind, 2 | 4, 0, 1));
		set(bind, 0x100000, map, 0);
		struct clone_args clone = { .exit_signal = SIGCHLD, .flags = CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNET };
		int pid = syscall(SYS_clone3, &clone, sizeof clone);
		TRY(pid);
		if (!pid) init(namespace, bind, (int[]){ stdio[0], stdio[3], stdio[5] }, tasks, groups, report[1]);
		close(bind), close(report[1]);
		for (int i = 0; i < groups; i++) close(tasks[i]);
		for (int i = 0; i < 6; i++) close(stdio[i]);
		if (read(report[0], &status, sizeof status) < 0 || status != 0) {
			fprintf(stderr, "floor: status %x\n", status);
			return 1;
		}
		close(report[0]);
		TRY(write(1, &byte, 1));
		/* What follows is not waited for, here as there. */
		dying = pid;
		waitpid(dying, 0, 0);
		for (int i = 0; i < groups; i++) while (rmdir(path[i]) < 0 && errno == EBUSY) usleep(1000);
	}
	return 0;
}
