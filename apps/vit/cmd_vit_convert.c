/* SPDX-License-Identifier: MIT */
/* ringx-vit convert: weights between checkpoints and safetensors files, the original's among them. */
#include "vit/vit_checkpoint.h"
#include "vit/vit_command.h"
#include "vit/vit_config_rows.h"
#include "vit/vit_weights.h"

#include <string.h>

typedef struct convert_settings {
    given_arguments given;
    vit_config_settings config;
    file_list input;
    const char *output;
    int64_t form, dtype;
} convert_settings;

enum { TO_SAFETENSORS, TO_CHECKPOINT };
static const char *const forms[] = {"safetensors", "checkpoint", NULL};
static const char *const dtype_names[] = {"f32", "bf16", "f16", NULL}; /* by ringx_dtype */

static int read_files(vit_model *m, const vit_config *c, const file_list *files)
{
    bool spread;
    int code = vit_weights_read(m, files->items, files->count, &spread);
    if (!code && spread && c->layer_norm_eps < 1e-5)
        puts("note: the original trained these over several ranks, with an eps of 1e-5 in the norms of its blocks; the "
             "configuration should have layer_norm_eps: 1e-5");
    return code;
}

static int read_checkpoint(vit_model *m, const vit_config *c, group *alone)
{
    checkpoint from;
    int code = checkpoint_find_named(alone, c->save_path, VIT_CHECKPOINTS, -1, &from);
    if (code)
        return code;
    if (from.iteration < 0)
        code = fail(CODE_MISSING, "%s: holds no checkpoint", c->save_path);
    if (!code)
        code = vit_fixed_check(c, 0, &from);
    if (!code)
        code = vit_weights_load(m, &from);
    if (!code)
        printf("read %s\n", from.path);
    checkpoint_close(&from);
    return code;
}

static int convert_with(const vit_config *c, group *alone, const convert_settings *s)
{
    vit_model *m;
    vit_shape shape = vit_shape_of(c);
    nn_context on;
    int code = nn_open(&on, RINGX_CPU);
    if (code)
        return code;
    code = vit_model_create(&m, &shape, RINGX_F32, &on, (vit_groups){0});
    if (!code)
        code = s->input.count ? read_files(m, c, &s->input) : read_checkpoint(m, c, alone);
    if (!code)
        code = s->form == TO_CHECKPOINT ? vit_weights_save(m, c, alone, s->output)
                                        : vit_weights_write(m, (ringx_dtype)s->dtype, s->output);
    vit_model_destroy(m);
    nn_close(&on);
    return code;
}

static int convert(group *world, void *settings)
{
    const convert_settings *s = settings;
    vit_config c;
    if (group_ranks(world) > 1)
        return fail(CODE_USAGE, "%d ranks; convert is the work of one process", group_ranks(world));
    int code = vit_config_open(&c, &s->config);
    if (code)
        return code;
    code = convert_with(&c, world, s);
    vit_config_free(&c);
    return code;
}

static int run(void *settings)
{
    const convert_settings *s = settings;
    return s->output ? group_world_run(convert, settings)
                     : fail(CODE_USAGE, "output is missing; it names the file or folder to write");
}

#define FIELD(name) offsetof(convert_settings, name)

static const option config_rows[] = {VIT_CONFIG_ROWS(convert_settings), {0}};
static const option file_rows[] = {
    {.name = "input",
     .value = "FILES",
     .text = "a .safetensors file, or one of each tensor rank in their order (default: the newest checkpoint of "
             "save_path)",
     .kind = OPTION_FILES,
     .field = FIELD(input)},
    {.name = "output", .value = "PATH", .text = "what to write", .kind = OPTION_TEXT, .field = FIELD(output)},
    {.name = "to",
     .value = "FORM",
     .text = "safetensors (default): one file, the form of one device; checkpoint: a folder, to be the save_path of "
             "predict, or of train, which begins from these weights",
     .kind = OPTION_CHOICE,
     .field = FIELD(form),
     .choices = forms},
    {.name = "dtype",
     .value = "TYPE",
     .text = "of the file: f32 (default), bf16 or f16",
     .kind = OPTION_CHOICE,
     .field = FIELD(dtype),
     .choices = dtype_names},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = FIELD(given.help)},
    {0}};
static const option_group groups[] = {{"Configuration", config_rows}, {"Files", file_rows}, {0}};

const program_command vit_convert_command = {
    .options = {.program = "ringx-vit",
                .name = "convert",
                .text = "weights between checkpoints and safetensors files, the original's among them",
                .help =
                    "A state dictionary of the original, saved as safetensors, is read as it is: names with module.\n"
                    "before them, norm1.norm.weight, biases of shape [1, 1, n], F32, BF16 or F16.\n",
                .groups = groups,
                .run = run},
    .settings_bytes = sizeof(convert_settings),
};
