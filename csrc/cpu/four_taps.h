// upfirdn2d by separable filters of four taps with up 2, down 2 or neither on both axes: what StyleGAN resamples with.
//
// Two output rows at a time, which share input rows, in tiles that fit the first-level cache.
// 1. Columns: the input rows of both are loaded once and combined into two row buffers with zeros where the image ends.
//    Up 2: the two rows lie between the same two inputs; else the second row's inputs begin `down` rows later.
// 2. Rows: every output is a weighted sum of shifted parts of its row buffer.
// A pair that is cut by the end of the work items is combined all the same and one row of it left out, so that results
// do not depend on where the work is divided.
#pragma once

#include "fir_rows.h"
#include "lanes.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

template <typename T, int UP, int DOWN>
class FourTaps {
  using A = accumulate_t<T>;
  static constexpr int kCount = 4 / UP;               // taps that meet an input, along an axis
  static constexpr int kOffset = UP == 2 ? 0 : DOWN;  // from the first row's inputs to the second's
  static constexpr int kSources = kCount + kOffset;   // input rows of a pair
  static constexpr int64_t kTileElements = 2048;      // of a row buffer
  static constexpr int64_t kTilePixels = 16;          // at least, so that the overlap of tiles stays small
  static constexpr int64_t kLanes = Simd<A>::kLanes;
  struct Taps {
    A tap[kCount];
  };

 public:
  explicit FourTaps(const Upfirdn2dParams& p)
      : p_(p),
        tile_(tile_outputs(p)),
        width_(((tile_ * DOWN / UP + 4) * p.pixel + 2 * kLanes) & -kLanes),
        zeros_(width_),
        rows_(2 * width_),
        result_(tile_ * p.pixel) {
    for (int64_t i = 0; i < width_; ++i) zeros_.get()[i] = T();
    for (int i = 0; i < 2; ++i) {
      // Up 2: one of two outputs meets every second tap, the other those between.
      const int64_t first_x = UP == 2 ? (p.x_axis.pad + i) & 1 : 0, first_y = UP == 2 ? 1 - i : 0;
      for (int k = 0; k < kCount; ++k) {
        x_taps_[i].tap[k] = static_cast<A>(p.tap_x[first_x + k * UP]);
        y_taps_[i].tap[k] = static_cast<A>(p.tap_y[first_y + k * UP]);
      }
    }
  }

  // The output rows [begin, end) of an image.
  template <typename Epilogues>
  void rows(int64_t image, int64_t begin, int64_t end, const Epilogues& epilogue) {
    const int64_t out = p_.x_axis.out, pixel = p_.pixel;
    for (int64_t y = begin - ((begin + (UP == 2 ? p_.y_axis.pad + 1 : 0)) & 1); y < end; y += 2) {
      for (int64_t x = 0; x < out; x += tile_) {
        const int64_t outputs = min64(tile_, out - x);
        columns(image, first_input(p_.y_axis, y), first_input(p_.x_axis, x), outputs);
        for (int64_t row = y < begin ? begin : y; row < min64(y + 2, end); ++row) {
          const A* from = rows_.get() + (row - y) * width_ + first_;
          T* to = static_cast<T*>(p_.out) + ((image * p_.y_axis.out + row) * out + x) * pixel;
          if constexpr (std::is_same_v<Epilogues, NoEpilogue>) {
            filter_row(from, outputs, to);
          } else {
            A* dst = target(to, result_.get());
            filter_row(from, outputs, dst);
            epilogue(dst, image, row * out + x, outputs);
            if constexpr (!std::is_same_v<T, A>)
              for_lanes<A>(outputs * pixel, [&](int64_t j, auto lane)
                                                STYLEGAN_OPS_IN_LOOP { put(get<decltype(lane)>(dst + j), to + j); });
          }
        }
      }
    }
  }

