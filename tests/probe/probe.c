/*
 * What a sandbox looks like from inside: the tests' oracle for isolation.
 *
 * A static program that needs nothing but itself; runs in an empty root filesystem, with or without /proc.
 *
 *     cc -O1 -static -o probe tests/probe/probe.c
 *
 * Views, one JSON object a line:
 *   surface inside [NAME...]  what the kernel answers to each attempt: {"probe":NAME,"result":R}; R is OK, an
 *                             errno's name, the name of the signal that killed the attempt (SIGSYS for a filter
 *                             that kills), or NONE where this processor has no such entry
 *   files inside              files and folders that must be masked, read-only or absent; devices
 *   identity                  ids, capabilities, securebits, session, limits, environment, descriptors
 *   processes                 every process of /proc, and the namespaces in which it differs from us
 *   mounts                    /proc/self/mountinfo, parsed
 *   net [tcp:PORT] [abstract:NAME] [unix:PATH]...   interfaces, counts of sockets, and who can be reached
 *   signals                   blocked, ignored and caught, as bit masks
 *   all inside [NET...]       all of these
 *
 * `surface` and `files` try what would harm a host (mount, swapon, settimeofday, reboot ...): they refuse unless
 * the word `inside` is given and we are in a user namespace that is not the first one. Each attempt runs in a
 * child of its own, is bounded in time, and is harmless where it succeeds. An attempt called X_reach has
 * arguments that the kernel finds wrong before it looks at rights: EPERM there is a filter's answer, not the
 * kernel's.
 *
 * Tools for tests whose image holds nothing else:
 *   true | exit N | kill SIGNAL | sleep SECONDS | cat | argv WORD... | read PATH | write PATH TEXT | ls PATH
 *   tty | winch | trap SIGNAL N | daemon SECONDS | orphans N | forkbomb N | eat BYTES | hunt SECONDS
 *
 * Not here: any judgement. tests/golden/surface-*.txt say what is wanted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <linux/securebits.h>
#include <limits.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define ATTEMPT_SECONDS 5
#define TEXT_BYTES_MAX 65536
#define DESCRIPTORS_MAX 4096

/* Calls newer than the headers this may be compiled with; the numbers are the same on every architecture. */
enum {
    CALL_PIDFD_SEND_SIGNAL = 424, CALL_IO_URING_SETUP = 425, CALL_IO_URING_ENTER = 426, CALL_IO_URING_REGISTER = 427,
    CALL_OPEN_TREE = 428, CALL_MOVE_MOUNT = 429, CALL_FSOPEN = 430, CALL_FSCONFIG = 431, CALL_FSMOUNT = 432,
    CALL_FSPICK = 433, CALL_PIDFD_OPEN = 434, CALL_CLONE3 = 435, CALL_CLOSE_RANGE = 436, CALL_OPENAT2 = 437,
    CALL_PIDFD_GETFD = 438, CALL_FACCESSAT2 = 439, CALL_PROCESS_MADVISE = 440, CALL_EPOLL_PWAIT2 = 441,
    CALL_MOUNT_SETATTR = 442, CALL_QUOTACTL_FD = 443, CALL_LANDLOCK_CREATE_RULESET = 444, CALL_MEMFD_SECRET = 447,
    CALL_PROCESS_MRELEASE = 448, CALL_SET_MEMPOLICY_HOME_NODE = 450, CALL_STATMOUNT = 457, CALL_LISTMOUNT = 458,
    CALL_LSM_LIST_MODULES = 461, CALL_OPEN_TREE_ATTR = 467,
};

/* ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void put_text(const char *text) {
    putchar('"');
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at == '"' || *at == '\\')
            printf("\\%c", *at);
        else if (*at < 0x20 || *at >= 0x7f)
            printf("\\u%04x", *at); /* bytes stand as Latin-1: never wrong JSON, whatever the bytes are */
        else
            putchar(*at);
    }
    putchar('"');
}

static void begin(const char *probe) {
    printf("{\"probe\":");
    put_text(probe);
}

static void field(const char *name, const char *value) {
    printf(",\"%s\":", name);
    put_text(value);
}

static void number(const char *name, long long value) { printf(",\"%s\":%lld", name, value); }

static void truth(const char *name, int value) { printf(",\"%s\":%s", name, value ? "true" : "false"); }

static void hex(const char *name, uint64_t value) { printf(",\"%s\":\"%016llx\"", name, (unsigned long long)value); }

static void end(void) {
    printf("}\n");
    fflush(stdout);
}

static const char *error_name(int error) {
    static char spare[32];
    const char *name = error == 0 ? "OK" : strerrorname_np(error);
    if (name)
        return name;
    snprintf(spare, sizeof spare, "E%d", error);
    return spare;
}

static const char *signal_name(int number) {
    static char name[32];
    const char *short_name = sigabbrev_np(number);
    if (short_name)
        snprintf(name, sizeof name, "SIG%s", short_name);
    else
        snprintf(name, sizeof name, "SIG%d", number);
    return name;
}

static int signal_number(const char *name) {
    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    for (int number = 1; number < NSIG; number++)
        if (sigabbrev_np(number) && strcmp(sigabbrev_np(number), name) == 0)
            return number;
    return atoi(name);
}

/* The text of a small file; empty where it cannot be read. */
static char *file_text(const char *path) {
    static char text[TEXT_BYTES_MAX];
    size_t have = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    while (file >= 0 && have < sizeof text - 1) {
        ssize_t got = read(file, text + have, sizeof text - 1 - have);
        if (got <= 0)
            break;
        have += got;
    }
    if (file >= 0)
        close(file);
    text[have] = 0;
    return text;
}

/* ── attempts ─────────────────────────────────────────────────────────────────────────────────────────────── */

struct outcome {
    int error;
    long value;
};

static struct outcome last;  /* of the attempt that has just ended */
static int last_signal;      /* 0 where it ended by itself */
static int report_to = -1;   /* in the child: where its outcome goes */
static char scratch[64];     /* a writable folder, or empty */

/* In a child of its own: true there. The parent waits, then goes on with `last` set. */
static int attempting(void) {
    int ends[2];
    fflush(stdout);
    if (pipe2(ends, O_CLOEXEC) != 0)
        exit(3);
    pid_t child = fork();
    if (child < 0)
        exit(3);
    if (child == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGALRM, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ends[0]);
        report_to = ends[1];
        alarm(ATTEMPT_SECONDS);
        errno = 0;
        return 1;
    }
    close(ends[1]);
    int status = 0;
    last = (struct outcome){ENOMSG, -1};
    ssize_t got = read(ends[0], &last, sizeof last);
    close(ends[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    last_signal = got != sizeof last && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    return 0;
}

static void outcome_is(long value) {
    struct outcome outcome = {value < 0 ? errno : 0, value};
    if (write(report_to, &outcome, sizeof outcome) != sizeof outcome)
        _exit(4);
    _exit(0);
}

static const char *last_result(void) { return last_signal ? signal_name(last_signal) : error_name(last.error); }

static char **only; /* names asked for; all where it is empty */

static int wanted(const char *name) {
    if (!only || !*only)
        return 1;
    for (char **one = only; *one; one++)
        if (strcmp(*one, name) == 0)
            return 1;
    return 0;
}

static int attempt(const char *name) {
    if (!wanted(name))
        return 0;
    if (attempting())
        return 1;
    begin(name);
    field("result", last_result());
    end();
    return 0;
}

#define TRY(name, expression)              \
    do {                                   \
        if (attempt(name))                 \
            outcome_is((long)(expression)); \
    } while (0)

/* Where this processor has no such entry. */
__attribute__((unused)) static void no_such(const char *name) {
    if (!wanted(name))
        return;
    begin(name);
    field("result", "NONE");
    end();
}

static void find_scratch(void) {
    static const char *const folders[] = {"/tmp", "/dev/shm", "/run", "/var/tmp", "."};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(scratch, sizeof scratch, "%s/probe-XXXXXX", folders[i]);
        if (mkdtemp(scratch))
            return;
    }
    scratch[0] = 0;
}

/* A name in the writable folder; where there is none, one in the root, so that the kernel answers EROFS. */
static const char *scratch_path(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    return path;
}

/* A child that sleeps until it is killed with us. */
static pid_t sleeper(void) {
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    return child;
}

static void ended(pid_t child) {
    int error = errno;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    errno = error;
}

/* ── surface: namespaces, processes, memory ───────────────────────────────────────────────────────────────── */

struct flag {
    const char *name;
    unsigned long value;
};

