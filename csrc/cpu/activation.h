// The nine activations on blocks, and the family of their derivatives.
//
// With a(z) = clamp(act(z) * gain), the derivative da/dz is written as gain * h(u), where u = a / gain (or u = z for
// those that cannot be recovered from their output). Its k-th derivative in the kept tensor is gain^(1-k) h^(k)(u):
// closed under differentiation, so any order.
#pragma once

#include <cmath>
#include <limits>

#include "block.h"
#include "ops/activation.h"

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

// Short polynomials, since loops over them are vectorised.
struct Math {
  // exp and expm1 of x <= 0: all that the activations need. NaN stays NaN through r.
  static float exp_negative(float x) {
    float r;
    const float scale = split_exponent(x, r);
    const float y = scale + scale * expm1_core(r);
    return x < -87.f ? 0.f : y;
  }
  static float expm1_negative(float x) {
    float r;
    const float scale = split_exponent(x, r);
    return scale * expm1_core(r) + (scale - 1.f);
  }
  static double exp_negative(double x) { return std::exp(x); }
  static double expm1_negative(double x) { return std::expm1(x); }

  // log(1 + t) on 0 <= t <= 1, by the series of 2 artanh(t / (2 + t)).
  static float log1p_unit(float t) {
    const float s = t / (2.f + t), q = s * s;
    float p = 1.f / 13.f;
    p = p * q + 1.f / 11.f;
    p = p * q + 1.f / 9.f;
    p = p * q + 1.f / 7.f;
    p = p * q + 1.f / 5.f;
    p = p * q + 1.f / 3.f;
    return 2.f * (p * q * s + s);
  }
  static double log1p_unit(double t) { return std::log1p(t); }

  template <typename A>
  static A divide(A a, A b) {
    return a / b;
  }
};

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

// out[i] = a(z(i)) for i < n, which may read out[i].
template <typename A, typename Z>
inline void activate(const Activation& a, int n, const Z& z, A* out) {
  const A alpha = a.alpha, gain = a.gain, clamp = a.clamp;
  auto loop = [&](auto f) {
#pragma GCC ivdep
    for (int i = 0; i < n; ++i) {
      A y = f(z(i)) * gain;
      y = y > clamp ? clamp : y;
      out[i] = y < -clamp ? -clamp : y;
    }
  };
  switch (a.act) {
    case Act::kLinear:
      return loop([](A z) { return z; });
    case Act::kRelu:
      return loop([](A z) { return function<Act::kRelu, Math>(z, A(0)); });
    case Act::kLrelu:
      return loop([alpha](A z) { return function<Act::kLrelu, Math>(z, alpha); });
    case Act::kTanh:
      return loop([](A z) { return function<Act::kTanh, Math>(z, A(0)); });
    case Act::kSigmoid:
      return loop([](A z) { return function<Act::kSigmoid, Math>(z, A(0)); });
    case Act::kElu:
      return loop([](A z) { return function<Act::kElu, Math>(z, A(0)); });
    case Act::kSelu:
      return loop([](A z) { return function<Act::kSelu, Math>(z, A(0)); });
    case Act::kSoftplus:
      return loop([](A z) { return function<Act::kSoftplus, Math>(z, A(0)); });
    case Act::kSwish:
      return loop([](A z) { return function<Act::kSwish, Math>(z, A(0)); });
  }
}

// v = a(v), in place.
template <typename A>
inline void activate(const Activation& a, A* v, int n) {
  activate(a, n, [v](int i) { return v[i]; }, v);
}

// d = v * d^k/dref^k (da/dz).
template <typename A>
inline void differentiate(const Activation& a, int64_t k, const A* ref, const A* v, A* d, int n) {
  if (ref == nullptr) {  // linear, no clamp
    const A factor = k == 0 ? a.gain : 0;
    for (int i = 0; i < n; ++i) d[i] = v[i] * factor;
    return;
  }
  const A alpha = a.alpha, gain = a.gain, clamp = a.clamp;
  if (a.act == Act::kSwish) {  // swish^(n) = n sigmoid^(n-1) + z sigmoid^(n), with n = k + 1
    const SigmoidPolynomial<Math> lower(k), upper(k + 1);
    auto loop = [&](auto h) {
#pragma GCC ivdep
      for (int i = 0; i < n; ++i) {
        const A z = ref[i], s = sigmoid<Math>(z);
        const A unclamped = v[i] * gain * h(z, s);
        d[i] = std::fabs(z * s * gain) >= clamp ? A(0) : unclamped;
      }
    };
    return k == 0 ? loop([](A z, A s) { return s + z * (s - s * s); })
                  : loop([&](A z, A s) { return A(k + 1) * lower(s) + z * upper(s); });
  }
  const A inverse = gain == 0 ? A(0) : 1 / gain;
  const A factor = k == 0 ? gain : k == 1 ? A(1) : static_cast<A>(gain == 0 ? 0.0 : std::pow(a.gain, 1.0 - k));
  if (!keeps_output(a)) {  // a leaky ReLU of negative slope: ref is z
    for (int i = 0; i < n; ++i) {
      const A y = function<Act::kLrelu, Math>(ref[i], alpha) * gain;
      d[i] = std::fabs(y) >= clamp ? A(0) : v[i] * factor * derivative<Act::kLrelu, Math>(ref[i], alpha, k);
    }
    return;
  }
  auto loop = [&](auto h) {
#pragma GCC ivdep
    for (int i = 0; i < n; ++i) {
      const A unclamped =
          v[i] * (factor * h(ref[i] * inverse));  // a load behind a condition is not vectorised everywhere
      d[i] = std::fabs(ref[i]) >= clamp ? A(0) : unclamped;
    }
  };
  // The two orders that training needs have loops of their own.
  auto by_order = [&](auto activation) {
    constexpr Act kAct = decltype(activation)::value;
    if (k == 0) return loop([alpha](A u) { return derivative<kAct, Math>(u, alpha, 0); });
    if (k == 1) return loop([alpha](A u) { return derivative<kAct, Math>(u, alpha, 1); });
    return loop([alpha, k](A u) { return derivative<kAct, Math>(u, alpha, k); });
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
