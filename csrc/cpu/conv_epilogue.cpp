// conv_epilogue: out = clamp(act(y * scale + noise * strength + bias) * gain), and its backward with every reduction in the same pass.
//
// channels_last: blocks of whole pixels, scale and bias repeated to patterns as long as a block. Contiguous: planes with one scale and bias.
// Bytes moved per element: forward one read and one write; backward two reads (three with the gradient of scale) and one write.
#include "ops/conv_epilogue.h"

#include "activation.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

// The channels of a run of pixels in blocks: whole pixels where C is short, parts of one pixel where it is long.
// Calls f(first pixel, pixels, first channel, channels of each).
template <typename F>
void for_pixel_blocks(int64_t first, int64_t last, int64_t channels, F&& f) {
  const int64_t pixels = channels <= kBlock ? kBlock / channels : 1;
  for (int64_t q = first; q < last; q += pixels)
    for (int64_t c = 0; c < channels; c += kBlock)
      f(q, static_cast<int>(min64(pixels, last - q)), c, static_cast<int>(min64(kBlock, channels - c)));
}

// pattern[i] = v[i % C] as far as a block reaches, or `missing` where there is no v.
template <typename A>
void repeat(const A* v, int64_t channels, A missing, A* pattern) {
  for (int64_t i = 0; i < kBlock; ++i) pattern[i] = v == nullptr ? missing : v[i % channels];
}

template <typename T>
void forward(const ConvEpilogueParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const T* y = static_cast<const T*>(p.y);
  const A* scale = static_cast<const A*>(p.scale);
  const A* noise = static_cast<const A*>(p.noise);
  const A* bias = static_cast<const A*>(p.bias);
  const A strength = p.strength == nullptr ? A(1) : *static_cast<const A*>(p.strength);
  T* out = static_cast<T*>(p.out);
  A in[kBlock], buffer[kBlock];

  if (p.layout == Layout::kContiguous) {
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t n = plane / p.channels, c = plane % p.channels;
      const A s = scale == nullptr ? A(1) : scale[plane], b = bias == nullptr ? A(0) : bias[c];
      const A* e = noise == nullptr ? nullptr : noise + n * p.noise_stride;
      for (int64_t q = 0; q < p.pixels; q += kBlock) {
        const int count = static_cast<int>(min64(kBlock, p.pixels - q));
        const int64_t i = plane * p.pixels + q;
        const A* v = load(y + i, count, in);
        A* z = target(out + i, buffer);
        if (e == nullptr) {
#pragma GCC ivdep
          for (int j = 0; j < count; ++j) z[j] = v[j] * s + b;
        } else {
#pragma GCC ivdep
          for (int j = 0; j < count; ++j) z[j] = v[j] * s + (e[q + j] * strength + b);
        }
        activate(p.activation, z, count);
        store(z, count, out + i);
      }
    }
    return;
  }

  A scales[kBlock], biases[kBlock], added[kBlock];
  const bool short_rows = p.channels <= kBlock;
  if (short_rows) repeat(bias, p.channels, A(0), biases);
  int64_t patterned = -1;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / p.runs, first = item % p.runs * p.run;
    const A* e = noise == nullptr ? nullptr : noise + n * p.noise_stride;
    if (short_rows && patterned != n) repeat(scale == nullptr ? nullptr : scale + n * p.channels, p.channels, A(1), scales), patterned = n;
    for_pixel_blocks(first, min64(first + p.run, p.pixels), p.channels, [&](int64_t q, int pixels, int64_t c, int channels) {
      const int count = pixels * channels;
      const int64_t i = (n * p.pixels + q) * p.channels + c;
      if (!short_rows) {
        for (int j = 0; j < count; ++j) scales[j] = scale == nullptr ? A(1) : scale[n * p.channels + c + j];
        for (int j = 0; j < count; ++j) biases[j] = bias == nullptr ? A(0) : bias[c + j];
      }
      const A* b = biases;
      if (e != nullptr) {
        for (int k = 0; k < pixels; ++k) {
          const A level = e[q + k] * strength;
#pragma GCC ivdep
          for (int j = k * channels; j < (k + 1) * channels; ++j) added[j] = biases[j] + level;
        }
        b = added;
      }
      const A* v = load(y + i, count, in);
      A* z = target(out + i, buffer);
#pragma GCC ivdep
      for (int j = 0; j < count; ++j) z[j] = v[j] * scales[j] + b[j];
      activate(p.activation, z, count);
      store(z, count, out + i);
    });
  }
}

// One block of the backward: dz into `z`, dy = dz * scale stored. `scales` has a value per element, or is null for `one_scale`.
template <typename T, typename A>
struct BackwardBlock {
  const ConvEpilogueBackwardParams& p;
  A in[kBlock], kept[kBlock], z[kBlock], out[kBlock], input[kBlock];

