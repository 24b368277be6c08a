#include "qm_last_error.h"

#include <string.h>

// Swift has no variables of a thread. Fixed sizes, so that nothing is left to free when it ends.
static _Thread_local qm_status last_status = QM_OK;
static _Thread_local char last_message[4096];
static _Thread_local char last_remedy[512];

// Copies a text without cutting a character of UTF-8.
static void copy(char *target, size_t size, const char *text) {
  size_t length = strlen(text);
  if (length >= size) {
    length = size - 1;
    while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80) length--;
  }
  memcpy(target, text, length);
  target[length] = 0;
}

void qm_set_last_error(qm_status status, const char *message, const char *remedy) {
  last_status = status;
  copy(last_message, sizeof last_message, message);
  copy(last_remedy, sizeof last_remedy, remedy);
}

const char *qm_last_error(void) { return last_message; }
qm_status qm_last_error_status(void) { return last_status; }
const char *qm_last_error_remedy(void) { return last_remedy; }
