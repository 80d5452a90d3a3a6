// An agent that asks a language model, and writes down what it is told by `note TEXT`.

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/bulkhead.h"

static const char *const system_prompt = "You are {{name}}. Answer briefly.";

// Its state, which outlives it.
static unsigned turns;
static char *notes; // One a line.

__attribute__((format(printf, 1, 2))) static char *format(const char *form, ...) {
  char *text = NULL;
  va_list arguments;
  va_start(arguments, form);
  int length = vasprintf(&text, form, arguments);
  va_end(arguments);
  assert(length >= 0);
  return text;
}

// What the host passes has a length and no end.
static char *copy(const bulkhead_string_t *text) { return format("%.*s", (int)text->len, (char *)text->ptr); }

static void take_note(const char *text) {
  char *longer = format("%s%s%s", notes ? notes : "", notes ? "\n" : "", text);
  free(notes);
  notes = longer;
}

static bulkhead_agent_model_chat_message_t says(bulkhead_agent_model_role_t role, const char *text, bulkhead_agent_model_content_t *content) {
  content->tag = BULKHEAD_AGENT_MODEL_CONTENT_TEXT;
  bulkhead_string_set(&content->val.text, text);
  return (bulkhead_agent_model_chat_message_t){.role = role, .content = {content, 1}};
}

// The answer of the model. NULL, and why there is none.
static char *ask(const char *text, bulkhead_agent_model_model_error_t *error) {
  bulkhead_agent_model_content_t contents[2];
  bulkhead_agent_model_chat_message_t conversation[] = {
    says(BULKHEAD_AGENT_MODEL_ROLE_SYSTEM, system_prompt, &contents[0]),
    says(BULKHEAD_AGENT_MODEL_ROLE_USER, text, &contents[1]),
  };
  bulkhead_agent_model_request_t request = {.messages = {conversation, 2}};
  bulkhead_agent_model_completion_t completion;
  if (!bulkhead_agent_model_complete(&request, &completion, error)) return NULL;
  char *answer = copy(&completion.text);
  bulkhead_agent_model_completion_free(&completion);
  return answer;
}

// Whoever gets a reply frees it. NULL: the turn fails.
static char *answer(const char *text) {
  if (strcmp(text, "notes") == 0) return format("%s", notes ? notes : "no notes yet");
  if (strncmp(text, "note ", 5) == 0) return take_note(text + 5), format("noted");
  bulkhead_agent_model_model_error_t error;
  char *reply = ask(text, &error);
  if (reply) return reply;
  bool has_no_model = error.tag == BULKHEAD_AGENT_MODEL_MODEL_ERROR_DENIED;
  bulkhead_agent_model_model_error_free(&error);
  return has_no_model ? format("%u: %s", turns, text) : NULL; // See `models` in bulkhead.toml.
}

bool exports_bulkhead_agent_lifecycle_start(exports_bulkhead_agent_lifecycle_start_request_t *request, exports_bulkhead_agent_lifecycle_agent_error_t *error) {
  (void)error;
  exports_bulkhead_agent_lifecycle_start_request_free(request);
  return true;
}

bool exports_bulkhead_agent_lifecycle_handle(exports_bulkhead_agent_lifecycle_message_t *message, exports_bulkhead_agent_lifecycle_outcome_t *outcome, exports_bulkhead_agent_lifecycle_agent_error_t *error) {
  turns += 1;
  char *text = copy(&message->body);
  exports_bulkhead_agent_lifecycle_message_free(message);
  char *reply = answer(text);
  free(text);
  if (!reply) {
    *error = (exports_bulkhead_agent_lifecycle_agent_error_t){.fatal = false};
    bulkhead_string_dup(&error->code, "no-answer");
    bulkhead_string_dup(&error->message, "the model did not answer; the host's log has the cause");
    return false;
  }
  *outcome = (exports_bulkhead_agent_lifecycle_outcome_t){.next = BULKHEAD_AGENT_AGENT_TYPES_NEXT_IDLE, .reply.is_some = true};
  bulkhead_string_dup(&outcome->reply.val, reply);
  free(reply);
  return true;
}

bool exports_bulkhead_agent_lifecycle_snapshot(bulkhead_list_u8_t *snapshot, exports_bulkhead_agent_lifecycle_agent_error_t *error) {
  (void)error;
  char *text = format("%u\n%s", turns, notes ? notes : "");
  *snapshot = (bulkhead_list_u8_t){(uint8_t *)text, strlen(text)};
  return true;
}

bool exports_bulkhead_agent_lifecycle_restore(bulkhead_list_u8_t *snapshot, exports_bulkhead_agent_lifecycle_agent_error_t *error) {
  (void)error;
  char *text = format("%.*s", (int)snapshot->len, (char *)snapshot->ptr), *rest;
  bulkhead_list_u8_free(snapshot);
  turns = (unsigned)strtoul(text, &rest, 10);
  if (rest[0] == '\n' && rest[1]) take_note(rest + 1);
  free(text);
  return true;
}

bool exports_bulkhead_agent_lifecycle_shutdown(exports_bulkhead_agent_lifecycle_shutdown_reason_t reason, exports_bulkhead_agent_lifecycle_agent_error_t *error) {
  (void)reason, (void)error;
  return true;
}
