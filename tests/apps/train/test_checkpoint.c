/* SPDX-License-Identifier: MIT */
/* Checkpoints: any layout loads what any other saved; damage is found and named; a killed save loses nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "train/checkpoint.h"
#include "train/crc32c.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "apps/train/group_ranks.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/ringx_checkpoint_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return folder_remove(folder);
}

static int start_empty(void **state)
{
    (void)state;
    return folder_remove(folder) || folder_make(folder);
}

/* ---- a small model, cut over tensor ranks by rows or columns and over owners by elements ---- */

typedef struct matrix {
    const char *name;
    int64_t rows, columns;
    char cut; /* over tensor ranks: 'r', 'c', or ' ' for not at all */
} matrix;

static const matrix matrices[] = {
    {"embed", 48, 5, 'r'}, {"q_proj", 24, 7, 'r'}, {"o_proj", 7, 24, 'c'}, {"norm", 1, 11, ' '}, {"head", 48, 3, 'r'}};
#define MATRICES (sizeof matrices / sizeof *matrices)

typedef struct cut_model {
    checkpoint_piece pieces[MATRICES];
    float values[2048];
    size_t count;
} cut_model;

static float value_at(int64_t iteration, size_t t, int64_t row, int64_t column)
{
    return (float)(iteration * 100000 + (int64_t)t * 10000 + row * 100 + column);
}

/* Pieces of tensor rank a of `tensor`, owner b of `owners`; element boundaries fall anywhere. */
static void cut(cut_model *m, int a, int tensor, int b, int owners)
{
    int64_t local = 0, at = 0, used = 0;
    *m = (cut_model){.count = 0};
    for (size_t t = 0; t < MATRICES; t++)
        local += matrices[t].rows * matrices[t].columns / (matrices[t].cut == ' ' ? 1 : tensor);
    int64_t first = local * b / owners, last = local * (b + 1) / owners;
    for (size_t t = 0; t < MATRICES; t++) {
        const matrix *w = &matrices[t];
        checkpoint_piece p = {.name = w->name, .rows = w->rows, .columns = w->columns};
        p.block_rows = w->cut == 'r' ? w->rows / tensor : w->rows;
        p.block_columns = w->cut == 'c' ? w->columns / tensor : w->columns;
        p.first_row = w->cut == 'r' ? a * p.block_rows : 0;
        p.first_column = w->cut == 'c' ? a * p.block_columns : 0;
        int64_t size = p.block_rows * p.block_columns;
        p.begin = first > at ? first - at : 0;
        p.count = (last < at + size ? last - at : size) - p.begin;
        p.values = m->values + used;
        at += size;
        if (p.count <= 0 || (w->cut == ' ' && a > 0))
            continue;
        m->pieces[m->count++] = p;
        used += p.count;
    }
}

static size_t matrix_of(const checkpoint_piece *p)
{
    size_t t = 0;
    while (strcmp(matrices[t].name, p->name) != 0)
        t++;
    return t;
}

static void fill(cut_model *m, int64_t iteration)
{
    for (size_t i = 0; i < m->count; i++)
        for (int64_t e = 0; e < m->pieces[i].count; e++) {
            const checkpoint_piece *p = &m->pieces[i];
            int64_t at = p->begin + e;
            p->values[e] = value_at(iteration, matrix_of(p), p->first_row + at / p->block_columns,
                                    p->first_column + at % p->block_columns);
        }
}

typedef struct trial {
    int tensor;
    int64_t iteration, keep;
    const char *const *files;
    const char *prefix; /* NULL: the usual */
} trial;

static int save_body(group *g, void *context)
{
    const trial *t = context;
    cut_model *m = allocate(sizeof *m);
    int rank = group_rank(g);
    json_t *state = json_pack("{s:I}", "consumed", (json_int_t)t->iteration * 3);
    cut(m, rank % t->tensor, t->tensor, rank / t->tensor, group_ranks(g) / t->tensor);
    fill(m, t->iteration);
    checkpoint_save_info s = {.folder = folder,
                              .prefix = t->prefix,
                              .iteration = t->iteration,
                              .state = state,
                              .files = t->files,
                              .pieces = m->pieces,
                              .n_pieces = m->count,
                              .keep = t->keep};
    int code = checkpoint_save(g, &s);
    json_decref(state);
    free(m);
    return code;
}

