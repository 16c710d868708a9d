// The transforms of one dimension of a tile, and the products between them.
//
// Six points, 0, +-sqrt(1/2), +-sqrt(2) and infinity, give 4 outputs of 3 taps or 5 outputs of 2 taps from 6 inputs.
// Their powers are balanced around 1: a float32 convolution of 256 channels differs from float64 by 1.4e-6 of its norm,
// against 3.2e-6 with the customary 0, +-1, +-2, and 0.8e-6 of a sum in order.
#pragma once

#include "lanes.h"
#include "ops/winograd.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

constexpr int kPoints = kWinogradPoints, kSquare = kPoints * kPoints;

// Each function reads from[i * stride] and writes to[i * step].
template <typename V, typename A>
struct SixPoints {
  static constexpr A root = A(1.4142135623730951), half_root = root / 2;

  // Sums and differences at the points of equal size and opposite sign.
  struct Pairs {
    V s, t, s2, t2;
  };
  static inline STYLEGAN_OPS_IN_LOOP Pairs pairs(const V* m, int stride) {
    return {m[stride] + m[2 * stride], m[stride] - m[2 * stride], m[3 * stride] + m[4 * stride],
            m[3 * stride] - m[4 * stride]};
  }
  // The reverse: the values at all points from the even and odd parts.
  static inline STYLEGAN_OPS_IN_LOOP void spread(const V& zero, const V& even, const V& odd, const V& even2,
                                                 const V& odd2, const V& infinity, V* to, int step) {
    to[0] = zero;
    to[step] = even + odd;
    to[2 * step] = even - odd;
    to[3 * step] = even2 + odd2;
    to[4 * step] = even2 - odd2;
    to[5 * step] = infinity;
  }
  static inline STYLEGAN_OPS_IN_LOOP void image(const V* d, int stride, V* to, int step) {
    const V d1 = d[stride], d2 = d[2 * stride], d3 = d[3 * stride], d4 = d[4 * stride];
    const V even = d4 - A(2) * d2, odd = half_root * d3 - root * d1;
    const V even2 = d4 - A(0.5) * d2, odd2 = root * d3 - half_root * d1;
    spread(d[0] - A(2.5) * d2 + d4, even, odd, even2, odd2, d1 - A(2.5) * d3 + d[5 * stride], to, step);
  }
};

template <typename V, typename A>
struct ThreeTaps : SixPoints<V, A> {
  static constexpr int kTaps = 3, kOutputs = 4;
  using Base = SixPoints<V, A>;
  static constexpr A root = Base::root, half_root = Base::half_root;

  static inline STYLEGAN_OPS_IN_LOOP void output(const V* m, int stride, V* to, int step) {
    const auto [s, t, s2, t2] = Base::pairs(m, stride);
    to[0] = m[0] + s + s2;
    to[step] = half_root * t + root * t2;
    to[2 * step] = A(0.5) * s + A(2) * s2;
    to[3 * step] = half_root / 2 * t + 2 * root * t2 + m[5 * stride];
  }
  static inline STYLEGAN_OPS_IN_LOOP void gradient(const V* y, int stride, V* to, int step) {
    const V y1 = y[stride], y2 = y[2 * stride], y3 = y[3 * stride];
    const V even = y[0] + A(0.5) * y2, odd = half_root * y1 + half_root / 2 * y3;
    const V even2 = y[0] + A(2) * y2, odd2 = root * y1 + 2 * root * y3;
    Base::spread(y[0], even, odd, even2, odd2, y3, to, step);
  }
  static inline STYLEGAN_OPS_IN_LOOP void weight(const V* g, int stride, V* to, int step) {
    const V g1 = g[stride], g2 = g[2 * stride];
    const V even = A(-1.0 / 3) * (A(2) * g[0] + g2), odd = -root / 3 * g1;
    const V even2 = A(1.0 / 6) * (g[0] + A(2) * g2), odd2 = root / 6 * g1;
    Base::spread(g[0], even, odd, even2, odd2, g2, to, step);
  }
  static inline STYLEGAN_OPS_IN_LOOP void weight_gradient(const V* m, int stride, V* to, int step) {
    const auto [s, t, s2, t2] = Base::pairs(m, stride);
    to[0] = m[0] - A(2.0 / 3) * s + A(1.0 / 6) * s2;
    to[step] = root / 6 * t2 - root / 3 * t;
    to[2 * step] = m[5 * stride] + A(1.0 / 3) * (s2 - s);
  }
};

