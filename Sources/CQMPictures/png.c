#include "include/qm_pictures.h"

#ifdef QM_MEDIA

#include <stdio.h>
#include <string.h>

#include <png.h>

#include "orientation.h"

typedef struct {
  const uint8_t *next;
  size_t left;
  char *message;
} source;

static void on_error(png_structp png, png_const_charp text) {
  source *source = png_get_error_ptr(png);
  snprintf(source->message, QM_PICTURE_MESSAGE_SIZE, "%s", text);
  png_longjmp(png, 1);
}

// Warnings are about what is ignored: colour profiles, texts, times.
static void on_warning(png_structp png, png_const_charp text) {
  (void)png;
  (void)text;
}

static void take(png_structp png, png_bytep into, size_t count) {
  source *source = png_get_io_ptr(png);
  if (count > source->left) png_error(png, "the file ends early");
  memcpy(into, source->next, count);
  source->next += count;
  source->left -= count;
}

// Separate, so that no variable that a jump would leave undefined is used after it.
static void read_picture(
    png_structp png, png_infop information, qm_picture *picture, uint8_t *pixels) {
  png_read_info(png, information);
  png_set_palette_to_rgb(png);
  png_set_expand_gray_1_2_4_to_8(png);
  png_set_strip_16(png);
  png_set_strip_alpha(png);
  int passes = png_set_interlace_handling(png);
  png_read_update_info(png, information);
  picture->width = png_get_image_width(png, information);
  picture->height = png_get_image_height(png, information);
  picture->channels = png_get_channels(png, information);
  size_t row = (size_t)picture->width * picture->channels;
  if ((picture->channels != 1 && picture->channels != 3) ||
      png_get_rowbytes(png, information) != row) {
    png_error(png, "unexpected kind of pixels");
  }
  if (pixels != NULL) {
    for (int pass = 0; pass < passes; pass++) {
      for (uint32_t y = 0; y < picture->height; y++) png_read_row(png, pixels + y * row, NULL);
    }
    png_read_end(png, information);
  }
  png_bytep exif = NULL;
  png_uint_32 count = 0;
  picture->orientation = png_get_eXIf_1(png, information, &count, &exif) == PNG_INFO_eXIf
                             ? qm_exif_orientation(exif, count)
                             : 1;
}

qm_picture_status qm_png_read(
    const uint8_t *bytes, size_t count, qm_picture *picture, uint8_t *pixels, char *message) {
  source source = {bytes, count, message};
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, on_error, on_warning);
  png_infop information = png == NULL ? NULL : png_create_info_struct(png);
  if (information == NULL) {
    png_destroy_read_struct(&png, NULL, NULL);
    return QM_PICTURE_OUT_OF_MEMORY;
  }
  if (setjmp(png_jmpbuf(png)) != 0) {
    png_destroy_read_struct(&png, &information, NULL);
    return QM_PICTURE_MALFORMED;
  }
  png_set_read_fn(png, &source, take);
  read_picture(png, information, picture, pixels);
  png_destroy_read_struct(&png, &information, NULL);
  return QM_PICTURE_OK;
}

#else

qm_picture_status qm_png_read(
    const uint8_t *bytes, size_t count, qm_picture *picture, uint8_t *pixels, char *message) {
  return QM_PICTURE_NO_DECODER;
}

#endif
