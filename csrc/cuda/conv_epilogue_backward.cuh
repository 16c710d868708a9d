// conv_epilogue_backward: dz = dout * d^order/dref^order (da/dz), dy = dz * scale, and in the same pass
//   dscale[n, c] = sum dz y,  dbias[c] = sum dz,  dnoise[pixel] = strength * sum_c dz,  dstrength = sum dz noise.
// Where y is recovered from the output, the sums are of dz (z - noise * strength - bias), and scale divides them.
// bias_act_backward is the same without scale and noise, and runs here.
//
// Memory and the work of a thread and a block: strip.cuh. A sum belongs either to columns or to rows. Those of columns
// are registers for the whole walk; at its end the block's rows of threads add theirs through shared memory. Those of
// rows are added over the lanes by shuffles, in each step for its W rows together. Contiguous: a row is a channel, so
// scale and bias are rows' sums, kept in shared memory until the end; noise and strength are columns'. channels_last:
// scale and bias are columns' sums, noise is a row's.
// Each block leaves its sums in the workspace; a second launch adds them in a fixed order (sums.cuh).
// Bytes moved per element: two reads (three with the gradient of scale, one where a is linear) and one write; sums at
// most one float per 512 elements.
#pragma once

#include "activation.cuh"
#include "ops/conv_epilogue.h"
#include "strip_sums.cuh"
#include "sums.cuh"