template <typename V, typename A>
struct TwoTaps : SixPoints<V, A> {
  static constexpr int kTaps = 2, kOutputs = 5;
  using Base = SixPoints<V, A>;
  static constexpr A root = Base::root, half_root = Base::half_root;

  static inline STYLEGAN_OPS_IN_LOOP void output(const V* m, int stride, V* to, int step) {
    const auto [s, t, s2, t2] = Base::pairs(m, stride);
    to[0] = m[0] + s + s2;
    to[step] = half_root * t + root * t2;
    to[2 * step] = A(0.5) * s + A(2) * s2;
    to[3 * step] = half_root / 2 * t + 2 * root * t2;
    to[4 * step] = A(0.25) * s + A(4) * s2 + m[5 * stride];
  }
  static inline STYLEGAN_OPS_IN_LOOP void gradient(const V* y, int stride, V* to, int step) {
    const V y1 = y[stride], y2 = y[2 * stride], y3 = y[3 * stride], y4 = y[4 * stride];
    const V even = y[0] + A(0.5) * y2 + A(0.25) * y4, odd = half_root * y1 + half_root / 2 * y3;
    const V even2 = y[0] + A(2) * y2 + A(4) * y4, odd2 = root * y1 + 2 * root * y3;
    Base::spread(y[0], even, odd, even2, odd2, y4, to, step);
  }
  static inline STYLEGAN_OPS_IN_LOOP void weight(const V* g, int stride, V* to, int step) {
    const V g1 = g[stride], even = A(-2.0 / 3) * g[0], odd = -root / 3 * g1;
    const V even2 = A(1.0 / 6) * g[0], odd2 = root / 6 * g1;
    Base::spread(g[0], even, odd, even2, odd2, g1, to, step);
  }
  static inline STYLEGAN_OPS_IN_LOOP void weight_gradient(const V* m, int stride, V* to, int step) {
    const auto [s, t, s2, t2] = Base::pairs(m, stride);
    to[0] = m[0] - A(2.0 / 3) * s + A(1.0 / 6) * s2;
    to[step] = root / 6 * t2 - root / 3 * t + m[5 * stride];
  }
};

// Of three taps, which two a pixel of the given parity has in a convolution of stride 2 (kDown: at the even inputs 0
// and 2, at the odd ones 1; kUp: at the inputs before and at the output's place); -1 for none.
constexpr int kTapsOf[2][2][2] = {{{0, 2}, {1, -1}}, {{2, 0}, {-1, 1}}};  // [is up][parity][tap]
// The point where the transform of an odd pixel's single tap is 0.
constexpr int kZeroPoint[2] = {kPoints - 1, 0};  // [is up]

inline bool is_zero(bool is_up, int parity, int point) {
  const int zero = kZeroPoint[is_up];
  return (parity / 2 == 1 && point / kPoints == zero) || (parity % 2 == 1 && point % kPoints == zero);
}

// Both dimensions: to [TO, TO] = M from [FROM, FROM] M^T, where `one` is M.
template <int FROM, int TO, typename V, typename F>
inline STYLEGAN_OPS_IN_LOOP void both(F&& one, const V* from, V* to) {
  V half[TO * FROM];
#pragma GCC unroll 9
  for (int j = 0; j < FROM; ++j) one(from + j, FROM, half + j, FROM);
#pragma GCC unroll 9
  for (int i = 0; i < TO; ++i) one(half + i * FROM, 1, to + i * TO, 1);
}

// Sums of products a[r] * b[j] for ROWS values of r and two vectors of j, in registers.
template <typename A, int ROWS>
struct Products {
  using V = typename Simd<A>::Vector;
  using Unaligned = typename Simd<A>::Unaligned;
  static constexpr int kLanes = Simd<A>::kLanes;
  V sum[ROWS][2];

  inline STYLEGAN_OPS_IN_LOOP void clear() {
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) sum[r][0] = sum[r][1] = V{};
  }
  // Row r's factor is a[r * step].
  inline STYLEGAN_OPS_IN_LOOP void add(const A* a, int64_t step, const A* b0, const A* b1) {
    const V left = *reinterpret_cast<const Unaligned*>(b0), right = *reinterpret_cast<const Unaligned*>(b1);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      const A factor = a[r * step];
      sum[r][0] += factor * left;
      sum[r][1] += factor * right;
    }
  }
};

}  // namespace
STYLEGAN_OPS_END_VARIANT
