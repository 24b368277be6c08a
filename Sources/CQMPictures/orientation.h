#ifndef QM_ORIENTATION_H
#define QM_ORIENTATION_H

#include <stddef.h>
#include <stdint.h>

// The orientation, 1 to 8, that EXIF data (a TIFF header and its first directory) states; 1 if it
// states none.
uint32_t qm_exif_orientation(const uint8_t *bytes, size_t count);

#endif
