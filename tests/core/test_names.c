/* SPDX-License-Identifier: MIT */
/* Names are found exactly; a wrong one is answered with the nearest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "core/names.h"
#include <ringx/ringx_study.h>

static const char *const fruit[] = {"apple", "pear", "plum", "Cherry", "pineapple"};

static const char *fruit_at(size_t i)
{
    return i < sizeof fruit / sizeof *fruit ? fruit[i] : NULL;
}

static const char *nothing_at(size_t i)
{
    (void)i;
    return NULL;
}

static void every_name_finds_itself(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof fruit / sizeof *fruit; i++) {
        size_t found = 99;
        assert_int_equal(ringx__name_find("fruit", fruit[i], fruit_at, &found), RINGX_OK);
        assert_int_equal(found, i);
    }
}

static void expect_nearest(const char *wrong, const char *nearest)
{
    char text[256];
    size_t found = 99;
    assert_int_equal(ringx__name_find("fruit", wrong, fruit_at, &found), RINGX_INVALID);
    assert_int_equal(found, 99);
    snprintf(text, sizeof text, "fruit '%s' is unknown; the nearest is '%s'", wrong, nearest);
    assert_string_equal(ringx_last_error(), text);
}

static void wrong_names_are_answered_with_the_nearest(void **state)
{
    (void)state;
    expect_nearest("aple", "apple");    /* one letter missing */
    expect_nearest("applle", "apple");  /* one too many */
    expect_nearest("peer", "pear");     /* one wrong */
    expect_nearest("APPLE", "apple");   /* the case is not what makes names differ */
    expect_nearest("cherry", "Cherry"); /* … but must be right */
    expect_nearest("ineapple", "pineapple");
    expect_nearest("p", "pear"); /* the first of equals */
    expect_nearest("", "pear");
}

static void odd_names_are_survived(void **state)
{
    (void)state;
    char name[5000];
    size_t found;
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_int_equal(ringx__name_find("fruit", name, fruit_at, &found), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "fruit 'xxx"));
    assert_int_equal(ringx__name_find("fruit", "apple", nothing_at, &found), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "(none)"));
    assert_int_equal(ringx__name_find("fruit", NULL, fruit_at, &found), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "fruit is NULL"));
    assert_int_equal(ringx__name_find("fruit", "\xff\xfe\x80", fruit_at, &found), RINGX_INVALID);
}

static void presets_are_found_by_name(void **state)
{
    (void)state;
    size_t i, found;
    for (i = 0; ringx_preset_at(i); i++) {
        assert_int_equal(ringx_preset_find(ringx_preset_at(i)->name, &found), RINGX_OK);
        assert_int_equal(found, i);
    }
    assert_true(i >= 14);
    assert_int_equal(ringx_preset_find("ringX5", &found), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "preset 'ringX5' is unknown; the nearest is 'ringX"));
    assert_int_equal(ringx_preset_find("ulises", &found), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "'ulysses'"));
    assert_int_equal(ringx_preset_find(NULL, &found), RINGX_INVALID);
    assert_int_equal(ringx_preset_find("ring", NULL), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "NULL"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_finds_itself), cmocka_unit_test(wrong_names_are_answered_with_the_nearest),
        cmocka_unit_test(odd_names_are_survived), cmocka_unit_test(presets_are_found_by_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