static const struct flag NAMESPACES[] = {
    {"newuser", CLONE_NEWUSER}, {"newns", CLONE_NEWNS},   {"newuts", CLONE_NEWUTS},       {"newipc", CLONE_NEWIPC},
    {"newpid", CLONE_NEWPID},   {"newnet", CLONE_NEWNET}, {"newcgroup", CLONE_NEWCGROUP}, {"newtime", 0x80},
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static long raw_clone(unsigned long flags) {
    long child = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0)
        _exit(0);
    return child;
}

static long raw_clone3(uint64_t flags) {
    struct clone_args arguments = {.flags = flags, .exit_signal = SIGCHLD};
    long child = syscall(CALL_CLONE3, &arguments, sizeof arguments);
    if (child == 0)
        _exit(0);
    return child;
}

static void surface_namespaces(void) {
    char name[64];
    for (size_t i = 0; i < COUNT(NAMESPACES); i++) {
        snprintf(name, sizeof name, "unshare_%s", NAMESPACES[i].name);
        TRY(name, unshare(NAMESPACES[i].value));
    }
    TRY("unshare_newuser_newnet", unshare(CLONE_NEWUSER | CLONE_NEWNET));
    TRY("unshare_reach", unshare(1)); /* no flag: EINVAL where the kernel is asked */
    for (size_t i = 0; i < COUNT(NAMESPACES); i++) {
        if (NAMESPACES[i].value == 0x80)
            continue; /* clone has no such flag: the bit is part of the exit signal */
        snprintf(name, sizeof name, "clone_%s", NAMESPACES[i].name);
        TRY(name, raw_clone(NAMESPACES[i].value));
    }
    for (size_t i = 0; i < COUNT(NAMESPACES); i++) {
        snprintf(name, sizeof name, "clone3_%s", NAMESPACES[i].name);
        TRY(name, raw_clone3(NAMESPACES[i].value));
    }
    TRY("clone3_plain", raw_clone3(0));
    TRY("clone3_reach", syscall(CALL_CLONE3, NULL, 0));
    TRY("setns_user", setns(open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC), CLONE_NEWUSER));
    TRY("setns_mount", setns(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), CLONE_NEWNS));
    TRY("setns_pidfd", setns((int)syscall(CALL_PIDFD_OPEN, getppid(), 0), CLONE_NEWNET | CLONE_NEWUTS));
    TRY("setns_reach", setns(-1, 0));
}

static void surface_processes(void) {
    TRY("ptrace_traceme", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
    if (attempt("ptrace_attach")) {
        pid_t child = sleeper();
        long got = ptrace(PTRACE_ATTACH, child, NULL, NULL);
        ended(child);
        outcome_is(got);
    }
    if (attempt("ptrace_seize")) {
        pid_t child = sleeper();
        long got = ptrace(PTRACE_SEIZE, child, NULL, NULL);
        ended(child);
        outcome_is(got);
    }
    for (int writes = 0; writes < 2; writes++) {
        if (attempt(writes ? "process_vm_writev" : "process_vm_readv")) {
            static char here[8];
            struct iovec one = {here, sizeof here};
            pid_t child = sleeper();
            long got = syscall(writes ? SYS_process_vm_writev : SYS_process_vm_readv, child, &one, 1, &one, 1, 0);
            ended(child);
            outcome_is(got);
        }
    }
    if (attempt("pidfd_getfd")) {
        pid_t child = sleeper();
        long got = syscall(CALL_PIDFD_GETFD, syscall(CALL_PIDFD_OPEN, child, 0), report_to, 0);
        ended(child);
        outcome_is(got);
    }
    TRY("pidfd_getfd_reach", syscall(CALL_PIDFD_GETFD, -1, 0, 0));
    TRY("kcmp", syscall(SYS_kcmp, getpid(), getpid(), 2, 0, 0));
    if (attempt("process_madvise")) {
        static char page[8192];
        struct iovec one = {(void *)(((uintptr_t)page + 4095) & ~4095ul), 4096};
        pid_t child = sleeper();
        long got = syscall(CALL_PROCESS_MADVISE, syscall(CALL_PIDFD_OPEN, child, 0), &one, 1, 20 /* COLD */, 0);
        ended(child);
        outcome_is(got);
    }
    TRY("process_mrelease_reach", syscall(CALL_PROCESS_MRELEASE, -1, 0));
    TRY("personality_query", personality(0xffffffff));
    TRY("personality_no_randomize", personality(ADDR_NO_RANDOMIZE));
    TRY("personality_read_implies_exec", personality(READ_IMPLIES_EXEC));
    TRY("personality_linux32", personality(PER_LINUX32));
    TRY("setpriority_raise", setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) - 1));
    struct sched_param first = {1};
    TRY("sched_setscheduler_fifo", sched_setscheduler(0, SCHED_FIFO, &first));
    TRY("ioprio_set_realtime", syscall(SYS_ioprio_set, 1, 0, 1 << 13));
    TRY("vhangup", (setsid(), vhangup()));
}

