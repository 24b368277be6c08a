// The little of .npy that the programs need: the bytes behind the header of version 1.
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The content of a file, or exit.
static unsigned char *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
    perror(path);
    exit(1);
  }
  *size = (size_t)ftell(file);
  rewind(file);
  unsigned char *bytes = (unsigned char *)malloc(*size + 1);
  if (bytes == NULL || fread(bytes, 1, *size, file) != *size) exit(1);
  fclose(file);
  return bytes;
}

// The elements of an .npy file, or exit.
static unsigned char *read_npy(const char *path, size_t *size) {
  unsigned char *bytes = read_file(path, size);
  if (*size < 10 || memcmp(bytes, "\x93NUMPY\x01", 7) != 0) {
    fprintf(stderr, "%s: not an .npy file of version 1\n", path);
    exit(1);
  }
  size_t start = 10 + (size_t)bytes[8] + 256 * (size_t)bytes[9];
  *size -= start;
  return bytes + start;
}
