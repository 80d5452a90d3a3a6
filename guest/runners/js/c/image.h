/* The objects of the image, which all agents begin with: those below an address. Nobody counts references to them. A count would
   have each agent own the page of every object that it so much as touches, and most of these are as they were afterwards.

   immortal.sed has QuickJS ask here. A count that is compared is large, so QuickJS takes an object of the image for one that others
   have as well: it copies a shape or a string before it changes it. The cycle collector does not see objects of the image, and what
   they refer to is in use.

   Nothing of the image is freed, so nothing that comes later lies among it. */
#ifndef BULKHEAD_IMAGE_H
#define BULKHEAD_IMAGE_H

#include <limits.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Of src/heap.rs. 0 while the component is built. */
extern uintptr_t bulkhead_image_end;

static inline bool bulkhead_is_of_image(const void *object)
{
    return (uintptr_t)object < bulkhead_image_end;
}

static inline int bulkhead_count(const void *object, int count)
{
    return bulkhead_is_of_image(object) ? INT_MAX : count;
}

static inline int bulkhead_count_up(const void *object, int *count)
{
    return bulkhead_is_of_image(object) ? INT_MAX : ++*count;
}

static inline int bulkhead_count_down(const void *object, int *count)
{
    return bulkhead_is_of_image(object) ? INT_MAX : --*count;
}

static inline void bulkhead_free(void *block)
{
    if (!bulkhead_is_of_image(block))
        free(block);
}

static inline void *bulkhead_realloc(void *block, size_t size)
{
    if (block == NULL || !bulkhead_is_of_image(block))
        return realloc(block, size);
    void *moved = malloc(size);
    size_t before = malloc_usable_size(block);
    if (moved != NULL)
        memcpy(moved, block, before < size ? before : size);
    return moved;
}

#define free(block) bulkhead_free(block)
#define realloc(block, size) bulkhead_realloc(block, size)

#endif