static void surface_memory(void) {
    static char room[3 * 4096];
    void *page = (void *)(((uintptr_t)room + 4095) & ~4095ul);
    int status = 0;
    TRY("mbind", syscall(SYS_mbind, page, 4096, 0, NULL, 0, 0));
    TRY("set_mempolicy", syscall(SYS_set_mempolicy, 0, NULL, 0));
    TRY("get_mempolicy", syscall(SYS_get_mempolicy, &status, NULL, 0, NULL, 0));
    TRY("set_mempolicy_home_node", syscall(CALL_SET_MEMPOLICY_HOME_NODE, page, 0, 0, 0));
    TRY("migrate_pages", syscall(SYS_migrate_pages, 0, 0, NULL, NULL));
    TRY("move_pages", syscall(SYS_move_pages, 0, 1, &page, NULL, &status, 0));
    TRY("userfaultfd_user_mode", syscall(SYS_userfaultfd, O_CLOEXEC | 1));
    TRY("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC));
    TRY("userfaultfd_reach", syscall(SYS_userfaultfd, 0x40));
    TRY("memfd_secret", syscall(CALL_MEMFD_SECRET, 0));
    if (attempt("vmsplice")) {
        int ends[2];
        struct iovec one = {room, 16};
        outcome_is(pipe(ends) < 0 ? -1 : vmsplice(ends[1], &one, 1, 0));
    }
#ifdef __x86_64__
    TRY("modify_ldt_read", syscall(SYS_modify_ldt, 0, room, sizeof room));
    unsigned entry[4] = {0, 0, 0, 0x28}; /* an empty segment */
    TRY("modify_ldt_write", syscall(SYS_modify_ldt, 1, entry, sizeof entry));
    TRY("iopl", syscall(SYS_iopl, 3));
    TRY("ioperm", syscall(SYS_ioperm, 0x80, 1, 1));
#else
    no_such("modify_ldt_read");
    no_such("modify_ldt_write");
    no_such("iopl");
    no_such("ioperm");
#endif
    TRY("mlock_64m", mlock(mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 64 << 20));
    static const struct flag limits[] = {
        {"rlimit_raise_core", RLIMIT_CORE}, {"rlimit_raise_memlock", RLIMIT_MEMLOCK}, {"rlimit_raise_nofile", RLIMIT_NOFILE}};
    for (size_t i = 0; i < COUNT(limits); i++) {
        if (attempt(limits[i].name)) {
            struct rlimit limit;
            getrlimit((int)limits[i].value, &limit);
            if (limit.rlim_max != RLIM_INFINITY)
                limit.rlim_max += 1;
            outcome_is(setrlimit((int)limits[i].value, &limit));
        }
    }
}

/* ── surface: mounts and files ────────────────────────────────────────────────────────────────────────────── */

static void surface_mounts(void) {
    TRY("mount_reach", syscall(SYS_mount, NULL, NULL, NULL, 0, NULL));
    if (attempt("mount_tmpfs")) {
        long got = mount("probe", scratch[0] ? scratch : "/", "tmpfs", 0, NULL);
        if (got == 0)
            umount2(scratch, MNT_DETACH);
        outcome_is(got);
    }
    if (attempt("mount_bind")) {
        long got = mount("/", scratch[0] ? scratch : "/", NULL, MS_BIND, NULL);
        if (got == 0)
            umount2(scratch, MNT_DETACH);
        outcome_is(got);
    }
    TRY("mount_remount_root_writable", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
    TRY("umount_reach", syscall(SYS_umount2, NULL, 0));
    TRY("umount_proc", umount2("/proc", MNT_EXPIRE)); /* EAGAIN or EBUSY where it is allowed; nothing goes away */
    TRY("umount_root", umount2("/", MNT_EXPIRE));
    TRY("pivot_root", syscall(SYS_pivot_root, "/", "/"));
    TRY("pivot_root_reach", syscall(SYS_pivot_root, NULL, NULL));
    TRY("chroot", chroot("/"));
    TRY("chroot_reach", syscall(SYS_chroot, NULL));
    TRY("open_tree_clone", syscall(CALL_OPEN_TREE, AT_FDCWD, "/", 1 | O_CLOEXEC));
    TRY("open_tree_reach", syscall(CALL_OPEN_TREE, -1, NULL, 0));
    TRY("open_tree_attr_reach", syscall(CALL_OPEN_TREE_ATTR, -1, NULL, 0, NULL, 0));
    TRY("fsopen_tmpfs", syscall(CALL_FSOPEN, "tmpfs", 0));
    TRY("fsconfig_reach", syscall(CALL_FSCONFIG, -1, 0, NULL, NULL, 0));
    TRY("fsmount_reach", syscall(CALL_FSMOUNT, -1, 0, 0));
    TRY("fspick", syscall(CALL_FSPICK, AT_FDCWD, "/", 0));
    TRY("move_mount_reach", syscall(CALL_MOVE_MOUNT, -1, NULL, -1, NULL, 0));
    TRY("mount_setattr_reach", syscall(CALL_MOUNT_SETATTR, -1, NULL, 0, NULL, 0));
    static const char device[] = "char";
    for (int block = 0; block < 2; block++) {
        if (attempt(block ? "mknod_block" : "mknod_char")) {
            mode_t mode = (block ? S_IFBLK : S_IFCHR) | 0600;
            long got = syscall(SYS_mknodat, AT_FDCWD, scratch_path(device), mode, makedev(block ? 7 : 1, block ? 0 : 3));
            if (got == 0)
                unlink(scratch_path(device));
            outcome_is(got);
        }
    }
#ifdef SYS_mknod
    if (attempt("mknod_char_old_call")) {
        long got = syscall(SYS_mknod, scratch_path(device), S_IFCHR | 0600, makedev(1, 3));
        if (got == 0)
            unlink(scratch_path(device));
        outcome_is(got);
    }
#else
    no_such("mknod_char_old_call");
#endif
    if (attempt("open_by_handle_at")) {
        struct {
            struct file_handle handle;
            char bytes[MAX_HANDLE_SZ];
        } place = {.handle = {.handle_bytes = MAX_HANDLE_SZ}};
        int id = 0;
        syscall(SYS_name_to_handle_at, AT_FDCWD, "/", &place, &id, 0);
        outcome_is(syscall(SYS_open_by_handle_at, open("/", O_RDONLY | O_DIRECTORY), &place, O_RDONLY));
    }
    TRY("name_to_handle_at_reach", syscall(SYS_name_to_handle_at, -1, NULL, NULL, NULL, 0));
    TRY("fanotify_init", syscall(SYS_fanotify_init, 0x200 /* report ids: needs no right */, O_RDONLY));
    TRY("fanotify_mark_reach", syscall(SYS_fanotify_mark, -1, 1, 0, 0, NULL));
    TRY("quotactl_reach", syscall(SYS_quotactl, 0x80000500 /* Q_GETINFO */, "/dev/null", 0, NULL));
    TRY("quotactl_fd_reach", syscall(CALL_QUOTACTL_FD, -1, 0x80000500, 0, NULL));
    TRY("statmount_reach", syscall(CALL_STATMOUNT, NULL, NULL, 0, 0));
    TRY("listmount_reach", syscall(CALL_LISTMOUNT, NULL, NULL, 0, 0));
    TRY("swapon", syscall(SYS_swapon, "/no-such-file", 0));
    TRY("swapoff", syscall(SYS_swapoff, "/no-such-file"));
    TRY("acct", syscall(SYS_acct, "/no-such-file"));
}

/* ── surface: the whole machine ───────────────────────────────────────────────────────────────────────────── */

static void surface_machine(void) {
    static char text[4096];
    char host[65] = "";
    gethostname(host, sizeof host - 1);
    TRY("syslog_read_all", syscall(SYS_syslog, 3, text, sizeof text));
    TRY("syslog_size", syscall(SYS_syslog, 10, NULL, 0));
    TRY("sethostname", sethostname(host, strlen(host)));
    TRY("setdomainname_reach", syscall(SYS_setdomainname, NULL, -1));
    struct timeval now;
    gettimeofday(&now, NULL);
    TRY("settimeofday", settimeofday(&now, NULL));
    struct timespec clock;
    clock_gettime(CLOCK_REALTIME, &clock);
    TRY("clock_settime", clock_settime(CLOCK_REALTIME, &clock));
    TRY("clock_settime_reach", syscall(SYS_clock_settime, CLOCK_REALTIME, NULL));
    struct timex adjust = {.modes = ADJ_STATUS, .status = STA_UNSYNC};
    TRY("adjtimex_set", adjtimex(&adjust));
    TRY("clock_adjtime_set", clock_adjtime(CLOCK_REALTIME, &adjust));
    TRY("kexec_load", syscall(SYS_kexec_load, 0, 17 /* more segments than there may be */, NULL, 0));
#ifdef SYS_kexec_file_load
    TRY("kexec_file_load", syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0));
#else
    no_such("kexec_file_load");
#endif
    TRY("init_module", syscall(SYS_init_module, NULL, 0, ""));
    TRY("finit_module", syscall(SYS_finit_module, -1, "", 0));
    TRY("delete_module", syscall(SYS_delete_module, "no_such_module", O_NONBLOCK));
    TRY("reboot", syscall(SYS_reboot, 0, 0, 0, NULL)); /* wrong magic: EINVAL where it would be allowed */
#ifdef __x86_64__
    TRY("lookup_dcookie", syscall(SYS_lookup_dcookie, 0, text, sizeof text));
    TRY("uselib", syscall(SYS_uselib, "/no-such-file"));
    TRY("create_module", syscall(SYS_create_module, NULL, 0));
    TRY("nfsservctl", syscall(SYS_nfsservctl, 0, NULL, NULL));
    TRY("sysfs_reach", syscall(SYS_sysfs, 99, 0, 0));
    TRY("ustat_reach", syscall(SYS_ustat, 0, NULL));
#else
    static const char *const old[] = {"lookup_dcookie", "uselib", "create_module", "nfsservctl", "sysfs_reach", "ustat_reach"};
    for (size_t i = 0; i < COUNT(old); i++)
        no_such(old[i]);
#endif
    char bpf[128] = {1 /* a hash map */, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1};
    TRY("bpf_map_create", syscall(SYS_bpf, 0, bpf, sizeof bpf));
    TRY("bpf_reach", syscall(SYS_bpf, 9999, NULL, 0));
    struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event, .config = PERF_COUNT_SW_DUMMY,
                                    .exclude_kernel = 1, .exclude_hv = 1};
    TRY("perf_event_open", syscall(SYS_perf_event_open, &event, 0, -1, -1, 0));
    TRY("perf_event_open_reach", syscall(SYS_perf_event_open, NULL, 0, -1, -1, ~0ul));
    static char ring[256];
    TRY("io_uring_setup", syscall(CALL_IO_URING_SETUP, 1, ring));
    TRY("io_uring_setup_reach", syscall(CALL_IO_URING_SETUP, 0, NULL));
    TRY("io_uring_enter_reach", syscall(CALL_IO_URING_ENTER, -1, 0, 0, 0, NULL, 0));
    TRY("io_uring_register_reach", syscall(CALL_IO_URING_REGISTER, -1, 0, NULL, 0));
    TRY("keyctl_session", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
    TRY("keyctl_join", syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL));
    TRY("add_key", syscall(SYS_add_key, "user", "probe", "x", 1, KEY_SPEC_PROCESS_KEYRING));
    TRY("request_key", syscall(SYS_request_key, "user", "probe", NULL, KEY_SPEC_PROCESS_KEYRING));
    TRY("lsm_list_modules_reach", syscall(CALL_LSM_LIST_MODULES, NULL, NULL, 1));
    /* On no descriptor: EBADF where the kernel is asked. The kernel takes 32 bits of the command, a filter sees 64. */
    TRY("ioctl_tiocsti_reach", syscall(SYS_ioctl, -1, (unsigned long)TIOCSTI, ""));
    TRY("ioctl_tiocsti_high_reach", syscall(SYS_ioctl, -1, TIOCSTI | 1ul << 32, ""));
    TRY("ioctl_tioclinux_reach", syscall(SYS_ioctl, -1, (unsigned long)TIOCLINUX, ""));
    TRY("ioctl_tioclinux_high_reach", syscall(SYS_ioctl, -1, TIOCLINUX | 1ul << 32, ""));
}

