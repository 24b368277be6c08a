// Elements and vectors of layout.inc; they do not depend on the set.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// May lie at any address and stand for elements of any type.
typedef uint8_t __attribute__((aligned(1), may_alias)) layout_u8;
typedef uint16_t __attribute__((aligned(1), may_alias)) layout_u16;
typedef uint32_t __attribute__((aligned(1), may_alias)) layout_u32;
typedef uint64_t __attribute__((aligned(1), may_alias)) layout_u64;

typedef uint8_t layout_v8 __attribute__((vector_size(16)));
typedef uint16_t layout_v16 __attribute__((vector_size(16)));
typedef uint32_t layout_v32 __attribute__((vector_size(16)));
typedef uint64_t layout_v64 __attribute__((vector_size(16)));

// The lower, or upper, halves of a and b, element by element in turn.
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