/* What is found must be iteration t->iteration (-1: any, left in it), with the right value everywhere. */
static int load_body(group *g, void *context)
{
    trial *t = context;
    cut_model *m = allocate(2 * sizeof *m);
    int rank = group_rank(g);
    checkpoint c;
    int code = t->prefix ? checkpoint_find_named(g, folder, t->prefix, t->iteration, &c)
                         : checkpoint_find(g, folder, t->iteration, &c);
    if (!code && c.iteration < 0)
        code = (fail)(CODE_MISSING, "there is none");
    cut(m, rank % t->tensor, t->tensor, rank / t->tensor, group_ranks(g) / t->tensor);
    memset(m->values, 0xff, sizeof m->values);
    if (!code)
        code = checkpoint_load(&c, m->pieces, m->count);
    if (!code) {
        cut(m + 1, rank % t->tensor, t->tensor, rank / t->tensor, group_ranks(g) / t->tensor);
        fill(m + 1, c.iteration);
        for (size_t i = 0; i < m->count && !code; i++)
            if (memcmp(m->pieces[i].values, m[1].pieces[i].values, (size_t)m->pieces[i].count * sizeof(float)) != 0)
                code = (fail)(CODE_WRONG, "tensor %s has other values", m->pieces[i].name);
        if (json_integer_value(json_object_get(json_object_get(c.manifest, "state"), "consumed")) != c.iteration * 3)
            code = (fail)(CODE_WRONG, "the state is another");
    }
    code = group_agree(g, code);
    if (!code && rank == 0)
        t->iteration = c.iteration;
    checkpoint_close(&c);
    free(m);
    return code;
}

static void save(int ranks, int tensor, int64_t iteration, int64_t keep)
{
    trial t = {.tensor = tensor, .iteration = iteration, .keep = keep};
    run_group_good(ranks, save_body, &t);
}

static int64_t load(int ranks, int tensor)
{
    trial t = {.tensor = tensor, .iteration = -1};
    run_group_good(ranks, load_body, &t);
    return t.iteration;
}

/* ---- tests ---- */

static void every_layout_loads_every_other(void **state)
{
    (void)state;
    static const int layouts[][2] = {{1, 1}, {2, 1}, {2, 2}, {3, 1}, {4, 2}, {4, 4}, {6, 2}, {6, 3}, {8, 2}, {8, 8}};
    size_t n = sizeof layouts / sizeof *layouts;
    for (size_t i = 0; i < n; i++) {
        save(layouts[i][0], layouts[i][1], 10 + (int64_t)i, 1);
        for (size_t j = 0; j < n; j++)
            assert_int_equal(load(layouts[j][0], layouts[j][1]), 10 + (int64_t)i);
    }
}

