// upfirdn2d, one output row at a time in tiles that fit the first-level cache.
//
// 1. Columns: the input rows under the filter are combined into a row buffer with zeros where the image ends (separable: one row, their
//    weighted sum; else one row per row of taps). 2. Rows: every output is a weighted sum of shifted parts of the buffer. Zero-inserted pixels
//    are never multiplied: an output's taps are those of its phase. Where pixels are short the sums run over whole rows instead of pixels: the
//    buffer is dealt out by `down` first, the outputs are put together by `up` afterwards.
// Bytes moved per element: each input once and each output once; a row's further readings come from the cache.
#include "ops/upfirdn2d.h"

#include <cstdlib>

#include "block.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

constexpr int64_t kTileElements = 4096;  // of a row of the buffer
constexpr int64_t kTilePixels = 16;      // at least, so that the filter's overlap between tiles stays small
constexpr int64_t kShortPixel = 16;      // elements below which a pixel is too short for a loop of its own

template <typename A>
class Buffer {
 public:
  explicit Buffer(int64_t n) : data_(static_cast<A*>(std::malloc((n + 16) * sizeof(A)))) {
    if (data_ == nullptr) std::abort();  // no exception may leave a parallel region
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  A* get() const { return data_; }

 private:
  A* data_;
};

// dst = sum_k weight[k] * source[k] of 1 to 4 sources, or that added to dst.
template <bool ADD, typename T, typename A>
inline void weighted_sum4(const T* const* source, const A* weight, int count, int64_t n, A* dst) {
  A buffer[4][kBlock];
  for (int64_t i = 0; i < n; i += kBlock) {
    const int m = static_cast<int>(min64(kBlock, n - i));
    const A* s[4] = {};
    for (int k = 0; k < count; ++k) s[k] = load(source[k] + i, m, buffer[k]);
    A* d = dst + i;
    auto loop = [&](auto term) {
#pragma GCC ivdep
      for (int j = 0; j < m; ++j) {
        if constexpr (ADD)
          d[j] += term(j);
        else
          d[j] = term(j);
      }
    };
    const A *s0 = s[0], *s1 = s[count > 1 ? 1 : 0], *s2 = s[count > 2 ? 2 : 0], *s3 = s[count > 3 ? 3 : 0];
    const A w0 = weight[0], w1 = count > 1 ? weight[1] : A(0), w2 = count > 2 ? weight[2] : A(0), w3 = count > 3 ? weight[3] : A(0);
    if (count == 1) loop([=](int j) { return w0 * s0[j]; });
    if (count == 2) loop([=](int j) { return w0 * s0[j] + w1 * s1[j]; });
    if (count == 3) loop([=](int j) { return w0 * s0[j] + w1 * s1[j] + w2 * s2[j]; });
    if (count == 4) loop([=](int j) { return w0 * s0[j] + w1 * s1[j] + (w2 * s2[j] + w3 * s3[j]); });
  }
}

template <typename T, typename A>
inline void weighted_sum(const T* const* source, const A* weight, int count, int64_t n, A* dst) {
  if (count == 0) {
    for (int64_t j = 0; j < n; ++j) dst[j] = 0;
    return;
  }
  weighted_sum4<false>(source, weight, count < 4 ? count : 4, n, dst);
  for (int k = 4; k < count; k += 4) weighted_sum4<true>(source + k, weight + k, count - k < 4 ? count - k : 4, n, dst);
}

inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
inline int64_t mod(int64_t a, int64_t b) { return a - floor_div(a, b) * b; }

// First tap and first input of output o.
inline int64_t first_tap(const ResampleAxis& axis, int64_t o) { return mod(axis.pad - o * axis.down, axis.up); }
inline int64_t first_input(const ResampleAxis& axis, int64_t o) { return floor_div(o * axis.down + first_tap(axis, o) - axis.pad, axis.up); }

template <typename T>
class Rows {
  using A = accumulate_t<T>;

