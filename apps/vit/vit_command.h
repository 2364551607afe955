/* SPDX-License-Identifier: MIT */
/* The subcommands of ringx-vit. */
#ifndef RINGX_VIT_COMMAND_H
#define RINGX_VIT_COMMAND_H

#include "shared/program_main.h"

extern const program_command vit_import_command, vit_train_command, vit_predict_command;
extern const program_command vit_plan_command, vit_picture_command, vit_convert_command;

#endif