/* ── surface: identity ────────────────────────────────────────────────────────────────────────────────────── */

static void read_capabilities(struct __user_cap_data_struct words[2]) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    memset(words, 0, 2 * sizeof *words);
    syscall(SYS_capget, &header, words);
}

static long raise_capability(int capability) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct words[2];
    read_capabilities(words);
    words[capability / 32].permitted |= 1u << capability % 32;
    words[capability / 32].effective |= 1u << capability % 32;
    return syscall(SYS_capset, &header, words);
}

static void surface_identity(void) {
    gid_t group = 54321;
    TRY("setuid_0", syscall(SYS_setresuid, 0, 0, 0));
    TRY("setuid_unmapped", syscall(SYS_setresuid, 54321, 54321, 54321));
    TRY("setgid_unmapped", syscall(SYS_setresgid, 54321, 54321, 54321));
    TRY("setgroups_none", syscall(SYS_setgroups, 0, NULL));
    TRY("setgroups_unmapped", syscall(SYS_setgroups, 1, &group));
    TRY("capset_raise_sys_admin", raise_capability(CAP_SYS_ADMIN));
    TRY("capset_raise_net_admin", raise_capability(CAP_NET_ADMIN));
    TRY("capset_raise_chown", raise_capability(CAP_CHOWN));
    TRY("prctl_capbset_drop", prctl(PR_CAPBSET_DROP, CAP_CHOWN, 0, 0, 0));
    TRY("prctl_cap_ambient_raise", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
    TRY("prctl_set_securebits", prctl(PR_SET_SECUREBITS, SECBIT_NOROOT, 0, 0, 0));
    TRY("prctl_set_mm", prctl(PR_SET_MM, PR_SET_MM_BRK, 0, 0, 0));
    TRY("prctl_unset_no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
}

/* ── surface: sockets ─────────────────────────────────────────────────────────────────────────────────────── */

static const char *const FAMILIES[] = {
    "unspec", "unix", "inet", "ax25", "ipx", "appletalk", "netrom", "bridge", "atmpvc", "x25", "inet6", "rose",
    "decnet", "netbeui", "security", "key", "netlink", "packet", "ash", "econet", "atmsvc", "rds", "sna", "irda",
    "pppox", "wanpipe", "llc", "ib", "mpls", "can", "tipc", "bluetooth", "iucv", "rxrpc", "isdn", "phonet",
    "ieee802154", "caif", "alg", "nfc", "vsock", "kcm", "qipcrtr", "smc", "xdp", "mctp"};

static const char *const NETLINKS[] = {
    "route", "unused", "usersock", "firewall", "sock_diag", "nflog", "xfrm", "selinux", "iscsi", "audit",
    "fib_lookup", "connector", "netfilter", "ip6_fw", "dnrtmsg", "kobject_uevent", "generic", "17", "scsitransport",
    "ecryptfs", "rdma", "crypto", "smc"};

/* How far an answer says that the call went: refused, unknown to the kernel, or into the family's own code. */
static int depth(void) {
    if (last_signal)
        return 0;
    switch (last.error) {
    case EPERM: case EACCES: case ENOSYS: return 1;
    case EAFNOSUPPORT: return 2;
    case 0: return 4;
    default: return 3;
    }
}

/* One line a family: the deepest answer over all types, and each type's. */
static void try_family(int family) {
    static const struct flag types[] = {
        {"stream", SOCK_STREAM}, {"dgram", SOCK_DGRAM}, {"raw", SOCK_RAW}, {"rdm", SOCK_RDM}, {"seqpacket", SOCK_SEQPACKET}};
    char name[64], result[32] = "", detail[COUNT(types)][32];
    int deepest = -1;
    snprintf(name, sizeof name, "socket_%s", FAMILIES[family]);
    if (!wanted(name))
        return;
    for (size_t i = 0; i < COUNT(types); i++) {
        if (attempting())
            outcome_is(socket(family, (int)types[i].value | SOCK_CLOEXEC, 0));
        snprintf(detail[i], sizeof detail[i], "%s", last_result());
        if (depth() > deepest) {
            deepest = depth();
            snprintf(result, sizeof result, "%s", last_result());
        }
    }
    begin(name);
    field("result", result);
    for (size_t i = 0; i < COUNT(types); i++)
        field(types[i].name, detail[i]);
    end();
}

static void surface_sockets(void) {
    char name[64];
    for (size_t family = 0; family < COUNT(FAMILIES); family++)
        try_family((int)family);
    TRY("socket_family_46", socket(46, SOCK_STREAM, 0));
    TRY("socket_family_high", syscall(SYS_socket, 1ul << 32 | AF_VSOCK, SOCK_STREAM, 0)); /* the kernel takes 32 bits */
    for (size_t protocol = 0; protocol < COUNT(NETLINKS); protocol++) {
        snprintf(name, sizeof name, "netlink_%s", NETLINKS[protocol]);
        TRY(name, socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, (int)protocol));
    }
    TRY("netlink_high", syscall(SYS_socket, AF_NETLINK, SOCK_RAW, 1ul << 32 | 6 /* xfrm */));
    TRY("inet_raw_icmp", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    TRY("inet_raw_any", socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
    TRY("inet_sctp", socket(AF_INET, SOCK_STREAM, 132));
    TRY("inet_dccp", socket(AF_INET, 6, 33));
    TRY("packet_raw", socket(AF_PACKET, SOCK_RAW, htons(3)));
    TRY("packet_dgram", socket(AF_PACKET, SOCK_DGRAM, htons(3)));
    int pair[2];
    TRY("socketpair_unix", socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    TRY("socketpair_tipc", socketpair(30, SOCK_SEQPACKET, 0, pair));
}

/* ── surface: foreign entries ─────────────────────────────────────────────────────────────────────────────── */

#ifdef __x86_64__
static long i386_call(long call, long first, long second, long third) {
    long got = call;
    __asm__ volatile("int $0x80" : "+a"(got) : "b"(first), "c"(second), "d"(third) : "memory", "r8", "r9", "r10", "r11");
    got = (int)got;
    if (got < 0 && got > -4096) {
        errno = (int)-got;
        return -1;
    }
    return got;
}
#define X32(call) (0x40000000L | (call))
#endif

static void surface_foreign(void) {
#ifdef __x86_64__
    TRY("i386_getpid", i386_call(20, 0, 0, 0));
    TRY("i386_unshare_newuser", i386_call(310, CLONE_NEWUSER, 0, 0));
    TRY("i386_ptrace_traceme", i386_call(26, 0, 0, 0));
    TRY("i386_socket_vsock", i386_call(359, AF_VSOCK, SOCK_STREAM, 0));
    TRY("i386_socketcall_reach", i386_call(102, 1, 0, 0));
    TRY("x32_getpid", syscall(X32(SYS_getpid)));
    TRY("x32_unshare_newuser", syscall(X32(SYS_unshare), CLONE_NEWUSER));
    TRY("x32_ptrace_traceme", syscall(X32(521), 0, 0, 0, 0));
    TRY("x32_socket_vsock", syscall(X32(SYS_socket), AF_VSOCK, SOCK_STREAM, 0));
#else
    static const char *const none[] = {"i386_getpid", "i386_unshare_newuser", "i386_ptrace_traceme", "i386_socket_vsock",
                                       "i386_socketcall_reach", "x32_getpid", "x32_unshare_newuser", "x32_ptrace_traceme",
                                       "x32_socket_vsock"};
    for (size_t i = 0; i < COUNT(none); i++)
        no_such(none[i]);
#endif
    TRY("call_number_none", syscall(1000));
    TRY("call_number_huge", syscall(0x7fffffffL));
    TRY("call_number_negative", syscall(-1L));
}

/* ── surface: what must go on working ─────────────────────────────────────────────────────────────────────── */

static void *thread_body(void *nothing) { return nothing; }

static long start_thread(void) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, thread_body, NULL);
    errno = error;
    return error ? -1 : pthread_join(thread, NULL);
}

static long loopback(void) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (struct sockaddr *)&here, sizeof here) < 0 || listen(server, 1) < 0 ||
        getsockname(server, (struct sockaddr *)&here, &size) < 0 ||
        connect(client, (struct sockaddr *)&here, sizeof here) < 0)
        return -1;
    return accept4(server, NULL, NULL, SOCK_CLOEXEC);
}

