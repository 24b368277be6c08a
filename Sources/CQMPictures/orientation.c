#include "orientation.h"

#include <stdbool.h>

enum { ORIENTATION_TAG = 0x0112, SHORT_TYPE = 3, ENTRY_SIZE = 12 };

static uint32_t number(const uint8_t *bytes, size_t size, bool big_endian) {
  uint32_t value = 0;
  for (size_t i = 0; i < size; i++) value |= (uint32_t)bytes[i] << 8 * (big_endian ? size - 1 - i : i);
  return value;
}

uint32_t qm_exif_orientation(const uint8_t *bytes, size_t count) {
  if (count < 8) return 1;
  bool big_endian = bytes[0] == 'M';
  if (bytes[0] != bytes[1] || (bytes[0] != 'I' && bytes[0] != 'M')) return 1;
  if (number(bytes + 2, 2, big_endian) != 42) return 1;
  size_t directory = number(bytes + 4, 4, big_endian);
  if (directory > count - 2) return 1;
  size_t entries = number(bytes + directory, 2, big_endian);
  size_t room = (count - directory - 2) / ENTRY_SIZE;
  for (size_t i = 0; i < entries && i < room; i++) {
    const uint8_t *entry = bytes + directory + 2 + i * ENTRY_SIZE;
    if (number(entry, 2, big_endian) != ORIENTATION_TAG) continue;
    uint32_t value = number(entry + 8, 2, big_endian);
    bool is_valid = number(entry + 2, 2, big_endian) == SHORT_TYPE && value >= 1 && value <= 8;
    return is_valid ? value : 1;
  }
  return 1;
}
