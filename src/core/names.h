/* SPDX-License-Identifier: MIT */
/* Looking names up in tables; an unknown name is answered with the nearest one. */
#ifndef RINGX_CORE_NAMES_H
#define RINGX_CORE_NAMES_H

#include "core/status.h"

/* name_at(i) is the i-th name, NULL past the end.  what: "preset", "layout", … for the message. */
ringx_status ringx__name_find(const char *what, const char *name, const char *(*name_at)(size_t), size_t *index);

#endif