static long interfaces_by_netlink(void) {
    struct {
        struct nlmsghdr head;
        char family[16];
    } ask = {.head = {sizeof ask, 18 /* RTM_GETLINK */, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}};
    char answer[8192];
    int route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (route < 0 || send(route, &ask, sizeof ask, 0) < 0)
        return -1;
    return recv(route, answer, sizeof answer, 0);
}

static long exec_from_memory(void) {
    int copy = (int)syscall(SYS_memfd_create, "probe", 0), self = open("/proc/self/exe", O_RDONLY);
    if (copy < 0 || self < 0)
        return -1;
    while (sendfile(copy, self, NULL, 1 << 20) > 0)
        ;
    pid_t child = fork();
    if (child == 0) {
        char *const arguments[] = {"probe", "true", NULL}, *const environment[] = {NULL};
        syscall(SYS_execveat, copy, "", arguments, environment, AT_EMPTY_PATH);
        _exit(errno);
    }
    int status = 0;
    waitpid(child, &status, 0);
    errno = WIFSIGNALED(status) ? EINTR : WEXITSTATUS(status);
    return errno ? -1 : 0;
}

static long file_calls(void) {
    int file = open(scratch_path("file"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char other[128];
    snprintf(other, sizeof other, "%s/other", scratch);
    long failed = file < 0 || write(file, "text", 4) != 4 || fsync(file) < 0 || fallocate(file, 0, 0, 8192) < 0 ||
                  ftruncate(file, 4) < 0 || fchmod(file, 0640) < 0 || fchown(file, geteuid(), getegid()) < 0 ||
                  futimens(file, NULL) < 0 || rename(scratch_path("file"), other) < 0 ||
                  link(other, scratch_path("file")) < 0 || unlink(other) < 0 || symlink("file", other) < 0;
    int error = errno;
    unlink(other);
    unlink(scratch_path("file"));
    errno = error;
    return failed ? -1 : 0;
}

static void surface_needed(void) {
    int pair[2];
    struct epoll_event event = {EPOLLIN, {0}};
    char how[24] = {0};
    struct stat status;
    sigset_t mask;
    cpu_set_t processors;
    struct rlimit limit;
    sigemptyset(&mask);
    TRY("can_fork", raw_clone(0));
    TRY("can_vfork", ({ pid_t child = vfork(); if (child == 0) _exit(0); child; }));
    TRY("can_start_threads", start_thread());
    TRY("can_exec_from_memory", exec_from_memory());
    TRY("can_memfd_create", syscall(SYS_memfd_create, "probe", 1));
    TRY("can_epoll", epoll_ctl(epoll_create1(EPOLL_CLOEXEC), EPOLL_CTL_ADD, eventfd(0, EFD_CLOEXEC), &event));
    TRY("can_timerfd", timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    TRY("can_signalfd", syscall(SYS_signalfd4, -1, &mask, 8, 0));
    TRY("can_inotify", inotify_init1(IN_CLOEXEC));
    TRY("can_pidfd_open", syscall(CALL_PIDFD_OPEN, getpid(), 0));
    TRY("can_pidfd_send_signal", syscall(CALL_PIDFD_SEND_SIGNAL, syscall(CALL_PIDFD_OPEN, getpid(), 0), 0, NULL, 0));
    TRY("can_close_range", syscall(CALL_CLOSE_RANGE, 900, 901, 0));
    TRY("can_openat2", syscall(CALL_OPENAT2, AT_FDCWD, "/", how, sizeof how));
    TRY("can_statx", syscall(SYS_statx, AT_FDCWD, "/", 0, 0x7ff, (char[256]){0}));
    TRY("can_fstatfs", fstatfs(open("/", O_RDONLY), &(struct statfs){0}));
    TRY("can_stat", stat("/", &status));
    TRY("can_getrandom", syscall(SYS_getrandom, how, sizeof how, 0));
    TRY("can_membarrier", syscall(SYS_membarrier, 0, 0, 0));
    TRY("can_sched_getaffinity", sched_getaffinity(0, sizeof processors, &processors));
    TRY("can_sched_setaffinity", (sched_getaffinity(0, sizeof processors, &processors), sched_setaffinity(0, sizeof processors, &processors)));
    TRY("can_setpriority_lower", setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + 1));
    TRY("can_prlimit_read", prlimit(0, RLIMIT_NOFILE, NULL, &limit));
    TRY("can_mprotect_exec", mprotect(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096, PROT_READ | PROT_EXEC));
    TRY("can_madvise", madvise(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096, MADV_DONTNEED));
    TRY("can_prctl_name", prctl(PR_SET_NAME, "probe", 0, 0, 0));
    TRY("can_prctl_pdeathsig", prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
    TRY("can_seccomp_ask", syscall(SYS_seccomp, 2 /* is this action known? */, 0, &(uint32_t){0x7fff0000}));
    TRY("can_landlock", syscall(CALL_LANDLOCK_CREATE_RULESET, NULL, 0, 1 /* which version? */));
    TRY("can_setsid", (raw_clone(0), setsid() >= 0 || errno == EPERM ? 0 : -1));
    TRY("can_times_of_clock", syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &(struct timespec){0}));
    TRY("can_adjtimex_read", adjtimex(&(struct timex){0}));
    TRY("can_pipe", pipe2(pair, O_CLOEXEC));
    TRY("can_socketpair", socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    TRY("can_loopback", loopback());
    TRY("can_list_interfaces", interfaces_by_netlink());
    TRY("can_sysv_shm", shmctl(shmget(IPC_PRIVATE, 4096, 0600), IPC_RMID, NULL));
    TRY("can_change_files", file_calls());
    TRY("can_mkfifo", ({ long made = mkfifo(scratch_path("fifo"), 0600); if (made == 0) unlink(scratch_path("fifo")); made; }));
}

static void surface(void) {
    find_scratch();
    surface_namespaces();
    surface_processes();
    surface_memory();
    surface_mounts();
    surface_machine();
    surface_identity();
    surface_sockets();
    surface_foreign();
    surface_needed();
    if (scratch[0])
        rmdir(scratch);
}

/* ── files ────────────────────────────────────────────────────────────────────────────────────────────────── */

static const char *kind_of(mode_t mode) {
    return S_ISREG(mode)    ? "file"
           : S_ISDIR(mode)  ? "folder"
           : S_ISLNK(mode)  ? "link"
           : S_ISCHR(mode)  ? "char"
           : S_ISBLK(mode)  ? "block"
           : S_ISFIFO(mode) ? "fifo"
           : S_ISSOCK(mode) ? "socket"
                            : "other";
}

static void put_status(const char *path) {
    struct stat status;
    if (lstat(path, &status) < 0) {
        field("kind", error_name(errno));
        return;
    }
    field("kind", kind_of(status.st_mode));
    if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) {
        char device[32];
        snprintf(device, sizeof device, "%u:%u", major(status.st_rdev), minor(status.st_rdev));
        field("rdev", device);
    }
    printf(",\"mode\":\"%04o\",\"uid\":%u,\"gid\":%u", status.st_mode & 07777, status.st_uid, status.st_gid);
}

static long entries_of(const char *path) {
    DIR *folder = opendir(path);
    long count = 0;
    if (!folder)
        return -1;
    for (struct dirent *entry; (entry = readdir(folder));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(folder);
    return count;
}

/* The count of the first bytes, or of the entries of a folder. */
static void look_into(const char *path) {
    struct stat status;
    if (attempting()) {
        static char bytes[4096];
        if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
            outcome_is(entries_of(path));
        int file = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        outcome_is(file < 0 ? -1 : read(file, bytes, sizeof bytes));
    }
    begin("read");
    field("path", path);
    field("result", last_result());
    number("size", last.value);
    put_status(path);
    end();
}

/* Opened only, never written. */
static void open_for_writing(const char *path) {
    if (attempting())
        outcome_is(open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    begin("write");
    field("path", path);
    field("result", last_result());
    put_status(path);
    end();
}

static void create_in(const char *folder) {
    if (attempting()) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/.probe-%d", folder, getpid());
        int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (file >= 0)
            unlink(path);
        outcome_is(file);
    }
    begin("create_in");
    field("path", folder);
    field("result", last_result());
    end();
}

static void devices(const char *folder, int below) {
    DIR *open_folder = opendir(folder);
    if (!open_folder)
        return;
    for (struct dirent *entry; (entry = readdir(open_folder));) {
        char path[PATH_MAX], target[PATH_MAX] = "";
        struct stat status;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (lstat(path, &status) < 0)
            continue;
        begin("device");
        field("path", path);
        put_status(path);
        if (S_ISLNK(status.st_mode) && readlink(path, target, sizeof target - 1) > 0)
            field("target", target);
        if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) {
            if (attempting())
                outcome_is(open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
            field("open", last_result());
        }
        end();
        if (S_ISDIR(status.st_mode) && below > 0)
            devices(path, below - 1);
    }
    closedir(open_folder);
}

/* Every mounted cgroup tree: nothing in it may be made or written. */
static void cgroups(void) {
    char *text = strdup(file_text("/proc/self/mountinfo"));
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) && *line;) {
        char point[PATH_MAX], path[PATH_MAX + 32];
        char *type = strstr(line, " - cgroup");
        if (!type || sscanf(line, "%*d %*d %*s %*s %4095s", point) != 1)
            continue;
        create_in(point);
        if (attempting()) {
            snprintf(path, sizeof path, "%s/probe-group", point);
            long made = mkdir(path, 0700);
            if (made == 0)
                rmdir(path);
            outcome_is(made);
        }
        begin("make_group_in");
        field("path", point);
        field("result", last_result());
        end();
        static const char *const knobs[] = {"cgroup.procs", "cgroup.subtree_control", "cgroup.kill", "release_agent",
                                            "notify_on_release", "memory.max", "pids.max", "devices.allow"};
        for (size_t i = 0; i < COUNT(knobs); i++) {
            snprintf(path, sizeof path, "%s/%s", point, knobs[i]);
            open_for_writing(path);
        }
    }
    free(text);
}

static void files(void) {
    static const char *const looked[] = {
        "/proc/keys", "/proc/key-users", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/kallsyms",
        "/proc/interrupts", "/proc/softirqs", "/proc/config.gz", "/proc/acpi", "/proc/scsi", "/proc/asound", "/proc/kcore",
        "/proc/kmsg", "/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup", "/proc/latency_stats", "/proc/modules",
        "/proc/iomem", "/proc/ioports", "/proc/slabinfo", "/proc/vmallocinfo", "/proc/pagetypeinfo", "/proc/mounts",
        "/proc/1/environ", "/proc/1/root", "/proc/1/cwd", "/proc/1/maps", "/proc/1/mem", "/proc/1/fd", "/proc/sysvipc/shm",
        "/proc/driver", "/proc/fs", "/proc/irq", "/proc/bus", "/proc/sys/kernel/random/boot_id", "/proc/cmdline", "/proc/meminfo",
        "/proc/net/unix", "/sys", "/sys/firmware", "/sys/kernel/security", "/sys/kernel/debug", "/sys/kernel/tracing",
        "/sys/devices/virtual/powercap", "/sys/fs/cgroup", "/sys/module", "/home", "/root", "/run", "/var/run/docker.sock",
        "/etc/shadow", "/etc/ssh", "/boot", "/mnt", "/media", "/srv", "/opt", "/lost+found"};
    static const char *const written[] = {
        "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/randomize_va_space", "/proc/sys/vm/overcommit_memory", "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/ping_group_range", "/proc/sys/user/max_user_namespaces",
        "/proc/sys/kernel/ns_last_pid", "/proc/irq/default_smp_affinity", "/proc/mtrr", "/proc/self/oom_score_adj",
        "/proc/self/uid_map", "/proc/self/setgroups", "/proc/self/attr/current", "/proc/self/exe", "/proc/1/exe", "/proc/1/mem",
        "/sys/kernel/uevent_helper", "/sys/power/state", "/etc/passwd", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname",
        "/usr/bin/env", "/dev/null", "/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/net/tun", "/dev/fuse", "/dev/kvm",
        "/dev/vsock", "/dev/vhost-vsock", "/dev/userfaultfd", "/dev/loop-control", "/dev/mapper/control", "/dev/rtc0",
        "/dev/watchdog", "/dev/sda", "/dev/vda", "/dev/uinput", "/dev/dri/card0", "/dev/console", "/dev/tty", "/dev/ptmx"};
    static const char *const folders[] = {"/", "/etc", "/usr", "/usr/bin", "/bin", "/lib", "/var", "/home", "/root", "/run",
                                          "/opt", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/dev/pts", "/proc", "/proc/sys",
                                          "/sys", "/sys/fs/cgroup", "."};
    for (size_t i = 0; i < COUNT(looked); i++)
        look_into(looked[i]);
    for (size_t i = 0; i < COUNT(written); i++)
        open_for_writing(written[i]);
    for (size_t i = 0; i < COUNT(folders); i++)
        create_in(folders[i]);
    devices("/dev", 1);
    cgroups();
}

/* ── identity ─────────────────────────────────────────────────────────────────────────────────────────────── */

static uint64_t bounding_or_ambient(int ambient) {
    uint64_t set = 0;
    for (int capability = 0; capability < 64; capability++) {
        int has = ambient ? prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0)
                          : prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
        if (has == 1)
            set |= 1ull << capability;
    }
    return set;
}

