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
  alignas(64) A in[kBlock], buffer[kBlock];
  auto block = [&](int64_t i, int count, auto&& apply) {
    const T* y = static_cast<const T*>(p.y) + i;
    T* out = static_cast<T*>(p.out) + i;
    const A* v = load(y, count, in, count);
    A* z = target(out, buffer, count, count);
    apply(v, z);
    store(z, count, out, count);
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
      for_row_blocks(first, min64(first + p.run, p.pixels), channels, [&](int64_t q, int pixels, int64_t c, int width) {
        block((n * p.pixels + q) * channels + c, pixels * width,
              [&](const A* v, A* z) { epilogue.pixels(v, z, n, q, pixels, c, width); });
      });
    }
  }
}

// What the two layouts share of the backward: blocks of dz and of the epilogue's input.
template <typename T>
struct Gradients {
  using A = accumulate_t<T>;
  const ConvEpilogueBackwardParams& p;
  const Activation activation = as_stored<T>(p.activation);
  const A inverse_gain = activation.gain == 0 ? A(0) : A(1 / activation.gain);
  const A slope = inverse_slope(activation);
  const A strength = p.strength == nullptr ? A(1) : *static_cast<const A*>(p.strength);
  alignas(64) A loaded[kBlock], kept[kBlock], input[kBlock], dz[kBlock], out[kBlock];

  explicit Gradients(const ConvEpilogueBackwardParams& p) : p(p) {}

  // Makes n elements of dz from i on, and gives y there; -y scale where it is recovered, of which `shift` is the part
  // behind the convolution (see the head); dz where no gradient of scale is wanted.
  template <typename F>
  const A* block(int64_t i, int n, int64_t ahead, F&& shift) {
    const A* g = load(static_cast<const T*>(p.dout) + i, n, loaded, ahead);
    const A* r = p.ref == nullptr ? nullptr : load(static_cast<const T*>(p.ref) + i, n, kept, ahead);
    differentiate(activation, 0, r, g, dz, n);
    if (p.partial_scale == nullptr) return dz;
    if (!p.recovers) return load(static_cast<const T*>(p.y) + i, n, input, ahead);
    shift(input);
#pragma GCC ivdep
    for (int j = 0; j < n; ++j) input[j] -= preimage(r[j] * inverse_gain, slope);
    return input;
  }
};

