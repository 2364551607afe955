/* SPDX-License-Identifier: MIT */
/* For tests: the ranks of a threads communicator, each with arguments of its own, make a plan and use it. */
#ifndef RINGX_TEST_PLAN_TRIAL_H
#define RINGX_TEST_PLAN_TRIAL_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <ringx/ringx.h>
#include <ringx/ringx_study.h>

enum { TRIAL_RANKS = 8, TRIAL_TEXT = 1024 };

typedef struct trial trial;
typedef struct trial_rank {
    trial *trial;
    int rank;
    const ringx_problem *problem; /* what this rank passes */
    const ringx_options *options;
    ringx_problem own_problem; /* what they point to unless a test says otherwise */
    ringx_options own_options;
    bool no_plan; /* passes NULL for the plan */
    bool absent;  /* does not call */
    ringx_comm *comm;
    ringx_plan *plan;
    ringx_status status; /* of ringx_plan_create, or of use() */
    char message[TRIAL_TEXT];
} trial_rank;

struct trial {
    int ranks;
    const char *fault; /* for ringx_comm_faulty */
    /* What a rank does with its plan; NULL: nothing. */
    ringx_status (*use)(trial_rank *rank);
    void *context;
    trial_rank rank[TRIAL_RANKS];
};

static inline ringx_problem trial_problem(void)
{
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = 2;
    p.tokens = 25;
    p.q_heads = 6;
    p.kv_heads = 3;
    p.head_dim = 8;
    return p;
}

/* All ranks pass the same. */
static inline void trial_start(trial *t, int ranks, const char *preset)
{
    memset(t, 0, sizeof *t);
    t->ranks = ranks;
    for (int r = 0; r < ranks; r++) {
        trial_rank *rank = &t->rank[r];
        *rank = (trial_rank){.trial = t, .rank = r, .own_problem = trial_problem()};
        rank->own_options = (ringx_options)RINGX_OPTIONS_INIT;
        rank->own_options.preset = preset;
        rank->own_options.threads = 1;
        rank->own_options.timeout = 20;
        rank->problem = &rank->own_problem;
        rank->options = &rank->own_options;
    }
}

static inline void *trial_main(void *argument)
{
    trial_rank *r = argument;
    if (r->absent)
        return NULL;
    r->status = ringx_plan_create(r->no_plan ? NULL : &r->plan, r->problem, r->options, r->comm);
    if (r->status == RINGX_OK && r->trial->use)
        r->status = r->trial->use(r);
    snprintf(r->message, sizeof r->message, "%s", r->status == RINGX_OK ? "" : ringx_last_error());
    ringx_plan_destroy(r->plan);
    r->plan = NULL;
    return NULL;
}

/* The communicators are made by the first run and live until trial_end, so that a trial may run again. */
static inline void trial_run(trial *t)
{
    ringx_comm *comms[TRIAL_RANKS];
    pthread_t thread[TRIAL_RANKS];
    bool made = t->rank[0].comm != NULL;
    if (!made)
        assert_int_equal(ringx_comm_threads(t->ranks, comms), RINGX_OK);
    for (int r = 0; r < t->ranks && !made; r++) {
        t->rank[r].comm = comms[r];
        if (t->fault)
            assert_int_equal(ringx_comm_faulty(comms[r], t->fault, &t->rank[r].comm), RINGX_OK);
    }
    for (int r = 0; r < t->ranks; r++)
        assert_int_equal(pthread_create(&thread[r], NULL, trial_main, &t->rank[r]), 0);
    for (int r = 0; r < t->ranks; r++)
        pthread_join(thread[r], NULL);
}

static inline void trial_end(trial *t)
{
    for (int r = 0; r < t->ranks; r++) {
        ringx_comm_destroy(t->rank[r].comm);
        t->rank[r].comm = NULL;
    }
}

static inline void expect_rank(const trial *t, int rank, ringx_status status, const char *text)
{
    const trial_rank *r = &t->rank[rank];
    if (r->status != status || (text && !strstr(r->message, text)))
        fail_msg("rank %d: %s: \"%s\"; expected %s and \"%s\"", rank, ringx_status_name(r->status), r->message,
                 ringx_status_name(status), text ? text : "");
}

static inline void expect_all(const trial *t, ringx_status status, const char *text)
{
    for (int r = 0; r < t->ranks; r++)
        expect_rank(t, r, status, text);
}

#endif