static void put_list(const char *name, char **values) {
    printf(",\"%s\":[", name);
    for (char **one = values; *one; one++) {
        if (one != values)
            putchar(',');
        put_text(*one);
    }
    putchar(']');
}

static void put_map(const char *name, const char *path) {
    char text[1024];
    size_t have = 0;
    for (const char *at = file_text(path); *at && have < sizeof text - 1; at++) {
        int space = *at == ' ' || *at == '\n' || *at == '\t';
        if (!space || (have && text[have - 1] != ' '))
            text[have++] = space ? ' ' : *at;
    }
    while (have && text[have - 1] == ' ')
        have--;
    text[have] = 0;
    field(name, text);
}

static void put_status_line(const char *name, const char *key) {
    char *line = strstr(file_text("/proc/self/status"), key);
    if (line)
        number(name, atoll(line + strlen(key)));
}

static void ids(void) {
    uid_t user[3];
    gid_t group[3], groups[256];
    getresuid(&user[0], &user[1], &user[2]);
    getresgid(&group[0], &group[1], &group[2]);
    begin("ids");
    number("uid", user[0]), number("euid", user[1]), number("suid", user[2]);
    number("gid", group[0]), number("egid", group[1]), number("sgid", group[2]);
    int count = getgroups(COUNT(groups), groups);
    printf(",\"groups\":[");
    for (int i = 0; i < count; i++)
        printf("%s%u", i ? "," : "", groups[i]);
    printf("]");
    put_map("uid_map", "/proc/self/uid_map");
    put_map("gid_map", "/proc/self/gid_map");
    put_map("setgroups", "/proc/self/setgroups");
    end();
}

