/* SPDX-License-Identifier: MIT */
/* Memory of a device, for callers without one of their own. */
#include "device/device.h"

static ringx_status find(ringx_device device, const ringx_device_ops **ops)
{
    *ops = ringx__device(device);
    if (!*ops)
        RINGX_FAIL(RINGX_UNSUPPORTED, "device %d is not in this build; 0 is the CPU", (int)device);
    return (*ops)->available();
}

ringx_status ringx_memory_alloc(ringx_device device, size_t bytes, void **memory)
{
    const ringx_device_ops *ops;
    if (!memory)
        RINGX_FAIL(RINGX_INVALID, "memory is NULL; it must point to a pointer");
    *memory = NULL;
    RINGX_TRY(find(device, &ops));
    return ops->alloc(bytes, memory);
}

void ringx_memory_free(ringx_device device, void *memory)
{
    const ringx_device_ops *ops = ringx__device(device);
    if (ops && memory)
        ops->free(memory);
}

ringx_status ringx_memory_copy(ringx_device device, void *to, const void *from, size_t bytes)
{
    const ringx_device_ops *ops;
    RINGX_TRY(find(device, &ops));
    return ops->copy(to, from, bytes);
}
