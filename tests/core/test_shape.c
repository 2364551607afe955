/* SPDX-License-Identifier: MIT */
/* Problems are validated: a wrong one is refused with the field, its value, and what would be right. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/shape.h"
#include "core/status.h"

static ringx_problem good(void)
{
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = 2;
    p.tokens = 100;
    p.q_heads = 6;
    p.kv_heads = 3;
    p.head_dim = 64;
    return p;
}

/* The message has the field, the value and, in `right`, what would be right. */
static void refuse(const ringx_problem *p, const char *field, const char *value, const char *right)
{
    ringx_shape shape;
    ringx_status status = ringx__shape_create(&shape, p);
    const char *message = ringx_last_error();
    if (status != RINGX_INVALID || !strstr(message, field) || !strstr(message, value) || !strstr(message, right))
        fail_msg("%s: \"%s\"; expected %s, %s and %s", ringx_status_name(status), message, field, value, right);
    assert_null(shape.mask.starts); /* nothing to free */
    ringx__shape_destroy(&shape);
}

#define REFUSE(field, value, text, right)                                                                              \
    do {                                                                                                               \
        ringx_problem refused = good();                                                                                \
        refused.field = (value);                                                                                       \
        refuse(&refused, #field " is " text, #field, (right));                                                         \
    } while (0)

static void sizes_out_of_range(void **state)
{
    (void)state;
    REFUSE(batch, -1, "-1", "0 … 2147483647");
    REFUSE(batch, INT64_C(1) << 31, "2147483648", "0 … 2147483647");
    REFUSE(tokens, -5, "-5", "0 … 4294967296");
    REFUSE(tokens, (INT64_C(1) << 32) + 1, "4294967297", "0 … 4294967296");
    REFUSE(tokens, INT64_MIN, "-9223372036854775808", "0 … 4294967296");
    REFUSE(q_heads, 0, "0", "1 … ");
    REFUSE(q_heads, -6, "-6", "1 … ");
    REFUSE(kv_heads, 0, "0", "1 … ");
    REFUSE(kv_heads, -3, "-3", "1 … ");

    ringx_problem p = good();
    p.kv_heads = 4;
    refuse(&p, "q_heads is 6", "kv_heads 4", "divide");
    p.kv_heads = 12;
    refuse(&p, "q_heads is 6", "kv_heads 12", "divide");
    REFUSE(head_dim, 0, "0", "1 … 256");
    REFUSE(head_dim, 257, "257", "1 … 256");
    REFUSE(head_dim, -64, "-64", "1 … 256");
    REFUSE(value_dim, 257, "257", "1 … 256");
    REFUSE(value_dim, -1, "-1", "1 … 256");
}

static void numbers_out_of_range(void **state)
{
    (void)state;
    REFUSE(dtype, (ringx_dtype)3, "3", "RINGX_BF16");
    REFUSE(dtype, (ringx_dtype)-1, "-1", "RINGX_BF16");
    REFUSE(scale, NAN, "nan", "finite");
    REFUSE(scale, -INFINITY, "-inf", "finite");
    REFUSE(softcap, NAN, "nan", ">= 0");
    REFUSE(softcap, -0.5, "-0.5", ">= 0");
    REFUSE(softcap, INFINITY, "inf", "finite");
    REFUSE(dropout, 1.0, "1", "[0, 1)");
    REFUSE(dropout, -0.25, "-0.25", "[0, 1)");
    REFUSE(dropout, NAN, "nan", "[0, 1)");
    REFUSE(window_left, -2, "-2", "-1 for unlimited");
    REFUSE(window_right, INT64_MIN, "-9223372036854775808", "-1 for unlimited");
    REFUSE(size, 8, "8;", "RINGX_PROBLEM_INIT");
    REFUSE(size, 0, "0;", "RINGX_PROBLEM_INIT");
    refuse(NULL, "problem", "NULL", "ringx_problem");
}

static void documents_out_of_order(void **state)
{
    (void)state;
    static const struct {
        int64_t starts[4];
        const char *field, *value, *right;
    } wrong[] = {
        {{-1, 5, 10, 20}, "document_starts[0]", "-1", "0 … 100"},
        {{0, 5, 4, 20}, "document_starts[2]", "4", "5 … 100"},
        {{0, 5, 10, 101}, "document_starts[3]", "101", "10 … 100"},
        {{7, 0, 10, 50}, "document_starts[1]", "0", "7 … 100"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ringx_problem p = good();
        p.documents = 3;
        p.document_starts = wrong[i].starts;
        refuse(&p, wrong[i].field, wrong[i].value, wrong[i].right);
    }
    ringx_problem p = good();
    p.documents = 3;
    refuse(&p, "document_starts", "NULL", "4 bounds");
    p.document_starts = wrong[0].starts;
    p.documents = SIZE_MAX; /* "-1" */
    refuse(&p, "documents", "18446744073709551615", "at most");
}

/* Products of legal sizes that no address space holds. */
static void sizes_that_overflow(void **state)
{
    (void)state;
    static const int64_t big[][4] = {/* batch, tokens, heads, dim */
                                     {INT32_MAX, INT64_C(1) << 32, INT32_MAX, 256},
                                     {INT32_MAX, INT64_C(1) << 32, 1, 1},
                                     {1, INT64_C(1) << 32, INT32_MAX, 1},
                                     {1 << 10, INT64_C(1) << 32, 1 << 10, 256}};
    for (size_t i = 0; i < sizeof big / sizeof *big; i++) {
        ringx_problem p = good();
        p.batch = big[i][0];
        p.tokens = big[i][1];
        p.q_heads = p.kv_heads = big[i][2];
        p.head_dim = big[i][3];
        refuse(&p, "batch", "overflows", "smaller");
        refuse(&p, "tokens", "4294967296", "q_heads");
    }
    ringx_problem p = good(); /* an empty batch hides the other sizes, as it should */
    p.batch = 0;
    p.tokens = INT64_C(1) << 32;
    ringx_shape shape;
    assert_int_equal(ringx__shape_create(&shape, &p), RINGX_OK);
    ringx__shape_destroy(&shape);
    size_t product = 0;
    assert_true(ringx__multiply(SIZE_MAX / 3, 3, &product));
    assert_int_equal(product, SIZE_MAX / 3 * 3);
    assert_false(ringx__multiply(SIZE_MAX / 3 + 1, 3, &product));
    assert_true(ringx__multiply(0, SIZE_MAX, &product));
    assert_int_equal(product, 0);
}

static void defaults_are_resolved(void **state)
{
    (void)state;
    ringx_problem p = good();
    ringx_shape s;
    assert_int_equal(ringx__shape_create(&s, &p), RINGX_OK);
    assert_int_equal(s.group, 2);
    assert_int_equal(s.value_dim, 64);
    assert_true(s.scale == 0.125);
    assert_int_equal(s.mask.left, 100);
    assert_int_equal(s.mask.right, 100);
    assert_null(s.mask.starts);
    ringx__shape_destroy(&s);

    p.value_dim = 7;
    p.scale = -2;
    p.causal = true;
    p.window_left = 5;
    p.window_right = 9; /* the causal mask is tighter */
    assert_int_equal(ringx__shape_create(&s, &p), RINGX_OK);
    assert_int_equal(s.value_dim, 7);
    assert_true(s.scale == -2);
    assert_int_equal(s.mask.left, 5);
    assert_int_equal(s.mask.right, 0);
    assert_true(ringx__shape_flops(&s, 10) == 2.0 * (64 + 7) * 10 * 2 * 6);
    ringx__shape_destroy(&s);

    p.window_left = INT64_MAX; /* no sum with a position may overflow */
    assert_int_equal(ringx__shape_create(&s, &p), RINGX_OK);
    assert_int_equal(s.mask.left, 100);
    ringx__shape_destroy(&s);
}

static void bounds_are_copied(void **state)
{
    (void)state;
    int64_t starts[] = {10, 20, 20, 90};
    ringx_problem p = good();
    p.documents = 3;
    p.document_starts = starts;
    ringx_shape s;
    assert_int_equal(ringx__shape_create(&s, &p), RINGX_OK);
    memset(starts, 0xff, sizeof starts);
    static const int64_t want[] = {10, 20, 20, 90};
    assert_memory_equal(s.mask.starts, want, sizeof want);
    ringx__shape_destroy(&s);
    assert_null(s.mask.starts);
    ringx__shape_destroy(&s); /* twice is fine */
}

/* ---- messages ---- */

static void messages_are_cut_not_overrun(void **state)
{
    (void)state;
    char wide[3 * RINGX_MESSAGE_BYTES];
    memset(wide, 'w', sizeof wide - 1);
    wide[sizeof wide - 1] = 0;
    assert_int_equal(ringx__fail(RINGX_IO, "%s", wide), RINGX_IO);
    assert_int_equal(strlen(ringx_last_error()), RINGX_MESSAGE_BYTES - 1);
    assert_int_equal(ringx__context(RINGX_IO, "reading %s", "x.bin"), RINGX_IO);
    assert_int_equal(strlen(ringx_last_error()), RINGX_MESSAGE_BYTES - 1);
    assert_int_equal(strncmp(ringx_last_error(), "reading x.bin: www", 18), 0);
    assert_int_equal(ringx__context(RINGX_IO, "%s", wide), RINGX_IO);
    assert_int_equal(strlen(ringx_last_error()), RINGX_MESSAGE_BYTES - 1);
    ringx__fail(RINGX_IO, "short");
    assert_int_equal(ringx__context(RINGX_OK, "nothing"), RINGX_OK);
    assert_string_equal(ringx_last_error(), "short");
    ringx__context(RINGX_IO, "far");
    assert_string_equal(ringx_last_error(), "far: short");
    char taken[8];
    ringx__error_take(taken, sizeof taken);
    assert_string_equal(taken, "far: sh");
    ringx__error_put("put back");
    assert_string_equal(ringx_last_error(), "put back");
}

static void every_status_has_a_name(void **state)
{
    (void)state;
    for (int i = RINGX_OK; i <= RINGX_INTERNAL; i++) {
        const char *name = ringx_status_name((ringx_status)i);
        assert_non_null(name);
        assert_string_not_equal(name, "unknown status");
        for (int j = RINGX_OK; j < i; j++)
            assert_string_not_equal(name, ringx_status_name((ringx_status)j));
    }
    assert_string_equal(ringx_status_name((ringx_status)(RINGX_INTERNAL + 1)), "unknown status");
    assert_string_equal(ringx_status_name((ringx_status)-1), "unknown status");
    assert_string_equal(ringx_version(), "0.1.0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_out_of_range),           cmocka_unit_test(numbers_out_of_range),
        cmocka_unit_test(documents_out_of_order),       cmocka_unit_test(sizes_that_overflow),
        cmocka_unit_test(defaults_are_resolved),        cmocka_unit_test(bounds_are_copied),
        cmocka_unit_test(messages_are_cut_not_overrun), cmocka_unit_test(every_status_has_a_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
