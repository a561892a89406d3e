/* The floor: what the kernel alone charges for the box that `cuddy run --network none IMAGE true` makes.
 *
 *     floor ROOTFS PROGRAM        makes one box, executes PROGRAM in it, reaps it
 *
 * One static program without libraries, configuration or records: all namespaces, an id map, the root
 * filesystem, /proc, /dev with its devices, a terminal system, shared memory and message queues, /tmp,
 * pivot_root, masked and read-only paths, no_new_privs and a filter of 302 instructions.
 * It is a yardstick and no sandbox: nothing it mounts is checked, and no cgroup is made.
 * Root gets the same box without a user namespace.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define REFUSED_NAMES 150

static void check(int failed, const char *what) {
    if (!failed) return;
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    _exit(125);
}

static void write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    check(fd < 0 || write(fd, text, strlen(text)) < 0, path);
    close(fd);
}

static void map_one_id(const char *path, unsigned outside) {
    char line[32];
    snprintf(line, sizeof line, "0 %u 1\n", outside);
    write_text(path, line);
}

static void mount_devices(void) {
    static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
    const unsigned long closed = MS_NOSUID | MS_NOEXEC;
    check(mount("tmpfs", "dev", "tmpfs", closed, "mode=755,size=64k"), "/dev");
    for (unsigned i = 0; i < sizeof devices / sizeof *devices; i++) {
        char outside[32], inside[32];
        snprintf(outside, sizeof outside, "/dev/%s", devices[i]);
        snprintf(inside, sizeof inside, "dev/%s", devices[i]);
        int fd = open(inside, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
        check(fd < 0, inside);
        close(fd);
        check(mount(outside, inside, NULL, MS_BIND, NULL), inside);
    }
    check(symlink("/proc/self/fd", "dev/fd"), "/dev/fd");
    check(mkdir("dev/pts", 0755) || mkdir("dev/shm", 0755) || mkdir("dev/mqueue", 0755), "/dev's folders");
    check(mount("devpts", "dev/pts", "devpts", closed, "newinstance,ptmxmode=0666,mode=0620"), "/dev/pts");
    check(mount("shm", "dev/shm", "tmpfs", closed | MS_NODEV, "mode=1777,size=64m"), "/dev/shm");
    check(mount("mqueue", "dev/mqueue", "mqueue", closed | MS_NODEV, NULL), "/dev/mqueue");
}

/* What this kernel does not have needs no cover. */
static void cover(const char *source, const char *path, const char *type, unsigned long flags) {
    check(mount(source, path, type, flags, NULL) && errno != ENOENT, path);
}

static void protect_proc(void) {
    static const char *const hidden[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"};
    static const char *const fixed[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    for (unsigned i = 0; i < sizeof hidden / sizeof *hidden; i++) cover("/dev/null", hidden[i], NULL, MS_BIND);
    cover("tmpfs", "/proc/scsi", "tmpfs", MS_RDONLY);
    for (unsigned i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        cover(fixed[i], fixed[i], NULL, MS_BIND | MS_REC);
        cover(NULL, fixed[i], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
    }
}

/* As long as a default profile, and as cheap to pass: it refuses call numbers that do not exist. */
static void install_filter(void) {
    static struct sock_filter code[2 + 2 * REFUSED_NAMES];
    unsigned short n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    for (int i = 0; i < REFUSED_NAMES; i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 5000 + i, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {n, code};
    check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "filter");
}

static void enter_box(const char *rootfs, char *program, unsigned uid, unsigned gid) {
    if (uid != 0) {
        write_text("/proc/self/setgroups", "deny");
        map_one_id("/proc/self/uid_map", uid);
        map_one_id("/proc/self/gid_map", gid);
    }
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private mounts");
    check(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL), rootfs);
    check(chdir(rootfs), rootfs);
    check(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "/proc");
    mount_devices();
    check(mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"), "/tmp");
    check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH) || chdir("/"), "leave the old root");
    protect_proc();
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    install_filter();
    char *const arguments[] = {program, NULL}, *const environment[] = {"PATH=/bin", NULL};
    execve(program, arguments, environment);
    check(1, program);
}

int main(int count, char **words) {
    if (count != 3) {
        fprintf(stderr, "usage: floor ROOTFS PROGRAM\n");
        return 2;
    }
    unsigned uid = geteuid(), gid = getegid();
    struct clone_args box = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP
                 | (uid != 0 ? CLONE_NEWUSER : 0),
        .exit_signal = SIGCHLD,
    };
    pid_t child = (pid_t)syscall(SYS_clone3, &box, sizeof box);
    check(child < 0, "clone3");
    if (child == 0) enter_box(words[1], words[2], uid, gid);
    int status;
    while (waitpid(child, &status, 0) < 0) check(errno != EINTR, "wait");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
