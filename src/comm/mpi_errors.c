/* SPDX-License-Identifier: MIT */
/* The MPI transport: errors that MPI ties to no communicator.
 *
 * Some MPIs (MPICH 4.0) report the error of a finished request to MPI_COMM_WORLD's or MPI_COMM_SELF's handler, which
 * ends the program unless the caller has changed it.  While any of our calls runs, these handlers return. */
#include "comm/mpi_carry.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int calls; /* running, on any communicator of this process */
static MPI_Errhandler callers[2];

static MPI_Comm handled(int i)
{
    return i == 0 ? MPI_COMM_WORLD : MPI_COMM_SELF;
}

void ringx__errors_return(void)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < 2 && calls == 0; i++) {
        MPI_Comm_get_errhandler(handled(i), &callers[i]);
        MPI_Comm_set_errhandler(handled(i), MPI_ERRORS_RETURN);
    }
    calls++;
    pthread_mutex_unlock(&lock);
}

void ringx__errors_restore(void)
{
    pthread_mutex_lock(&lock);
    calls--;
    for (int i = 0; i < 2 && calls == 0; i++) {
        MPI_Comm_set_errhandler(handled(i), callers[i]);
        MPI_Errhandler_free(&callers[i]);
    }
    pthread_mutex_unlock(&lock);
}
