/* SPDX-License-Identifier: MIT */
/* Probabilities of texts against those of make_scores.py (double). */
#include "gpt/score.h"
#include "llama_case.h"

static const char sentence[] = "The state of the union is strong.";
enum { COUNT = sizeof sentence - 1 };

static void ids_of(int32_t *ids)
{
    for (int i = 0; i < COUNT; i++)
        ids[i] = (unsigned char)sentence[i];
}

static double score(gpt_model *m, const int32_t *ids, int64_t count, int64_t first)
{
    double nll = NAN;
    good(gpt_score(m, ids, count, first, &nll));
    return nll;
}

static void sentences_and_choices(void **state)
{
    (void)state;
    int32_t ids[COUNT];
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){0});
    ids_of(ids);
    double choice = score(m, ids, COUNT, COUNT - 7), windows = 0;
    for (int64_t at = 0; at + 1 < COUNT; at += 10)
        windows += score(m, ids + at, at + 11 < COUNT ? 11 : COUNT - at, 1);
    if (!(fabs(choice - 40.949137) <= 1e-4) || !(fabs(windows / (COUNT - 1) - 6.108514) <= 1e-5))
        fail_msg("choice %.9g, windows %.9g", choice, windows / (COUNT - 1));
    double whole = score(m, ids, COUNT, 1), front = score(m, ids, COUNT - 7, 1);
    assert_true(fabs(whole - front - choice) <= 1e-4); /* the chain rule */
    assert_true(score(m, ids, COUNT, COUNT) == 0);     /* nothing is asked */
    assert_true(score(m, ids, 1, 1) == 0 && score(m, ids, 0, 1) == 0);
    gpt_model_destroy(m);
}

static void ids_beyond_the_vocabulary(void **state)
{
    (void)state;
    const int32_t bad[][3] = {{1, 384, 2}, {1, 2, -1}};
    double nll;
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){0});
    for (int i = 0; i < 2; i++)
        assert_int_equal(gpt_score(m, bad[i], 3, 1, &nll), CODE_BAD_INPUT);
    assert_non_null(strstr(failure(), "token 2 is -1"));
    gpt_model_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sentences_and_choices),
                                       cmocka_unit_test(ids_beyond_the_vocabulary)};
    return cmocka_run_group_tests_name("gpt_score", tests, NULL, NULL);
}