 public:
  explicit Rows(const Upfirdn2dParams& p)
      : p_(p),
        rows_(p.tap_x != nullptr ? 1 : p.y_axis.taps),
        tile_(tile_outputs(p)),
        width_((tile_ * p.x_axis.down / p.x_axis.up + p.x_axis.taps + 2) * p.pixel),
        dealt_width_(p.x_axis.down > 1 ? (width_ / p.pixel / p.x_axis.down + 2) * p.x_axis.down * p.pixel : 0),
        buffer_(rows_ * width_),
        dealt_(rows_ * dealt_width_),
        phase_(tile_ * p.pixel),
        result_(tile_ * p.pixel),
        source_(rows_ * p.x_axis.taps + p.y_axis.taps),
        weight_(rows_ * p.x_axis.taps + p.y_axis.taps),
        tap_row_(p.y_axis.taps) {}

  void row(int64_t image, int64_t oy) {
    const T* x = static_cast<const T*>(p_.x) + image * p_.y_axis.in * p_.x_axis.in * p_.pixel;
    T* out = static_cast<T*>(p_.out) + (image * p_.y_axis.out + oy) * p_.x_axis.out * p_.pixel;
    for (int64_t ox = 0; ox < p_.x_axis.out; ox += tile_) {
      const int64_t outputs = min64(tile_, p_.x_axis.out - ox);
      columns(x, oy, ox, outputs);
      A* dst = target(out + ox * p_.pixel, result_.get());
      const bool whole_rows = p_.pixel < kShortPixel && (p_.x_axis.up == 1 || p_.x_axis.down == 1);
      whole_rows ? by_phases(ox, outputs, dst) : by_pixels(ox, outputs, dst);
      for (int64_t i = 0; i < outputs * p_.pixel; i += kBlock)
        store(dst + i, static_cast<int>(min64(kBlock, outputs * p_.pixel - i)), out + ox * p_.pixel + i);
    }
  }

 private:
  static int64_t tile_outputs(const Upfirdn2dParams& p) {
    int64_t tile = kTileElements / p.pixel;
    if (tile < kTilePixels) tile = kTilePixels;
    tile = (tile + p.x_axis.up - 1) / p.x_axis.up * p.x_axis.up;
    return min64(tile, p.x_axis.out);
  }

  // Step 1: buffer row r holds the inputs [low_, high_) of step 2, combined (separable) or of tap row tap_row_[r].
  void columns(const T* x, int64_t oy, int64_t ox, int64_t outputs) {
    const ResampleAxis &ax = p_.x_axis, &ay = p_.y_axis;
    low_ = floor_div(ox * ax.down - ax.pad, ax.up);
    high_ = floor_div((ox + outputs - 1) * ax.down + ax.taps - 1 - ax.pad, ax.up) + 1;
    const int64_t begin = low_ < 0 ? 0 : min64(low_, ax.in), end = high_ < begin ? begin : min64(high_, ax.in);
    const int64_t all = (high_ - low_) * p_.pixel, inside = (end - begin) * p_.pixel;
    const int64_t before = low_ < begin ? min64((begin - low_) * p_.pixel, all) : 0;
    const T** source = reinterpret_cast<const T**>(source_.get());
    live_ = 0;
    for (int64_t k = first_tap(ay, oy), y = first_input(ay, oy); k < ay.taps; k += ay.up, ++y) {
      if (y < 0 || y >= ay.in) continue;
      source[live_] = x + (y * ax.in + begin) * p_.pixel;
      tap_row_.get()[live_] = k;
      weight_.get()[live_] = p_.tap_y == nullptr ? A(1) : static_cast<A>(p_.tap_y[k]);
      ++live_;
    }
    const bool separable = p_.tap_x != nullptr;
    const int count = separable ? 1 : live_;
    for (int r = 0; r < count; ++r) {
      A* row = buffer_.get() + r * width_;
      for (int64_t j = 0; j < before; ++j) row[j] = 0;
      if (separable)
        weighted_sum(source, weight_.get(), live_, inside, row + before);
      else
        weighted_sum(source + r, weight_.get() + r, 1, inside, row + before);
      for (int64_t j = before + inside; j < all; ++j) row[j] = 0;
    }
    live_ = count;
  }

  A tap(int r, int64_t kx) const {
    return static_cast<A>(p_.tap_x != nullptr ? p_.tap_x[kx] : p_.tap[tap_row_.get()[r] * p_.x_axis.taps + kx]);
  }

