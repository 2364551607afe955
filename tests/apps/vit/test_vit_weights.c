/* SPDX-License-Identifier: MIT */
/* Weights from and to safetensors files: every form of the original is the same model, a file that is not one is
 * refused by name; and through a checkpoint of weights alone. */
#include "vit_case.h"

#include <unistd.h>

#include "vit/vit_checkpoint.h"
#include "vit/vit_weights.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/ringx_weights_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return folder_remove(folder);
}

static char *in_folder(const char *name, char path[256])
{
    snprintf(path, 256, "%s/%s", folder, name);
    return path;
}

/* A model whose weights are poison, or the oracle's. */
static vit_model *make_model(bool oracle)
{
    vit_model *m;
    good(vit_model_create(&m, &oracle_shape, RINGX_F32, &cpu, (vit_groups){0}));
    poison(vit_model_weights(m), vit_model_elements(m) * sizeof(float));
    if (oracle)
        oracle_weights(m);
    return m;
}

/* ---- files in the forms of the original ---- */

typedef struct form {
    int files;
    bool several; /* names and shapes of several ranks */
    ringx_dtype dtype;
    /* what is wrong with one tensor of the last file */
    const char *which, *renamed; /* NULL: left out */
    bool turned, damaged;
} form;

/* By rows, columns, or not: as the ranks of the original's tensor group have it. */
static int cut_of(const vit_parameter *p)
{
    static const char *const rows[] = {"attn.q", "attn.k", "attn.v", "mlp.fc1"};
    for (int i = 0; i < 4; i++)
        if (strstr(p->name, rows[i]))
            return p->vector ? 2 : 1;
    return !p->vector && (strstr(p->name, "attn.proj") || strstr(p->name, "mlp.fc2")) ? 2 : 0;
}

static void stored_name(const form *f, const char *name, char to[128])
{
    const char *norm = strstr(name, ".norm1.") ? strstr(name, ".norm1.") : strstr(name, ".norm2.");
    if (norm && f->several)
        snprintf(to, 128, "module.%.*s.norm.%s", (int)(norm + 6 - name), name, norm + 7);
    else
        snprintf(to, 128, "%s%s", f->several ? "module." : "", name);
}

static int stored_shape(const form *f, const vit_parameter *p, int64_t rows, int64_t columns, int64_t shape[4])
{
    bool patch = strcmp(p->name, "patch_embed.proj.weight") == 0;
    if (patch) {
        shape[0] = 32, shape[1] = 5, shape[2] = shape[3] = 4;
        return 4;
    }
    bool ones = p->vector ? f->several && cut_of(p) : strcmp(p->name, "pos_embed") == 0;
    int rank = 0;
    if (ones)
        shape[rank++] = 1;
    if (ones && p->vector)
        shape[rank++] = 1;
    if (!p->vector)
        shape[rank++] = rows;
    shape[rank++] = columns;
    return rank;
}

static const st_dtype stored[] = {ST_F32, ST_BF16, ST_F16};

static void declare_one(st_output *o, const form *f, const vit_parameter *p, const char *name, bool last)
{
    int64_t shape[4], rows = p->rows / (cut_of(p) == 1 ? f->files : 1);
    int64_t columns = p->columns / (cut_of(p) == 2 ? f->files : 1);
    int rank = stored_shape(f, p, rows, columns, shape);
    if (last && f->turned && strcmp(p->name, f->which) == 0) {
        int64_t first = shape[0];
        shape[0] = shape[rank - 1], shape[rank - 1] = first;
    }
    good(st_declare(o, name, stored[f->dtype], rank, shape));
}

static void write_one(st_output *o, const form *f, const vit_parameter *p, const float *whole, int at, bool damage)
{
    int64_t rows = p->rows / (cut_of(p) == 1 ? f->files : 1), columns = p->columns / (cut_of(p) == 2 ? f->files : 1);
    int64_t row = cut_of(p) == 1 ? at * rows : 0, column = cut_of(p) == 2 ? at * columns : 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
            double value = (double)whole[(row + r) * p->columns + column + c] + (damage ? 1 : 0);
            char bytes[4];
            from_doubles(f->dtype, &value, bytes, 1);
            good(st_write(o, bytes, dtype_bytes(f->dtype)));
        }
}

static void write_form(const form *f, vit_model *m, char paths[4][256], char *files[4])
{
    const vit_parameter *all;
    size_t n = vit_model_parameters(m, &all);
    const float *values = vit_model_weights(m);
    for (int at = 0; at < f->files; at++) {
        char name[128];
        st_output *o;
        bool last = at == f->files - 1;
        snprintf(name, sizeof name, "part%d.safetensors", at);
        files[at] = in_folder(name, paths[at]);
        good(st_create(&o, files[at]));
        for (int turn = 0; turn < 2; turn++)
            for (size_t i = n; i-- > 0;) { /* in another order than ours */
                bool which = last && f->which && strcmp(all[i].name, f->which) == 0;
                bool changed = which && !f->turned && !f->damaged;
                if (changed && !f->renamed)
                    continue;
                if (changed)
                    snprintf(name, sizeof name, "%s", f->renamed);
                else
                    stored_name(f, all[i].name, name);
                if (turn == 0)
                    declare_one(o, f, &all[i], name, last);
                else
                    write_one(o, f, &all[i], values + all[i].offset, at, which && f->damaged);
            }
        good(st_commit(o));
    }
}