 private:
  // An even number, and nearly the same in all tiles.
  static int64_t tile_outputs(const Upfirdn2dParams& p) {
    const int64_t fits = kTileElements * UP / DOWN / p.pixel, most = fits < kTilePixels ? kTilePixels : fits;
    const int64_t tiles = (p.x_axis.out + most - 1) / most;
    return ((p.x_axis.out + tiles - 1) / tiles + 1) & ~int64_t{1};
  }

  static int64_t first_input(const ResampleAxis& axis, int64_t output) {
    return (output * DOWN - axis.pad + UP - 1) >> (UP - 1);
  }

  // Step 1: the inputs of a tile of two rows, from input (y, x) on.
  void columns(int64_t image, int64_t y, int64_t x, int64_t outputs) {
    const int64_t pixel = p_.pixel, in = p_.x_axis.in, begin = x < 0 ? 0 : x;
    const int64_t all = UP == 2 ? (outputs + 1) / 2 + 2 : (outputs - 1) * DOWN + 4, before = min64(begin - x, all);
    const int64_t end = min64(x + all, in), inside = end < begin ? 0 : end - begin;
    first_ = -before * pixel & (kLanes - 1);
    for (int64_t row = 0; row < 2; ++row) {
      A* to = rows_.get() + row * width_ + first_;
      for (int64_t j = 0; j < before * pixel; ++j) to[j] = 0;
      for (int64_t j = (before + inside) * pixel; j < all * pixel; ++j) to[j] = 0;
    }
    A* to = rows_.get() + first_ + before * pixel;
    const T* source[kSources];
    if (p_.phases == nullptr) {
      for (int k = 0; k < kSources; ++k)
        source[k] = is_row(y + k) ? static_cast<const T*>(p_.x) + ((image * p_.y_axis.in + y + k) * in + begin) * pixel
                                  : zeros_.get();
      return combine(source, 1, inside * pixel, 0, to);
    }
    const Phases& phases = *p_.phases;  // even and odd pixels lie in images of their own
    for (int64_t b = 0; b < 2; ++b) {
      const int64_t skipped = (begin + b) % 2, first = (begin + skipped) / 2;
      for (int k = 0; k < kSources; ++k) {
        const int64_t a = (y + k) & 1, at = image * phases.height[a] + (y + k) / 2;
        source[k] = is_row(y + k) ? static_cast<const T*>(phases.image[a][b]) + (at * phases.width[b] + first) * pixel
                                  : zeros_.get();
      }
      combine(source, (inside - skipped + 1) / 2, pixel, 2 * pixel, to + skipped * pixel);
    }
  }

  bool is_row(int64_t y) const { return y >= 0 && y < p_.y_axis.in; }

  // Sums for both rows: `runs` runs of n, which lie `step` apart in the buffers and are adjacent in the sources.
  void combine(const T* const* source, int64_t runs, int64_t n, int64_t step, A* to) const {
    const Taps first = y_taps_[0], second = y_taps_[1];
    const T* from[kSources];
    for (int k = 0; k < kSources; ++k) from[k] = source[k];
    A* next = to + width_;
    for (int64_t run = 0; run < runs; ++run) {
      for_lanes<A>(n, [&](int64_t j, auto lane) STYLEGAN_OPS_IN_LOOP {
        using V = decltype(lane);
        V v[kSources];
        for (int k = 0; k < kSources; ++k) v[k] = get<V>(from[k] + j);
        for (int k = kCount - 1; k < kSources; ++k) prefetch_behind(from[k] + j);
        V one = first.tap[0] * v[0], two = second.tap[0] * v[kOffset];
        for (int k = 1; k < kCount; ++k) one += first.tap[k] * v[k], two += second.tap[k] * v[k + kOffset];
        put(one, to + j);
        put(two, next + j);
      });
      for (int k = 0; k < kSources; ++k) from[k] += n;
      to += step, next += step;
    }
  }

  // The weighted sum of kCount parts of a row buffer, `shift` apart.
  template <typename V>
  static inline STYLEGAN_OPS_IN_LOOP V sum_at(const A* from, int64_t shift, const Taps& taps) {
    V sum = taps.tap[0] * get<V>(from);
    for (int k = 1; k < kCount; ++k) sum += taps.tap[k] * get<V>(from + k * shift);
    return sum;
  }

