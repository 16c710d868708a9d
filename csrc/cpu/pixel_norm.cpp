// pixel_norm: y = r x with r = (mean_c(x^2) + eps)^-1/2; backward: dx = r dy - r^3 mean_c(x dy) x.
//
// A work item is one vector where the channels are adjacent, else `run` adjacent positions of all channels, with the
// sums kept per position; it is read once from memory and once more from the cache. Bytes moved per element: forward
// one read and one write, backward two reads and one write.
#include "ops/pixel_norm.h"

#include <cmath>

#include "block.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

// The factors of dy (of x in the forward) and of x, in place of the sums over the channels of x^2 and x dy.
template <typename A>
inline void make_factors(const PixelNormParams& p, A* squares, A* products, int n) {
  const A eps = static_cast<A>(p.eps), inverse_channels = static_cast<A>(1.0 / p.channels);
#pragma GCC ivdep
  for (int j = 0; j < n; ++j) {
    const A a = 1 / std::sqrt(squares[j] * inverse_channels + eps);
    products[j] = -a * a * a * (products[j] * inverse_channels);
    squares[j] = a;
  }
}

template <bool BACKWARD, typename T>
void vectors(const PixelNormParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const int64_t rows = p.channels < kBlock ? kBlock / p.channels : 1;  // taken at once
  Buffer<A> in(rows * p.channels), grad(BACKWARD ? rows * p.channels : 0), buffer(rows * p.channels);
  alignas(64) A squares[kBlock], products[kBlock];
  for (int64_t row = begin; row < end; row += rows) {
    const int count = static_cast<int>(min64(rows, end - row));
    const int64_t n = count * p.channels, first = row * p.channels;
    const T* source = static_cast<const T*>(p.x) + first;
    T* y = static_cast<T*>(p.y) + first;
    const A* x = load(source, n, in.get(), n);
    const A* dy = BACKWARD ? load(static_cast<const T*>(p.dy) + first, n, grad.get(), n) : nullptr;
    for (int k = 0; k < count; ++k) {
      double s = 0, t = 0;
      for (int64_t c = k * p.channels; c < (k + 1) * p.channels; c += kBlock) {
        const int width = static_cast<int>(min64(kBlock, (k + 1) * p.channels - c));
        s += dot(x + c, x + c, width);
        if constexpr (BACKWARD) t += dot(x + c, dy + c, width);
      }
      squares[k] = static_cast<A>(s), products[k] = static_cast<A>(t);
    }
    make_factors(p, squares, products, count);
    A* out = target(y, buffer.get(), n, n);
    for (int k = 0; k < count; ++k) {
      const A a = squares[k], b = products[k];
#pragma GCC ivdep
      for (int64_t j = k * p.channels; j < (k + 1) * p.channels; ++j)
        out[j] = BACKWARD ? a * dy[j] + b * x[j] : a * x[j];
    }
    store(out, n, y, n);
  }
}

template <bool BACKWARD, typename T>
void positions(const PixelNormParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  Buffer<A> squares(p.run), products(p.run);
  alignas(64) A in[kBlock], grad[kBlock], buffer[kBlock];
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item % p.runs * p.run, base = item / p.runs * p.channels * p.inner + first;
    const int n = static_cast<int>(min64(p.run, p.inner - first));
    // Calls f(positions from the item's first, their number, way to the next block, x, dy, y), plane by plane.
    auto for_blocks = [&](auto&& f) {
      for (int64_t c = 0; c < p.channels; ++c)
        for (int j = 0; j < n; j += kBlock) {
          const int count = static_cast<int>(min64(kBlock, n - j));
          const int64_t i = base + c * p.inner + j, ahead = j + kBlock < n ? kBlock : p.inner - j;
          const A* x = load(static_cast<const T*>(p.x) + i, count, in, ahead);
          const A* dy = BACKWARD ? load(static_cast<const T*>(p.dy) + i, count, grad, ahead) : nullptr;
          f(j, count, ahead, x, dy, static_cast<T*>(p.y) + i);
        }
    };
    for (int j = 0; j < n; ++j) squares.get()[j] = products.get()[j] = 0;
    for_blocks([&](int first_position, int count, int64_t, const A* x, const A* dy, T*) {
      A *s = squares.get() + first_position, *t = products.get() + first_position;
#pragma GCC ivdep
      for (int j = 0; j < count; ++j) {
        s[j] += x[j] * x[j];
        if constexpr (BACKWARD) t[j] += x[j] * dy[j];
      }
    });
    make_factors(p, squares.get(), products.get(), n);
    for_blocks([&](int first_position, int count, int64_t ahead, const A* x, const A* dy, T* y) {
      const A *a = squares.get() + first_position, *b = products.get() + first_position;
      A* out = target(y, buffer, count, ahead);
#pragma GCC ivdep
      for (int j = 0; j < count; ++j) out[j] = BACKWARD ? a[j] * dy[j] + b[j] * x[j] : a[j] * x[j];
      store(out, count, y, ahead);
    });
  }
}

template <bool BACKWARD>
void run(const PixelNormParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    if (p.inner == 1)
      vectors<BACKWARD, T>(p, begin, end);
    else
      positions<BACKWARD, T>(p, begin, end);
  });
}

}  // namespace

void pixel_norm(const PixelNormParams& p, int64_t begin, int64_t end) { run<false>(p, begin, end); }

void pixel_norm_backward(const PixelNormParams& p, int64_t begin, int64_t end) { run<true>(p, begin, end); }

STYLEGAN_OPS_END_VARIANT
