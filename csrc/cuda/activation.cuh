// The nine activations on a thread's few values, and the family of their derivatives: csrc/cpu/activation.h on the GPU.
//
// The activation is no template parameter of the kernels: it is the same for every thread, so one branch per COUNT
// values chooses among nine unrolled loops, which costs less than one instruction per value and keeps a kernel one
// kernel.
#pragma once

#include <cmath>

#include "device.cuh"
#include "ops/activation.h"

namespace stylegan_ops::cuda {

// The device's own functions are within 2 ulp. __fdividef is, too, where the divisor is below 2^126: here it is at most
// 2, and an exact division would be ten instructions and a branch.
struct Math {
  static __device__ __forceinline__ float exp_negative(float x) { return expf(x); }
  static __device__ __forceinline__ double exp_negative(double x) { return exp(x); }
  static __device__ __forceinline__ float expm1_negative(float x) { return expm1f(x); }
  static __device__ __forceinline__ double expm1_negative(double x) { return expm1(x); }
  static __device__ __forceinline__ float log1p_unit(float x) { return log1pf(x); }
  static __device__ __forceinline__ double log1p_unit(double x) { return log1p(x); }
  static __device__ __forceinline__ float divide(float a, float b) { return __fdividef(a, b); }
  static __device__ __forceinline__ double divide(double a, double b) { return a / b; }
};

template <Act ACT>
constexpr bool kPiecewiseLinear = ACT == Act::kLinear || ACT == Act::kRelu || ACT == Act::kLrelu;

// Calls f with the activation as a compile-time constant.
template <typename F>
__device__ __forceinline__ void by_activation(Act act, F&& f) {
  switch (act) {
    case Act::kLinear:
      return f(std::integral_constant<Act, Act::kLinear>());
    case Act::kRelu:
      return f(std::integral_constant<Act, Act::kRelu>());
    case Act::kLrelu:
      return f(std::integral_constant<Act, Act::kLrelu>());
    case Act::kTanh:
      return f(std::integral_constant<Act, Act::kTanh>());
    case Act::kSigmoid:
      return f(std::integral_constant<Act, Act::kSigmoid>());
    case Act::kElu:
      return f(std::integral_constant<Act, Act::kElu>());
    case Act::kSelu:
      return f(std::integral_constant<Act, Act::kSelu>());
    case Act::kSoftplus:
      return f(std::integral_constant<Act, Act::kSoftplus>());
    case Act::kSwish:
      return f(std::integral_constant<Act, Act::kSwish>());
  }
}

// Calls f for all values, in a loop of GROUP at a time whose body rotates the registers: the code of a long f is there
// GROUP times, not COUNT times, and does not spread over more registers than the cheap paths need.
template <int GROUP, int COUNT, typename A, typename F>
__device__ __forceinline__ void by_turns(A (&v)[COUNT], F&& f) {
  if constexpr (COUNT % GROUP != 0 || COUNT == GROUP) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) f(v[i]);
  } else {
#pragma unroll 1
    for (int turn = 0; turn < COUNT / GROUP; ++turn) {
      A done[GROUP];
#pragma unroll
      for (int i = 0; i < GROUP; ++i) f(v[i]), done[i] = v[i];
#pragma unroll
      for (int i = 0; i + GROUP < COUNT; ++i) v[i] = v[i + GROUP];
#pragma unroll
      for (int i = 0; i < GROUP; ++i) v[COUNT - GROUP + i] = done[i];
    }
  }
}

// a(z) = clamp(act(z) * gain), with the constants in the type A that kernels compute in.
template <typename A>
class Activate {
 public:
  explicit Activate(const Activation& a)
      : act_(a.act), alpha_(static_cast<A>(a.alpha)), gain_(static_cast<A>(a.gain)), clamp_(static_cast<A>(a.clamp)) {}

  // v = a(v).
  template <int COUNT>
  __device__ __forceinline__ void operator()(A (&v)[COUNT]) const {
    by_activation(act_, [&](auto act) {
      if constexpr (act.value == Act::kLrelu) {
        const A slope = alpha_ * gain_;
#pragma unroll
        for (int i = 0; i < COUNT; ++i) v[i] *= v[i] > 0 ? gain_ : slope;
      } else if constexpr (kPiecewiseLinear<act.value>) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) v[i] = function<act.value, Math>(v[i], alpha_) * gain_;
      } else {
        by_turns<sizeof(A) == 8 ? 1 : 4>(v, [&](A& z) { z = function<act.value, Math>(z, alpha_) * gain_; });
      }
    });
    if (isnan(clamp_)) return;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) v[i] = clamped(v[i], clamp_);
  }

 private:
  Act act_;
  A alpha_, gain_, clamp_;
};

// The clamp that an output of type T shows: a value that T holds, or the gradient would miss outputs at the clamp.
template <typename T>
double stored_clamp(double clamp) {
  double stored = clamp;
  if constexpr (std::is_same_v<T, __half>) stored = __half2float(__float2half_rn(static_cast<float>(clamp)));
  if constexpr (std::is_same_v<T, __nv_bfloat16>)
    stored = __bfloat162float(__float2bfloat16_rn(static_cast<float>(clamp)));
  return stored < clamp ? stored : clamp;
}

