// bias_act: y = clamp(act(x + b) * gain), and bias_act_backward, the family of its derivatives, with the bias gradient
// in the same pass.
//
// The tensor is [outer, C, inner]. Where inner == 1 (channels_last, or no bias) the bias is repeated to a pattern as
// long as a block, so that the loop runs over plain blocks whatever C is; else each (outer, c) row has one bias. Bytes
// moved per element: forward one read and one write, backward two reads and one write.
#include "ops/bias_act.h"

#include "activation.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

// Splits [begin, end) of an [outer * C] vector into blocks in which the channel pattern starts at the block's first
// element: whole vectors where C is short, parts of one vector where it is long. Calls f(first element, length, first
// channel).
template <typename F>
void for_pattern_blocks(int64_t begin, int64_t end, int64_t channels, F&& f) {
  if (channels <= kBlock) {
    const int64_t length = kBlock / channels * channels;
    for (int64_t i = begin; i < end; i += length) f(i, static_cast<int>(min64(length, end - i)), 0);
    return;
  }
  for (int64_t row = begin; row < end; row += channels)
    for (int64_t c = 0; c < channels; c += kBlock) f(row + c, static_cast<int>(min64(kBlock, channels - c)), c);
}

template <typename T>
void forward(const BiasActParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const T* x = static_cast<const T*>(p.x);
  const A* b = static_cast<const A*>(p.b);
  T* y = static_cast<T*>(p.y);
  A in[kBlock], out[kBlock], pattern[kBlock];

  auto block = [&](int64_t i, int n, const A* bias, A one_bias) {
    const A* v = load(x + i, n, in);
    A* z = target(y + i, out);
    if (bias != nullptr) {
#pragma GCC ivdep
      for (int j = 0; j < n; ++j) z[j] = v[j] + bias[j];
    } else {
#pragma GCC ivdep
      for (int j = 0; j < n; ++j) z[j] = v[j] + one_bias;
    }
    activate(p.activation, z, n);
    store(z, n, y + i);
  };

  if (p.inner == 1) {
    const bool short_rows = p.channels <= kBlock;
    if (b != nullptr && short_rows)
      for (int64_t j = 0; j < kBlock; ++j) pattern[j] = b[j % p.channels];
    const int64_t first = begin * p.rows * p.channels, last = min64(end * p.rows, p.outer) * p.channels;
    for_pattern_blocks(first, last, p.channels, [&](int64_t i, int n, int64_t c) {
      block(i, n, b == nullptr ? nullptr : short_rows ? pattern : b + c, A(0));
    });
    return;
  }
  for (int64_t row = begin; row < end; ++row)
    for (int64_t i = 0; i < p.inner; i += kBlock)
      block(row * p.inner + i, static_cast<int>(min64(kBlock, p.inner - i)), nullptr,
            b == nullptr ? A(0) : b[row % p.channels]);
}

template <typename T>
void backward(const BiasActBackwardParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const T* dy = static_cast<const T*>(p.dy);
  const T* ref = static_cast<const T*>(p.ref);
  T* dx = static_cast<T*>(p.dx);
  const Activation activation = as_stored<T>(p.activation);
  A in[kBlock], kept[kBlock], out[kBlock];

  auto block = [&](int64_t i, int n) -> const A* {
    const A* v = load(dy + i, n, in);
    const A* r = ref == nullptr ? nullptr : load(ref + i, n, kept);
    A* z = target(dx + i, out);
    std::memmove(z, v, n * sizeof(A));
    differentiate(activation, p.order, r, z, n);
    store(z, n, dx + i);
    return z;
  };

  if (p.inner == 1) {
    A sums[kBlock];
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first = item * p.rows * p.channels, last = min64((item + 1) * p.rows, p.outer) * p.channels;
      double* partial = p.partial == nullptr ? nullptr : p.partial + item * p.channels;
      const bool short_rows = p.channels <= kBlock;
      for (int j = 0; j < kBlock; ++j) sums[j] = 0;
      for_pattern_blocks(first, last, p.channels, [&](int64_t i, int n, int64_t c) {
        const A* z = block(i, n);
        if (partial == nullptr) return;
        if (short_rows) {
#pragma GCC ivdep
          for (int j = 0; j < n; ++j) sums[j] += z[j];
        } else {
          for (int j = 0; j < n; ++j) partial[c + j] += z[j];
        }
      });
      if (partial != nullptr && short_rows)
        for (int64_t j = 0; j < kBlock / p.channels * p.channels; ++j) partial[j % p.channels] += sums[j];
    }
    return;
  }
  for (int64_t row = begin; row < end; ++row) {
    double total = 0;
    for (int64_t i = 0; i < p.inner; i += kBlock) {
      const int n = static_cast<int>(min64(kBlock, p.inner - i));
      const A* z = block(row * p.inner + i, n);
      if (p.partial != nullptr) total += sum(z, n);
    }
    if (p.partial != nullptr) p.partial[row] = total;
  }
}

}  // namespace

void bias_act(const BiasActParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) { forward<std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

void bias_act_backward(const BiasActBackwardParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) { backward<std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

STYLEGAN_OPS_END_VARIANT
