/* SPDX-License-Identifier: MIT */
/* ringx-vit: a vision transformer of the weather, with long sequences. */
#include "vit/vit_command.h"

static const program_command *const commands[] = {&vit_import_command,
                                                  &vit_train_command,
                                                  &vit_predict_command,
                                                  &vit_plan_command,
                                                  &vit_picture_command,
                                                  &vit_convert_command,
                                                  NULL};

int main(int argc, char **argv)
{
    static const program vit = {.name = "ringx-vit",
                                .tagline = "a vision transformer of the weather, with long sequences",
                                .commands = commands,
                                .column = 10,
                                .trains = true};
    return program_main(&vit, argc, argv);
}
