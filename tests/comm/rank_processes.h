/* SPDX-License-Identifier: MIT */
/* Runs a function on ranks that are processes of this machine and find each other by their environment, joins them, and
 * tells what each found. */
#ifndef RINGX_TESTS_RANK_PROCESSES_H
#define RINGX_TESTS_RANK_PROCESSES_H

#include "comm/comm.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { MOST_PROCESSES = 8 };

typedef struct rank_process { /* in memory that parent and children share */
    ringx_status status;
    double seconds;
    bool wrong;    /* a check failed: message says which */
    bool finished; /* the body returned */
    char message[RINGX_MESSAGE_BYTES + 256];
} rank_process;

typedef struct process_world {
    int ranks, port;
    pid_t pid[MOST_PROCESSES];
    rank_process *found; /* [ranks] */
} process_world;

typedef void (*process_body)(int rank, rank_process *found, void *context);

/* Below those that systems give to connections, so that none of these takes it. */
static inline int free_port(void)
{
    static int next;
    for (;;) {
        int port = 10000 + ((int)getpid() * 17 + next++) % 20000, s = socket(AF_INET, SOCK_STREAM, 0), on = 1;
        struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        bool good = bind(s, (struct sockaddr *)&any, sizeof any) == 0 && listen(s, 1) == 0;
        close(s);
        if (good)
            return port;
    }
}

static inline void set_number(const char *name, int value)
{
    char text[20];
    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 1);
}

static inline void set_rank(int rank, int ranks, int port)
{
    set_number("RANK", rank);
    set_number("WORLD_SIZE", ranks);
    set_number("MASTER_PORT", port);
    setenv("MASTER_ADDR", "127.0.0.1", 1);
}

static inline void start_processes(process_world *w, int ranks, process_body body, void *context)
{
    size_t bytes = MOST_PROCESSES * sizeof *w->found;
    void *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    *w = (process_world){.ranks = ranks, .port = free_port(), .found = shared};
    fflush(NULL);
    for (int r = 0; r < ranks; r++) {
        w->pid[r] = fork();
        assert_true(w->pid[r] >= 0);
        if (w->pid[r] > 0)
            continue;
        set_rank(r, ranks, w->port);
        body(r, &w->found[r], context);
        w->found[r].finished = true;
        _exit(0);
    }
}

static inline void join_processes(process_world *w)
{
    for (int r = 0; r < w->ranks; r++) {
        int how;
        assert_int_equal(waitpid(w->pid[r], &how, 0), w->pid[r]);
        if (WIFSIGNALED(how) && WTERMSIG(how) != SIGKILL)
            fail_msg("rank %d ended with signal %d", r, WTERMSIG(how));
        if (WIFEXITED(how) && WEXITSTATUS(how) != 0)
            fail_msg("rank %d ended with code %d", r, WEXITSTATUS(how));
    }
}

static inline void found_status(rank_process *found, ringx_status status)
{
    found->status = status;
    if (status != RINGX_OK)
        snprintf(found->message, sizeof found->message, "%s", ringx_last_error());
}

static inline void expect_found(const process_world *w, int rank, ringx_status status, const char *part)
{
    const rank_process *f = &w->found[rank];
    if (!f->finished || f->wrong || f->status != status || (part && !strstr(f->message, part)))
        fail_msg("rank %d: %s%sstatus %d (%s), message \"%s\"; expected %d (%s) and \"%s\"", rank,
                 f->finished ? "" : "unfinished, ", f->wrong ? "wrong, " : "", (int)f->status,
                 ringx_status_name(f->status), f->message, (int)status, ringx_status_name(status), part ? part : "");
}

static inline void drop_processes(process_world *w)
{
    munmap(w->found, MOST_PROCESSES * sizeof *w->found);
}

#endif