  const A* operator()(int64_t i, int n, const A* scales, A one_scale) {
    const A* g = load(static_cast<const T*>(p.dout) + i, n, in);
    const A* r = p.ref == nullptr ? nullptr : load(static_cast<const T*>(p.ref) + i, n, kept);
    std::memcpy(z, g, n * sizeof(A));
    differentiate(p.activation, 0, r, z, n);
    T* dy = static_cast<T*>(p.dy) + i;
    A* d = target(dy, out);
    if (scales != nullptr) {
#pragma GCC ivdep
      for (int j = 0; j < n; ++j) d[j] = z[j] * scales[j];
    } else {
#pragma GCC ivdep
      for (int j = 0; j < n; ++j) d[j] = z[j] * one_scale;
    }
    store(d, n, dy);
    return p.partial_scale == nullptr ? nullptr : load(static_cast<const T*>(p.y) + i, n, input);
  }
};

template <typename T>
void backward(const ConvEpilogueBackwardParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const A* scale = static_cast<const A*>(p.scale);
  const A* noise = static_cast<const A*>(p.noise);
  const A strength = p.strength == nullptr ? A(1) : *static_cast<const A*>(p.strength);
  const bool wants_rows = p.partial_noise != nullptr || p.partial_strength != nullptr;
  BackwardBlock<T, A> block{p, {}, {}, {}, {}, {}};
  A scales[kBlock], scale_sums[kBlock], bias_sums[kBlock];
  double row_sums[kBlock];

  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / p.runs, first = item % p.runs * p.run, last = min64(first + p.run, p.pixels);
    double* partial_scale = p.partial_scale == nullptr ? nullptr : p.partial_scale + item * p.channels;
    double* partial_bias = p.partial_bias == nullptr ? nullptr : p.partial_bias + item * p.channels;
    const A* e = noise == nullptr ? nullptr : noise + n * p.noise_stride;
    double strength_sum = 0;
    // row_sums[k] = the sum of dz over the channels of pixel q + k
    auto finish_rows = [&](int64_t q, int pixels) {
      for (int k = 0; k < pixels; ++k) {
        if (p.partial_strength != nullptr) strength_sum += row_sums[k] * e[q + k];
        if (p.partial_noise != nullptr) p.partial_noise[n * p.pixels + q + k] = row_sums[k] * strength;
      }
    };

    if (p.layout == Layout::kContiguous) {  // run <= kBlock
      const int count = static_cast<int>(last - first);
      for (int k = 0; k < count; ++k) row_sums[k] = 0;
      for (int64_t c = 0; c < p.channels; ++c) {
        const int64_t plane = n * p.channels + c;
        const A* y = block(plane * p.pixels + first, count, nullptr, scale == nullptr ? A(1) : scale[plane]);
        if (partial_scale != nullptr) partial_scale[c] = dot(block.z, y, count);
        if (partial_bias != nullptr) partial_bias[c] = sum(block.z, count);
        if (wants_rows)
          for (int k = 0; k < count; ++k) row_sums[k] += block.z[k];
      }
      if (wants_rows) finish_rows(first, count);
    } else {
      const bool short_rows = p.channels <= kBlock;
      if (short_rows) repeat(scale == nullptr ? nullptr : scale + n * p.channels, p.channels, A(1), scales);
      for (int j = 0; j < kBlock; ++j) scale_sums[j] = bias_sums[j] = 0;
      for_pixel_blocks(first, last, p.channels, [&](int64_t q, int pixels, int64_t c, int channels) {
        const int count = pixels * channels;
        const A* s = short_rows ? scales : scale == nullptr ? nullptr : scale + n * p.channels + c;
        const A* y = block((n * p.pixels + q) * p.channels + c, count, s, A(1));
        const A* z = block.z;
        if (short_rows) {
          if (partial_scale != nullptr)
            for (int j = 0; j < count; ++j) scale_sums[j] += z[j] * y[j];
          if (partial_bias != nullptr)
            for (int j = 0; j < count; ++j) bias_sums[j] += z[j];
        } else {
          if (partial_scale != nullptr)
            for (int j = 0; j < count; ++j) partial_scale[c + j] += static_cast<double>(z[j]) * y[j];
          if (partial_bias != nullptr)
            for (int j = 0; j < count; ++j) partial_bias[c + j] += z[j];
        }
        if (!wants_rows) return;
        for (int k = 0; k < pixels; ++k) {
          const double total = sum(z + k * channels, channels);
          row_sums[k] = c == 0 ? total : row_sums[k] + total;
        }
        if (c + channels == p.channels) finish_rows(q, pixels);
      });
      if (short_rows)
        for (int64_t j = 0; j < kBlock / p.channels * p.channels; ++j) {
          if (partial_scale != nullptr) partial_scale[j % p.channels] += scale_sums[j];
          if (partial_bias != nullptr) partial_bias[j % p.channels] += bias_sums[j];
        }
    }
    if (p.partial_strength != nullptr) p.partial_strength[item] = strength_sum;
  }
}

}  // namespace

void conv_epilogue(const ConvEpilogueParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) { forward<std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

void conv_epilogue_backward(const ConvEpilogueBackwardParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) { backward<std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

STYLEGAN_OPS_END_VARIANT