namespace stylegan_ops::cuda {

template <typename T>
struct EpilogueBackward {
  using A = Accumulate<T>;
  const T* dout;  // [N, C, pixels] or [N, pixels, C], as all images
  const T* ref;   // or null
  const T* y;     // where dscale is wanted: the input, or the output again where that tells it
  T* dy;
  const A* scale;     // [N, C] or null
  const A* noise;     // [N or 1, pixels] or null
  const A* strength;  // [] or null
  const A* bias;      // [C] or null
  A inverse_gain, inverse_slope;
  // What blocks leave, or null. Contiguous | channels_last:
  A* scale_sums;     // [N, C, tiles] | [N, chunks, row]
  A* bias_sums;      // [N, C, tiles] | [N, chunks, row]
  A* noise_sums;     // [N, chunks, pixels] | [tiles, N, pixels]
  A* strength_sums;  // [N, chunks, tiles]
  int64_t noise_stride;
  int channels;
};

// COMMON: see Differentiate. RECOVERS: y is recovered, which takes registers that the others need not give.
template <typename T, int V, Layout LAYOUT, bool COMMON, bool RECOVERS>
__global__ void __launch_bounds__(kStripThreads, 8)
    conv_epilogue_backward_kernel(EpilogueBackward<T> p, Differentiate<T> differentiate, Strips s) {
  using A = Accumulate<T>;
  constexpr bool kPlanes = LAYOUT == Layout::kContiguous;
  // Rows of a step, as many as 64 registers hold: channels_last has 2 V sums besides.
  constexpr int kMost = (V == 8 || sizeof(A) == 8 ? 2 : 4) / (RECOVERS ? 2 : 1);
  constexpr int W = !COMMON || kMost == 1 ? 1 : kPlanes || V < 4 ? kMost : kMost / 2;
  __shared__ A buffer[V * kColumnStride<V>];
  __shared__ A kept[2][kPlanes ? kRowSums : 1];  // the rows' sums of dz and dz * y: [rows, warps of a row]
  const A strength = p.strength == nullptr ? A(1) : *p.strength;
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
  const int warps = (blockDim.x + kWarp - 1) / kWarp, first_row = blockIdx.y * s.chunk;
  const int rows = min(s.chunk, s.rows - first_row);

  Strip<T, V, W> strip(s);
  const int64_t n = strip.n;
  const int64_t scale_row = n * p.channels, noise_row = n * p.noise_stride, chunk = n * s.chunks + blockIdx.y;
  A column_sums[V] = {}, column_products[V] = {}, strength_sum = 0;  // of dz, dz * y, dz * noise

  for (; strip.more(); strip.next()) {
    A z[W * V], of_row[W];
    {
      A ref[W * V] = {};
      strip.load(p.dout, z);
      if (p.ref != nullptr) strip.load(p.ref, ref);
      differentiate.template apply<COMMON>(ref, z);
    }
    strip.of_rows(kPlanes ? p.scale : p.noise, kPlanes ? scale_row : noise_row, kPlanes ? 1 : 0, of_row);
    {
      A dy[W * V];
#pragma unroll
      for (int i = 0; i < W * V; ++i) dy[i] = z[i];
      if (p.scale != nullptr) {
        A scales[V];  // read anew from the cache: registers are scarcer here
        if constexpr (!kPlanes) strip.of_channels(p.scale, scale_row, 1, p.channels, scales);
#pragma unroll
        for (int i = 0; i < W * V; ++i) dy[i] *= kPlanes ? of_row[i / V] : scales[i % V];
      }
      strip.store(p.dy, dy);
    }
    if (kPlanes ? p.noise != nullptr : RECOVERS || p.bias_sums != nullptr) {
#pragma unroll
      for (int i = 0; i < W * V; ++i) column_sums[i % V] += z[i];
    }
    if (kPlanes ? p.bias_sums != nullptr : p.noise != nullptr) {
      A totals[W] = {};
#pragma unroll
      for (int i = 0; i < W * V; ++i) totals[i / V] += z[i];
      if constexpr (kPlanes) {
        add_lanes(totals, strip.row - first_row, rows, kept[0] + threadIdx.x / kWarp, warps);
      } else {
#pragma unroll
        for (int w = 0; w < W; ++w) strength_sum += totals[w] * of_row[w], totals[w] *= strength;
        if (p.noise_sums != nullptr)
          add_lanes(totals, strip.row - first_row, rows,
                    p.noise_sums + (strip.tile * s.samples + n) * s.rows + first_row, 1);
      }
    }
    if (p.scale_sums != nullptr) {
      A y[W * V], products[W] = {};
      strip.load(p.y, y);
      if constexpr (RECOVERS) {  // but for the columns' bias, which waits for the end
        A bias[kPlanes ? W : 1], noise[kPlanes ? V : 1];
        if constexpr (kPlanes) {
          strip.of_rows(p.bias, 0, 0, bias);
          strip.of_columns(p.noise, noise_row, 0, noise);
        }
#pragma unroll
        for (int i = 0; i < W * V; ++i) {
          const A behind = kPlanes ? noise[i % V] * strength + bias[i / V] : of_row[i / V] * strength;
          y[i] = preimage(y[i] * p.inverse_gain, p.inverse_slope) - behind;
        }
      }
#pragma unroll
      for (int i = 0; i < W * V; ++i) (kPlanes ? products[i / V] : column_products[i % V]) += z[i] * y[i];
      if constexpr (kPlanes) add_lanes(products, strip.row - first_row, rows, kept[1] + threadIdx.x / kWarp, warps);
    }
  }

  if constexpr (kPlanes) {
    __syncthreads();
    const int64_t out = (scale_row + first_row) * s.tiles + strip.tile;
    const A *none = nullptr, *scale = RECOVERS ? p.scale + scale_row + first_row : none;
    if (p.bias_sums != nullptr) add_warps(kept[0], rows, warps, none, p.bias_sums + out, s.tiles);
    if (p.scale_sums != nullptr) add_warps(kept[1], rows, warps, scale, p.scale_sums + out, s.tiles);
    if (p.noise_sums != nullptr)
      add_columns(column_sums, strength, buffer, strip.tile, s.row, p.noise_sums + chunk * s.row);
    if (p.strength_sums != nullptr) {
      A noise[V];
      strip.of_columns(p.noise, noise_row, 0, noise);
#pragma unroll
      for (int k = 0; k < V; ++k) strength_sum += column_sums[k] * noise[k];
    }
  } else {
    if (p.bias_sums != nullptr) add_columns(column_sums, A(1), buffer, strip.tile, s.row, p.bias_sums + chunk * s.row);
    if constexpr (RECOVERS) {
      A scales[V], bias[V];
      strip.of_channels(p.scale, scale_row, 1, p.channels, scales);
      strip.of_channels(p.bias, 0, 0, p.channels, bias);
#pragma unroll
      for (int k = 0; k < V; ++k) column_products[k] = (column_products[k] - bias[k] * column_sums[k]) / scales[k];
    }
    if (p.scale_sums != nullptr)
      add_columns(column_products, A(1), buffer, strip.tile, s.row, p.scale_sums + chunk * s.row);
  }
  if (p.strength_sums != nullptr) {
    strength_sum = warp_sum(strength_sum);
    __syncthreads();
    if (thread % kWarp == 0) buffer[thread / kWarp] = strength_sum;
    __syncthreads();
    if (thread == 0) {
      A sum = 0;
      for (int i = 0; i < kStripThreads / kWarp; ++i) sum += buffer[i];
      p.strength_sums[chunk * s.tiles + strip.tile] = sum;
    }
  }
}

// How a call is laid out: strips, and where its sums go.
template <typename T>
struct EpilogueBackwardPlan {
  using A = Accumulate<T>;
  Strips strips;
  SumList<A> sums;
  EpilogueBackward<T> kernel{};

