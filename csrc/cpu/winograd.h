// The transforms of two convolutions of 3x3 taps, one dimension at a time, and the products between them.
//
// An algorithm says, for one dimension of a tile, how many `kInputs` it reads from `kStep` to `kStep`, how many
// products it makes (`kPoints`) with which of the transformed taps (`filter`), and how many `kOutputs` it gives:
//   Dense  stride 1: 36 products for 16 outputs, in place of 144
//   Down   stride 2: 81 for 16, in place of 144, made of a convolution of 2 taps over the even pixels and one of 1 tap
//          over the odd ones. Only its weight gradient is used: forward, the library's dense rate is worth more.
#pragma once

#include "weighted_sum.h"

#define INLINED inline __attribute__((always_inline))

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

constexpr int kTaps = 3;

// 4 outputs of 3 taps from 6 inputs, at the points 0, +-sqrt(1/2), +-sqrt(2) and infinity. Their powers are balanced
// around 1: a float32 convolution of 256 channels differs from float64 by 1.4e-6 of its norm, against 3.2e-6 with the
// customary 0, +-1, +-2, and 0.8e-6 of a sum in order. Each function reads from[i * stride] and writes to[i * step].
template <typename V, typename A>
struct Four3 {
  static constexpr A root = A(1.4142135623730951), half_root = root / 2;

  static INLINED void image(const V* d, int stride, V* to, int step) {
    const V d1 = d[stride], d2 = d[2 * stride], d3 = d[3 * stride], d4 = d[4 * stride];
    const V even = d4 - A(2) * d2, odd = half_root * d3 - root * d1;
    const V even2 = d4 - A(0.5) * d2, odd2 = root * d3 - half_root * d1;
    to[0] = d[0] - A(2.5) * d2 + d4;
    to[step] = even + odd;
    to[2 * step] = even - odd;
    to[3 * step] = even2 + odd2;
    to[4 * step] = even2 - odd2;
    to[5 * step] = d1 - A(2.5) * d3 + d[5 * stride];
  }
  static INLINED void output(const V* m, int stride, V* to, int step) {
    const V s = m[stride] + m[2 * stride], t = m[stride] - m[2 * stride];
    const V s2 = m[3 * stride] + m[4 * stride], t2 = m[3 * stride] - m[4 * stride];
    to[0] = m[0] + s + s2;
    to[step] = half_root * t + root * t2;
    to[2 * step] = A(0.5) * s + A(2) * s2;
    to[3 * step] = half_root / 2 * t + 2 * root * t2 + m[5 * stride];
  }
  static INLINED void gradient(const V* y, int stride, V* to, int step) {
    const V y1 = y[stride], y2 = y[2 * stride], y3 = y[3 * stride];
    const V even = y[0] + A(0.5) * y2, odd = half_root * y1 + half_root / 2 * y3;
    const V even2 = y[0] + A(2) * y2, odd2 = root * y1 + 2 * root * y3;
    to[0] = y[0];
    to[step] = even + odd;
    to[2 * step] = even - odd;
    to[3 * step] = even2 + odd2;
    to[4 * step] = even2 - odd2;
    to[5 * step] = y3;
  }
  static INLINED void weight(const V* g, int stride, V* to, int step) {
    const V g1 = g[stride], g2 = g[2 * stride];
    const V even = A(-1.0 / 3) * (A(2) * g[0] + g2), odd = -root / 3 * g1;
    const V even2 = A(1.0 / 6) * (g[0] + A(2) * g2), odd2 = root / 6 * g1;
    to[0] = g[0];
    to[step] = even + odd;
    to[2 * step] = even - odd;
    to[3 * step] = even2 + odd2;
    to[4 * step] = even2 - odd2;
    to[5 * step] = g2;
  }
  static INLINED void weight_gradient(const V* m, int stride, V* to, int step) {
    const V s = m[stride] + m[2 * stride], t = m[stride] - m[2 * stride];
    const V s2 = m[3 * stride] + m[4 * stride], t2 = m[3 * stride] - m[4 * stride];
    to[0] = m[0] - A(2.0 / 3) * s + A(1.0 / 6) * s2;
    to[step] = root / 6 * t2 - root / 3 * t;
    to[2 * step] = m[5 * stride] + A(1.0 / 3) * (s2 - s);
  }
};

