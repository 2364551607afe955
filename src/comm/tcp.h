/* SPDX-License-Identifier: MIT */
/* The TCP transport, inside: ranks are processes that a launcher told their numbers in the environment.
 *
 * Two connections join each pair of ranks: one for data, one for notes.  A segment is sent when its receiver has
 * granted it, so that nothing arrives that has no place: no rank ever holds up another, whatever the order of calls. */
#ifndef RINGX_COMM_TCP_H
#define RINGX_COMM_TCP_H

#include "comm/wire.h"

#include <poll.h>

/* ---- tcp_environment.c: what the launcher says ------------------------------------------------------------------ */

enum { RINGX_MOST_TCP_RANKS = 4096 };

typedef struct ringx_meeting { /* where the ranks meet: at rank 0 */
    int rank, ranks, port;
    char host[256];
    uint64_t job; /* the same for all ranks of a job, and for hardly any other */
} ringx_meeting;

ringx_status ringx__meeting_from_environment(ringx_meeting *meeting);
/* The first name of a list as SLURM writes it, "node[003-007,9],login": node003.  False: there is none. */
bool ringx__first_host(const char *list, char *host, size_t bytes);

/* ---- tcp_socket.c: sockets that never block; `end` is a time of ringx__now -------------------------------------- */

typedef struct ringx_address {
    unsigned char bytes[16]; /* IPv6; IPv4 is mapped */
    uint16_t port;
} ringx_address;

/* Listens on all addresses of this machine; *port 0: any, then the one it is.  Fails naming the port. */
ringx_status ringx__socket_listen(int *port, int *listener);
/* A connection that came; -1: none. */
int ringx__socket_accept(int listener);
/* One attempt.  -1: none, and why, as errno. */
int ringx__socket_connect(const ringx_address *address, double end);
/* Addresses of a host, at most `most`; *found of them. */
ringx_status ringx__socket_resolve(const char *host, int port, ringx_address *addresses, int most, int *found);
ringx_address ringx__socket_peer(int socket);
bool ringx__address_is_loopback(const ringx_address *address);
/* All of it before the end; false: errno is ETIMEDOUT, ECONNRESET (also when the other side has ended), … */
bool ringx__socket_send(int socket, const void *data, size_t bytes, double end);
bool ringx__socket_receive(int socket, void *data, size_t bytes, double end);

/* ---- tcp_door.c: connections that come ------------------------------------------------------------------------- */

typedef enum ringx_knock { RINGX_JOINS = 1, RINGX_DATA, RINGX_CONTROL } ringx_knock;

typedef struct ringx_hello { /* the first that travels on every connection */
    char magic[8];
    uint32_t order, protocol; /* of bytes; of what follows */
    int32_t kind, rank, ranks, port;
    uint64_t job, meeting; /* meeting: told by rank 0, after joining */
    char version[16], host[64];
} ringx_hello;

void ringx__hello_fill(ringx_hello *hello, const ringx_meeting *meeting, ringx_knock kind);

enum { RINGX_DOOR_PLACES = 64 };

typedef struct ringx_door {
    int listener;
    int n;
    struct {
        int socket;
        double since;
        size_t got;
        ringx_hello hello;
    } waiting[RINGX_DOOR_PLACES]; /* for the rest of what they say */
} ringx_door;

typedef enum ringx_event { RINGX_CAME, RINGX_WATCHED, RINGX_LATE } ringx_event;

/* The next of: somebody of ours came (who, and *socket), one of the watched sockets has something to read (*which),
 * the end.  Strangers are turned away. */
ringx_event ringx__door_wait(ringx_door *door, const int *watched, int n_watched, double end, ringx_hello *who,
                             int *socket, int *which);
void ringx__door_close(ringx_door *door);

/* ---- tcp_meet.c -------------------------------------------------------------------------------------------------- */

/* Fills data[r], control[r] with connections to every other rank, or fails on all ranks that have met. */
ringx_status ringx__tcp_meet(const ringx_meeting *meeting, double timeout_s, int *data, int *control);

/* ---- tcp_carry.c ------------------------------------------------------------------------------------------------- */

typedef struct ringx_frame { /* before the bytes of a segment, or a grant of one */
    uint32_t kind;
    int32_t tag;
    uint64_t segment, bytes;
} ringx_frame;

typedef struct ringx_frames {
    ringx_frame *at;
    size_t first, end, room;
} ringx_frames;

typedef struct ringx_letter { /* a note being sent */
    struct ringx_letter *next;
    size_t sent;
    ringx_note note;
} ringx_letter;

typedef struct ringx_link { /* to one rank */
    int data, control;
    bool no_data, no_control; /* the connection has ended */
    bool ended;               /* the rank has destroyed its communicator */
    double lost;              /* when the data connection ended */

    ringx_frame in;
    size_t in_got, in_stream; /* bytes of the frame; its stream */
    uint64_t in_left;         /* bytes of the segment */

    ringx_frame out;
    bool sending;
    size_t out_sent, out_stream;
    uint64_t out_left;

    ringx_frames owed;    /* grants to send */
    ringx_frames granted; /* by the other side */

    ringx_note *inbox;
    size_t inbox_got;
    ringx_letter *letters;
} ringx_link;

typedef struct ringx_tcp {
    ringx_wire wire;
    ringx_link *links;          /* [ranks] */
    struct pollfd *look, *wait; /* [2·ranks] data and control of each: with the lock held, and while resting */
} ringx_tcp;

extern const ringx_carrier ringx__carrier_tcp;

/* Tells the others that this rank goes in peace (unless the communicator has failed), in bounded time; frees what the
 * carrier has. */
void ringx__tcp_leave(ringx_tcp *tcp);

#endif
