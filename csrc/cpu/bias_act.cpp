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

template <typename T>
void forward(const BiasActParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const T* x = static_cast<const T*>(p.x);
  const A* b = static_cast<const A*>(p.b);
  T* y = static_cast<T*>(p.y);
  alignas(64) A in[kBlock], z[kBlock], out[kBlock], pattern[kBlock];

  // activated(v, y) makes y of v. It reads nothing behind its stores but v and small operands: a load behind a store
  // that waits for memory waits with it where their addresses are equal modulo 4096.
  auto block = [&](int64_t i, int n, auto&& activated) {
    const A* v = load(x + i, n, in, n);
    A* result = target(y + i, out, n, n);
    activated(v, result);
    store(result, n, y + i, n);
  };

  if (p.inner == 1) {
    const bool short_rows = p.channels <= kBlock;
    if (short_rows) repeat(b, p.channels, A(0), pattern);
    for_row_blocks(begin * p.rows, min64(end * p.rows, p.outer), p.channels,
                   [&](int64_t row, int rows, int64_t c, int width) {
                     const A* bias = short_rows ? pattern : b + c;
                     block(row * p.channels + c, rows * width, [&](const A* v, A* result) {
                       activate(p.activation, rows * width, [=](int j) { return v[j] + bias[j]; }, result);
                     });
                   });
    return;
  }
  for_row_blocks(begin, end, p.inner, [&](int64_t row, int rows, int64_t i, int width) {
    block(row * p.inner + i, rows * width, [&](const A* v, A* result) {
      int64_t c = row % p.channels;
      for (int k = 0; k < rows; ++k) {
        const A bias = b[c];
        if (++c == p.channels) c = 0;
#pragma GCC ivdep
        for (int j = k * width; j < (k + 1) * width; ++j) z[j] = v[j] + bias;
      }
      activate(p.activation, rows * width, [&z](int j) { return z[j]; }, result);
    });
  });
}

template <typename T>
void backward(const BiasActBackwardParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const T* dy = static_cast<const T*>(p.dy);
  const T* ref = static_cast<const T*>(p.ref);
  T* dx = static_cast<T*>(p.dx);
  const Activation activation = as_stored<T>(p.activation);
  alignas(64) A in[kBlock], kept[kBlock], out[kBlock], sums[kBlock];

  auto block = [&](int64_t i, int n) -> const A* {
    const A* v = load(dy + i, n, in, n);
    const A* r = ref == nullptr ? nullptr : load(ref + i, n, kept, n);
    A* z = target(dx + i, out, n, n);
    differentiate(activation, p.order, r, v, z, n);
    store(z, n, dx + i, n);
    return z;
  };

  if (p.inner == 1) {
    const bool short_rows = p.channels <= kBlock;
    for (int64_t item = begin; item < end; ++item) {
      double* partial = p.partial == nullptr ? nullptr : p.partial + item * p.channels;
      for (int j = 0; j < kBlock; ++j) sums[j] = 0;
      for_row_blocks(item * p.rows, min64((item + 1) * p.rows, p.outer), p.channels,
                     [&](int64_t row, int rows, int64_t c, int width) {
                       const int n = rows * width;
                       const A* z = block(row * p.channels + c, n);
                       if (partial == nullptr) return;
                       if (short_rows) {
#pragma GCC ivdep
                         for (int j = 0; j < n; ++j) sums[j] += z[j];
                       } else {
                         for (int j = 0; j < n; ++j) partial[c + j] += z[j];
                       }
                     });
      if (partial != nullptr && short_rows) add_rows(sums, p.channels, partial);
    }
    return;
  }
  for_row_blocks(begin, end, p.inner, [&](int64_t row, int rows, int64_t i, int width) {
    const A* z = block(row * p.inner + i, rows * width);
    for (int k = 0; p.partial != nullptr && k < rows; ++k) p.partial[row + k] += sum(z + k * width, width);
  });
}

}  // namespace

void bias_act(const BiasActParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) { forward<std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

void bias_act_backward(const BiasActBackwardParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) { backward<std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

STYLEGAN_OPS_END_VARIANT
