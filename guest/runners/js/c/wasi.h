/* Included before each of QuickJS's files. QuickJS gives up its limit on the stack where `__wasi__` is defined, so that a
   recursion without end would be a trap of the engine, without a place in the author's code. These are its includes,
   which need the macro; after them it goes. `__GLIBC__` stands for the `malloc_usable_size` that WASI's libc has. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fenv.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#undef __wasi__
#define __GLIBC__ 2

#include "image.h"

/* The clock, which is not asked while the component is built, see src/clock.rs. */
int64_t bulkhead_clock_us(void);

static inline int bulkhead_gettimeofday(struct timeval *time, void *zone)
{
    int64_t us = bulkhead_clock_us();
    (void)zone;
    time->tv_sec = us / 1000000;
    time->tv_usec = us % 1000000;
    return 0;
}
#define gettimeofday bulkhead_gettimeofday

/* Every object by `malloc`: QuickJS's own arenas, one of 4 KiB for each of 31 sizes, would have each agent write to a page
   of each. See src/heap.rs. */
#define __SANITIZE_ADDRESS__
