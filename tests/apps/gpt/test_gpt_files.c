/* SPDX-License-Identifier: MIT */
/* Models of Hugging Face: what is read and written again is the same, byte for byte, also over tensor ranks. */
#include "llama_case.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RANKS = 2 };
static char folder[] = "/tmp/gpt_files_XXXXXX";

static void path_of(char path[256], const char *name)
{
    snprintf(path, 256, "%s/%s", folder, name);
}

static void remove_all(void)
{
    static const char *const names[] = {"config.json", "model.safetensors", "model.safetensors.index.json",
                                        "a.safetensors", "b.safetensors"};
    char path[256];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        path_of(path, names[i]);
        unlink(path);
    }
}

typedef struct member {
    group *tensor;
    int code;
} member;

static void *write_part(void *argument)
{
    member *r = argument;
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){.tensor = r->tensor});
    r->code = hf_write(m, folder);
    gpt_model_destroy(m);
    return NULL;
}

static void assert_written(void)
{
    char path[256];
    st_file found, right;
    gpt_config c, d;
    path_of(path, "model.safetensors");
    good(st_open(&found, path));
    good(st_open(&right, llama_model));
    assert_int_equal(found.n_tensors, right.n_tensors);
    for (size_t i = 0; i < right.n_tensors; i++) {
        size_t bytes[2];
        const st_tensor *t = st_find(&found, right.tensors[i].name);
        void *a = tensor_of(&found, right.tensors[i].name, &bytes[0]);
        void *b = tensor_of(&right, right.tensors[i].name, &bytes[1]);
        assert_int_equal(t->rank, right.tensors[i].rank);
        assert_memory_equal(t->shape, right.tensors[i].shape, (size_t)t->rank * sizeof t->shape[0]);
        assert_int_equal(bytes[0], bytes[1]);
        assert_memory_equal(a, b, bytes[0]);
        free(a), free(b);
    }
    st_close(&found), st_close(&right);
    path_of(path, "config.json");
    good(hf_config_read(&c, path));
    good(hf_config_read(&d, llama_config));
    assert_memory_equal(&c, &d, sizeof c);
}

static void written_again_is_the_same(void **state)
{
    (void)state;
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){0});
    good(hf_write(m, folder));
    gpt_model_destroy(m);
    assert_written();
    remove_all();
}

static void over_tensor_ranks(void **state)
{
    (void)state;
    group *groups[RANKS];
    member members[RANKS];
    pthread_t threads[RANKS];
    good(group_threads(RANKS, groups));
    for (int r = 0; r < RANKS; r++) {
        members[r] = (member){groups[r], -1};
        assert_int_equal(pthread_create(&threads[r], NULL, write_part, &members[r]), 0);
    }
    for (int r = 0; r < RANKS; r++) {
        pthread_join(threads[r], NULL);
        good(members[r].code);
    }
    for (int r = 0; r < RANKS; r++)
        group_destroy(groups[r]);
    assert_written();
    remove_all();
}

/* The tensors of the model, every second one in another file; without: leaves one out. */
static void write_shards(const gpt_model *m, const char *without)
{
    st_output *o[2];
    const gpt_parameter *p;
    size_t n = gpt_model_parameters(m, &p);
    char path[256];
    path_of(path, "a.safetensors");
    good(st_create(&o[0], path));
    path_of(path, "b.safetensors");
    good(st_create(&o[1], path));
    path_of(path, "model.safetensors.index.json");
    FILE *index = fopen(path, "w");
    fprintf(index, "{\"metadata\": {}, \"weight_map\": {");
    for (size_t i = 0; i < n; i++) {
        const int64_t shape[2] = {p[i].split ? p[i].rows : p[i].columns, p[i].columns};
        if (without && strcmp(without, p[i].name) == 0)
            continue;
        good(st_declare(o[i % 2], p[i].name, ST_F32, p[i].split ? 2 : 1, shape));
        fprintf(index, "%s\"%s\": \"%s.safetensors\"", i ? ", " : "", p[i].name, i % 2 ? "b" : "a");
    }
    fprintf(index, "}}\n");
    fclose(index);
    for (size_t i = 0; i < n; i++)
        if (!without || strcmp(without, p[i].name) != 0)
            good(st_write(o[i % 2], (const float *)gpt_model_weights((gpt_model *)m) + p[i].offset,
                          p[i].count * sizeof(float)));
    good(st_commit(o[0]));
    good(st_commit(o[1]));
}

static void several_files_with_an_index(void **state)
{
    (void)state;
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){0});
    size_t bytes = gpt_model_elements(m) * sizeof(float);
    void *copy = malloc(bytes);
    memcpy(copy, gpt_model_weights(m), bytes);
    write_shards(m, NULL);
    poison(gpt_model_weights(m), bytes);
    good(hf_weights_read(m, folder));
    assert_memory_equal(copy, gpt_model_weights(m), bytes);
    write_shards(m, "model.layers.1.mlp.up_proj.weight");
    assert_int_equal(hf_weights_read(m, folder), CODE_BAD_INPUT);
    assert_non_null(strstr(failure(), "model.layers.1.mlp.up_proj.weight is missing"));
    remove_all();
    assert_int_equal(hf_weights_read(m, folder), CODE_MISSING);
    assert_int_equal(hf_write(m, "/proc/nowhere"), CODE_CANNOT_WRITE);
    free(copy);
    gpt_model_destroy(m);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    remove_all();
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(written_again_is_the_same), cmocka_unit_test(over_tensor_ranks),
                                       cmocka_unit_test(several_files_with_an_index)};
    return cmocka_run_group_tests_name("gpt_files", tests, make_folder, remove_folder);
}
