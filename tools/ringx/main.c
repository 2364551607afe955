/* SPDX-License-Identifier: MIT */
/* ringx: informs, verifies, benchmarks, plans, and runs attention on the user's own tensors. */
#include "launch.h"

static const program_command *const commands[] = {&command_info, &command_verify, &command_bench,
                                                  &command_plan, &command_run,    NULL};

static void defaults(void *settings_of_command)
{
    settings_defaults(settings_of_command);
}

static void release(void *settings_of_command)
{
    settings_free(settings_of_command);
}

int main(int argc, char **argv)
{
    static const program ringx = {.name = "ringx",
                                  .tagline = "exact attention over sequences that are split over many ranks",
                                  .commands = commands,
                                  .column = 10,
                                  .defaults = defaults,
                                  .release = release,
                                  .speaks = launch_speaks,
                                  .finish = launch_finish};
    return program_main(&ringx, argc, argv);
}
