// The nine activations and the derivatives of those that are recovered from their output, for one number: the
// mathematics that the CPU's loops and the CUDA kernels share.
//
// Math has the few functions in which they differ: exp_negative and expm1_negative of x <= 0, log1p_unit of 0 <= t <= 1
// and divide. It also gives every instruction set functions of its own.
#pragma once

#include "bias_act.h"

#ifdef __CUDACC__
#define STYLEGAN_OPS_INLINE __device__ __forceinline__
#else
#define STYLEGAN_OPS_INLINE inline
#endif

namespace stylegan_ops {

constexpr double kSeluAlpha = 1.6732632423543772, kSeluScale = 1.0507009873554805;

template <typename Math, typename A>
STYLEGAN_OPS_INLINE A sigmoid(A z) {
  const A e = Math::exp_negative(z > 0 ? -z : z);
  return Math::divide(z > 0 ? A(1) : e, 1 + e);
}

template <Act ACT, typename Math, typename A>
STYLEGAN_OPS_INLINE A function(A z, A alpha) {
  if constexpr (ACT == Act::kRelu) return z < 0 ? A(0) : z;
  if constexpr (ACT == Act::kLrelu) return z > 0 ? z : z * alpha;
  if constexpr (ACT == Act::kTanh) {
    const A e = Math::expm1_negative(-2 * (z > 0 ? z : -z));
    const A t = Math::divide(-e, 2 + e);
    return z > 0 ? t : -t;
  }
  if constexpr (ACT == Act::kSigmoid) return sigmoid<Math>(z);
  if constexpr (ACT == Act::kElu) return z > 0 ? z : Math::expm1_negative(z > 0 ? A(0) : z);
  if constexpr (ACT == Act::kSelu) {
    const A e = A(kSeluAlpha) * Math::expm1_negative(z > 0 ? A(0) : z);
    return A(kSeluScale) * (z > 0 ? z : e);
  }
  if constexpr (ACT == Act::kSoftplus) {
    const A tail = Math::log1p_unit(Math::exp_negative(z > 0 ? -z : z));
    return z > 0 ? z + tail : tail;
  }
  if constexpr (ACT == Act::kSwish) return z * sigmoid<Math>(z);
  return z;
}

// h^(k)(u) of the activations that are recovered from their output; for the leaky ReLU, u = z serves as well.
template <Act ACT, typename Math, typename A>
STYLEGAN_OPS_INLINE A derivative(A u, A alpha, int64_t k) {
  if constexpr (ACT == Act::kTanh) return k == 0 ? 1 - u * u : k == 1 ? -2 * u : k == 2 ? A(-2) : A(0);
  if constexpr (ACT == Act::kSigmoid) return k == 0 ? u - u * u : k == 1 ? 1 - 2 * u : k == 2 ? A(-2) : A(0);
  if constexpr (ACT == Act::kElu) return u > 0 ? (k == 0 ? A(1) : A(0)) : (k == 0 ? 1 + u : k == 1 ? A(1) : A(0));
  if constexpr (ACT == Act::kSelu)
    return u > 0 ? (k == 0 ? A(kSeluScale) : A(0)) : (k == 0 ? u + A(kSeluScale * kSeluAlpha) : k == 1 ? A(1) : A(0));
  if constexpr (ACT == Act::kSoftplus)
    return k == 0 ? -Math::expm1_negative(-u) : k % 2 == 1 ? Math::exp_negative(-u) : -Math::exp_negative(-u);
  if (k > 0) return A(0);
  if constexpr (ACT == Act::kRelu) return u > 0 ? A(1) : A(0);
  if constexpr (ACT == Act::kLrelu) return u > 0 ? A(1) : alpha;
  return A(1);
}

// The z of u = act(z) for those that are lines from 0. What a slope of 0 has lost is 0.
template <typename A>
STYLEGAN_OPS_INLINE A preimage(A u, A inverse_slope) {
  return u > 0 ? u : u * inverse_slope;
}

// What preimage() needs of an activation of which recovers_input() holds.
inline double inverse_slope(const Activation& a) {
  return a.act == Act::kLinear ? 1 : a.act == Act::kRelu || a.alpha == 0 ? 0 : 1 / a.alpha;
}

// The n-th derivative of the sigmoid is a polynomial in s = sigmoid(z): P_0 = s, P_(n+1) = (s - s^2) P_n'.
template <typename Math>
struct SigmoidPolynomial {
  static constexpr int kMaxOrder = 12;
  double coefficient[kMaxOrder + 2] = {0, 1};
  int degree = 1;

  explicit SigmoidPolynomial(int64_t order) {
    for (int64_t n = 0; n < order; ++n) {
      double next[kMaxOrder + 2] = {};
      for (int i = 1; i <= degree; ++i) {
        next[i] += i * coefficient[i];
        next[i + 1] -= i * coefficient[i];
      }
      ++degree;
      for (int i = 0; i <= degree; ++i) coefficient[i] = next[i];
    }
  }

  template <typename A>
  A operator()(A s) const {
    A p = coefficient[degree];
    for (int i = degree - 1; i >= 0; --i) p = p * s + A(coefficient[i]);
    return p;
  }
};

}  // namespace stylegan_ops
