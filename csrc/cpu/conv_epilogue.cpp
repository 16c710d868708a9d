// conv_epilogue: out = clamp(act(y * scale + noise * strength + bias) * gain), and its backward with every reduction in
// the same pass.
//
// Where the backward recovers y, it shares the forward's epilogue: the sums are of dz (noise * strength + bias - z) =
// -dz y scale.
//
// channels_last: blocks of whole pixels, scale and bias repeated to patterns as long as a block. Contiguous: planes
// with one scale and bias. Bytes moved per element: forward one read and one write; backward two reads (three with the
// gradient of scale) and one write.
#include "ops/conv_epilogue.h"

#include "epilogue.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

template <typename T>
void forward(const ConvEpilogueParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const int64_t channels = p.operands.channels;
  Epilogue<A> epilogue(p.operands);
  A in[kBlock], buffer[kBlock];
  auto block = [&](int64_t i, int count, auto&& apply) {
    const A* v = load(static_cast<const T*>(p.y) + i, count, in);
    T* out = static_cast<T*>(p.out) + i;
    A* z = target(out, buffer);
    apply(v, z);
    store(z, count, out);
  };
  for (int64_t item = begin; item < end; ++item) {
    if (p.layout == Layout::kContiguous) {
      for (int64_t q = 0; q < p.pixels; q += kBlock) {
        const int count = static_cast<int>(min64(kBlock, p.pixels - q));
        block(item * p.pixels + q, count,
              [&](const A* v, A* z) { epilogue.plane(v, z, count, item / channels, item % channels, q); });
      }
    } else {
      const int64_t n = item / p.runs, first = item % p.runs * p.run;
      for_pixel_blocks(first, min64(first + p.run, p.pixels), channels,
                       [&](int64_t q, int pixels, int64_t c, int width) {
                         block((n * p.pixels + q) * channels + c, pixels * width,
                               [&](const A* v, A* z) { epilogue.pixels(v, z, n, q, pixels, c, width); });
                       });
    }
  }
}

// One block of the backward: dz into `z`, dy = dz * scale stored. `scales` has a value per element, or is null for
// `one_scale`.
template <typename T, typename A>
struct BackwardBlock {
  const ConvEpilogueBackwardParams& p;
  const Activation activation;
  A in[kBlock], kept[kBlock], z[kBlock], out[kBlock], input[kBlock];

  const A* operator()(int64_t i, int n, const A* scales, A one_scale) {
    const A* g = load(static_cast<const T*>(p.dout) + i, n, in);
    const A* r = p.ref == nullptr ? nullptr : load(static_cast<const T*>(p.ref) + i, n, kept);
    std::memcpy(z, g, n * sizeof(A));
    differentiate(activation, 0, r, z, n);
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
    if (p.partial_scale == nullptr) return nullptr;
    if (!p.recovers) return load(static_cast<const T*>(p.y) + i, n, input);
    const A inverse = activation.gain == 0 ? A(0) : A(1 / activation.gain), slope = inverse_slope(activation);
#pragma GCC ivdep
    for (int j = 0; j < n; ++j) input[j] = -preimage(r[j] * inverse, slope);
    return input;  // -z
  }
};

template <typename T>
void backward(const ConvEpilogueBackwardParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const A* scale = static_cast<const A*>(p.scale);
  const A* noise = static_cast<const A*>(p.noise);
  const A strength = p.strength == nullptr ? A(1) : *static_cast<const A*>(p.strength);
  const bool wants_rows = p.partial_noise != nullptr || p.partial_strength != nullptr;
  BackwardBlock<T, A> block{p, as_stored<T>(p.activation), {}, {}, {}, {}, {}};
  EpilogueOperands behind{nullptr, p.noise, p.strength, p.bias, p.channels, p.noise_stride, {Act::kLinear, 0, 1, NAN}};
  Epilogue<A> shift(behind);
  A scales[kBlock], scale_sums[kBlock], bias_sums[kBlock], shifted[kBlock];
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
        if (p.recovers) shift.plane(y, shifted, count, n, c, first), y = shifted;
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
        if (p.recovers) shift.pixels(y, shifted, n, q, pixels, c, channels), y = shifted;
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
    for (int64_t c = 0; p.recovers && c < p.channels; ++c) partial_scale[c] /= -scale[n * p.channels + c];
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