// 4 outputs of 2 taps from 5 inputs, at the points +-1/2, +-5/4 and infinity (0.9e-6; with 0, +-1, 2 it were 1.9e-6).
template <typename V, typename A>
struct Four2 {
  static constexpr A p = A(0.5), q = A(1.25), pp = p * p, qq = q * q;
  static constexpr A of_p = 1 / (2 * p * (pp - qq)), of_q = 1 / (2 * q * (qq - pp));

  static INLINED void image(const V* d, int stride, V* to, int step) {
    const V d1 = d[stride], d2 = d[2 * stride], d3 = d[3 * stride];
    const V even = d3 - qq * d1, odd = p * (d2 - qq * d[0]);
    const V even2 = d3 - pp * d1, odd2 = q * (d2 - pp * d[0]);
    to[0] = even + odd;
    to[step] = even - odd;
    to[2 * step] = even2 + odd2;
    to[3 * step] = even2 - odd2;
    to[4 * step] = d[4 * stride] - (pp + qq) * d2 + pp * qq * d[0];
  }
  static INLINED void gradient(const V* y, int stride, V* to, int step) {
    const V y1 = y[stride], y2 = y[2 * stride], y3 = y[3 * stride];
    const V even = y[0] + pp * y2, odd = p * y1 + p * pp * y3;
    const V even2 = y[0] + qq * y2, odd2 = q * y1 + q * qq * y3;
    to[0] = even + odd;
    to[step] = even - odd;
    to[2 * step] = even2 + odd2;
    to[3 * step] = even2 - odd2;
    to[4 * step] = y3;
  }
  static INLINED void weight_gradient(const V* m, int stride, V& g0, V& g1) {
    g0 = of_p * (m[0] - m[stride]) + of_q * (m[2 * stride] - m[3 * stride]);
    g1 = of_p * p * (m[0] + m[stride]) + of_q * q * (m[2 * stride] + m[3 * stride]) + m[4 * stride];
  }
};

template <typename V, typename A>
struct Dense : Four3<V, A> {
  static constexpr int kInputs = 6, kStep = 4, kPoints = 6, kOutputs = 4;
  static constexpr int filter(int point) { return point; }
};

// Output i has the taps 0, 1, 2 at the inputs 2 i, 2 i + 1, 2 i + 2.
template <typename V, typename A>
struct Down {
  static constexpr int kInputs = 9, kStep = 8, kPoints = 9, kOutputs = 4;
  static constexpr int filter(int point) { return point < 5 ? point : 5; }
  static INLINED void image(const V* d, int stride, V* to, int step) {
    Four2<V, A>::image(d, 2 * stride, to, step);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) to[(5 + i) * step] = d[(2 * i + 1) * stride];
  }
  static INLINED void gradient(const V* y, int stride, V* to, int step) {
    Four2<V, A>::gradient(y, stride, to, step);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) to[(5 + i) * step] = y[i * stride];
  }
  static INLINED void weight_gradient(const V* m, int stride, V* to, int step) {
    Four2<V, A>::weight_gradient(m, stride, to[0], to[2 * step]);
    to[step] = m[5 * stride];
  }
};

// Both dimensions: to [TO, TO] = M from [FROM, FROM] M^T, where `one` is M.
template <int FROM, int TO, typename V, typename F>
INLINED void both(F&& one, const V* from, V* to) {
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

  INLINED void clear() {
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) sum[r][0] = sum[r][1] = V{};
  }
  // Row r's factor is a[r * step].
  INLINED void add(const A* a, int64_t step, const A* b0, const A* b1) {
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
