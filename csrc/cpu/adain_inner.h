// What adain normalises, u = act(x + noise * strength[c] + bias[c]) * gain in blocks, and what the statistics of a
// plane make of it.
#pragma once

#include <cmath>

#include "activation.h"
#include "moments.h"
#include "ops/adain.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

// Blocks of u, and of what da/dz is a function of.
template <typename T>
class Inner {
  using A = accumulate_t<T>;

 public:
  const A* u;    // the block's
  const A* ref;  // see differentiate()

  explicit Inner(const AdainParams& p)
      : u(is_line(p) ? z_ : u_),
        ref(p.activation.act == Act::kLinear ? nullptr
            : keeps_output(p.activation)     ? u
                                             : z_),
        p_(p),
        noise_(static_cast<const A*>(p.noise)),
        strength_(static_cast<const A*>(p.strength)),
        bias_(static_cast<const A*>(p.bias)),
        upper_(is_line(p) ? p.activation.gain : 1),
        lower_(is_line(p) && p.activation.act == Act::kLrelu ? p.activation.gain * p.activation.alpha : upper_) {}

  // Pixels q, q + 1, ... of the plane of channel c of sample n, at most a block; i is the first one's place.
  void plane(int64_t i, int count, int64_t n, int64_t c, int64_t q) {
    const A* v = load(static_cast<const T*>(p_.x) + i, count, z_, count);
    const A b = bias_ == nullptr ? A(0) : bias_[c], s = strength_ == nullptr ? A(1) : strength_[c];
    if (noise_ == nullptr) {
#pragma GCC ivdep
      for (int j = 0; j < count; ++j) z_[j] = line(v[j] + b);
    } else {
      const A* e = noise_ + n * p_.noise_stride + q;
#pragma GCC ivdep
      for (int j = 0; j < count; ++j) z_[j] = line(v[j] + (e[j] * s + b));
    }
    if (u == u_) apply(count);
  }

  // The channels c to c + width - 1, at most a block, are those of the calls of pixels() from here on.
  void set_channels(int64_t c, int64_t width) {
    width_ = static_cast<int>(width);
    repeat(bias_ == nullptr ? nullptr : bias_ + c, width, A(0), biases_);
    repeat(strength_ == nullptr ? nullptr : strength_ + c, width, A(1), strengths_);
  }

  // These channels of the pixels q, q + 1, ... of sample n, whole rows that follow each other in memory.
  void pixels(int64_t i, int pixels, int64_t n, int64_t q) {
    const int count = pixels * width_;
    const A* v = load(static_cast<const T*>(p_.x) + i, count, z_, count);
    if (noise_ == nullptr) {
#pragma GCC ivdep
      for (int j = 0; j < count; ++j) z_[j] = line(v[j] + biases_[j]);
    } else {
      for (int k = 0; k < pixels; ++k) {
        const A level = noise_[n * p_.noise_stride + q + k];
#pragma GCC ivdep
        for (int j = k * width_; j < (k + 1) * width_; ++j) z_[j] = line(v[j] + (level * strengths_[j] + biases_[j]));
      }
    }
    if (u == u_) apply(count);
  }

  const A* strengths() const { return strengths_; }

 private:
  // The activations of StyleGAN are done in the loop that makes z; the others in one of their own.
  static bool is_line(const AdainParams& p) {
    return p.activation.act == Act::kLinear || (p.activation.act == Act::kLrelu && keeps_output(p.activation));
  }
  A line(A z) const { return z * (z > 0 ? upper_ : lower_); }

  __attribute__((noinline)) void apply(int count) {  // nine loops
    const A* z = z_;
    activate(p_.activation, count, [=](int j) { return z[j]; }, u_);
  }

  const AdainParams& p_;
  const A *noise_, *strength_, *bias_;
  const A upper_, lower_;  // slopes
  int width_ = 0;
  alignas(64) A z_[kBlock], u_[kBlock], biases_[kBlock], strengths_[kBlock];
};

template <typename A>
inline double value(const void* v, int64_t i, double missing) {
  return v == nullptr ? missing : static_cast<double>(static_cast<const A*>(v)[i]);
}

// The factors of one (n, c), and its gradients that are sums over the statistics.
template <bool BACKWARD, typename A>
inline Factors<A> factors_of(const AdainParams& p, const Moments& m, int64_t plane) {
  const double pixels = static_cast<double>(p.pixels), inverse = 1 / std::sqrt(m.m2 / pixels + p.eps);
  const double scale = value<A>(p.scale, plane, 1);
  if constexpr (!BACKWARD) return Factors<A>::forward(m, inverse, scale, value<A>(p.shift, plane, 0));
  if (p.dscale != nullptr) static_cast<A*>(p.dscale)[plane] = static_cast<A>(m.product * inverse);
  if (p.dshift != nullptr) static_cast<A*>(p.dshift)[plane] = static_cast<A>(m.total);
  return Factors<A>::backward(m, inverse, scale, pixels);
}

}  // namespace
STYLEGAN_OPS_END_VARIANT
