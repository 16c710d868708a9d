// adain_backward: with u' = (u - mean) / sqrt(var + eps), du = (dy - mean(dy) - u' mean(dy u')) * scale / sqrt(var +
// eps) and dx = dz = du da/dz, and
//   dscale[n, c] = sum dy u',  dshift[n, c] = sum dy,  dnoise[pixel] = sum_c dz strength,  dstrength[c] = sum dz noise,
//   dbias[c] = sum dz.
//
// Mean and variance are made anew in the pass that adds up dy. Contiguous planes that the registers of a block hold,
// where no gradient of the noise is wanted and the activation is common: one launch (adain_planes.cuh), two reads and
// one write. Else the moments as in the forward, then the kernel below: four reads and one write.
// Sums of dz belong either to columns or to rows, as in conv_epilogue_backward.cuh. Contiguous: bias and strength are
// rows' sums, noise is columns'. channels_last: bias and strength are columns' sums, noise is a row's. Each block
// leaves its sums in the workspace; a last launch adds them in a fixed order (sums.cuh).
#pragma once

#include "adain.cuh"
#include "strip_sums.cuh"
#include "sums.cuh"

namespace stylegan_ops::cuda {

template <typename T>
struct AdainBackward {
  using A = Accumulate<T>;
  const T* x;                      // [N, C, pixels] or [N, pixels, C]
  const T* dy;                     // like x
  T* dx;                           // like x
  const PlaneFactors<A>* factors;  // [N, C]
  bool ref_is_u;                   // what da/dz is a function of: u or z
  // What blocks leave, or null. Contiguous | channels_last:
  A* bias_sums;      // [N, C, tiles] | [N, chunks, row]
  A* strength_sums;  // [N, C, tiles] | [N, chunks, row]
  A* noise_sums;     // [N, chunks, pixels] | [tiles, N, pixels]
};

// COMMON: see Differentiate. The others need more registers, and go element by element.
template <typename T, int V, Layout LAYOUT, bool COMMON>
__global__ void __launch_bounds__(kStripThreads, 8)
    adain_backward_kernel(AdainBackward<T> p, AdainInner<Accumulate<T>> inner, Differentiate<T> differentiate,
                          Strips s) {
  using A = Accumulate<T>;
  constexpr bool kPlanes = LAYOUT == Layout::kContiguous;
  constexpr int W = 1;
  __shared__ A buffer[V * kColumnStride<V>];
  __shared__ A kept[2][kPlanes ? kRowSums : 1];  // the rows' sums of dz and dz * noise: [rows, warps of a row]
  const int warps = (blockDim.x + kWarp - 1) / kWarp, first_row = blockIdx.y * s.chunk;
  const int rows = min(s.chunk, s.rows - first_row);

  Strip<T, V, W> strip(s);
  const int64_t n = strip.n, noise_row = n * inner.noise_stride, chunk = n * s.chunks + blockIdx.y;
  AdainChannels<A, kPlanes ? W : V> of;
  A levels[kPlanes ? V : W];  // of pixels
  if constexpr (kPlanes)
    strip.of_columns(inner.noises, noise_row, 0, levels);
  else
    of.template load<LAYOUT>(strip, inner, p.factors);
  A column_sums[V] = {}, column_products[V] = {};

  for (; strip.more(); strip.next()) {
    A u[W * V], dz[W * V];
    strip.load(p.x, u);
    strip.load(p.dy, dz);
    if constexpr (kPlanes)
      of.template load<LAYOUT>(strip, inner, p.factors);
    else
      strip.of_rows(inner.noises, noise_row, 0, levels);
#pragma unroll
    for (int i = 0; i < W * V; ++i) {
      const int k = kPlanes ? i / V : i % V;
      u[i] += levels[kPlanes ? i % V : i / V] * of.strengths[k] + of.biases[k];
    }
    A ref[W * V];
#pragma unroll
    for (int i = 0; i < W * V; ++i) ref[i] = u[i];
    inner.activate(u);
    if (COMMON || p.ref_is_u) {
#pragma unroll
      for (int i = 0; i < W * V; ++i) ref[i] = u[i];
    }
#pragma unroll
    for (int i = 0; i < W * V; ++i) {
      const PlaneFactors<A>& f = of.factors[kPlanes ? i / V : i % V];
      dz[i] = (u[i] - f.centre) * f.slope + (dz[i] * f.grad + f.offset);
    }
    differentiate.template apply<COMMON>(ref, dz);
    strip.store(p.dx, dz);
#pragma unroll
    for (int i = 0; i < W * V; ++i) dz[i] = strip.has(i / V) ? dz[i] : A(0);
    if constexpr (kPlanes) {
      if (p.bias_sums != nullptr || p.strength_sums != nullptr) {
        A totals[W] = {}, products[W] = {};
#pragma unroll
        for (int i = 0; i < W * V; ++i) totals[i / V] += dz[i], products[i / V] += dz[i] * levels[i % V];
        add_lanes(totals, strip.row - first_row, rows, kept[0] + threadIdx.x / kWarp, warps);
        if (p.strength_sums != nullptr)
          add_lanes(products, strip.row - first_row, rows, kept[1] + threadIdx.x / kWarp, warps);
      }
#pragma unroll
      for (int i = 0; i < W * V; ++i) column_sums[i % V] += dz[i] * of.strengths[i / V];
    } else {
#pragma unroll
      for (int i = 0; i < W * V; ++i) column_sums[i % V] += dz[i];
      if (p.strength_sums != nullptr) {
#pragma unroll
        for (int i = 0; i < W * V; ++i) column_products[i % V] += dz[i] * levels[i / V];
      }
      if (p.noise_sums != nullptr) {
        A totals[W] = {};
#pragma unroll
        for (int i = 0; i < W * V; ++i) totals[i / V] += dz[i] * of.strengths[i % V];
        add_lanes(totals, strip.row - first_row, rows, p.noise_sums + (strip.tile * s.samples + n) * s.rows + first_row,
                  1);
      }
    }
  }

  if constexpr (kPlanes) {
    __syncthreads();
    const int64_t out = (n * inner.channels + first_row) * s.tiles + strip.tile;
    const A* none = nullptr;
    if (p.bias_sums != nullptr) add_warps(kept[0], rows, warps, none, p.bias_sums + out, s.tiles);
    if (p.strength_sums != nullptr) add_warps(kept[1], rows, warps, none, p.strength_sums + out, s.tiles);
    if (p.noise_sums != nullptr)
      add_columns(column_sums, A(1), buffer, strip.tile, s.row, p.noise_sums + chunk * s.row);
  } else {
    if (p.bias_sums != nullptr) add_columns(column_sums, A(1), buffer, strip.tile, s.row, p.bias_sums + chunk * s.row);
    if (p.strength_sums != nullptr)
      add_columns(column_products, A(1), buffer, strip.tile, s.row, p.strength_sums + chunk * s.row);
  }
}

// How a call is laid out: the sums of dz first in the workspace, then what the moments need.
template <typename T>
struct AdainBackwardPlan {
  using A = Accumulate<T>;
  Differentiate<T> differentiate;
  AdainPlan<T, true> moments;
  SumList<A> sums;
  Strips strips{};
  A *bias_sums, *strength_sums, *noise_sums = nullptr;