static void forms_are_the_same_model(void **state)
{
    (void)state;
    static const form forms[] = {
        {.files = 1},
        {.files = 1, .several = true},
        {.files = 2, .several = true},
        {.files = 4, .several = true},
        {.files = 2},
        {.files = 1, .dtype = RINGX_BF16},
        {.files = 2, .dtype = RINGX_F16, .several = true},
    };
    vit_model *right = make_model(true);
    const float *expected = vit_model_weights(right);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char paths[4][256], *files[4];
        bool spread = !forms[i].several;
        vit_model *m = make_model(false);
        write_form(&forms[i], right, paths, files);
        good(vit_weights_read(m, files, (size_t)forms[i].files, &spread));
        assert_int_equal(spread, forms[i].several);
        const float *found = vit_model_weights(m);
        double worst = 0;
        for (size_t j = 0; j < vit_model_elements(m); j++) {
            double off = fabs((double)found[j] - (double)expected[j]) / (fabs((double)expected[j]) + 1e-3);
            worst = off <= worst ? worst : off; /* NaN never passes */
        }
        if (!(worst <= (forms[i].dtype == RINGX_F32 ? 0 : 0x1p-8)))
            fail_msg("form %zu: off by %g", i, worst);
        vit_model_destroy(m);
    }
    vit_model_destroy(right);
}

static void other_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        form form;
        const char *words;
    } cases[] = {
        {{.files = 1, .which = "norm.bias"}, "part0.safetensors: tensor norm.bias is missing"},
        {{.files = 2, .which = "blocks.1.mlp.fc1.bias"}, "part1.safetensors: tensor blocks.1.mlp.fc1.bias is missing"},
        {{.files = 1, .which = "norm.bias", .renamed = "norm.bais"}, "tensor norm.bais is not part of this model"},
        {{.files = 1, .which = "norm.bias", .renamed = "module.norm.weight"}, "tensor norm.weight is there twice"},
        {{.files = 1, .which = "blocks.0.mlp.fc2.weight", .turned = true},
         "tensor blocks.0.mlp.fc2.weight has shape [128, 32]; it must be [32, 128]"},
        {{.files = 2, .which = "blocks.0.mlp.fc2.weight", .turned = true},
         "tensor blocks.0.mlp.fc2.weight has shape [64, 32]; it must be [32, 128], cut over the files"},
        {{.files = 2, .which = "blocks.0.norm2.weight", .damaged = true},
         "part1.safetensors: tensor blocks.0.norm2.weight is not that of the first file"},
    };
    vit_model *right = make_model(true), *m = make_model(false);
    bool spread;
    char paths[4][256], *files[4];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_form(&cases[i].form, right, paths, files);
        int code = vit_weights_read(m, files, (size_t)cases[i].form.files, &spread);
        if (code != CODE_BAD_INPUT || !strstr(failure(), cases[i].words))
            fail_msg("case %zu: code %d, \"%s\"", i, code, failure());
    }
    write_form(&(form){.files = 1}, right, paths, files);
    files[1] = files[2] = files[0];
    assert_int_equal(vit_weights_read(m, files, 3, &spread), CODE_CONFIGURATION); /* 4 heads */
    assert_int_equal(vit_weights_read(m, files, 2, &spread), CODE_BAD_INPUT);     /* whole ones */
    vit_model_destroy(m);
    vit_model_destroy(right);
}

/* What is written is what the oracle's file has, byte for byte. */
static void written_as_one_device_has_it(void **state)
{
    (void)state;
    char path[256];
    st_file ours, theirs;
    vit_model *m = make_model(true);
    good(vit_weights_write(m, RINGX_F32, in_folder("out.safetensors", path)));
    good(st_open(&ours, path));
    good(st_open(&theirs, RINGX_TEST_DATA "/vit/model.safetensors"));
    assert_int_equal(ours.n_tensors, theirs.n_tensors);
    for (size_t i = 0; i < theirs.n_tensors; i++) {
        const st_tensor *right = &theirs.tensors[i], *t = st_find(&ours, right->name);
        size_t count, bytes = (size_t)(right->end - right->begin);
        if (!t || t->dtype != right->dtype || t->rank != right->rank ||
            memcmp(t->shape, right->shape, (size_t)t->rank * sizeof *t->shape) != 0)
            fail_msg("%s has another form", right->name);
        float *a = floats_of(&ours, right->name, &count), *b = floats_of(&theirs, right->name, &count);
        assert_memory_equal(a, b, bytes);
        free(a), free(b);
    }
    st_close(&ours);
    st_close(&theirs);
    vit_model_destroy(m);
}

static void through_a_checkpoint(void **state)
{
    (void)state;
    vit_config c = {.embed_dim = 32,
                    .depth = 2,
                    .num_heads = 4,
                    .patch_size = 4,
                    .img_size = {24, 48},
                    .n_in_channels = 5,
                    .n_out_channels = 5};
    char path[256];
    group *alone;
    checkpoint from;
    vit_model *right = make_model(true), *m = make_model(false);
    good(group_self(&alone));
    good(vit_weights_save(right, &c, alone, in_folder("weights", path)));
    assert_int_equal(vit_weights_save(right, &c, alone, path), CODE_USAGE); /* nothing is replaced */
    good(checkpoint_find_named(alone, path, VIT_CHECKPOINTS, -1, &from));
    assert_int_equal(from.iteration, 0);
    assert_true(vit_weights_alone(&from));
    good(vit_fixed_check(&c, 0, &from));
    good(vit_weights_load(m, &from));
    assert_memory_equal(vit_model_weights(m), vit_model_weights(right), vit_model_elements(m) * sizeof(float));
    c.depth = 3;
    assert_int_equal(vit_fixed_check(&c, 0, &from), CODE_CONFIGURATION);
    assert_non_null(strstr(failure(), "depth is 2 there and 3 in the configuration"));
    checkpoint_close(&from);
    group_destroy(alone);
    vit_model_destroy(m);
    vit_model_destroy(right);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_are_the_same_model), cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(written_as_one_device_has_it), cmocka_unit_test(through_a_checkpoint)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
