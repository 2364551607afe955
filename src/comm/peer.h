/* SPDX-License-Identifier: MIT */
/* A communicator for ranks that reach each other's device memory: who has a block copies it into the workspace of who
 * needs it, by copy engines; who needs a sum adds others' blocks from where they are; and streams wait for each other
 * by words in memory.  What cannot go that way (ranks of other hosts, maxima, narrow sums) goes through the
 * communicator beneath it. */
#ifndef RINGX_COMM_PEER_H
#define RINGX_COMM_PEER_H

#include "comm/comm.h"
#include "device/device.h"

/* to[i] += from[i]; from may be another rank's. */
typedef ringx_status (*ringx_peer_add)(size_t count, const float *from, float *to, void *stream);

/* messages: the most that one exchange has.  Until it is attached everything goes through inner.  keeper: the caller's
 * communicator, which outlives this one.  Does not own them; no row of the table. */
ringx_status ringx__comm_peer(ringx_comm *inner, ringx_comm *keeper, const ringx_device_ops *device, ringx_peer_add add,
                              size_t messages, ringx_comm **peer);

/* Collective: opens the others' workspaces, as far as they can be reached.  From here to attach, calls transfer
 * nothing: what others will write and read in this workspace is noted, in which order and where. */
ringx_status ringx__peer_open(ringx_comm *peer, void *workspace, const ringx_call *call);

/* A pass begins: 0 or 1, the lists of calls that are made as wholes.  Fails after a failure: nobody would end its
 * waits.
 */
ringx_status ringx__peer_begin(ringx_comm *peer, int pass);

/* Collective: every rank learns where in the others' workspaces it will write and read.  From here on each pass makes
 * the calls that were noted, in their order, in memory of this workspace. */
ringx_status ringx__peer_attach(ringx_comm *peer, const ringx_call *call);

/* Words between kernels and transfers of this rank, RINGX_ARRIVALS of them, and a number of nanoseconds for a kernel to
 * say how long it waited in a forward.  They are cleared, in the stream, before any transfer of a pass (the number of
 * a forward's).  A word that is announced is set at the end of the next call; one that is held for is awaited by the
 * stream before the next call. */
enum { RINGX_ARRIVALS = 32 };
uint32_t *ringx__peer_words(const ringx_comm *peer);
uint64_t *ringx__peer_waited(const ringx_comm *peer);
ringx_status ringx__peer_expect(ringx_comm *peer, void *stream);
void ringx__peer_announce(ringx_comm *peer, int word);
ringx_status ringx__peer_hold(ringx_comm *peer, int word, void *stream);

/* Does any other rank's memory lie open? */
bool ringx__peer_reaches(const ringx_comm *peer);

/* Is every block copied by who has it, so that it may be scattered?  broadcasts: among them are broadcasts to all. */
bool ringx__peer_carries(const ringx_comm *peer, bool broadcasts);

/* Do all transfers but broadcasts run beside the kernels of this stream, copied by who has the blocks?  Not those of a
 * graph, nor those between ranks of one device, whose copies are kernels. */
bool ringx__peer_runs_beside(const ringx_comm *peer, void *stream);

#endif
