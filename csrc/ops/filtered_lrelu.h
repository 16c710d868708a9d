// filtered_lrelu: bias, upsampling filter, leaky ReLU with gain and clamp, downsampling filter, tile by tile, so that
// the fine image between the two filters is never in memory as a whole.
#pragma once

#include <cmath>

#include "activation.h"
#include "kernel.h"
#include "upfirdn2d.h"

namespace stylegan_ops {

// a(z) = clamp(lrelu(z) * gain), in the type A that a kernel computes in.
template <typename A>
struct LeakyRelu {
  A slope, gain, clamp;  // clamp NaN: none, since every comparison with NaN is false

  explicit LeakyRelu(const Activation& a)
      : slope(static_cast<A>(a.alpha)), gain(static_cast<A>(a.gain)), clamp(static_cast<A>(a.clamp)) {}

  STYLEGAN_OPS_INLINE A unclamped(A z) const { return (z > 0 ? z : z * slope) * gain; }
  STYLEGAN_OPS_INLINE A value(A z) const {
    A y = unclamped(z);
    y = y > clamp ? clamp : y;
    return y < -clamp ? -clamp : y;
  }
  STYLEGAN_OPS_INLINE A derivative(A z) const {
    const A y = unclamped(z), line = z > 0 ? gain : slope * gain;
    return (y < 0 ? -y : y) >= clamp ? A(0) : line;
  }
};

// The fine image is x + bias, upsampled by `values`. The result is the filter `results` over
//   a(fine)                                  the op itself, where `tangents.x` is null,
//   a'(fine) * (the filter `tangents` over its x)   its derivatives, which are linear in that x.
// All three lie in memory alike: either [images, y, x] planes or [images, y, x, channels]. A work item of the CPU is a
// band of `rows` result rows of one image.
struct FilteredLreluParams {
  Upfirdn2dParams values;    // with the bias; its `out` is not used
  Upfirdn2dParams tangents;  // to the same fine image; its `out` is not used
  Upfirdn2dParams results;   // its `x` is not used
  Activation activation;
  int64_t rows, bands;  // result rows in a band, bands in an image; CPU
};

STYLEGAN_OPS_CPU_KERNEL(filtered_lrelu, FilteredLreluParams)

namespace cuda {
void launch_filtered_lrelu(const FilteredLreluParams& params, Stream stream);
}  // namespace cuda

}  // namespace stylegan_ops