template <typename T>
void backward(const ConvEpilogueBackwardParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const A* scale = static_cast<const A*>(p.scale);
  const A* noise = static_cast<const A*>(p.noise);
  const A* bias = static_cast<const A*>(p.bias);
  T* dy = static_cast<T*>(p.dy);
  const bool wants_rows = p.partial_noise != nullptr || p.partial_strength != nullptr;
  const bool short_rows = p.channels <= kBlock;
  Gradients<T> gradients(p);
  const A* dz = gradients.dz;
  alignas(64) A scales[kBlock], biases[kBlock], scale_sums[kBlock], bias_sums[kBlock];
  Buffer<A> row_sums(p.run);
  if (short_rows) repeat(bias, p.channels, A(0), biases);

  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / p.runs, first = item % p.runs * p.run, last = min64(first + p.run, p.pixels);
    double* partial_scale = p.partial_scale == nullptr ? nullptr : p.partial_scale + item * p.channels;
    double* partial_bias = p.partial_bias == nullptr ? nullptr : p.partial_bias + item * p.channels;
    const A* e = noise == nullptr ? nullptr : noise + n * p.noise_stride;
    double strength_sum = 0;
    // sums[k] = the sum of dz over the channels of pixel q + k
    auto finish_rows = [&](int64_t q, int pixels, const A* sums) {
      if (p.partial_strength != nullptr) strength_sum += dot(sums, e + q, pixels);
      for (int k = 0; p.partial_noise != nullptr && k < pixels; ++k)
        p.partial_noise[n * p.pixels + q + k] = sums[k] * gradients.strength;
    };

    if (p.layout == Layout::kContiguous) {
      for (int64_t k = 0; k < last - first; ++k) row_sums.get()[k] = 0;
      for (int64_t c = 0; c < p.channels; ++c) {
        const int64_t plane = n * p.channels + c;
        const A s = scale == nullptr ? A(1) : scale[plane], b = bias == nullptr ? A(0) : bias[c];
        double products = 0, total = 0;
        for (int64_t q = first; q < last; q += kBlock) {
          const int64_t i = plane * p.pixels + q;
          const int count = static_cast<int>(min64(kBlock, last - q));
          const int64_t ahead = q + kBlock < last ? kBlock : p.pixels + first - q;
          const A* y = gradients.block(i, count, ahead, [&](A* shift) {
#pragma GCC ivdep
            for (int k = 0; k < count; ++k) shift[k] = (e == nullptr ? A(0) : e[q + k] * gradients.strength) + b;
          });
          if (partial_scale != nullptr) products += dot(dz, y, count);
          total += sum_and_add(dz, count, row_sums.get() + (q - first));
          A* d = target(dy + i, gradients.out, count, ahead);
#pragma GCC ivdep
          for (int k = 0; k < count; ++k) d[k] = dz[k] * s;
          store(d, count, dy + i, ahead);
        }
        if (partial_scale != nullptr) partial_scale[c] = products;
        if (partial_bias != nullptr) partial_bias[c] = total;
      }
      if (wants_rows) finish_rows(first, static_cast<int>(last - first), row_sums.get());
    } else {
      const A* sample_scale = scale == nullptr ? nullptr : scale + n * p.channels;
      if (short_rows) repeat(sample_scale, p.channels, A(1), scales);
      for (int j = 0; j < kBlock; ++j) scale_sums[j] = bias_sums[j] = 0;
      for_row_blocks(first, last, p.channels, [&](int64_t q, int pixels, int64_t c, int channels) {
        const int count = pixels * channels;
        const int64_t i = (n * p.pixels + q) * p.channels + c;
        if (!short_rows) {
          for (int j = 0; j < count; ++j) scales[j] = sample_scale == nullptr ? A(1) : sample_scale[c + j];
          for (int j = 0; j < count; ++j) biases[j] = bias == nullptr ? A(0) : bias[c + j];
        }
        const A* y = gradients.block(i, count, count, [&](A* shift) {
          for (int k = 0; k < pixels; ++k) {
            const A level = e == nullptr ? A(0) : e[q + k] * gradients.strength;
#pragma GCC ivdep
            for (int j = k * channels; j < (k + 1) * channels; ++j) shift[j] = level + biases[j];
          }
        });
#pragma GCC ivdep
        for (int j = 0; j < count; ++j) scale_sums[j] += dz[j] * y[j], bias_sums[j] += dz[j];
        if (!short_rows) {  // the block holds other channels than the next one
          for (int j = 0; j < count; ++j) {
            if (partial_scale != nullptr) partial_scale[c + j] += scale_sums[j];
            if (partial_bias != nullptr) partial_bias[c + j] += bias_sums[j];
            scale_sums[j] = bias_sums[j] = 0;
          }
        }
        if (wants_rows) {
          A* sums = row_sums.get();
          for (int k = 0; k < pixels; ++k)
            sums[k] = (c == 0 ? A(0) : sums[k]) + static_cast<A>(sum(dz + k * channels, channels));
          if (c + channels == p.channels) finish_rows(q, pixels, sums);
        }
        A* d = target(dy + i, gradients.out, count, count);
#pragma GCC ivdep
        for (int j = 0; j < count; ++j) d[j] = dz[j] * scales[j];
        store(d, count, dy + i, count);
      });
      if (short_rows && partial_scale != nullptr) add_rows(scale_sums, p.channels, partial_scale);
      if (short_rows && partial_bias != nullptr) add_rows(bias_sums, p.channels, partial_bias);
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
