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

// The factors of x and dy from the sums over the channels of x^2 and x dy.
template <typename A>
inline void factors(A squares, A products, A eps, A inverse_channels, A& a, A& b) {
  a = 1 / std::sqrt(squares * inverse_channels + eps);
  b = -a * a * a * (products * inverse_channels);
}

template <bool BACKWARD, typename T>
void vectors(const PixelNormParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  A in[kBlock], grad[kBlock], buffer[kBlock];
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(p.x) + row * p.channels;
    const T* dy = BACKWARD ? static_cast<const T*>(p.dy) + row * p.channels : nullptr;
    T* y = static_cast<T*>(p.y) + row * p.channels;
    double squares = 0, products = 0;
    for (int64_t c = 0; c < p.channels; c += kBlock) {
      const int n = static_cast<int>(min64(kBlock, p.channels - c));
      const A* v = load(x + c, n, in);
      squares += dot(v, v, n);
      if constexpr (BACKWARD) products += dot(v, load(dy + c, n, grad), n);
    }
    A a, b;
    factors(static_cast<A>(squares), static_cast<A>(products), static_cast<A>(p.eps), static_cast<A>(1.0 / p.channels),
            a, b);
    for (int64_t c = 0; c < p.channels; c += kBlock) {
      const int n = static_cast<int>(min64(kBlock, p.channels - c));
      const A* v = load(x + c, n, in);
      A* out = target(y + c, buffer);
      if constexpr (BACKWARD) {
        const A* g = load(dy + c, n, grad);
#pragma GCC ivdep
        for (int j = 0; j < n; ++j) out[j] = a * g[j] + b * v[j];
      } else {
#pragma GCC ivdep
        for (int j = 0; j < n; ++j) out[j] = a * v[j];
      }
      store(out, n, y + c);
    }
  }
}

// Asks for a run of the next plane while this one is computed: the hardware's prefetcher starts anew in each.
template <int WRITE, typename T>
inline void prefetch(const T* run, int n) {
  for (int64_t byte = 0; byte < n * static_cast<int64_t>(sizeof(T)); byte += 64)
    __builtin_prefetch(reinterpret_cast<const char*>(run) + byte, WRITE);
}

template <bool BACKWARD, typename T>
void positions(const PixelNormParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  // The item is kept, since planes whose distance is a power of two push each other out of the cache.
  Buffer<A> xs(p.channels * p.run), dys(BACKWARD ? p.channels * p.run : 0);
  A in[kBlock], buffer[kBlock], squares[kBlock], products[kBlock];
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item % p.runs * p.run, base = item / p.runs * p.channels * p.inner + first;
    const int n = static_cast<int>(min64(p.run, p.inner - first));
    for (int j = 0; j < n; ++j) squares[j] = products[j] = 0;
    for (int64_t c = 0; c < p.channels; ++c) {
      const T* source = static_cast<const T*>(p.x) + base + c * p.inner;
      if (c + 1 < p.channels) prefetch<0>(source + p.inner, n);
      const A* v = load(source, n, in);
      A* x = xs.get() + c * n;
#pragma GCC ivdep
      for (int j = 0; j < n; ++j) x[j] = v[j], squares[j] += v[j] * v[j];
      if constexpr (BACKWARD) {
        const T* gradient = static_cast<const T*>(p.dy) + base + c * p.inner;
        if (c + 1 < p.channels) prefetch<0>(gradient + p.inner, n);
        const A* g = load(gradient, n, in);
        A* dy = dys.get() + c * n;
#pragma GCC ivdep
        for (int j = 0; j < n; ++j) dy[j] = g[j], products[j] += x[j] * g[j];
      }
    }
    const A eps = p.eps, inverse_channels = static_cast<A>(1.0 / p.channels);
    for (int j = 0; j < n; ++j) {
      A a, b;
      factors(squares[j], products[j], eps, inverse_channels, a, b);
      squares[j] = a, products[j] = b;
    }
    for (int64_t c = 0; c < p.channels; ++c) {
      T* y = static_cast<T*>(p.y) + base + c * p.inner;
      if (c + 1 < p.channels) prefetch<1>(y + p.inner, n);
      const A *x = xs.get() + c * n, *dy = dys.get() + c * n;
      A* out = target(y, buffer);
#pragma GCC ivdep
      for (int j = 0; j < n; ++j) {
        if constexpr (BACKWARD)
          out[j] = squares[j] * dy[j] + products[j] * x[j];
        else
          out[j] = squares[j] * x[j];
      }
      store(out, n, y);
    }
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
