// modulated_conv2d: y = conv(styles * x, weight), strided or transposed. The convolution is the library's; the kernel here is what puts the
// phases of a transposed convolution together. The scaling in front and everything behind are conv_epilogue's.
#pragma once

#include "kernel.h"

namespace stylegan_ops {

// A transposed convolution of stride 2 is a dense one with its four phases as output channels: phases[n, i, j, (a, b, c)] is output pixel
// (2 i + a, 2 j + b). A work item is one output row of one image, channels_last.
struct InterleaveParams {
  const void* phases;  // [N, phase_height, phase_width, 2, 2, C]
  void* out;           // [N, height, width, C]
  int64_t phase_height, phase_width, height, width, channels;
  int64_t element_size;
};

STYLEGAN_OPS_CPU_KERNEL(interleave, InterleaveParams)

}  // namespace stylegan_ops
