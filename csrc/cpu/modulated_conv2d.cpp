// gather_taps: the weights of a flipped or phase convolution; interleave: the four phases of a stride-2 transposed
// convolution put together. Bytes moved: each element once in and once out.
#include "ops/modulated_conv2d.h"

#include <cstring>

#include "block.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

template <typename T>
void gather(const GatherTapsParams& p, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    T* to = static_cast<T*>(p.out) + i * p.height * p.width * p.channels;
    for (int64_t q = 0; q < p.height; ++q)
      for (int64_t r = 0; r < p.width; ++r, to += p.channels) {
        const T* from = static_cast<const T*>(p.w) + i * p.stride_p + (p.last_y - q * p.step) * p.stride_y +
                        (p.last_x - r * p.step) * p.stride_x;
        for (int64_t s = 0; s < p.channels; ++s) to[s] = from[s * p.stride_s];
      }
  }
}

}  // namespace

void gather_taps(const GatherTapsParams& p, int64_t begin, int64_t end) {
  if (p.element_size == 8) return gather<uint64_t>(p, begin, end);
  if (p.element_size == 4) return gather<uint32_t>(p, begin, end);
  gather<uint16_t>(p, begin, end);
}

void interleave(const InterleaveParams& p, int64_t begin, int64_t end) {
  const int64_t pixel = p.channels * p.element_size;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / p.height, y = item % p.height;
    char* to = static_cast<char*>(p.out) + item * p.width * pixel;
    for (int b = 0; b < 2; ++b) {
      const int64_t row = n * p.phases.height[y % 2] + y / 2;
      const char* from = static_cast<const char*>(p.phases.image[y % 2][b]) + row * p.phases.width[b] * pixel;
      for (int64_t x = b; x < p.width; x += 2, from += pixel) std::memcpy(to + x * pixel, from, pixel);
    }
  }
}

STYLEGAN_OPS_END_VARIANT
