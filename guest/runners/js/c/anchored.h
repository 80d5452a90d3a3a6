// Patterns that match where the text begins or not at all.

#include <stdbool.h>
#include <stddef.h>

#include "libregexp.h"

/* Each alternative begins with `^`, and lines do not count. What is not sure is not. */
static bool bulkhead_is_anchored(const char *pattern, size_t length, int re_flags) {
  bool begins = true, in_class = false;
  int depth = 0;
  // In sets classes are nested.
  if (re_flags & (LRE_FLAG_MULTILINE | LRE_FLAG_UNICODE_SETS)) return false;
  for (size_t at = 0; at < length; at++) {
    char c = pattern[at];
    if (begins && c != '^') return false;
    begins = false;
    if (c == '\\') at++;
    else if (in_class) in_class = c != ']';
    else if (c == '[') in_class = true;
    else if (c == '(') depth++;
    else if (c == ')') depth--;
    else if (c == '|') begins = depth == 0;
  }
  return !begins;
}
