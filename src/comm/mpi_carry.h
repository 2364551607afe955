/* SPDX-License-Identifier: MIT */
/* The MPI transport, inside: streams are carried by MPI_Isend and MPI_Irecv on one communicator, notes on another.
 *
 * Only MPI_Isend, MPI_Irecv and MPI_Test carry data: requests that can be given up when a rank has failed, and of which
 * one always knows whom they wait for. */
#ifndef RINGX_COMM_MPI_CARRY_H
#define RINGX_COMM_MPI_CARRY_H

#include "comm/wire.h"

#include <ringx/ringx_mpi.h>

typedef struct ringx_mail { /* a note being sent */
    struct ringx_mail *next;
    MPI_Request request;
    ringx_note note;
} ringx_mail;

typedef struct ringx_mpi {
    ringx_wire wire;
    MPI_Comm data, control;
    MPI_Request *requests; /* [room] segments: RINGX_STREAM_WIDTH of each stream */
    size_t room;
    ringx_note *inbox;
    MPI_Request listen; /* for the next note */
    ringx_mail *mail;
} ringx_mpi;

extern const ringx_carrier ringx__carrier_mpi;

ringx_status ringx__mpi_listen(ringx_mpi *mpi); /* for notes, once there is a communicator */
/* In bounded time.  Frees what the carrier has; mpi_runs: MPI is not finalized. */
void ringx__mpi_hang_up(ringx_mpi *mpi, bool mpi_runs);
/* An error that MPI returned is the communicator's failure. */
void ringx__mpi_fail(ringx_mpi *mpi, int error, int peer, const char *doing);

/* ---- mpi_errors.c: around every call of MPI that can fail, in pairs --------------------------------------------- */

void ringx__errors_return(void);
void ringx__errors_restore(void);

#endif
