// The filter of upfirdn2d.cuh in shared memory, and what it is made of: taps on the device that the host never sees.
//
// One warp of each block reads them, brings them into correlation order, multiplies the gain in, and finds out whether
// the filter is an outer product, which halves the work or better. That is one load from the cache and some forty
// instructions per block, in place of a copy to the host that would make every call wait for the device.
#pragma once

#include "device.cuh"
#include "ops/upfirdn2d.h"

namespace stylegan_ops::cuda {

// One axis as the strips see it. The phase of an up-sampled axis is made 0: the outputs are counted from `shift`
// before the first.
struct FirAxis {
  int in, out;
  int pad;                  // a multiple of up
  int shift;                // 0 or 1
  int taps;                 // at most TAPS
  int first_tap, tap_step;  // of the filter's own taps along the axis, in correlation order
  int filter_taps;
};

// The axis with the factors' common divisor taken out, and its phase.
inline FirAxis fir_axis(const ResampleAxis& axis, int64_t up) {
  const int64_t common = axis.up == axis.down ? axis.up : 1;  // of {1, 2}
  const int64_t first = ((axis.pad % common) + common) % common;
  int64_t pad = (axis.pad - first) / common;
  const int64_t shift = up == 2 ? ((pad % 2) + 2) % 2 : 0;
  const int64_t taps = axis.taps > first ? ceil_div(axis.taps - first, common) : 0;
  return {static_cast<int>(axis.in), static_cast<int>(axis.out), static_cast<int>(pad + shift),
          static_cast<int>(shift),   static_cast<int>(taps),     static_cast<int>(first),
          static_cast<int>(common),  static_cast<int>(axis.taps)};
}

// The filter in shared memory: correlation order, gain included, zeros up to TAPS.
template <int TAPS>
struct FirTaps {
  float full[TAPS][TAPS];  // [y][x]
  float x[TAPS], y[TAPS];  // full = y x^T where separable
  bool separable;
};

// One warp reads the taps, looks for the largest, and compares the filter with the product of its row and its column.
template <int TAPS>
__device__ void read_taps(const DeviceFilter& filter, const FirAxis& x_axis, const FirAxis& y_axis, int lane,
                          FirTaps<TAPS>& taps) {
  constexpr int kEach = TAPS * TAPS > kWarp ? TAPS * TAPS / kWarp : 1;  // taps per lane
  const auto at = [&](int64_t i, int64_t n) {
    i = filter.correlation ? i : n - 1 - i;
    return static_cast<const float*>(filter.f)[i];
  };
  const auto index = [](const FirAxis& axis, int k) { return axis.first_tap + axis.tap_step * k; };
  const float gain = static_cast<float>(filter.gain);
  if (filter.one_axis) {
    if (lane < TAPS) {
      taps.x[lane] = lane < x_axis.taps ? at(index(x_axis, lane), x_axis.filter_taps) * gain : 0.f;
      taps.y[lane] = lane < y_axis.taps ? at(index(y_axis, lane), y_axis.filter_taps) : 0.f;
    }
    if (lane == 0) taps.separable = true;
    return;
  }
  float mine[kEach], largest = -1.f;
  int pivot = 0;
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const int i = lane + e * kWarp, ky = i / TAPS, kx = i % TAPS;
    const bool inside = ky < y_axis.taps && kx < x_axis.taps;
    mine[e] = inside ? at(static_cast<int64_t>(index(y_axis, ky)) * x_axis.filter_taps + index(x_axis, kx),
                          static_cast<int64_t>(y_axis.filter_taps) * x_axis.filter_taps)
                     : 0.f;
    if (i < TAPS * TAPS) taps.full[ky][kx] = mine[e] * gain;
    if (fabsf(mine[e]) > largest) largest = fabsf(mine[e]), pivot = i;
  }
#pragma unroll
  for (int other = kWarp / 2; other > 0; other /= 2) {
    const float its = __shfl_xor_sync(0xffffffffu, largest, other);
    const int where = __shfl_xor_sync(0xffffffffu, pivot, other);
    if (its > largest || (its == largest && where < pivot)) largest = its, pivot = where;
  }
  __syncwarp();
  const float (&full)[TAPS][TAPS] = taps.full;
  const int row = pivot / TAPS, column = pivot % TAPS;
  const float peak = full[row][column];
  bool separable = peak != 0.f;
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const int ky = (lane + e * kWarp) / TAPS % TAPS, kx = lane % TAPS;
    const float product = full[ky][column] / peak * full[row][kx];
    separable = separable && fabsf(full[ky][kx] - product) <= 2e-7f * fabsf(peak);
  }
  separable = __all_sync(0xffffffffu, separable);
  if (lane < TAPS) taps.x[lane] = full[row][lane], taps.y[lane] = full[lane][column] / peak;
  if (lane == 0) taps.separable = separable;
}

}  // namespace stylegan_ops::cuda