  // The sources and weights of output ox, each source at `shift(input pixel)` of its buffer row. Returns their number.
  template <typename Shift>
  int gather(int64_t ox, const A* rows, int64_t width, Shift&& shift) {
    const A** source = reinterpret_cast<const A**>(source_.get());
    int count = 0;
    for (int r = 0; r < live_; ++r) {
      int64_t i = first_input(p_.x_axis, ox) - low_;
      for (int64_t k = first_tap(p_.x_axis, ox); k < p_.x_axis.taps; k += p_.x_axis.up, ++i) {
        source[count] = rows + r * width + shift(i);
        weight_.get()[count++] = tap(r, k);
      }
    }
    return count;
  }

  // Step 2 where pixels are long: output by output. Those of one phase have the same taps; from one to the next, the inputs advance by down.
  void by_pixels(int64_t ox, int64_t outputs, A* dst) {
    const A** source = reinterpret_cast<const A**>(source_.get());
    const int64_t step = p_.x_axis.down * p_.pixel;
    for (int64_t phase = 0; phase < min64(p_.x_axis.up, outputs); ++phase) {
      const int count = gather(ox + phase, buffer_.get(), width_, [this](int64_t i) { return i * p_.pixel; });
      for (int64_t o = phase; o < outputs; o += p_.x_axis.up) {
        weighted_sum(source, weight_.get(), count, p_.pixel, dst + o * p_.pixel);
        for (int k = 0; k < count; ++k) source[k] += step;
      }
    }
  }

  // Step 2 where pixels are short: all outputs of one phase at once. Only one of up and down is above 1.
  void by_phases(int64_t ox, int64_t outputs, A* dst) {
    const int64_t up = p_.x_axis.up, down = p_.x_axis.down, pixel = p_.pixel;
    const A** source = reinterpret_cast<const A**>(source_.get());
    const A* rows = buffer_.get();
    int64_t width = width_, part = 0;
    if (down > 1) {  // deal the pixels out: those of equal index mod down become adjacent
      part = ((high_ - low_) / down + 1) * pixel;
      width = dealt_width_;
      for (int r = 0; r < live_; ++r)
        for (int64_t d = 0; d < down; ++d) {
          const A* from = buffer_.get() + r * width_ + d * pixel;
          A* to = dealt_.get() + r * width + d * part;
          const int64_t n = (high_ - low_ - d + down - 1) / down;
          if (pixel == 1) {
            for (int64_t j = 0; j < n; ++j) to[j] = from[j * down];
          } else {
            for (int64_t j = 0; j < n; ++j)
              for (int64_t c = 0; c < pixel; ++c) to[j * pixel + c] = from[j * down * pixel + c];
          }
        }
      rows = dealt_.get();
    }
    for (int64_t phase = 0; phase < min64(up, outputs); ++phase) {
      const int count = gather(ox + phase, rows, width, [&](int64_t i) { return down > 1 ? i % down * part + i / down * pixel : i * pixel; });
      const int64_t n = (outputs - phase + up - 1) / up;
      if (up == 1) {
        weighted_sum(source, weight_.get(), count, n * pixel, dst);
        return;
      }
      A* one = phase_.get();
      weighted_sum(source, weight_.get(), count, n * pixel, one);
      if (pixel == 1) {
        for (int64_t j = 0; j < n; ++j) dst[phase + j * up] = one[j];
      } else {
        for (int64_t j = 0; j < n; ++j)
          for (int64_t c = 0; c < pixel; ++c) dst[(phase + j * up) * pixel + c] = one[j * pixel + c];
      }
    }
  }

  const Upfirdn2dParams& p_;
  const int64_t rows_, tile_, width_, dealt_width_;
  Buffer<A> buffer_, dealt_, phase_, result_;
  Buffer<const void*> source_;
  Buffer<A> weight_;
  Buffer<int64_t> tap_row_;
  int64_t low_ = 0, high_ = 0;
  int live_ = 0;
};

template <typename T>
void rows(const Upfirdn2dParams& p, int64_t begin, int64_t end) {
  Rows<T> rows(p);
  for (int64_t item = begin; item < end; ++item) rows.row(item / p.y_axis.out, item % p.y_axis.out);
}

}  // namespace

void upfirdn2d(const Upfirdn2dParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) { rows<std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

STYLEGAN_OPS_END_VARIANT
