// conv_epilogue: out = clamp(act(y * scale[n, c] + noise[n, pixel] * strength + bias[c]) * gain). bias_act is the same
// without scale and noise, and runs here.
//
// Memory: [N, C, pixels] or [N, pixels, C]. One thread = a few columns of the image walked down its rows, one block = a
// tile of columns, both as strip.cuh tells: channels_last keeps scale and bias of the thread's channels in registers
// and reads one noise value per row; contiguous keeps the noise of the thread's pixels and reads one scale and one
// bias. Bytes moved per element: one read and one write; the noise is read once per chunk of channels.
#pragma once

#include "epilogue.cuh"
#include "strip.cuh"

namespace stylegan_ops::cuda {

// One launch serves a whole image: grid (samples and tiles of columns, chunks of rows).
template <typename T, int V, Layout LAYOUT>
__global__ void __launch_bounds__(kStripThreads, 8)
    conv_epilogue_kernel(const T* y,  // [N, C, pixels] or [N, pixels, C]
                         T* out,      // like y; may be y itself
                         Epilogue<Accumulate<T>> e, Strips s, int channels) {
  using A = Accumulate<T>;
  constexpr int W = V == 4 || V == 1 ? 4 : 2;
  const A strength = e.strength();
  Strip<T, V, W> strip(s);
  const int64_t scale_row = static_cast<int64_t>(strip.n) * channels, noise_row = strip.n * e.noise_stride;
  A scales[V], shifts[V], levels[V];
  if constexpr (LAYOUT == Layout::kContiguous) {
    strip.of_columns(e.noises, noise_row, 0, levels);
#pragma unroll
    for (int k = 0; k < V; ++k) levels[k] *= strength;
  } else {
    strip.of_channels(e.scales, scale_row, 1, channels, scales);
    strip.of_channels(e.biases, 0, 0, channels, shifts);
  }
  for (; strip.more(); strip.next()) {
    A z[W * V], factor[W], shift[W];
    strip.load(y, z);
    if constexpr (LAYOUT == Layout::kContiguous) {
      strip.of_rows(e.scales, scale_row, 1, factor);
      strip.of_rows(e.biases, 0, 0, shift);
#pragma unroll
      for (int i = 0; i < W * V; ++i) z[i] = z[i] * factor[i / V] + shift[i / V];
    } else {
#pragma unroll
      for (int i = 0; i < W * V; ++i) z[i] = z[i] * scales[i % V] + shifts[i % V];
      if (e.noises != nullptr) strip.of_rows(e.noises, noise_row, 0, shift);  // a row is one pixel where there is noise
    }
    if (e.noises != nullptr) {
#pragma unroll
      for (int i = 0; i < W * V; ++i) z[i] += LAYOUT == Layout::kContiguous ? levels[i % V] : shift[i / V] * strength;
    }
    e.activate(z);
    strip.store(out, z);
  }
}

inline void run_conv_epilogue(const ConvEpilogueParams& p, Stream stream) {
  by_dtype(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    const EpilogueOperands& o = p.operands;
    const Strips s = make_strips<T>(p.layout, p.samples, o.channels, p.pixels,
                                    aligned({p.y, p.out, o.scale, o.noise, o.bias}), o.noise != nullptr, false);
    by_strips<T>(s, [&](auto v, auto layout) {
      launch("conv_epilogue", conv_epilogue_kernel<T, v.value, layout.value>, s.grid(), s.block(), 0, stream,
             static_cast<const T*>(p.y), static_cast<T*>(p.out), Epilogue<Accumulate<T>>(o), s,
             static_cast<int>(o.channels));
    });
  });
}

}  // namespace stylegan_ops::cuda
