// pixel_norm: y = r x with r = (mean_c(x^2) + eps)^-1/2; backward: dx = r dy - r^3 mean_c(x dy) x.
//
// Each work item is read twice, the second time from the cache: one vector where the channels are adjacent, else `run` adjacent positions of
// all channels, with the sums kept per position. Bytes moved per element: forward one read and one write, backward two reads and one write.
#include "ops/pixel_norm.h"

#include <cmath>

#include "block.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

// dx = a dy + b x (backward) or y = a x, where a and b are one number or one per element.
template <bool BACKWARD, typename T, typename A, typename FactorA, typename FactorB>
inline void combine(const T* x, const T* dy, T* y, int n, FactorA a, FactorB b) {
  A in[kBlock], grad[kBlock], buffer[kBlock];
  const A* v = load(x, n, in);
  A* out = target(y, buffer);
  if constexpr (BACKWARD) {
    const A* g = load(dy, n, grad);
#pragma GCC ivdep
    for (int j = 0; j < n; ++j) out[j] = a(j) * g[j] + b(j) * v[j];
  } else {
#pragma GCC ivdep
    for (int j = 0; j < n; ++j) out[j] = a(j) * v[j];
  }
  store(out, n, y);
}

// The factors of x and dy from the sums over the channels of x^2 and x dy.
template <typename A>
inline void factors(A squares, A products, A eps, A inverse_channels, A& a, A& b) {
  a = 1 / std::sqrt(squares * inverse_channels + eps);
  b = -a * a * a * (products * inverse_channels);
}

template <bool BACKWARD, typename T>
void vectors(const PixelNormParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  A in[kBlock], grad[kBlock];
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
    factors(static_cast<A>(squares), static_cast<A>(products), static_cast<A>(p.eps), static_cast<A>(1.0 / p.channels), a, b);
    for (int64_t c = 0; c < p.channels; c += kBlock) {
      const int n = static_cast<int>(min64(kBlock, p.channels - c));
      combine<BACKWARD, T, A>(x + c, BACKWARD ? dy + c : nullptr, y + c, n, [a](int) { return a; }, [b](int) { return b; });
    }
  }
}

template <bool BACKWARD, typename T>
void positions(const PixelNormParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  A in[kBlock], grad[kBlock], squares[kBlock], products[kBlock];
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item % p.runs * p.run;
    const int n = static_cast<int>(min64(p.run, p.inner - first));
    const int64_t base = item / p.runs * p.channels * p.inner + first;
    const T* x = static_cast<const T*>(p.x) + base;
    const T* dy = BACKWARD ? static_cast<const T*>(p.dy) + base : nullptr;
    T* y = static_cast<T*>(p.y) + base;
    for (int j = 0; j < n; ++j) squares[j] = products[j] = 0;
    for (int64_t c = 0; c < p.channels; ++c) {
      const A* v = load(x + c * p.inner, n, in);
#pragma GCC ivdep
      for (int j = 0; j < n; ++j) squares[j] += v[j] * v[j];
      if constexpr (BACKWARD) {
        const A* g = load(dy + c * p.inner, n, grad);
#pragma GCC ivdep
        for (int j = 0; j < n; ++j) products[j] += v[j] * g[j];
      }
    }
    const A eps = p.eps, inverse_channels = static_cast<A>(1.0 / p.channels);
    for (int j = 0; j < n; ++j) {
      A a, b;
      factors(squares[j], products[j], eps, inverse_channels, a, b);
      squares[j] = a, products[j] = b;
    }
    for (int64_t c = 0; c < p.channels; ++c)
      combine<BACKWARD, T, A>(x + c * p.inner, BACKWARD ? dy + c * p.inner : nullptr, y + c * p.inner, n,
                              [f = squares](int j) { return f[j]; }, [f = products](int j) { return f[j]; });
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
