/* SPDX-License-Identifier: MIT */
/* The configuration that a subcommand's options name. */
#include "vit/vit_config_rows.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_SETTINGS 128
#define MAX_TEXT     4096

typedef struct setting_list {
    char *items[MAX_SETTINGS + 1]; /* "key=value", ended by NULL */
    size_t count;
} setting_list;

static int add(setting_list *list, const char *key, const char *value)
{
    char *text = NULL;
    if (!value)
        return CODE_GOOD;
    if (list->count == MAX_SETTINGS)
        return fail(CODE_USAGE, "more than %d settings", MAX_SETTINGS);
    if (asprintf(&text, "%s%s%s", key, *key ? "=" : "", value) < 0)
        return fail(CODE_NO_MEMORY, "out of memory for settings");
    list->items[list->count++] = text;
    return CODE_GOOD;
}

static int collect(setting_list *list, const vit_config_settings *s)
{
    /* --amp_mode none is the original's default, and stands for what the file says. */
    const char *amp = s->amp_mode && strcmp(s->amp_mode, "none") != 0 ? s->amp_mode : NULL;
    const struct {
        const char *key, *value;
    } rows[] = {
        {"run_num", s->run_num},
        {"amp_mode", amp},
        {"local_batch_size", s->local_batch_size},
        {"num_iters", s->num_iters},
        {"num_data_workers", s->num_data_workers},
        {"data_loader_config", s->data_loader_config},
        {"bucket_cap_mb", s->bucket_cap_mb},
        {"tensor_parallel", s->tensor_parallel},
        {"context_parallel", s->context_parallel},
        {"parallel_order", s->parallel_order},
        {"enable_fused", s->enable_fused ? "true" : NULL},
        {"enable_jit", s->enable_jit ? "true" : NULL},
        {"disable_broadcast_buffers", s->disable_broadcast_buffers ? "true" : NULL},
        {"noddp", s->noddp ? "true" : NULL},
    };
    int code = CODE_GOOD;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !code; i++)
        code = add(list, rows[i].key, rows[i].value);
    for (size_t i = 0; i < s->set.count && !code; i++)
        code = add(list, "", s->set.items[i]);
    return code;
}

/* The shipped file: beside the program where it was built, else where it is installed. */
static const char *shipped(char path[MAX_TEXT])
{
    static const char *const places[] = {"ViT.yaml", "../share/ringx/vit/ViT.yaml"};
    char program[MAX_TEXT / 2];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; slash && i < sizeof places / sizeof *places; i++) {
        snprintf(path, MAX_TEXT, "%s/%s", program, places[i]);
        if (access(path, R_OK) == 0)
            return path;
    }
    return NULL;
}

int vit_config_open(vit_config *c, const vit_config_settings *s)
{
    static const char usual[] = "./config/ViT.yaml";
    char place[MAX_TEXT];
    setting_list list = {.count = 0};
    const char *file = s->yaml_config;
    if (!file)
        file = access(usual, R_OK) == 0 ? usual : shipped(place);
    int code = collect(&list, s);
    if (!code)
        code = vit_config_read(c, file ? file : usual, s->config ? s->config : "base", list.items);
    for (size_t i = 0; i < list.count; i++)
        free(list.items[i]);
    return code;
}
