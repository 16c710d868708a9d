// upfirdn2d for every factor, filter and dtype that upfirdn2d.cuh leaves.
//
// out[o] = sum over the taps k of tap[k] * in[(o * down + k - pad) / up] along both axes, where the division is exact:
// the taps of an output start at its phase and advance by up, the inputs by one. Both ranges are clipped to the image
// before the loop over them, which then is a load of each, a multiplication and an addition.
// Memory: [images, y, x, pixel] as in upfirdn2d.cuh. One thread = one element of an output row, so a warp's loads and
// stores are neighbouring elements in both layouts, whatever the alignment.
// Bytes moved per element: each input and output once from DRAM; the taps and a window's overlap come from the caches.
#pragma once

#include "device.cuh"
#include "epilogue.cuh"
#include "ops/upfirdn2d.h"

namespace stylegan_ops::cuda {

constexpr int kGeneralThreads = 256;
constexpr int kColumnBytes = 32 * 1024;  // of shared memory for filtered rows

// The taps and inputs of one output along one axis: `count` of them from tap and input on.
struct TapRange {
  int64_t tap, input;
  int count;
};

__device__ __forceinline__ TapRange tap_range(const ResampleAxis& axis, int64_t output) {
  const int64_t at = output * axis.down - axis.pad;
  int64_t input = at >= 0 ? (at + axis.up - 1) / axis.up : -(-at / axis.up);
  const int64_t tap = input * axis.up - at;
  const int64_t skipped = input < 0 ? -input : 0;
  int64_t count = tap < axis.taps ? (axis.taps - tap + axis.up - 1) / axis.up : 0;
  count = count < axis.in - input ? count : axis.in - input;
  return {tap + skipped * axis.up, input + skipped, count > skipped ? static_cast<int>(count - skipped) : 0};
}

// sum over k of tap[k * up] * in[k * pixel], the taps from index `tap` of n in correlation order on.
template <typename T>
__device__ __forceinline__ Accumulate<T> weighted(const DeviceFilter& filter, int64_t tap, int64_t n, int64_t up,
                                                  const T* in, int64_t pixel, int count) {
  const Accumulate<T>* f = static_cast<const Accumulate<T>*>(filter.f) + (filter.correlation ? tap : n - 1 - tap);
  const int64_t step = filter.correlation ? up : -up;
  Accumulate<T> sum = 0;
#pragma unroll 4
  for (int k = 0; k < count; ++k, f += step, in += pixel) sum += *f * widen(*in);
  return sum;
}

// Stores an output in one of the rows of all images, behind the epilogue, of `channels` channels (0: there is none).
template <typename T>
__device__ __forceinline__ void store_output(const Upfirdn2dParams& p, const Epilogue<Accumulate<T>>& epilogue,
                                             int64_t channels, int64_t row, int64_t element, Accumulate<T> sum) {
  sum *= static_cast<Accumulate<T>>(p.filter.gain);
  if (channels != 0) {
    const bool planes = p.pixel != channels;
    const int64_t image = row / p.y_axis.out, c = planes ? image % channels : element % p.pixel;
    const int64_t pixel = row % p.y_axis.out * p.x_axis.out + element / p.pixel;
    sum = epilogue(sum, planes ? image / channels : image, c, pixel);
  }
  static_cast<T*>(p.out)[row * p.x_axis.out * p.pixel + element] = narrow<T>(sum);
}

// 1. Any filter: a sum of weighted rows, so that no float32 sum is longer than a row or a column of taps.
template <typename T>
__global__ void __launch_bounds__(kGeneralThreads, 4)
    upfirdn2d_general_kernel(Upfirdn2dParams p, Epilogue<Accumulate<T>> epilogue, int64_t channels) {
  const int64_t element = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  const int64_t width = p.x_axis.out * p.pixel;
  if (element >= width) return;
  const TapRange rx = tap_range(p.x_axis, element / p.pixel);
  const int64_t taps = p.x_axis.taps * (p.filter.one_axis ? 1 : p.y_axis.taps);
  for (int64_t row = blockIdx.y; row < p.images * p.y_axis.out; row += gridDim.y) {
    const TapRange ry = tap_range(p.y_axis, row % p.y_axis.out);
    const T* in = static_cast<const T*>(p.x) +  // [images, y.in, x.in, pixel]
                  ((row / p.y_axis.out * p.y_axis.in + ry.input) * p.x_axis.in + rx.input) * p.pixel +
                  element % p.pixel;
    Accumulate<T> sum = 0;
    for (int j = 0; j < ry.count; ++j, in += p.x_axis.in * p.pixel) {
      const int64_t ky = ry.tap + j * p.y_axis.up;
      const int64_t first = p.filter.one_axis ? rx.tap : ky * p.x_axis.taps + rx.tap;
      Accumulate<T> line = weighted<T>(p.filter, first, taps, p.x_axis.up, in, p.pixel, rx.count);
      if (p.filter.one_axis)
        line *= static_cast<const Accumulate<T>*>(p.filter.f)[p.filter.correlation ? ky : p.y_axis.taps - 1 - ky];
      sum += line;
    }
    store_output<T>(p, epilogue, channels, row, element, sum);
  }
}

// 2. A filter of one axis: the input rows of a block's `rows` outputs are filtered into shared memory, then the columns
// there. 2 K multiplications instead of K^2.
template <typename T>
__global__ void __launch_bounds__(kGeneralThreads, 4)
    upfirdn2d_axes_kernel(Upfirdn2dParams p, Epilogue<Accumulate<T>> epilogue, int64_t channels, int rows,
                          int buffer_rows) {
  Accumulate<T>* buffer = dynamic_shared<Accumulate<T>>() + threadIdx.x;  // [buffer_rows, kWarp]
  const int64_t element = blockIdx.x * static_cast<int64_t>(kWarp) + threadIdx.x;
  const int64_t width = p.x_axis.out * p.pixel;
  const bool inside = element < width;
  const TapRange rx = inside ? tap_range(p.x_axis, element / p.pixel) : TapRange{0, 0, 0};
  const int64_t tiles = (p.y_axis.out + rows - 1) / rows;
  for (int64_t tile = blockIdx.y; tile < p.images * tiles; tile += gridDim.y) {
    const int64_t image = tile / tiles, begin = tile % tiles * rows;
    const int64_t end = begin + rows < p.y_axis.out ? begin + rows : p.y_axis.out;
    const int64_t at = begin * p.y_axis.down - p.y_axis.pad;
    const int64_t low = at > 0 ? (at + p.y_axis.up - 1) / p.y_axis.up : 0;  // the first input row of the tile
    const T* in = static_cast<const T*>(p.x) +                              // [images, y.in, x.in, pixel]
                  ((image * p.y_axis.in + low) * p.x_axis.in + rx.input) * p.pixel + element % p.pixel;
    for (int r = threadIdx.y; r < buffer_rows && low + r < p.y_axis.in; r += blockDim.y)
      buffer[r * kWarp] =
          weighted<T>(p.filter, rx.tap, p.x_axis.taps, p.x_axis.up, in + r * p.x_axis.in * p.pixel, p.pixel, rx.count);
    __syncthreads();
    for (int64_t y = begin + threadIdx.y; inside && y < end; y += blockDim.y) {
      const TapRange ry = tap_range(p.y_axis, y);
      const Accumulate<T> sum = weighted<Accumulate<T>>(p.filter, ry.tap, p.y_axis.taps, p.y_axis.up,
                                                        buffer + (ry.input - low) * kWarp, kWarp, ry.count);
      store_output<T>(p, epilogue, channels, image * p.y_axis.out + y, element, sum);
    }
    __syncthreads();
  }
}

template <typename T>
void launch_general(const Upfirdn2dParams& p, Stream stream) {
  const Epilogue<Accumulate<T>> epilogue(p.epilogue == nullptr ? EpilogueOperands{} : *p.epilogue);
  const int64_t channels = p.epilogue == nullptr ? 0 : p.epilogue->channels;
  const int64_t width = p.x_axis.out * p.pixel, limit = 65535;
  // Rows of a tile: as many as the buffer holds the inputs of, at most four per thread.
  const auto buffer_rows = [&](int64_t rows) {
    return ((rows - 1) * p.y_axis.down + p.y_axis.taps - 1) / p.y_axis.up + 1;
  };
  const int64_t fitting = kColumnBytes / (kWarp * static_cast<int64_t>(sizeof(Accumulate<T>)));
  if (p.filter.one_axis && buffer_rows(1) <= fitting) {
    const int high = kGeneralThreads / kWarp;
    int rows = 4 * high;
    while (buffer_rows(rows) > fitting) rows /= 2;
    const int64_t tiles = p.images * ceil_div(p.y_axis.out, rows);
    const int needed = static_cast<int>(buffer_rows(rows));
    launch("upfirdn2d", upfirdn2d_axes_kernel<T>,
           dim3(static_cast<unsigned>(ceil_div(width, kWarp)), static_cast<unsigned>(std::min(tiles, limit))),
           dim3(kWarp, high), needed * kWarp * sizeof(Accumulate<T>), stream, p, epilogue, channels, rows, needed);
    return;
  }
  launch("upfirdn2d", upfirdn2d_general_kernel<T>,
         dim3(static_cast<unsigned>(ceil_div(width, kGeneralThreads)),
              static_cast<unsigned>(std::min(p.images * p.y_axis.out, limit))),
         dim3(kGeneralThreads), 0, stream, p, epilogue, channels);
}

}  // namespace stylegan_ops::cuda
