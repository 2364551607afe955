/* SPDX-License-Identifier: MIT */
/* Log lines byte by byte, operation counts, event files as TensorBoard reads them, and signals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "train/checkpoint.h"
#include "train/crc32c.h"
#include "train/events.h"
#include "train/stop.h"
#include "train/train_log.h"

#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char *text;
static size_t text_bytes;

static FILE *begin(void)
{
    free(text);
    return open_memstream(&text, &text_bytes);
}

static void expect_text(FILE *to, const char *right)
{
    fclose(to);
    assert_string_equal(text, right);
}

static void step_lines(void **state)
{
    (void)state;
    log_step s = {.iteration = 10,
                  .iterations = 250,
                  .samples_per_s = 1.23456,
                  .iteration_ms = 3240.07,
                  .lr = 1.6e-4,
                  .flops_per_rank = 1.234e14,
                  .mfu = NAN,
                  .hfu = NAN,
                  .lm_loss = 10.123456789,
                  .loss_scale = NAN,
                  .skipped = 0,
                  .not_finite = 2};
    FILE *to = begin();
    log_step_print(to, &s);
    expect_text(to, " samples/sec: 1.235 | iteration       10/     250 | elapsed time per iteration (ms): 3240.1 |"
                    " learning rate: 1.600E-04 | approx flops per GPU: 123.4TFLOPS | lm_loss: 1.012346E+01 |"
                    " number of skipped iterations:   0 | number of nan iterations:   2 |\n");
    s.mfu = 0.38, s.hfu = 0.5, s.loss_scale = 65536, s.flops_per_rank = 12;
    to = begin();
    log_step_print(to, &s);
    expect_text(to, " samples/sec: 1.235 | iteration       10/     250 | elapsed time per iteration (ms): 3240.1 |"
                    " learning rate: 1.600E-04 | approx flops per GPU: 12.0 | MFU: 38.00% | HFU: 50.00% |"
                    " lm_loss: 1.012346E+01 | loss scale: 65536.0 | number of skipped iterations:   0 |"
                    " number of nan iterations:   2 |\n");
}

static void other_lines(void **state)
{
    (void)state;
    FILE *to = begin();
    log_timers_print(to, (const log_timer[]){{"forward", 12.345}, {"backward", 2}}, 2);
    expect_text(to, "time (ms) | forward: 12.35 | backward: 2.00\n");
    to = begin();
    log_evaluation_print(to, "validation", 100, 2);
    expect_text(to,
                "----------------------------------------------------"
                "----------------------------------------------------\n"
                " validation results at iteration 100 | lm_loss value: 2.000000E+00 | lm_loss_ppl value: 7.389056E+00 "
                "| \n"
                "----------------------------------------------------"
                "----------------------------------------------------\n");
    to = begin();
    log_memory_print(to, 10);
    fclose(to);
    double now, most;
    assert_int_equal(
        sscanf(text, "after 10 iterations memory (MB) | allocated: %lf | max allocated: %lf |", &now, &most), 2);
    assert_true(now > 1 && most >= now - 0.1);
}

static void operation_counts(void **state)
{
    (void)state;
    flop_shape f = {.layers = 32,
                    .width = 4096,
                    .heads = 32,
                    .kv_heads = 8,
                    .head_dim = 128,
                    .inner = 14336,
                    .vocabulary = 128256,
                    .tokens = 131072,
                    .batch = 1,
                    .recompute = true};
    assert_true(fabs(flops_exact(&f, false) / 19.4e15 - 1) < 0.01); /* Llama3-8B at 128K, causal attention once */
    f.tokens = 1048576;
    assert_true(fabs(flops_exact(&f, false) / 912e15 - 1) < 0.01);
    assert_true(flops_exact(&f, true) > 1.3 * flops_exact(&f, false));
    f.recompute = false;
    f.tokens = 4096;
    double right = 24.0 * 3 * 4096 * 32 * 4096.0 * 4096 * (1 + 1.0 / 6 + 128256.0 / (16 * 32 * 4096.0));
    assert_true(fabs(flops_as_logged(&f) / right - 1) < 1e-12);
}

/* ---- event files ---- */

typedef struct field {
    unsigned number;
    uint64_t value; /* or the number of bytes */
    const unsigned char *bytes;
} field;

static uint64_t read_varint(const unsigned char **p)
{
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        value |= (uint64_t)(**p & 127) << shift;
        if (!(*(*p)++ & 128))
            return value;
    }
}

/* The next field of a message; an independent reader of the wire format. */
static field next_field(const unsigned char **p)
{
    uint64_t key = read_varint(p);
    field f = {.number = (unsigned)(key >> 3), .bytes = *p};
    if ((key & 7) == 0) {
        f.value = read_varint(p);
    } else if ((key & 7) == 2) {
        f.value = read_varint(p);
        f.bytes = *p;
        *p += f.value;
    } else {
        assert_true((key & 7) == 1 || (key & 7) == 5);
        *p += (key & 7) == 1 ? 8 : 4;
    }
    return f;
}

