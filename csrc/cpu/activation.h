// The nine activations on blocks, and the family of their derivatives.
//
// With a(z) = clamp(act(z) * gain), the derivative da/dz is written as gain * h(u), where u = a / gain (or u = z for
// those that cannot be recovered from their output). Its k-th derivative in the kept tensor is gain^(1-k) h^(k)(u):
// closed under differentiation, so any order.
#pragma once

#include <cmath>
#include <limits>

#include "block.h"
#include "ops/bias_act.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

// e^r - 1 = r + r^2/2! + ... on |r| <= ln(2)/2; the rest is below 2^-25 of the result.
inline float expm1_core(float r) {
  float p = 1.f / 5040.f;
  p = p * r + 1.f / 720.f;
  p = p * r + 1.f / 120.f;
  p = p * r + 1.f / 24.f;
  p = p * r + 1.f / 6.f;
  p = p * r + 0.5f;
  return p * r * r + r;
}

// x = n ln(2) + r; returns 2^n. Only for x <= 0.
inline float split_exponent(float x, float& r) {
  const float bounded = x < -87.f ? -87.f : x;
  const float shifted = bounded * 1.44269504f + 12582912.f;  // 1.5 * 2^23: the sum's last bits are round(x / ln 2)
  const float n = shifted - 12582912.f;
  r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
  return bits_to_float((float_to_bits(shifted) + 127u) << 23);
}

// exp and expm1 of x <= 0: all that the activations need. NaN stays NaN through r.
inline float exp_negative(float x) {
  float r;
  const float scale = split_exponent(x, r);
  const float y = scale + scale * expm1_core(r);
  return x < -87.f ? 0.f : y;
}
inline float expm1_negative(float x) {
  float r;
  const float scale = split_exponent(x, r);
  return scale * expm1_core(r) + (scale - 1.f);
}
inline double exp_negative(double x) { return std::exp(x); }
inline double expm1_negative(double x) { return std::expm1(x); }

// log(1 + t) on 0 <= t <= 1, by the series of 2 artanh(t / (2 + t)).
inline float log1p_unit(float t) {
  const float s = t / (2.f + t), q = s * s;
  float p = 1.f / 13.f;
  p = p * q + 1.f / 11.f;
  p = p * q + 1.f / 9.f;
  p = p * q + 1.f / 7.f;
  p = p * q + 1.f / 5.f;
  p = p * q + 1.f / 3.f;
  return 2.f * (p * q * s + s);
}
inline double log1p_unit(double t) { return std::log1p(t); }

template <typename A>
inline A sigmoid(A z) {
  const A e = exp_negative(z > 0 ? -z : z);
  return (z > 0 ? A(1) : e) / (1 + e);
}

constexpr double kSeluAlpha = 1.6732632423543772, kSeluScale = 1.0507009873554805;

template <Act ACT, typename A>
inline A function(A z, A alpha) {
  if constexpr (ACT == Act::kRelu) return z < 0 ? A(0) : z;
  if constexpr (ACT == Act::kLrelu) return z > 0 ? z : z * alpha;
  if constexpr (ACT == Act::kTanh) {
    const A e = expm1_negative(-2 * (z > 0 ? z : -z));
    const A t = -e / (2 + e);
    return z > 0 ? t : -t;
  }
  if constexpr (ACT == Act::kSigmoid) return sigmoid(z);
  if constexpr (ACT == Act::kElu) return z > 0 ? z : expm1_negative(z > 0 ? A(0) : z);
  if constexpr (ACT == Act::kSelu) {
    const A e = A(kSeluAlpha) * expm1_negative(z > 0 ? A(0) : z);
    return A(kSeluScale) * (z > 0 ? z : e);
  }
  if constexpr (ACT == Act::kSoftplus) {
    const A tail = log1p_unit(exp_negative(z > 0 ? -z : z));
    return z > 0 ? z + tail : tail;
  }
  if constexpr (ACT == Act::kSwish) return z * sigmoid(z);
  return z;
}

// h^(k)(u) of the activations that are recovered from their output; for the leaky ReLU, u = z serves as well.
template <Act ACT, typename A>
inline A derivative(A u, A alpha, int64_t k) {
  if constexpr (ACT == Act::kTanh) return k == 0 ? 1 - u * u : k == 1 ? -2 * u : k == 2 ? A(-2) : A(0);
  if constexpr (ACT == Act::kSigmoid) return k == 0 ? u - u * u : k == 1 ? 1 - 2 * u : k == 2 ? A(-2) : A(0);
  if constexpr (ACT == Act::kElu) return u > 0 ? (k == 0 ? A(1) : A(0)) : (k == 0 ? 1 + u : k == 1 ? A(1) : A(0));
  if constexpr (ACT == Act::kSelu)
    return u > 0 ? (k == 0 ? A(kSeluScale) : A(0)) : (k == 0 ? u + A(kSeluScale * kSeluAlpha) : k == 1 ? A(1) : A(0));
  if constexpr (ACT == Act::kSoftplus)
    return k == 0 ? -expm1_negative(-u) : k % 2 == 1 ? exp_negative(-u) : -exp_negative(-u);
  if (k > 0) return A(0);
  if constexpr (ACT == Act::kRelu) return u > 0 ? A(1) : A(0);
  if constexpr (ACT == Act::kLrelu) return u > 0 ? A(1) : alpha;
  return A(1);
}

