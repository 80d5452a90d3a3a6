// What goes wrong before there is an agent.

#include <stdlib.h>

__attribute__((constructor)) static void load(void) { abort(); }