  explicit EpilogueBackwardPlan(const ConvEpilogueBackwardParams& p) : sums(p.workspace) {
    const bool uses_noise = p.dnoise != nullptr || p.dstrength != nullptr || (p.recovers && p.noise != nullptr);
    const void *y = p.recovers ? p.ref : p.y, *bias = p.recovers ? p.bias : nullptr;
    const void* noise = uses_noise ? p.noise : nullptr;
    strips = make_strips<T>(p.layout, p.samples, p.channels, p.pixels,
                            aligned({p.dout, p.ref, p.y, p.dy, p.scale, noise, bias}), uses_noise, true);
    const Strips& s = strips;
    kernel.dout = static_cast<const T*>(p.dout);
    kernel.ref = static_cast<const T*>(p.ref);
    kernel.y = static_cast<const T*>(y);
    kernel.dy = static_cast<T*>(p.dy);
    kernel.scale = static_cast<const A*>(p.scale);
    kernel.noise = static_cast<const A*>(noise);
    kernel.strength = static_cast<const A*>(p.strength);
    kernel.bias = static_cast<const A*>(bias);
    kernel.inverse_gain = p.activation.gain == 0 ? A(0) : static_cast<A>(1 / p.activation.gain);
    kernel.inverse_slope = p.recovers ? static_cast<A>(inverse_slope(p.activation)) : A(0);
    kernel.noise_stride = p.noise_stride;
    kernel.channels = static_cast<int>(p.channels);
    const int64_t n = s.samples, c = p.channels, one_noise = p.noise_stride == 0;
    const int64_t noises = one_noise ? 1 : n, added = one_noise ? n : 1;
    if (s.layout == Layout::kContiguous) {
      kernel.scale_sums = sums.add({nullptr, p.dscale, 1, n * c, 0, s.tiles, 1, s.tiles, 0, 1});
      kernel.bias_sums = sums.add({nullptr, p.dbias, 1, c, 0, s.tiles, n, s.tiles, c * s.tiles, 1});
      kernel.noise_sums =
          sums.add({nullptr, p.dnoise, noises, s.row, s.chunks * s.row, 1, added, s.chunks, s.chunks * s.row, s.row});
    } else {
      kernel.scale_sums = sums.add({nullptr, p.dscale, n, c, s.chunks * s.row, 1, s.chunks, s.group, s.row, c});
      kernel.bias_sums = sums.add({nullptr, p.dbias, 1, c, 0, 1, n * s.chunks, s.group, s.row, c});
      kernel.noise_sums = sums.add({nullptr, p.dnoise, noises, s.rows, s.rows, 1, s.tiles, added, n * s.rows, s.rows});
    }
    kernel.strength_sums = sums.add({nullptr, p.dstrength, 1, 1, 0, 0, 1, n * s.chunks * s.tiles, 0, 1});
  }
};

inline void run_conv_epilogue_backward(const ConvEpilogueBackwardParams& p, Stream stream) {
  by_dtype(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    const EpilogueBackwardPlan<T> plan(p);
    const Strips& s = plan.strips;
    const Differentiate<T> differentiate(p.activation, p.order, p.ref != nullptr);
    by_strips<T>(s, [&](auto v, auto layout) {
      // What is recovered is piecewise linear, hence common.
      const auto kernel = p.recovers ? conv_epilogue_backward_kernel<T, v.value, layout.value, true, true>
                          : differentiate.is_common()
                              ? conv_epilogue_backward_kernel<T, v.value, layout.value, true, false>
                              : conv_epilogue_backward_kernel<T, v.value, layout.value, false, false>;
      launch("conv_epilogue_backward", kernel, s.grid(), s.block(), 0, stream, plan.kernel, differentiate, s);
    });
    plan.sums.run(stream);
  });
}

}  // namespace stylegan_ops::cuda