static bool there(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void old_ones_go(void **state)
{
    (void)state;
    char path[128], *text;
    size_t bytes;
    snprintf(path, sizeof path, "%s/a.yml", folder);
    assert_int_equal(folder_write_text(path, "seed: 1\n"), 0);
    trial t = {.tensor = 1, .iteration = 1, .keep = 3, .files = (const char *const[]){path, NULL}};
    run_group_good(2, save_body, &t);
    for (int64_t n = 2; n <= 5; n++)
        save(2, 1, n, 3);
    assert_false(there("global_step1") || there("global_step2") || there("global_step2.tmp"));
    assert_true(there("global_step3") && there("global_step4") && there("global_step5"));
    snprintf(path, sizeof path, "%s/latest", folder);
    assert_int_equal(folder_read_text(path, &text, &bytes), CODE_GOOD);
    assert_string_equal(text, "global_step5");
    free(text);
    save(2, 1, 4, 3); /* a run that went back: replaces that one, leaves the later one alone */
    assert_true(there("global_step3") && there("global_step4") && there("global_step5"));
    assert_false(there("global_step4.tmp"));
    t = (trial){.tensor = 1, .iteration = 3};
    run_group_good(1, load_body, &t);
    t.iteration = 9;
    group_run runs[1];
    run_group(runs, 1, load_body, &t);
    assert_int_equal(runs[0].code, CODE_MISSING);
    assert_non_null(strstr(runs[0].message, "holds no global_step9"));
}

/* Two programs' checkpoints in one folder do not see each other. */
static void another_word(void **state)
{
    (void)state;
    char path[128], *text;
    size_t bytes;
    trial t = {.tensor = 1, .keep = 2, .prefix = "epoch_"};
    for (t.iteration = 10; t.iteration < 13; t.iteration++)
        run_group_good(2, save_body, &t);
    assert_true(there("epoch_11") && there("epoch_12") && !there("epoch_10") && !there("epoch_10.tmp"));
    snprintf(path, sizeof path, "%s/latest", folder);
    assert_int_equal(folder_read_text(path, &text, &bytes), CODE_GOOD);
    assert_string_equal(text, "12");
    free(text);
    t.iteration = -1;
    run_group_good(1, load_body, &t);
    t = (trial){.tensor = 1, .iteration = 12};
    group_run runs[1];
    run_group(runs, 1, load_body, &t);
    assert_int_equal(runs[0].code, CODE_MISSING);
    t = (trial){.tensor = 1, .iteration = 9, .prefix = "epoch_"};
    run_group(runs, 1, load_body, &t);
    assert_non_null(strstr(runs[0].message, "holds no epoch_9"));
}

static void copies_of_the_configuration(void **state)
{
    (void)state;
    char path[128], *text;
    size_t bytes;
    snprintf(path, sizeof path, "%s/a.yml", folder);
    assert_int_equal(folder_write_text(path, "seed: 1\n"), 0);
    trial t = {.tensor = 1, .iteration = 1, .files = (const char *const[]){path, NULL}};
    run_group_good(2, save_body, &t);
    snprintf(path, sizeof path, "%s/global_step1/configs/a.yml", folder);
    assert_int_equal(folder_read_text(path, &text, &bytes), CODE_GOOD);
    assert_string_equal(text, "seed: 1\n");
    free(text);
}

static void nothing_there(void **state)
{
    (void)state;
    group *g;
    checkpoint c;
    assert_int_equal(group_self(&g), CODE_GOOD);
    assert_int_equal(checkpoint_find(g, folder, -1, &c), CODE_GOOD);
    assert_true(c.iteration == -1 && !c.manifest);
    assert_int_equal(checkpoint_find(g, "/nowhere/at/all", -1, &c), CODE_GOOD);
    assert_true(c.iteration == -1);
    group_destroy(g);
}

/* Damages a byte (at >= 0), cuts or lengthens (at < 0: to -at-1 bytes) a file of global_step2. */
static void damage(const char *name, long at, char *kept, size_t *size)
{
    char path[160];
    snprintf(path, sizeof path, "%s/global_step2/%s", folder, name);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    *size = fread(kept, 1, 1 << 16, f);
    if (at >= 0) {
        fseek(f, at, SEEK_SET);
        fputc(kept[at] ^ 4, f);
    } else {
        assert_int_equal(ftruncate(fileno(f), -at - 1), 0);
    }
    fclose(f);
}

static void restore(const char *name, const char *kept, size_t size)
{
    char path[160];
    snprintf(path, sizeof path, "%s/global_step2/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_int_equal(fwrite(kept, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* With global_step2 damaged: the older one is found, and asking for that one names what is wrong. */
static void expect_refused(const char *name, long at, const char *part)
{
    static char kept[1 << 16];
    size_t size;
    group_run runs[2];
    damage(name, at, kept, &size);
    trial t = {.tensor = 1, .iteration = 2};
    assert_int_equal(load(2, 1), 1);
    run_group(runs, 2, load_body, &t);
    for (int r = 0; r < 2; r++)
        if (runs[r].code == CODE_GOOD || !strstr(runs[r].message, part))
            fail_msg("%s damaged at %ld: code %d, \"%s\", expected \"%s\"", name, at, runs[r].code, runs[r].message,
                     part);
    restore(name, kept, size);
    assert_int_equal(load(2, 1), 2);
}

static void damage_is_found_and_named(void **state)
{
    (void)state;
    save(2, 1, 1, 0);
    save(2, 1, 2, 0);
    char path[160];
    struct stat status;
    snprintf(path, sizeof path, "%s/global_step2/rank_00001.safetensors", folder);
    assert_int_equal(stat(path, &status), 0);
    for (long at = 0; at < status.st_size; at += 97)
        expect_refused("rank_00001.safetensors", at, "rank_00001.safetensors");
    for (long bytes = 0; bytes < status.st_size; bytes += 331)
        expect_refused("rank_00001.safetensors", -bytes - 1, "rank_00001.safetensors");
    expect_refused("rank_00000.safetensors", -(long)status.st_size - 3, "rank_00000.safetensors");
    expect_refused("rank_00001.safetensors", status.st_size - 1, "tensor head is damaged");
    snprintf(path, sizeof path, "%s/global_step2/manifest.json", folder);
    assert_int_equal(stat(path, &status), 0);
    for (long bytes = 0; bytes < status.st_size - 2; bytes += 157)
        expect_refused("manifest.json", -bytes - 1, "manifest.json");
    char *text = NULL, *number;
    size_t bytes;
    assert_int_equal(folder_read_text(path, &text, &bytes), CODE_GOOD);
    number = strstr(text, "48");
    assert_non_null(number);
    expect_refused("manifest.json", number - text, "its checksum is not that of its contents");
    free(text);
}

static void swapped_and_missing_files(void **state)
{
    (void)state;
    char a[160], b[160], c[160];
    save(2, 1, 1, 0);
    save(2, 1, 2, 0);
    snprintf(a, sizeof a, "%s/global_step1/rank_00000.safetensors", folder);
    snprintf(b, sizeof b, "%s/global_step2/rank_00000.safetensors", folder);
    snprintf(c, sizeof c, "%s/kept", folder);
    assert_int_equal(rename(a, c) | rename(b, a) | rename(c, b), 0); /* of two checkpoints */
    group_run runs[2];
    trial t = {.tensor = 1, .iteration = -1};
    run_group(runs, 2, load_body, &t);
    assert_int_equal(runs[1].code, CODE_BAD_INPUT);
    assert_non_null(strstr(runs[1].message, "global_step2/rank_00000.safetensors: tensor embed is damaged"));
    assert_int_equal(rename(a, c) | rename(b, a) | rename(c, b), 0);
    assert_int_equal(load(2, 1), 2);
    assert_int_equal(unlink(b), 0);
    assert_int_equal(load(2, 1), 1);
}

static void failed_saves_leave_the_last_one(void **state)
{
    (void)state;
    save(2, 1, 1, 1);
    char path[128];
    snprintf(path, sizeof path, "%s/missing.yml", folder);
    trial t = {.tensor = 1, .iteration = 2, .keep = 1, .files = (const char *const[]){path, NULL}};
    group_run runs[2];
    run_group(runs, 2, save_body, &t);
    assert_true(runs[0].code != CODE_GOOD && runs[1].code == runs[0].code);
    assert_non_null(strstr(runs[1].message, "missing.yml"));
    assert_false(there("global_step2") || there("global_step2.tmp"));
    assert_int_equal(load(3, 1), 1);
}

/* Saves iterations from t->iteration on until it is killed; tells of each that is done. */
static void save_for_ever(int64_t iteration, int told)
{
    for (;; iteration++) {
        save(2, 1, iteration, 2);
        if (write(told, &iteration, sizeof iteration) != sizeof iteration)
            _exit(1);
    }
}

static void killed_while_saving(void **state)
{
    (void)state;
    int64_t last = 1;
    int kills = getenv("RINGX_LONG") ? 200 : 20;
    save(2, 1, 1, 2);
    for (int i = 0; i < kills; i++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            save_for_ever(last + 1, ends[1]);
        }
        close(ends[1]);
        nanosleep(&(struct timespec){.tv_nsec = 3000000L + (i * 7919 % 40) * 900000L}, NULL);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        int64_t done = last, told;
        while (read(ends[0], &told, sizeof told) == sizeof told)
            done = told;
        close(ends[0]);
        last = load(1 + i % 3, 1);
        assert_true(last == done || last == done + 1);
    }
    assert_true(last > 1);
    save(2, 1, last + 1, 2);
    assert_false(there("global_step1"));
}

static void checksums(void **state)
{
    (void)state;
    unsigned char bytes[43];
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283u);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aau);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(crc32c(0, bytes, 32), 0x62a8ab43u);
    for (size_t i = 0; i < sizeof bytes; i++)
        assert_int_equal(crc32c(crc32c(0, bytes, i), bytes + i, sizeof bytes - i), crc32c(0, bytes, sizeof bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(every_layout_loads_every_other, start_empty),
                                       cmocka_unit_test_setup(old_ones_go, start_empty),
                                       cmocka_unit_test_setup(another_word, start_empty),
                                       cmocka_unit_test_setup(copies_of_the_configuration, start_empty),
                                       cmocka_unit_test_setup(nothing_there, start_empty),
                                       cmocka_unit_test_setup(damage_is_found_and_named, start_empty),
                                       cmocka_unit_test_setup(swapped_and_missing_files, start_empty),
                                       cmocka_unit_test_setup(failed_saves_leave_the_last_one, start_empty),
                                       cmocka_unit_test_setup(killed_while_saving, start_empty),
                                       cmocka_unit_test(checksums)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
