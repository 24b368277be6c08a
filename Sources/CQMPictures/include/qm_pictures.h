// Decoding of PNG and JPEG by libpng and libjpeg-turbo. Both report errors by a jump over the stack
// of their caller, which Swift cannot do: here every error is a value.
#ifndef QM_PICTURES_H
#define QM_PICTURES_H

#include <stddef.h>
#include <stdint.h>

enum { QM_PICTURE_MESSAGE_SIZE = 256 };

typedef enum {
  QM_PICTURE_OK = 0,
  // The bytes contradict the format, or end early.
  QM_PICTURE_MALFORMED,
  // The file is valid, but of a kind that is not read.
  QM_PICTURE_UNSUPPORTED,
  QM_PICTURE_OUT_OF_MEMORY,
  // This build has no decoder.
  QM_PICTURE_NO_DECODER,
} qm_picture_status;

typedef struct {
  uint32_t width;
  uint32_t height;
  // 1: gray, 3: red, green, blue.
  uint32_t channels;
  // As EXIF states it, 1 (or absent) to 8; see table "Orientation" of Exif 2.32, 4.6.4.
  uint32_t orientation;
} qm_picture;

// Reads the size of a picture and, if `pixels` is not NULL, its elements: height × width × channels
// bytes, row by row, as stored, before any rotation that the orientation asks for. 16 bits are cut to
// the upper 8, transparency is dropped, colours are not managed.
// - message: QM_PICTURE_MESSAGE_SIZE bytes; what is wrong, if the result is not QM_PICTURE_OK.
qm_picture_status qm_png_read(
    const uint8_t *bytes, size_t count, qm_picture *picture, uint8_t *pixels, char *message);
qm_picture_status qm_jpeg_read(
    const uint8_t *bytes, size_t count, qm_picture *picture, uint8_t *pixels, char *message);

#endif
