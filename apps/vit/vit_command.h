/* SPDX-License-Identifier: MIT */
/* The subcommands of ringx-vit. */
#ifndef RINGX_VIT_COMMAND_H
#define RINGX_VIT_COMMAND_H

#include "shared/options.h"

typedef struct vit_command {
    subcommand options;
    size_t settings_bytes; /* of its settings, which begin with given_arguments; they are zeroed, then defaults runs */
} vit_command;

extern const vit_command vit_import_command, vit_train_command, vit_predict_command;
extern const vit_command vit_plan_command, vit_picture_command;

#endif
