// The kernels of upfirdn2d, and which of them an image and a filter get.
#include "upfirdn2d.cuh"
#include "upfirdn2d_general.cuh"

namespace stylegan_ops::cuda {
namespace {

bool aligned(const void* p, int64_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

// Vectors of channels where pixels are made of them; in planes several pixels in one store where rows allow it; else
// single elements, neighbours in neighbouring lanes. How many is what 64 registers hold without a spill, which is half
// of the device's threads. A plane's window is loaded element by element, from lane to lane as far apart as the windows
// are: at most 16 bytes, so that one load touches no more than 16 sectors.
template <typename T, int UP, int DOWN, int TAPS, typename E>
void by_layout(const Upfirdn2dParams& p, const E& epilogue, Stream stream) {
  constexpr bool kBare = std::is_same_v<E, NoEpilogue>;  // the epilogue takes registers, too
  constexpr int kVector = TAPS == 4 ? 4 : 2, kBytes = kVector * sizeof(T);
  constexpr int kPixels = TAPS == 4 ? (kBare ? 16 : 8) / DOWN / static_cast<int>(sizeof(T)) : 1;
  if (p.pixel % kVector == 0 && aligned(p.x, kBytes) && aligned(p.out, kBytes))
    return launch_fir<T, UP, DOWN, TAPS, (TAPS == 4 && kBare ? 2 : UP), kVector>(p, epilogue, stream);
  if constexpr (kPixels > UP) {
    const bool odd_phase = UP == 2 && p.x_axis.pad % 2 != 0;
    if (p.pixel == 1 && p.x_axis.out % kPixels == 0 && aligned(p.out, kPixels * sizeof(T)) && !odd_phase)
      return launch_fir<T, UP, DOWN, TAPS, kPixels, 1>(p, epilogue, stream);
  }
  launch_fir<T, UP, DOWN, TAPS, UP, 1>(p, epilogue, stream);
}

template <typename T, int UP, int DOWN, typename E>
void by_taps(const Upfirdn2dParams& p, const E& epilogue, Stream stream) {
  const bool four = p.x_axis.taps == 4 && p.y_axis.taps == 4 && !(p.x_axis.up == 2 && p.x_axis.down == 2);
  four ? by_layout<T, UP, DOWN, 4>(p, epilogue, stream) : by_layout<T, UP, DOWN, 8>(p, epilogue, stream);
}

// Whether the strips can do it: factors of 1 and 2, equal along both axes, short filters, sizes that 32 bits hold.
bool is_common(const Upfirdn2dParams& p) {
  constexpr int64_t kLimit = int64_t{1} << 30;
  for (const ResampleAxis& axis : {p.x_axis, p.y_axis}) {
    if (axis.up > 2 || axis.down > 2 || axis.taps > 8) return false;
    if (axis.in >= kLimit || axis.out * axis.down >= kLimit || std::abs(axis.pad) >= kLimit) return false;
  }
  if (p.epilogue != nullptr && p.x_axis.up != p.x_axis.down) return false;
  return p.x_axis.up == p.y_axis.up && p.x_axis.down == p.y_axis.down && p.pixel <= 65536 &&
         p.x_axis.out * p.pixel < kLimit && p.x_axis.in * p.pixel < kLimit;
}

template <typename T>
void by_factors(const Upfirdn2dParams& p, Stream stream) {
  if (p.epilogue != nullptr) return by_taps<T, 1, 1>(p, Epilogue<float>(*p.epilogue), stream);
  if (p.x_axis.up == p.x_axis.down) return by_taps<T, 1, 1>(p, NoEpilogue(), stream);
  p.x_axis.up == 2 ? by_taps<T, 2, 1>(p, NoEpilogue(), stream) : by_taps<T, 1, 2>(p, NoEpilogue(), stream);
}

}  // namespace

void launch_upfirdn2d(const Upfirdn2dParams& p, Stream stream) {
  by_dtype(p.dtype, [&](auto t) {
    using T = decltype(t);
    if constexpr (!std::is_same_v<T, double>) {
      if (is_common(p)) return by_factors<T>(p, stream);
    }
    launch_general<T>(p, stream);
  });
}

}  // namespace stylegan_ops::cuda
