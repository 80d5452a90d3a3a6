/* Loaded before the C library: adds the seconds in a file to the wall clock, and to no other clock; and has fsync take longer,
   by the milliseconds that follow there. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_fsync)(int), (*real_fdatasync)(int);

/* How far the wall clock is off, in seconds, and how long fsync takes longer, in milliseconds. */
static const volatile int64_t *settings;

__attribute__((constructor)) static void begin(void) {
    if (real_clock_gettime)
        return;
    const char *path = getenv("WALL_CLOCK_OFFSET");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *map = mmap(NULL, 2 * sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
        if (map != MAP_FAILED)
            settings = map;
        close(file);
    }
    *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    *(void **)&real_fsync = dlsym(RTLD_NEXT, "fsync");
    *(void **)&real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    begin();
    int result = real_clock_gettime(clock, time);
    if (result == 0 && settings && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += settings[0];
    return result;
}

static void wait_for_disk(void) {
    begin();
    int64_t ms = settings ? settings[1] : 0;
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    if (ms > 0)
        nanosleep(&time, NULL);
}

int fsync(int file) {
    wait_for_disk();
    return real_fsync(file);
}

int fdatasync(int file) {
    wait_for_disk();
    return real_fdatasync(file);
}
