// The cases that count.py counts: `count CASE`. Inputs are fixed, and everything runs in one thread and without torch.
#include <cstring>

#include "ops/bias_act.h"
#include "ops/pixel_norm.h"
#include "ops/upfirdn2d.h"

namespace {

using namespace stylegan_ops;

constexpr int64_t kPixels = 256, kSide = 16, kChannels = 64, kElements = kPixels * kChannels;
alignas(64) float x[kElements], dy[kElements], bias[kChannels], out[4 * kElements];

// The measure: what no vectorisation and no change of ours touches.
__attribute__((noinline)) void scalar() {
  for (int64_t i = 0; i < kElements; ++i) out[i] = x[i] * 0.5f + bias[i % kChannels];
}

void bias_act() {
  BiasActParams p{};
  p.x = x, p.b = bias, p.y = out;
  p.outer = p.rows = kPixels, p.channels = kChannels, p.inner = 1;
  p.dtype = DType::kFloat32;
  p.activation = {Act::kLrelu, 0.2, 1.4, 256};
  cpu::avx2::bias_act(p, 0, 1);
}

void upfirdn2d() {
  const double taps[4] = {0.25, 0.75, 0.75, 0.25};
  Upfirdn2dParams p{};
  p.x = x, p.out = out;
  p.tap_x = p.tap_y = taps;
  p.images = 1, p.pixel = kChannels;
  p.x_axis = p.y_axis = {kSide, 2 * kSide, 2, 1, 2, 4};
  p.dtype = DType::kFloat32;
  cpu::avx2::upfirdn2d(p, 0, 2 * kSide);
}

void pixel_norm_backward() {
  PixelNormParams p{};
  p.x = x, p.dy = dy, p.y = out;
  p.outer = kPixels, p.channels = kChannels, p.inner = p.run = p.runs = 1;
  p.eps = 1e-8;
  p.dtype = DType::kFloat32;
  cpu::avx2::pixel_norm_backward(p, 0, kPixels);
}

}  // namespace

// What callgrind counts.
extern "C" __attribute__((noinline)) void counted(void (*run)()) { run(); }

int main(int, char** argv) {
  for (int64_t i = 0; i < kElements; ++i) x[i] = (i % 31 - 15) * 0.1f, dy[i] = (i % 29 - 14) * 0.1f;
  for (int64_t i = 0; i < kChannels; ++i) bias[i] = i * 0.01f;
  const struct {
    const char* name;
    void (*run)();
  } cases[] = {{"scalar", scalar},
               {"bias_act", bias_act},
               {"upfirdn2d", upfirdn2d},
               {"pixel_norm_backward", pixel_norm_backward}};
  for (const auto& c : cases)
    if (std::strcmp(c.name, argv[1]) == 0) return counted(c.run), 0;
  return 1;
}