static void walls(void) {
    struct __user_cap_data_struct words[2];
    read_capabilities(words);
    begin("capabilities");
    hex("effective", (uint64_t)words[1].effective << 32 | words[0].effective);
    hex("permitted", (uint64_t)words[1].permitted << 32 | words[0].permitted);
    hex("inheritable", (uint64_t)words[1].inheritable << 32 | words[0].inheritable);
    hex("bounding", bounding_or_ambient(0));
    hex("ambient", bounding_or_ambient(1));
    end();
    mode_t mask = umask(0);
    umask(mask);
    begin("walls");
    number("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    if (attempting())
        outcome_is(prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    number("seccomp", last.value);
    put_status_line("seccomp_filters", "Seccomp_filters:");
    number("dumpable", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    number("securebits", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    int death = 0;
    prctl(PR_GET_PDEATHSIG, &death, 0, 0, 0);
    number("pdeathsig", death);
    if (attempting())
        outcome_is(personality(0xffffffff));
    number("personality", last.value);
    printf(",\"umask\":\"%04o\"", mask);
    if (attempting())
        outcome_is(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
    field("keyring", last_result());
    number("keyring_id", last.value);
    field("oom_score_adj", strtok(file_text("/proc/self/oom_score_adj"), "\n") ?: "");
    end();
}

static void session(void) {
    char host[256] = "", folder[PATH_MAX] = "", executable[PATH_MAX] = "";
    int terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    begin("session");
    number("pid", getpid()), number("ppid", getppid()), number("pgid", getpgid(0)), number("sid", getsid(0));
    field("controlling_tty", terminal >= 0 ? "OK" : error_name(errno));
    gethostname(host, sizeof host - 1);
    field("hostname", host);
    field("cwd", getcwd(folder, sizeof folder) ? folder : error_name(errno));
    field("exe", readlink("/proc/self/exe", executable, sizeof executable - 1) > 0 ? executable : "");
    put_map("cgroup", "/proc/self/cgroup");
    end();
    if (terminal >= 0)
        close(terminal);
}

static void limits(void) {
    static const char *const names[] = {"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile",
                                        "memlock", "as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};
    begin("rlimits");
    for (int i = 0; i < (int)COUNT(names); i++) {
        struct rlimit limit;
        if (getrlimit(i, &limit) < 0)
            continue;
        printf(",\"%s\":[%lld,%lld]", names[i], (long long)limit.rlim_cur, (long long)limit.rlim_max); /* -1: none */
    }
    end();
}

static void descriptors(void) {
    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++) {
        char path[64], target[PATH_MAX] = "";
        struct stat status;
        int flags = fcntl(fd, F_GETFD);
        if (flags < 0 || fstat(fd, &status) < 0)
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(path, target, sizeof target - 1);
        begin("descriptor");
        number("fd", fd);
        field("kind", kind_of(status.st_mode));
        field("target", size > 0 ? target : "");
        number("flags", fcntl(fd, F_GETFL));
        truth("cloexec", flags & FD_CLOEXEC);
        end();
    }
}

static void identity(char **arguments) {
    ids();
    walls();
    session();
    limits();
    begin("environment");
    put_list("values", environ);
    end();
    begin("argv");
    put_list("values", arguments);
    end();
    descriptors();
}

/* ── processes, mounts, net, signals ──────────────────────────────────────────────────────────────────────── */

static void processes(void) {
    static const char *const names[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
    DIR *folder = opendir("/proc");
    if (!folder) {
        begin("processes");
        field("result", error_name(errno));
        end();
        return;
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
            continue;
        char path[128];
        snprintf(path, sizeof path, "/proc/%.20s/comm", entry->d_name);
        char *name = file_text(path);
        name[strcspn(name, "\n")] = 0;
        begin("process");
        number("pid", atoi(entry->d_name));
        field("name", name);
        truth("self", atoi(entry->d_name) == getpid());
        snprintf(path, sizeof path, "/proc/%.20s/stat", entry->d_name);
        char *past_name = strrchr(file_text(path), ')'), state[2] = "";
        int parent = -1;
        if (past_name && sscanf(past_name, ") %c %d", state, &parent) == 2) {
            field("state", state);
            number("ppid", parent);
        }
        int differing = 0;
        printf(",\"other_namespaces\":[");
        for (size_t i = 0; i < COUNT(names); i++) {
            char theirs[64] = "", ours[64] = "";
            snprintf(path, sizeof path, "/proc/%.20s/ns/%s", entry->d_name, names[i]);
            if (readlink(path, theirs, sizeof theirs - 1) < 0)
                snprintf(theirs, sizeof theirs, "%s", error_name(errno));
            snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
            if (readlink(path, ours, sizeof ours - 1) < 0)
                continue;
            if (strcmp(theirs, ours) != 0)
                printf("%s\"%s %s\"", differing++ ? "," : "", names[i], theirs);
        }
        printf("]");
        end();
    }
    closedir(folder);
    begin("namespaces");
    for (size_t i = 0; i < COUNT(names); i++) {
        char path[64], ours[64] = "";
        snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
        if (readlink(path, ours, sizeof ours - 1) > 0)
            field(names[i], ours);
    }
    end();
}

/* mountinfo writes a space, a tab, a line end and a backslash as three octal digits. */
static char *unescaped(char *text) {
    char *to = text;
    for (char *from = text; *from; from++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] && from[3]) {
            *to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 3;
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
    return text;
}

static void mounts(void) {
    char *text = strdup(file_text("/proc/self/mountinfo"));
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) && *line;) {
        char *words[64];
        size_t count = 0, dash = 0;
        for (char *word; count < COUNT(words) && (word = strsep(&line, " "));) {
            if (strcmp(word, "-") == 0 && !dash)
                dash = count;
            words[count++] = word;
        }
        if (dash < 6 || count < dash + 4)
            continue;
        begin("mount");
        field("point", unescaped(words[4]));
        field("root", unescaped(words[3]));
        field("fstype", words[dash + 1]);
        field("source", unescaped(words[dash + 2]));
        field("options", words[5]);
        field("super_options", words[dash + 3]);
        field("propagation", dash > 6 ? words[6] : "private");
        end();
    }
    free(text);
}

static long reach(const char *where) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const char *rest = strchr(where, ':');
    if (!rest++) {
        errno = EINVAL;
        return -1;
    }
    if (strncmp(where, "tcp:", 4) == 0) {
        address.sin_port = htons((uint16_t)atoi(rest));
        return connect(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), (struct sockaddr *)&address, sizeof address);
    }
    int abstract = strncmp(where, "abstract:", 9) == 0;
    snprintf(name.sun_path + abstract, sizeof name.sun_path - 1, "%s", rest);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + abstract + strlen(rest) + !abstract);
    return connect(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), (struct sockaddr *)&name, size);
}

static void net(char **asked) {
    static const char *const tables[] = {"tcp", "tcp6", "udp", "udp6", "raw", "packet", "unix", "netlink", "route"};
    char *text = strdup(file_text("/proc/net/dev"));
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        char *colon = strchr(line, ':');
        if (!colon)
            continue;
        *colon = 0;
        line += strspn(line, " ");
        struct ifreq ask = {0};
        snprintf(ask.ifr_name, sizeof ask.ifr_name, "%s", line);
        int known = ioctl(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), SIOCGIFFLAGS, &ask) == 0;
        begin("interface");
        field("name", line);
        truth("up", known && (ask.ifr_flags & IFF_UP));
        end();
    }
    free(text);
    begin("sockets");
    for (size_t i = 0; i < COUNT(tables); i++) {
        char path[64];
        long lines = -1; /* the heading */
        snprintf(path, sizeof path, "/proc/net/%s", tables[i]);
        for (const char *at = file_text(path); *at; at++)
            lines += *at == '\n';
        number(tables[i], lines);
    }
    end();
    for (; asked && *asked; asked++) {
        if (attempting())
            outcome_is(reach(*asked));
        begin("connect");
        field("to", *asked);
        field("result", last_result());
        end();
    }
}

static void signals(void) {
    sigset_t mask;
    uint64_t blocked = 0, ignored = 0, caught = 0;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    for (int number = 1; number <= 64; number++) {
        struct sigaction action;
        if (sigismember(&mask, number) == 1)
            blocked |= 1ull << (number - 1);
        if (sigaction(number, NULL, &action) != 0)
            continue;
        if (action.sa_handler == SIG_IGN)
            ignored |= 1ull << (number - 1);
        else if (action.sa_handler != SIG_DFL)
            caught |= 1ull << (number - 1);
    }
    begin("signals");
    hex("blocked", blocked), hex("ignored", ignored), hex("caught", caught);
    end();
}

/* ── tools ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void wait_seconds(double seconds) {
    struct timespec left = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

static int copy(int from, int to) {
    static char bytes[1 << 16];
    for (ssize_t got; (got = read(from, bytes, sizeof bytes)) != 0;) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return 1;
        for (ssize_t done = 0, put; done < got; done += put)
            if ((put = write(to, bytes + done, (size_t)(got - done))) < 0)
                return 1;
    }
    return 0;
}

static void put_size(const char *what) {
    struct winsize size = {0};
    int known = 0;
    for (int fd = 0; fd < 3 && !known; fd++)
        known = ioctl(fd, TIOCGWINSZ, &size) == 0;
    begin(what);
    number("rows", known ? size.ws_row : -1);
    number("columns", known ? size.ws_col : -1);
    end();
}

static int tty(void) {
    for (int fd = 0; fd < 3; fd++) {
        char name[256] = "";
        begin("tty");
        number("fd", fd);
        truth("isatty", isatty(fd));
        field("name", ttyname_r(fd, name, sizeof name) == 0 ? name : "");
        struct termios state;
        if (tcgetattr(fd, &state) == 0)
            truth("echo", state.c_lflag & ECHO), truth("canonical", state.c_lflag & ICANON);
        number("foreground", tcgetpgrp(fd));
        end();
    }
    put_size("size");
    return 0;
}

/* Prints the size at once and at each change, until standard input ends. */
static int winch(void) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGWINCH);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    put_size("size");
    pid_t reader = fork();
    if (reader == 0) {
        char byte;
        while (read(0, &byte, 1) > 0)
            ;
        kill(getppid(), SIGTERM);
        _exit(0);
    }
    sigaddset(&mask, SIGTERM);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    for (int number; sigwait(&mask, &number) == 0 && number == SIGWINCH;)
        put_size("resized");
    kill(reader, SIGKILL);
    return 0;
}

