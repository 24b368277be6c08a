// Types of elements and vectors for layout.inc; they do not depend on the set.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Elements of any type at any address.
typedef uint8_t __attribute__((aligned(1), may_alias)) layout_u8;
typedef uint16_t __attribute__((aligned(1), may_alias)) layout_u16;
typedef uint32_t __attribute__((aligned(1), may_alias)) layout_u32;
typedef uint64_t __attribute__((aligned(1), may_alias)) layout_u64;

typedef uint8_t layout_v8 __attribute__((vector_size(16)));
typedef uint16_t layout_v16 __attribute__((vector_size(16)));
typedef uint32_t layout_v32 __attribute__((vector_size(16)));
typedef uint64_t layout_v64 __attribute__((vector_size(16)));

// Pairs of these vectors in one wide register, whose halves the instructions treat alike.
typedef uint8_t layout_w8 __attribute__((vector_size(32)));
typedef uint16_t layout_w16 __attribute__((vector_size(32)));
typedef uint32_t layout_w32 __attribute__((vector_size(32)));
typedef uint64_t layout_w64 __attribute__((vector_size(32)));

// Interleaves the elements of the lower, or upper, halves of a and b.
#define LAYOUT_LOW_8(a, b) \
  __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define LAYOUT_HIGH_8(a, b) \
  __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define LAYOUT_LOW_16(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define LAYOUT_HIGH_16(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define LAYOUT_LOW_32(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define LAYOUT_HIGH_32(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define LAYOUT_LOW_64(a, b) __builtin_shufflevector(a, b, 0, 2)
#define LAYOUT_HIGH_64(a, b) __builtin_shufflevector(a, b, 1, 3)

// The same within each half of 32 bytes.
#define LAYOUT_WIDE_LOW_8(a, b)                                                             \
  __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 16, \
                          48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55)
#define LAYOUT_WIDE_HIGH_8(a, b)                                                              \
  __builtin_shufflevector(a, b, 8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47, \
                          24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63)
#define LAYOUT_WIDE_LOW_16(a, b) \
  __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26, 11, 27)
#define LAYOUT_WIDE_HIGH_16(a, b) \
  __builtin_shufflevector(a, b, 4, 20, 5, 21, 6, 22, 7, 23, 12, 28, 13, 29, 14, 30, 15, 31)
#define LAYOUT_WIDE_LOW_32(a, b) \
  __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define LAYOUT_WIDE_HIGH_32(a, b) \
  __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define LAYOUT_WIDE_LOW_64(a, b) \
  __builtin_shufflevector(a, b, 0, 4, 2, 6)
#define LAYOUT_WIDE_HIGH_64(a, b) \
  __builtin_shufflevector(a, b, 1, 5, 3, 7)
