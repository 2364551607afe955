/* SPDX-License-Identifier: MIT */
/* Walks the closed schedules of all ranks together, in an order that the lanes and waits of every rank allow.
 *
 * The engine says what may run next; the reader runs it, now or at a later (simulated) time, and reports it done.  A
 * collective may run when every member of its group is at it.  An exchange may end when each of its messages has met
 * its counterpart; messages meet first in, first out per ordered pair of ranks, zero-byte messages are not sent. O(1) a
 * step and a message; allocates only to let its tables of pairs and messages grow. */
#ifndef RINGX_SCHEDULE_ENGINE_H
#define RINGX_SCHEDULE_ENGINE_H

#include "schedule/schedule.h"

typedef enum ringx_action_kind {
    RINGX_NOTHING,    /* nothing may run until something is reported done */
    RINGX_LOCAL,      /* a step of one rank alone */
    RINGX_COLLECTIVE, /* the current communication steps of all members of a group */
    RINGX_EXCHANGED   /* an exchange of one rank, all of whose messages have met */
} ringx_action_kind;

typedef struct ringx_action {
    ringx_action_kind kind;
    int rank, lane;         /* LOCAL, EXCHANGED: whose; COLLECTIVE: the last to arrive */
    uint32_t step;          /* of that rank */
    const int32_t *members; /* COLLECTIVE: in group order; NULL: ranks 0 … count-1 */
    int count;              /* COLLECTIVE: members */
} ringx_action;

typedef struct ringx_meeting { /* a message has met its counterpart: its contents may move */
    int from, to;              /* ranks */
    uint32_t from_step, to_step;
    uint32_t from_operand, to_operand; /* indices into the ranks' operands */
} ringx_meeting;

typedef struct ringx_engine_client { /* what a reader may want to see as it happens; any may be NULL */
    void *context;
    /* Of so many steps of the other lane a step waits for, how many must be done for it to begin. */
    uint32_t (*wait)(void *context, int rank, uint32_t step);
    void (*started)(void *context, int rank, int lane, uint32_t step); /* the lane has arrived at the step */
    ringx_status (*met)(void *context, const ringx_meeting *meeting);
} ringx_engine_client;

typedef struct ringx_engine ringx_engine;

/* Schedules in rank order, of one direction; they and client must outlive the engine. */
ringx_status ringx__engine_create(ringx_engine **engine, const ringx_schedule *const *schedules, int ranks,
                                  const ringx_engine_client *client);
void ringx__engine_destroy(ringx_engine *engine);

ringx_status ringx__engine_next(ringx_engine *engine, ringx_action *action);
/* The step that the lane is at is done. */
void ringx__engine_done(ringx_engine *engine, int rank, int lane);
/* How many steps of the lane are done; the step that it is at. */
uint32_t ringx__engine_steps(const ringx_engine *engine, int rank, int lane);
uint32_t ringx__engine_at(const ringx_engine *engine, int rank, int lane);
/* After NOTHING with nothing left to be done: RINGX_OK if all ranks have finished, else who is stuck where. */
ringx_status ringx__engine_finished(const ringx_engine *engine);

/* "rank 3, forward step 12: …: " in front of the message. */
ringx_status ringx__step_fail(const ringx_schedule *schedule, uint32_t step, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
