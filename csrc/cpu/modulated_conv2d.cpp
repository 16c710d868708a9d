// interleave: puts the four phases of a stride-2 transposed convolution together. Two phases of a row lie side by side in memory, so an output
// row is made of runs of two pixels. Bytes moved: each element once in and once out.
#include "ops/modulated_conv2d.h"

#include <cstring>

#include "block.h"

STYLEGAN_OPS_BEGIN_VARIANT

void interleave(const InterleaveParams& p, int64_t begin, int64_t end) {
  const int64_t pixel = p.channels * p.element_size;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / p.height, y = item % p.height;
    const char* from = static_cast<const char*>(p.phases) + ((n * p.phase_height + y / 2) * p.phase_width * 4 + y % 2 * 2) * pixel;
    char* to = static_cast<char*>(p.out) + item * p.width * pixel;
    for (int64_t x = 0; x < p.width; x += 2) std::memcpy(to + x * pixel, from + x / 2 * 4 * pixel, min64(2, p.width - x) * pixel);
  }
}

STYLEGAN_OPS_END_VARIANT