// v * d^k/dref^k (da/dz) for a ref of type T. With the derivative written as gain * h(u), u = ref / gain, that is
// gain^(1-k) h^(k)(u); ref is z itself where the output does not tell it (see keeps_output).
template <typename T>
class Differentiate {
  using A = Accumulate<T>;

 public:
  Differentiate(const Activation& a, int64_t order, bool has_ref)
      : act_(a.act),
        kind_(!has_ref               ? kConstant
              : a.act == Act::kSwish ? kSwish
              : keeps_output(a)      ? kOfOutput
                                     : kOfInput),
        order_(static_cast<int>(order)),
        alpha_(static_cast<A>(a.alpha)),
        gain_(static_cast<A>(a.gain)),
        clamp_(static_cast<A>(stored_clamp<T>(a.clamp))),
        inverse_(a.gain == 0 ? A(0) : 1 / static_cast<A>(a.gain)),
        factor_(static_cast<A>(order == 1    ? 1.0
                               : a.gain == 0 ? 0.0
                                             : std::pow(a.gain, 1.0 - order))) {
    if (kind_ == kConstant && order > 0) factor_ = 0;
    const SigmoidPolynomial<Math> lower(order), upper(order + 1);
    for (int i = 0; i < kCoefficients; ++i) {
      lower_[i] = static_cast<A>((order + 1) * lower.coefficient[i]);
      upper_[i] = static_cast<A>(upper.coefficient[i]);
    }
  }

  // What training needs most is a few instructions per value; all the rest has kernels of its own, since it would cost
  // the others registers.
  bool is_common() const { return kind_ == kConstant || (kind_ == kOfOutput && order_ == 0 && act_ <= Act::kSelu); }

  template <bool COMMON, int COUNT>
  __device__ __forceinline__ void apply(const A (&ref)[COUNT], A (&v)[COUNT]) const {
    if constexpr (!COMMON) {
      Pair pairs[COUNT];
#pragma unroll
      for (int i = 0; i < COUNT; ++i) pairs[i] = {ref[i], v[i]};
      by_turns<1>(pairs, [&](Pair& p) { p.v = any(p.ref, p.v); });
#pragma unroll
      for (int i = 0; i < COUNT; ++i) v[i] = pairs[i].v;
    } else if (kind_ == kConstant) {
#pragma unroll
      for (int i = 0; i < COUNT; ++i) v[i] *= factor_;
    } else {
      by_activation(act_, [&](auto act) {
        if constexpr (act.value == Act::kRelu || act.value == Act::kLrelu) {
          const A upper = factor_, lower = act.value == Act::kRelu ? A(0) : factor_ * alpha_;
          if (inverse_ >= 0) {  // of which the sign of u is that of ref
#pragma unroll
            for (int i = 0; i < COUNT; ++i) v[i] *= ref[i] > 0 ? upper : lower;
          } else {
#pragma unroll
            for (int i = 0; i < COUNT; ++i) v[i] *= ref[i] < 0 ? upper : lower;
          }
        } else if constexpr (act.value <= Act::kSelu) {
#pragma unroll
          for (int i = 0; i < COUNT; ++i) v[i] *= factor_ * derivative<act.value, Math>(ref[i] * inverse_, alpha_, 0);
        }
      });
      if (isnan(clamp_)) return;
#pragma unroll
      for (int i = 0; i < COUNT; ++i) v[i] = fabs(ref[i]) >= clamp_ ? A(0) : v[i];
    }
  }

 private:
  enum Kind : int32_t { kConstant, kOfOutput, kOfInput, kSwish };
  static constexpr int kCoefficients = SigmoidPolynomial<Math>::kMaxOrder + 1;

  struct Pair {
    A ref, v;
  };

  __device__ __forceinline__ A any(A ref, A v) const {
    if (kind_ == kSwish) return swish(ref, v);
    if (kind_ == kOfInput) {
      const A y = ref * (ref > 0 ? gain_ : alpha_ * gain_);  // as Activate has it
      return fabs(y) >= clamp_ ? A(0) : v * factor_ * derivative<Act::kLrelu, Math>(ref, alpha_, order_);
    }
    by_activation(act_, [&](auto act) { v *= factor_ * derivative<act.value, Math>(ref * inverse_, alpha_, order_); });
    return fabs(ref) >= clamp_ ? A(0) : v;
  }

  // swish^(n) = n sigmoid^(n-1) + z sigmoid^(n), with n = order + 1.
  __device__ __forceinline__ A swish(A z, A v) const {
    const A s = sigmoid<Math>(z);
    A h = s + z * (s - s * s);
    if (order_ > 0) {
      h = 0;
#pragma unroll 1
      for (int i = order_ + 2; i >= 0; --i) h = h * s + (lower_[i] + z * upper_[i]);
    }
    return fabs(z * s * gain_) >= clamp_ ? A(0) : v * gain_ * h;
  }

  Act act_;
  Kind kind_;
  int order_;
  A alpha_, gain_, clamp_, inverse_, factor_;
  A lower_[kCoefficients], upper_[kCoefficients];  // of (order + 1) P_order and P_(order + 1)
};

}  // namespace stylegan_ops::cuda
