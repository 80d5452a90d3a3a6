/* The objects of the image, which all agents begin with: those below an address. Nobody counts references to them. A count would
   have each agent own the page of every object that it so much as touches, and most of these are as they were afterwards.

   immortal.sed has QuickJS ask here. A count that is compared is large, so QuickJS takes an object of the image for one that others
   have as well: it copies a shape or a string before it changes it. The cycle collector does not see objects of the image, and what
   they refer to is in use. */
#ifndef BULKHEAD_IMAGE_H
#define BULKHEAD_IMAGE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* 0 while the component is built. */
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

#endif
