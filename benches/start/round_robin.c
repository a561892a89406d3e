/* The round-robin stopwatch: runs each command once per round, so that a busy neighbour hits all alike.
 *
 *     round_robin LIST ROUNDS [AT_ONCE]
 *
 * A line of LIST is NAME<TAB>COMMAND (words parted by blanks, no quoting) and is run with its input and
 * output on /dev/null. The line called `floor` is what the others are divided by. With AT_ONCE above 1
 * that many copies start together and the time is until the last has ended.
 * A command that fails in its very first run is reported and left out: what cannot run has no number.
 * Three rounds come before the counted ones. Times are wall clock from spawn to reaped, in ms; CPU is
 * user and system together; RSS is the largest process of the tree that was waited for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COMMANDS_MAX 32
#define WORDS_MAX 96
#define AT_ONCE_MAX 256
#define WARM_ROUNDS 3

struct command {
    char *name, *words[WORDS_MAX + 1];
    double *wall_ms, *cpu_ms;
    long rss_kib;
    int failures, left_out;
};

extern char **environ;
static struct command commands[COMMANDS_MAX];
static int count;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static double as_ms(struct timeval t) { return t.tv_sec * 1e3 + t.tv_usec / 1e3; }

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void *room(size_t items, size_t size) {
    void *memory = calloc(items, size);
    if (!memory) exit(2);
    return memory;
}

static void read_list(const char *path, int rounds) {
    static char line[8192];
    FILE *list = fopen(path, "r");
    if (!list) {
        perror(path);
        exit(2);
    }
    while (count < COMMANDS_MAX && fgets(line, sizeof line, list)) {
        line[strcspn(line, "\n")] = 0;
        char *tab = strchr(line, '\t');
        if (!tab) continue;
        *tab = 0;
        struct command *c = &commands[count++];
        c->name = strdup(line);
        int n = 0;
        for (char *word = strtok(tab + 1, " "); word && n < WORDS_MAX; word = strtok(NULL, " "))
            c->words[n++] = strdup(word);
        c->wall_ms = room((size_t)rounds, sizeof(double));
        c->cpu_ms = room((size_t)rounds, sizeof(double));
    }
    fclose(list);
}

/* Runs `copies` of the command; the number that failed. */
static int run(struct command *c, int copies, const posix_spawn_file_actions_t *quiet, double *wall, double *cpu) {
    pid_t children[AT_ONCE_MAX];
    int failed = 0;
    double begin = now_ms();
    *cpu = 0;
    for (int i = 0; i < copies; i++)
        if (posix_spawnp(&children[i], c->words[0], quiet, NULL, c->words, environ)) children[i] = -1;
    for (int i = 0; i < copies; i++) {
        int status = 1;
        struct rusage used = {0};
        while (children[i] > 0 && wait4(children[i], &status, 0, &used) < 0 && errno == EINTR) {}
        failed += status != 0;
        *cpu += as_ms(used.ru_utime) + as_ms(used.ru_stime);
        if (used.ru_maxrss > c->rss_kib) c->rss_kib = used.ru_maxrss;
    }
    *wall = now_ms() - begin;
    return failed;
}

static void print_table(int rounds) {
    struct command *floor = NULL;
    for (int i = 0; i < count; i++) {
        if (commands[i].left_out) continue;
        qsort(commands[i].wall_ms, (size_t)rounds, sizeof(double), by_size);
        qsort(commands[i].cpu_ms, (size_t)rounds, sizeof(double), by_size);
        if (!strcmp(commands[i].name, "floor")) floor = &commands[i];
    }
    printf("%-24s %8s %8s %8s %8s %8s %5s  x floor: min   p25   median\n", "ms", "min", "p25", "median", "CPU",
           "RSS MiB", "fail");
    for (int i = 0; i < count; i++) {
        struct command *c = &commands[i];
        if (c->left_out) {
            printf("%-24s cannot run here\n", c->name);
            continue;
        }
        double *w = c->wall_ms;
        printf("%-24s %8.2f %8.2f %8.2f %8.2f %8.1f %5d", c->name, w[0], w[rounds / 4], w[rounds / 2],
               c->cpu_ms[rounds / 2], c->rss_kib / 1024.0, c->failures);
        if (floor) {
            double *f = floor->wall_ms;
            printf("  %12.2f %5.2f %8.2f", w[0] / f[0], w[rounds / 4] / f[rounds / 4], w[rounds / 2] / f[rounds / 2]);
        }
        printf("\n");
    }
}

int main(int argc, char **argv) {
    int rounds = argc > 2 ? atoi(argv[2]) : 0, copies = argc > 3 ? atoi(argv[3]) : 1;
    if (rounds < 1 || copies < 1 || copies > AT_ONCE_MAX) {
        fprintf(stderr, "usage: round_robin LIST ROUNDS [AT_ONCE, up to %d]\n", AT_ONCE_MAX);
        return 2;
    }
    read_list(argv[1], rounds);
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    if (!getenv("SHOW_ERRORS")) posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
    for (int r = -WARM_ROUNDS; r < rounds; r++)
        for (int i = 0; i < count; i++) {
            struct command *c = &commands[i];
            if (c->left_out) continue;
            double wall, cpu;
            int failed = run(c, copies, &quiet, &wall, &cpu);
            if (r == -WARM_ROUNDS && failed) c->left_out = 1;
            if (r < 0) continue;
            c->failures += failed;
            c->wall_ms[r] = wall;
            c->cpu_ms[r] = cpu;
        }
    print_table(rounds);
    return 0;
}
