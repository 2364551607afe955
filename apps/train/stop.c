/* SPDX-License-Identifier: MIT */
/* Signal handlers that only note, and the agreement about what they noted. */
#include "train/stop.h"

#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t asked_here, ended_here;

static void note(int signal_number)
{
    if (signal_number == SIGTERM && ended_here)
        _exit(128 + SIGTERM);
    ended_here = ended_here || signal_number == SIGTERM;
    asked_here = 1;
}

void stop_watch(void)
{
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* a closed log is an error of writing, not an end */
}

int stop_asked(group *world, bool *asked)
{
    double any = asked_here;
    int code = group_max(world, &any);
    *asked = any > 0;
    return code;
}
