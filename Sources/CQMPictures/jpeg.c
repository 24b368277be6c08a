#include "include/qm_pictures.h"

#ifdef QM_MEDIA

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "orientation.h"

// Progressive files may repeat scans without end in few bytes; encoders make about ten.
enum { SCAN_LIMIT = 256, EXIF_MARKER = JPEG_APP0 + 1 };

typedef struct {
  // First, so that the library's pointer to it is one to the whole.
  struct jpeg_error_mgr manager;
  jmp_buf jump;
  char *message;
} error_state;

static void on_error(j_common_ptr common) {
  error_state *state = (error_state *)common->err;
  char text[JMSG_LENGTH_MAX];
  common->err->format_message(common, text);
  snprintf(state->message, QM_PICTURE_MESSAGE_SIZE, "%s", text);
  longjmp(state->jump, 1);
}

// The library fills what is missing or damaged with gray and only warns: such a picture is refused.
// Other warnings are about what does not change the picture.
static void on_message(j_common_ptr common, int level) {
  if (level >= 0) return;
  switch (common->err->msg_code) {
  case JWRN_HIT_MARKER:
  case JWRN_JPEG_EOF:
  case JWRN_HUFF_BAD_CODE:
  case JWRN_ARITH_BAD_CODE:
  case JWRN_MUST_RESYNC:
    on_error(common);
  }
}

static void on_progress(j_common_ptr common) {
  if (((j_decompress_ptr)common)->input_scan_number <= SCAN_LIMIT) return;
  error_state *state = (error_state *)common->err;
  snprintf(state->message, QM_PICTURE_MESSAGE_SIZE, "more than %d scans", SCAN_LIMIT);
  longjmp(state->jump, 1);
}

static uint32_t orientation(const struct jpeg_marker_struct *marker) {
  static const char prefix[6] = "Exif\0";
  for (; marker != NULL; marker = marker->next) {
    if (marker->marker != EXIF_MARKER || marker->data_length < sizeof prefix) continue;
    if (memcmp(marker->data, prefix, sizeof prefix) != 0) continue;
    return qm_exif_orientation(marker->data + sizeof prefix, marker->data_length - sizeof prefix);
  }
  return 1;
}

// Separate, so that no variable that a jump would leave undefined is used after it.
static qm_picture_status read_picture(
    struct jpeg_decompress_struct *decoder, const uint8_t *bytes, size_t count, qm_picture *picture,
    uint8_t *pixels, char *message) {
  jpeg_mem_src(decoder, bytes, count);
  jpeg_save_markers(decoder, EXIF_MARKER, 0xffff);
  jpeg_read_header(decoder, true);
  if (decoder->jpeg_color_space == JCS_CMYK || decoder->jpeg_color_space == JCS_YCCK) {
    snprintf(message, QM_PICTURE_MESSAGE_SIZE, "a CMYK picture for print");
    return QM_PICTURE_UNSUPPORTED;
  }
  bool is_gray = decoder->jpeg_color_space == JCS_GRAYSCALE;
  decoder->out_color_space = is_gray ? JCS_GRAYSCALE : JCS_RGB;
  picture->width = decoder->image_width;
  picture->height = decoder->image_height;
  picture->channels = is_gray ? 1 : 3;
  picture->orientation = orientation(decoder->marker_list);
  if (pixels == NULL) return QM_PICTURE_OK;
  jpeg_start_decompress(decoder);
  size_t row = (size_t)picture->width * picture->channels;
  while (decoder->output_scanline < decoder->output_height) {
    JSAMPROW rows[1] = {pixels + decoder->output_scanline * row};
    jpeg_read_scanlines(decoder, rows, 1);
  }
  jpeg_finish_decompress(decoder);
  return QM_PICTURE_OK;
}

qm_picture_status qm_jpeg_read(
    const uint8_t *bytes, size_t count, qm_picture *picture, uint8_t *pixels, char *message) {
  // Zeros, so that destroying a decoder whose creation failed does nothing.
  struct jpeg_decompress_struct decoder = {0};
  struct jpeg_progress_mgr progress = {.progress_monitor = on_progress};
  error_state errors = {.message = message};
  decoder.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = on_error;
  errors.manager.emit_message = on_message;
  if (setjmp(errors.jump) != 0) {
    jpeg_destroy_decompress(&decoder);
    return QM_PICTURE_MALFORMED;
  }
  jpeg_create_decompress(&decoder);
  decoder.progress = &progress;
  qm_picture_status status = read_picture(&decoder, bytes, count, picture, pixels, message);
  jpeg_destroy_decompress(&decoder);
  return status;
}

#else

qm_picture_status qm_jpeg_read(
    const uint8_t *bytes, size_t count, qm_picture *picture, uint8_t *pixels, char *message) {
  return QM_PICTURE_NO_DECODER;
}

#endif