// The activation as its output's dtype has it: the clamp is a value that the dtype holds, or the gradient would miss
// outputs at the clamp.
template <typename T>
inline Activation as_stored(Activation a) {
  if constexpr (sizeof(T) == 2) {
    T stored;
    float buffer[1], clamp = a.clamp;
    store(&clamp, 1, &stored);
    const double rounded = load(&stored, 1, buffer)[0];
    if (rounded < a.clamp) a.clamp = rounded;
  }
  return a;
}

// v = a(z), in place.
template <typename A>
inline void activate(const Activation& a, A* v, int n) {
  const A alpha = a.alpha, gain = a.gain, clamp = a.clamp;
  auto loop = [&](auto f) {
#pragma GCC ivdep
    for (int i = 0; i < n; ++i) {
      A y = f(v[i]) * gain;
      y = y > clamp ? clamp : y;
      v[i] = y < -clamp ? -clamp : y;
    }
  };
  switch (a.act) {
    case Act::kLinear:
      return loop([](A z) { return z; });
    case Act::kRelu:
      return loop([](A z) { return function<Act::kRelu>(z, A(0)); });
    case Act::kLrelu:
      return loop([alpha](A z) { return function<Act::kLrelu>(z, alpha); });
    case Act::kTanh:
      return loop([](A z) { return function<Act::kTanh>(z, A(0)); });
    case Act::kSigmoid:
      return loop([](A z) { return function<Act::kSigmoid>(z, A(0)); });
    case Act::kElu:
      return loop([](A z) { return function<Act::kElu>(z, A(0)); });
    case Act::kSelu:
      return loop([](A z) { return function<Act::kSelu>(z, A(0)); });
    case Act::kSoftplus:
      return loop([](A z) { return function<Act::kSoftplus>(z, A(0)); });
    case Act::kSwish:
      return loop([](A z) { return function<Act::kSwish>(z, A(0)); });
  }
}

// The n-th derivative of the sigmoid is a polynomial in s = sigmoid(z): P_0 = s, P_(n+1) = (s - s^2) P_n'.
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
      std::memcpy(coefficient, next, sizeof(next));
    }
  }

  template <typename A>
  A operator()(A s) const {
    A p = coefficient[degree];
    for (int i = degree - 1; i >= 0; --i) p = p * s + A(coefficient[i]);
    return p;
  }
};

// v = v * d^k/dref^k (da/dz), in place.
template <typename A>
inline void differentiate(const Activation& a, int64_t k, const A* ref, A* v, int n) {
  if (ref == nullptr) {  // linear, no clamp
    const A factor = k == 0 ? a.gain : 0;
    for (int i = 0; i < n; ++i) v[i] *= factor;
    return;
  }
  const A alpha = a.alpha, gain = a.gain, clamp = a.clamp;
  if (a.act == Act::kSwish) {  // swish^(n) = n sigmoid^(n-1) + z sigmoid^(n), with n = k + 1
    const SigmoidPolynomial lower(k), upper(k + 1);
    auto loop = [&](auto h) {
#pragma GCC ivdep
      for (int i = 0; i < n; ++i) {
        const A z = ref[i], s = sigmoid(z);
        v[i] = std::fabs(z * s * gain) >= clamp ? A(0) : v[i] * gain * h(z, s);
      }
    };
    return k == 0 ? loop([](A z, A s) { return s + z * (s - s * s); })
                  : loop([&](A z, A s) { return A(k + 1) * lower(s) + z * upper(s); });
  }
  const A inverse = gain == 0 ? A(0) : 1 / gain;
  const A factor = k == 0 ? gain : k == 1 ? A(1) : static_cast<A>(gain == 0 ? 0.0 : std::pow(a.gain, 1.0 - k));
  if (!keeps_output(a)) {  // a leaky ReLU of negative slope: ref is z
    for (int i = 0; i < n; ++i) {
      const A y = function<Act::kLrelu>(ref[i], alpha) * gain;
      v[i] = std::fabs(y) >= clamp ? A(0) : v[i] * factor * derivative<Act::kLrelu>(ref[i], alpha, k);
    }
    return;
  }
  auto loop = [&](auto h) {
#pragma GCC ivdep
    for (int i = 0; i < n; ++i) {
      const A d = v[i] * (factor * h(ref[i] * inverse));
      v[i] = std::fabs(ref[i]) >= clamp ? A(0) : d;
    }
  };
  // The two orders that training needs have loops of their own.
  auto by_order = [&](auto activation) {
    constexpr Act kAct = decltype(activation)::value;
    if (k == 0) return loop([alpha](A u) { return derivative<kAct>(u, alpha, 0); });
    if (k == 1) return loop([alpha](A u) { return derivative<kAct>(u, alpha, 1); });
    return loop([alpha, k](A u) { return derivative<kAct>(u, alpha, k); });
  };
  switch (a.act) {
    case Act::kRelu:
      return by_order(std::integral_constant<Act, Act::kRelu>());
    case Act::kLrelu:
      return by_order(std::integral_constant<Act, Act::kLrelu>());
    case Act::kTanh:
      return by_order(std::integral_constant<Act, Act::kTanh>());
    case Act::kSigmoid:
      return by_order(std::integral_constant<Act, Act::kSigmoid>());
    case Act::kElu:
      return by_order(std::integral_constant<Act, Act::kElu>());
    case Act::kSelu:
      return by_order(std::integral_constant<Act, Act::kSelu>());
    case Act::kSoftplus:
      return by_order(std::integral_constant<Act, Act::kSoftplus>());
    default:
      return by_order(std::integral_constant<Act, Act::kLinear>());
  }
}

}  // namespace
STYLEGAN_OPS_END_VARIANT
