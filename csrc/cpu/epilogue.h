// z = clamp(act(v * scale + noise * strength + bias) * gain) on blocks: what stands behind a convolution or behind its
// blur.
#pragma once

#include "activation.h"
#include "ops/conv_epilogue.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

template <typename A>
class Epilogue {
 public:
  explicit Epilogue(const EpilogueOperands& e)
      : e_(e),
        scale_(static_cast<const A*>(e.scale)),
        noise_(static_cast<const A*>(e.noise)),
        bias_(static_cast<const A*>(e.bias)),
        strength_(e.strength == nullptr ? A(1) : *static_cast<const A*>(e.strength)),
        short_rows_(e.channels <= kBlock) {
    if (short_rows_) repeat(bias_, e_.channels, A(0), biases_);
  }

  // Pixels q, q + 1, ... of the plane of channel c of sample n, at most a block.
  void plane(const A* v, A* z, int count, int64_t n, int64_t c, int64_t q) const {
    const A s = scale_ == nullptr ? A(1) : scale_[n * e_.channels + c], b = bias_ == nullptr ? A(0) : bias_[c];
    if (noise_ == nullptr) return activate(e_.activation, count, [=](int j) { return v[j] * s + b; }, z);
    const A *noise = noise_ + n * e_.noise_stride + q, strength = strength_;
    activate(e_.activation, count, [=](int j) { return v[j] * s + (noise[j] * strength + b); }, z);
  }

  // Channels c, c + 1, ... of the pixels q, q + 1, ... of sample n: a block of for_row_blocks.
  void pixels(const A* v, A* z, int64_t n, int64_t q, int pixels, int64_t c, int channels) {
    const int count = pixels * channels;
    if (!short_rows_) {
      for (int j = 0; j < count; ++j) scales_[j] = scale_ == nullptr ? A(1) : scale_[n * e_.channels + c + j];
      for (int j = 0; j < count; ++j) biases_[j] = bias_ == nullptr ? A(0) : bias_[c + j];
    } else if (sample_ != n) {
      repeat(scale_ == nullptr ? nullptr : scale_ + n * e_.channels, e_.channels, A(1), scales_);
      sample_ = n;
    }
    const A* b = biases_;
    if (noise_ != nullptr) {
      for (int k = 0; k < pixels; ++k) {
        const A level = noise_[n * e_.noise_stride + q + k] * strength_;
#pragma GCC ivdep
        for (int j = k * channels; j < (k + 1) * channels; ++j) added_[j] = biases_[j] + level;
      }
      b = added_;
    }
    const A* s = scales_;
    activate(e_.activation, count, [=](int j) { return v[j] * s[j] + b[j]; }, z);
  }

 private:
  const EpilogueOperands& e_;
  const A *scale_, *noise_, *bias_;
  const A strength_;
  const bool short_rows_;
  int64_t sample_ = -1;  // whose scales are in the pattern
  alignas(64) A scales_[kBlock], biases_[kBlock], added_[kBlock];
};

}  // namespace
STYLEGAN_OPS_END_VARIANT