  explicit AdainBackwardPlan(const AdainParams& p)
      : differentiate(p.activation, 0, p.activation.act != Act::kLinear),
        moments(p, p.dnoise == nullptr && differentiate.is_common()),
        sums(p.workspace) {
    const int64_t n = p.samples, c = p.channels;
    if (moments.whole) {
      bias_sums = sums.add({nullptr, p.dbias, 1, c, 0, 1, n, 1, c, 0});
      strength_sums = sums.add({nullptr, p.dstrength, 1, c, 0, 1, n, 1, c, 0});
      return;
    }
    const bool vectors = differentiate.is_common() && aligned({p.x, p.dy, p.y, p.noise, p.strength, p.bias});
    strips = make_strips<T, kAdainVector<T>>(p.layout, n, c, p.pixels, vectors, p.noise != nullptr, true);
    const Strips& s = strips;
    const int64_t noises = p.noise_stride == 0 ? 1 : n, added = n / noises;
    if (s.layout == Layout::kContiguous) {
      bias_sums = sums.add({nullptr, p.dbias, 1, c, 0, s.tiles, n, s.tiles, c * s.tiles, 1});
      strength_sums = sums.add({nullptr, p.dstrength, 1, c, 0, s.tiles, n, s.tiles, c * s.tiles, 1});
      noise_sums =
          sums.add({nullptr, p.dnoise, noises, s.row, s.chunks * s.row, 1, added, s.chunks, s.chunks * s.row, s.row});
    } else {
      bias_sums = sums.add({nullptr, p.dbias, 1, c, 0, 1, n * s.chunks, s.group, s.row, c});
      strength_sums = sums.add({nullptr, p.dstrength, 1, c, 0, 1, n * s.chunks, s.group, s.row, c});
      noise_sums = sums.add({nullptr, p.dnoise, noises, s.rows, s.rows, 1, s.tiles, added, n * s.rows, s.rows});
    }
  }

  int64_t bytes() const { return sums.bytes() + moments.bytes; }
};

inline void run_adain_backward(const AdainParams& p, Stream stream) {
  by_dtype(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulate<T>;
    const AdainBackwardPlan<T> plan(p);
    const Strips& s = plan.strips;
    const PlaneFactors<A>* factors = plan.moments.run(static_cast<char*>(p.workspace) + plan.sums.bytes(),
                                                      plan.bias_sums, plan.strength_sums, plan.differentiate, stream);
    if (factors != nullptr) {
      const AdainBackward<T> args{static_cast<const T*>(p.x), static_cast<const T*>(p.dy),
                                  static_cast<T*>(p.y),       factors,
                                  keeps_output(p.activation), plan.bias_sums,
                                  plan.strength_sums,         plan.noise_sums};
      by_strips<T, kAdainVector<T>>(s, [&](auto v, auto layout) {
        auto kernel = adain_backward_kernel<T, v.value, layout.value, true>;
        if constexpr (v.value == 1)
          if (!plan.differentiate.is_common()) kernel = adain_backward_kernel<T, 1, layout.value, false>;
        launch("adain_backward", kernel, s.grid(), s.block(), 0, stream, args, AdainInner<A>(p), plan.differentiate, s);
      });
    }
    plan.sums.run(stream);
  });
}

}  // namespace stylegan_ops::cuda