/* Prints each of the usual signals that it gets; the second SIGNAL ends it with CODE. */
static int trap(int number, int code) {
    static const int heard[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};
    sigset_t mask;
    int count = 0, got;
    sigemptyset(&mask);
    sigaddset(&mask, number);
    for (size_t i = 0; i < COUNT(heard); i++)
        sigaddset(&mask, heard[i]);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    begin("ready");
    printf(",\"pid\":%d", getpid());
    end();
    while (sigwait(&mask, &got) == 0) {
        begin("signal");
        field("name", signal_name(got));
        end();
        if (got == number && ++count == 2)
            return code;
    }
    return 1;
}

static int daemonise(double seconds) {
    if (fork() == 0) {
        setsid();
        pid_t child = fork();
        if (child == 0) {
            wait_seconds(seconds);
            _exit(0);
        }
        begin("daemon");
        printf(",\"pid\":%d", child);
        end();
        _exit(0);
    }
    wait(NULL);
    return 0;
}

/* Leaves N dead grandchildren to process 1, then counts which of them nobody has waited for. */
static int orphans(int count) {
    for (int i = 0; i < count; i++) {
        if (fork() == 0) {
            if (fork() == 0) {
                wait_seconds(0.1);
                _exit(0);
            }
            _exit(0);
        }
        wait(NULL);
    }
    int dead = 0;
    for (int tries = 0; tries < 20; tries++) {
        wait_seconds(0.1);
        dead = 0;
        DIR *folder = opendir("/proc");
        for (struct dirent *entry; folder && (entry = readdir(folder));) {
            char path[300], state = 0;
            snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
            char *past_name = strrchr(file_text(path), ')');
            dead += past_name && sscanf(past_name, ") %c", &state) == 1 && state == 'Z';
        }
        if (folder)
            closedir(folder);
        if (tries > 2 && dead == 0)
            break;
    }
    begin("orphans");
    number("made", count);
    number("zombies", dead);
    end();
    return 0;
}

static int forkbomb(int count) {
    int made = 0, error = 0;
    pid_t *children = calloc((size_t)count + 1, sizeof *children);
    while (made < count) {
        pid_t child = fork();
        if (child < 0) {
            error = errno;
            break;
        }
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                pause();
        }
        children[made++] = child;
    }
    begin("forkbomb");
    number("made", made);
    field("result", error_name(error));
    end();
    for (int i = 0; i < made; i++)
        kill(children[i], SIGKILL);
    while (wait(NULL) > 0)
        ;
    return 0;
}

static int eat(long long bytes) {
    const size_t piece = 1 << 20;
    long long eaten = 0;
    int error = 0;
    while (eaten < bytes && !error) {
        char *room = mmap(NULL, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room == MAP_FAILED) {
            error = errno;
            break;
        }
        memset(room, 0x5a, piece);
        eaten += (long long)piece;
    }
    begin("eat");
    number("bytes", eaten);
    field("result", error_name(error));
    end();
    return error != 0;
}

/* For some seconds: tries to open for writing whatever program any other process runs. */
static int hunt(double seconds) {
    time_t until = time(NULL) + (time_t)seconds;
    long tries = 0, opened = 0;
    do {
        DIR *folder = opendir("/proc");
        for (struct dirent *entry; folder && (entry = readdir(folder));) {
            char path[300];
            if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
                continue;
            snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
            int reading = open(path, O_RDONLY | O_CLOEXEC);
            if (reading >= 0) {
                snprintf(path, sizeof path, "/proc/self/fd/%d", reading);
                int writing = open(path, O_WRONLY | O_CLOEXEC);
                tries++;
                if (writing >= 0 || errno == ETXTBSY) { /* busy: only the moment saves it */
                    char target[PATH_MAX] = "";
                    if (opened++ < 20 && readlink(path, target, sizeof target - 1) > 0) {
                        begin("writable_program");
                        field("path", target);
                        field("result", writing >= 0 ? "OK" : "ETXTBSY");
                        end();
                    }
                }
                if (writing >= 0)
                    close(writing);
                close(reading);
            }
        }
        if (folder)
            closedir(folder);
    } while (time(NULL) < until);
    begin("hunt");
    number("tries", tries);
    number("writable", opened);
    end();
    return 0;
}

static int list(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) {
        fprintf(stderr, "%s: %s\n", path, error_name(errno));
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        char full[PATH_MAX];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(full, sizeof full, "%s/%s", path, entry->d_name);
        begin("entry");
        field("name", entry->d_name);
        put_status(full);
        end();
    }
    closedir(folder);
    return 0;
}

static int file_tool(const char *tool, const char *path, const char *text) {
    int writes = strcmp(tool, "write") == 0;
    int file = open(path, writes ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY, 0666);
    if (file < 0 || (writes && write(file, text, strlen(text)) < 0) || (!writes && copy(file, 1) != 0)) {
        fprintf(stderr, "%s: %s\n", path, error_name(errno));
        return 1;
    }
    return 0;
}

/* ── which view, which tool ───────────────────────────────────────────────────────────────────────────────── */

/* What is tried may harm a host: only in a user namespace that is not the first, and only when asked by word. */
static void insist_on_sandbox(const char *word) {
    unsigned first = 1, outside = 1, count = 0;
    if (!word || strcmp(word, "inside") != 0) {
        fprintf(stderr, "probe: refuses without the word `inside`\n");
        exit(64);
    }
    if (sscanf(file_text("/proc/self/uid_map"), "%u %u %u", &first, &outside, &count) != 3) {
        fprintf(stderr, "probe: refuses without /proc: it cannot tell which user namespace this is\n");
        exit(64);
    }
    if (first == 0 && outside == 0 && count == 4294967295u) { /* the first namespace maps every id to itself */
        fprintf(stderr, "probe: refuses in the first user namespace\n");
        exit(64);
    }
}

static int tool(const char *name, char **rest) {
    const char *one = rest[0] ? rest[0] : "0", *two = rest[0] && rest[1] ? rest[1] : "0";
    if (strcmp(name, "true") == 0)
        return 0;
    if (strcmp(name, "exit") == 0)
        return atoi(one);
    if (strcmp(name, "kill") == 0) {
        signal(signal_number(one), SIG_DFL);
        kill(getpid(), signal_number(one));
        return 0; /* process 1 of a namespace does not die of its own signals */
    }
    if (strcmp(name, "sleep") == 0)
        return wait_seconds(atof(one)), 0;
    if (strcmp(name, "cat") == 0)
        return copy(0, 1);
    if (strcmp(name, "tty") == 0)
        return tty();
    if (strcmp(name, "winch") == 0)
        return winch();
    if (strcmp(name, "trap") == 0)
        return trap(signal_number(one), atoi(two));
    if (strcmp(name, "daemon") == 0)
        return daemonise(atof(one));
    if (strcmp(name, "orphans") == 0)
        return orphans(atoi(one));
    if (strcmp(name, "forkbomb") == 0)
        return forkbomb(atoi(one));
    if (strcmp(name, "eat") == 0)
        return eat(atoll(one));
    if (strcmp(name, "hunt") == 0)
        return hunt(atof(one));
    if (strcmp(name, "ls") == 0)
        return list(one);
    if (strcmp(name, "read") == 0 || strcmp(name, "write") == 0)
        return file_tool(name, one, two);
    fprintf(stderr, "probe: no view or tool is called `%s`\n", name);
    return 64;
}

int main(int count, char **arguments) {
    const char *view = count > 1 ? arguments[1] : "";
    char **rest = arguments + (count > 1 ? 2 : 1);
    int all = strcmp(view, "all") == 0;
    if (all || strcmp(view, "surface") == 0 || strcmp(view, "files") == 0) {
        insist_on_sandbox(rest[0]);
        rest++;
    }
    if (strcmp(view, "argv") == 0) {
        begin("argv");
        put_list("values", arguments);
        end();
        return 0;
    }
    int known = 0;
    if (all || strcmp(view, "signals") == 0) /* first, and identity next: before we change anything ourselves */
        signals(), known = 1;
    signal(SIGCHLD, SIG_DFL); /* ignored ones cannot be waited for */
    if (all || strcmp(view, "identity") == 0)
        identity(arguments), known = 1;
    if (all || strcmp(view, "processes") == 0)
        processes(), known = 1;
    if (all || strcmp(view, "mounts") == 0)
        mounts(), known = 1;
    if (all || strcmp(view, "net") == 0)
        net(rest), known = 1;
    if (all || strcmp(view, "files") == 0)
        files(), known = 1;
    if (all || strcmp(view, "surface") == 0)
        only = all ? NULL : rest, surface(), known = 1;
    return known ? 0 : tool(view, rest);
}
