// What a message asks for: one fault each.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/bulkhead.h"

static volatile int number;

static int recurse(int depth) { return depth == number ? 0 : 1 + recurse(depth + 1); }

static void *volatile kept;

static void all_memory(void) {
  for (;;) {
    kept = malloc(1 << 20);
    assert(kept);
    memset(kept, 1, 1 << 20);
  }
}

static int compare(const void *left, const void *right) {
  assert(left == right);
  return 0;
}

static void sort(void) {
  int numbers[] = {2, 1};
  qsort(numbers, 2, sizeof(int), compare);
}

static void send(void) {
  bulkhead_string_t to, body, id;
  bulkhead_string_set(&to, "nobody-there");
  bulkhead_string_set(&body, "hi");
  bulkhead_agent_host_host_error_t error;
  assert(bulkhead_agent_host_send(&to, &body, &id, &error));
}

void fault(const char *name) {
  int *nothing = number == 0 ? NULL : malloc(4);
  if (strcmp(name, "assert") == 0) assert(number > 0);
  if (strcmp(name, "nil") == 0) number = *nothing;
  if (strcmp(name, "panic") == 0) abort();
  if (strcmp(name, "exit") == 0) exit(3);
  if (strcmp(name, "loop") == 0) while (number == 0);
  if (strcmp(name, "memory") == 0) all_memory();
  if (strcmp(name, "recursion") == 0) number = recurse(1);
  if (strcmp(name, "callback") == 0) sort();
  if (strcmp(name, "refused") == 0) send();
}

void fault_in_start(const char *agent) {
  if (strncmp(agent, "start-", 6) == 0) fault(agent + 6);
}