  // Step 2.
  template <typename D>
  void filter_row(const A* row, int64_t outputs, D* to) const {
    const int64_t pixel = p_.pixel;
    const Taps taps = x_taps_[0], others = x_taps_[1];
    // n outputs by the same taps, each from `row`
    const auto sums = [&](const A* from, int64_t n, const Taps& by, D* at) {
      for_lanes<A>(n, [&](int64_t j, auto lane) STYLEGAN_OPS_IN_LOOP {
        prefetch_behind(at + j);
        put(sum_at<decltype(lane)>(from + j, pixel, by), at + j);
      });
    };
    if constexpr (UP == 1 && DOWN == 1) return sums(row, outputs * pixel, taps, to);
    if constexpr (DOWN == 2) {
      if (pixel == 1) return unzipped(row, outputs, taps, to);
      for (int64_t i = 0; i < outputs; ++i) sums(row + 2 * i * pixel, pixel, taps, to + i * pixel);
    }
    if constexpr (UP == 2) {
      const int64_t pairs = outputs / 2;
      const A* odd = row + (p_.x_axis.pad & 1 ? 0 : pixel);
      if (pixel == 1) zipped(row, odd, pairs, taps, others, to);
      for (int64_t i = 0; i < pairs && pixel > 1; ++i) {
        sums(row + i * pixel, pixel, taps, to + 2 * i * pixel);
        sums(odd + i * pixel, pixel, others, to + (2 * i + 1) * pixel);
      }
      if (outputs % 2 != 0) sums(row + pairs * pixel, pixel, taps, to + 2 * pairs * pixel);
    }
  }

  // Pairs of outputs, put together in registers.
  template <typename D>
  void zipped(const A* row, const A* odd, int64_t pairs, const Taps& taps, const Taps& others, D* to) const {
    using S = Simd<A>;
    constexpr auto all = std::make_index_sequence<S::kLanes>();
    for_lanes<A>(pairs, [&](int64_t j, auto lane) STYLEGAN_OPS_IN_LOOP {
      using V = decltype(lane);
      const V first = sum_at<V>(row + j, 1, taps), second = sum_at<V>(odd + j, 1, others);
      D* at = to + 2 * j;
      prefetch_behind(at);
      if constexpr (std::is_same_v<V, A>) {
        put(first, at);
        put(second, at + 1);
      } else {
        prefetch_behind(at + S::kLanes);
        put(S::template zip<true>(first, second, all), at);
        put(S::template zip<false>(first, second, all), at + S::kLanes);
      }
    });
  }

  // Outputs of every second input, whose taps' inputs are taken apart in registers.
  template <typename D>
  void unzipped(const A* row, int64_t outputs, const Taps& taps, D* to) const {
    using S = Simd<A>;
    constexpr auto all = std::make_index_sequence<S::kLanes>();
    for_lanes<A>(outputs, [&](int64_t j, auto lane) STYLEGAN_OPS_IN_LOOP {
      using V = decltype(lane);
      const A* from = row + 2 * j;
      prefetch_behind(to + j);
      if constexpr (std::is_same_v<V, A>) {
        put(sum_at<V>(from, 1, taps), to + j);
      } else {
        V sum{};
        for (int k = 0; k < 4; k += 2) {
          const V low = get<V>(from + k), high = get<V>(from + k + S::kLanes);
          sum += taps.tap[k] * S::template unzip<false>(low, high, all);
          sum += taps.tap[k + 1] * S::template unzip<true>(low, high, all);
        }
        put(sum, to + j);
      }
    });
  }

  const Upfirdn2dParams& p_;
  const int64_t tile_, width_;
  Buffer<T> zeros_;  // a row outside the image
  Buffer<A> rows_, result_;
  Taps x_taps_[2], y_taps_[2];
  int64_t first_ = 0;  // of a row buffer, so that its inputs lie aligned
};

}  // namespace
STYLEGAN_OPS_END_VARIANT