static field find_field(const field *message, unsigned number)
{
    const unsigned char *p = message->bytes, *end = p + message->value;
    while (p < end) {
        field f = next_field(&p);
        if (f.number == number)
            return f;
    }
    return (field){.number = 0};
}

static uint64_t little(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static uint32_t masked(const void *data, size_t bytes)
{
    uint32_t crc = crc32c(0, data, bytes);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static field next_record(const unsigned char **p, const unsigned char *end)
{
    assert_true(end - *p >= 16);
    uint64_t length = little(*p, 8);
    assert_int_equal(little(*p + 8, 4), masked(*p, 8));
    assert_true(length + 16 <= (uint64_t)(end - *p));
    field event = {.value = length, .bytes = *p + 12};
    assert_int_equal(little(*p + 12 + length, 4), masked(*p + 12, length));
    *p += 16 + length;
    return event;
}

static void expect_scalar(const field *event, const char *tag, uint64_t step, float right)
{
    field summary = find_field(event, 5), value = find_field(&summary, 1), name = find_field(&value, 1);
    assert_int_equal(find_field(event, 2).value, step);
    assert_int_equal(name.value, strlen(tag));
    assert_memory_equal(name.bytes, tag, strlen(tag));
    assert_memory_equal(find_field(&value, 2).bytes, &right, 4);
}

static void expect_image(const field *event, const events_picture *right)
{
    field summary = find_field(event, 5), value = find_field(&summary, 1), image = find_field(&value, 4);
    field png = find_field(&image, 4);
    assert_int_equal(find_field(&image, 1).value, right->height);
    assert_int_equal(find_field(&image, 2).value, right->width);
    assert_int_equal(find_field(&image, 3).value, 3);
    assert_int_equal(png.value, right->bytes);
    assert_memory_equal(png.bytes, right->png, right->bytes);
}

static void event_files(void **state)
{
    (void)state;
    char folder[64] = "/tmp/ringx_events_XXXXXX", inner[96];
    assert_non_null(mkdtemp(folder));
    snprintf(inner, sizeof inner, "%s/a/b", folder);
    events e;
    assert_int_equal(events_open(&e, inner), CODE_GOOD);
    assert_int_equal(events_scalar(&e, "train/lm_loss", 10, 2.5), CODE_GOOD);
    assert_int_equal(events_scalar(&e, "validation/lm_loss", 300, -1), CODE_GOOD);
    assert_int_equal(events_text(&e, "arguments", 0, "seed 1234"), CODE_GOOD);
    unsigned char pixels[300];
    memset(pixels, 0xff, sizeof pixels);
    events_picture picture = {200, 3, pixels, sizeof pixels};
    assert_int_equal(events_image(&e, "a figure", 7, &picture), CODE_GOOD);
    assert_int_equal(events_flush(&e), CODE_GOOD);
    char *bytes;
    size_t size;
    assert_int_equal(folder_read_text(e.path, &bytes, &size), CODE_GOOD);
    const unsigned char *p = (unsigned char *)bytes, *end = p + size;
    field event = next_record(&p, end), version = find_field(&event, 3);
    assert_memory_equal(version.bytes, "brain.Event:2", 13);
    event = next_record(&p, end);
    expect_scalar(&event, "train/lm_loss", 10, 2.5f);
    event = next_record(&p, end);
    expect_scalar(&event, "validation/lm_loss", 300, -1);
    event = next_record(&p, end);
    event = next_record(&p, end);
    expect_image(&event, &picture);
    assert_ptr_equal(p, end);
    char command[8192];
    snprintf(command, sizeof command,
             "python3 -c 'import tensorboard' 2>/dev/null || exit 0; python3 -c \"\n"
             "from tensorboard.backend.event_processing.event_file_loader import EventFileLoader as L\n"
             "v = [x for e in L('%s').Load() for x in e.summary.value]\n"
             "assert [x.tag for x in v] == ['train/lm_loss', 'validation/lm_loss', 'arguments', 'a figure']\n"
             "assert v[0].tensor.float_val[0] == 2.5 and v[2].tensor.string_val[0] == b'seed 1234'\n\"",
             e.path);
    assert_int_equal(system(command), 0);
    free(bytes);
    events_close(&e);
    assert_int_equal(events_open(&e, NULL), CODE_GOOD);
    assert_int_equal(events_scalar(&e, "x", 1, 1), CODE_GOOD);
    folder_remove(folder);
}

static void signals(void **state)
{
    (void)state;
    group *g;
    bool asked = true;
    pid_t child = fork();
    if (child == 0) { /* a second SIGTERM ends at once */
        stop_watch();
        raise(SIGTERM);
        raise(SIGTERM);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGTERM);
    assert_int_equal(group_self(&g), CODE_GOOD);
    stop_watch();
    assert_int_equal(stop_asked(g, &asked), CODE_GOOD);
    assert_false(asked);
    raise(SIGUSR1);
    raise(SIGUSR1);
    assert_int_equal(stop_asked(g, &asked), CODE_GOOD);
    assert_true(asked);
    group_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(step_lines), cmocka_unit_test(other_lines),
                                       cmocka_unit_test(operation_counts), cmocka_unit_test(event_files),
                                       cmocka_unit_test(signals)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(text);
    return failed;
}
