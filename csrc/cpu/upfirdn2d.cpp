// upfirdn2d, one output row at a time in tiles that fit the first-level cache.
//
// 1. Columns: the input rows under the filter are combined into a row buffer with zeros where the image ends (separable: one row, their
//    weighted sum; else one row per row of taps). 2. Rows: every output is a weighted sum of shifted parts of the buffer. Zero-inserted pixels
//    are never multiplied: an output's taps are those of its phase. Where pixels are short the sums run over whole rows instead of pixels: the
//    buffer is dealt out by `down` first, the outputs are put together by `up` afterwards. 3. What stands behind the filter, if anything.
// Bytes moved per element: each input once and each output once; a row's further readings come from the cache.
#include "ops/upfirdn2d.h"

#include <cstdlib>

#include "block.h"
#include "epilogue.h"

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

// Where the taps of an axis' outputs start.
struct Starts {
  Buffer<int64_t> tap, input;

  explicit Starts(int64_t n) : tap(n), input(n) {}
  void set(const ResampleAxis& axis, int64_t i, int64_t output) {
    const int64_t at = output * axis.down - axis.pad, first = floor_div(at + axis.up - 1, axis.up);
    tap.get()[i] = first * axis.up - at;
    input.get()[i] = first;
  }
};

template <typename T>
class Rows {
  using A = accumulate_t<T>;

 public:
  explicit Rows(const Upfirdn2dParams& p)
      : p_(p),
        rows_(p.tap_x != nullptr ? 1 : p.y_axis.taps),
        tile_(tile_outputs(p)),
        width_((tile_ * p.x_axis.down / p.x_axis.up + p.x_axis.taps + 4) * p.pixel),
        part_(p.x_axis.down > 1 ? (width_ / p.pixel / p.x_axis.down + 2) * p.pixel : 0),
        y_starts_(p.y_axis.out),
        x_starts_(p.x_axis.up),
        buffer_(rows_ * width_),
        dealt_(rows_ * part_ * p.x_axis.down),
        phase_(tile_ * p.pixel),
        result_(tile_ * p.pixel),
        source_(rows_ * p.x_axis.taps + p.y_axis.taps),
        weight_(rows_ * p.x_axis.taps + p.y_axis.taps),
        tap_row_(p.y_axis.taps) {
    for (int64_t y = 0; y < p.y_axis.out; ++y) y_starts_.set(p.y_axis, y, y);
  }

  template <typename Epilogues>
  void row(int64_t image, int64_t oy, Epilogues&& epilogue) {
    const int64_t pixel = p_.pixel;
    T* out = static_cast<T*>(p_.out) + (image * p_.y_axis.out + oy) * p_.x_axis.out * pixel;
    for (int64_t ox = 0; ox < p_.x_axis.out; ox += tile_) {
      const int64_t outputs = min64(tile_, p_.x_axis.out - ox);
      if (ox != planned_) plan(ox, outputs);
      columns(image, oy);
      A* dst = target(out + ox * pixel, result_.get());
      const bool whole_rows = pixel < kShortPixel && (p_.x_axis.up == 1 || p_.x_axis.down == 1);
      whole_rows ? by_phases(outputs, dst) : by_pixels(outputs, dst);
      epilogue(dst, image, oy * p_.x_axis.out + ox, outputs);
      for (int64_t i = 0; i < outputs * pixel; i += kBlock)
        store(dst + i, static_cast<int>(min64(kBlock, outputs * pixel - i)), out + ox * pixel + i);
    }
  }

 private:
  static int64_t tile_outputs(const Upfirdn2dParams& p) {
    int64_t tile = kTileElements / p.pixel;
    if (tile < kTilePixels) tile = kTilePixels;
    tile = (tile + p.x_axis.up - 1) / p.x_axis.up * p.x_axis.up;
    return min64(tile, p.x_axis.out);
  }

  // The inputs [low_, high_) of the outputs of a tile, the part [begin_, end_) of them inside the image, and where each phase starts.
  void plan(int64_t ox, int64_t outputs) {
    const ResampleAxis& axis = p_.x_axis;
    planned_ = ox;
    low_ = floor_div(ox * axis.down - axis.pad, axis.up);
    if (p_.phases) low_ -= low_ & 1;  // whole pairs of pixels
    high_ = floor_div((ox + outputs - 1) * axis.down + axis.taps - 1 - axis.pad, axis.up) + 1;
    begin_ = low_ < 0 ? 0 : min64(low_, axis.in);
    end_ = high_ < begin_ ? begin_ : min64(high_, axis.in);
    for (int64_t phase = 0; phase < axis.up; ++phase) x_starts_.set(axis, phase, ox + phase);
  }

  // Step 1: buffer row r holds the inputs of step 2, combined (separable) or of the tap row tap_row_[r].
  void columns(int64_t image, int64_t oy) {
    const ResampleAxis& axis = p_.y_axis;
    const int64_t all = (high_ - low_) * p_.pixel, inside = (end_ - begin_) * p_.pixel;
    const int64_t before = low_ < begin_ ? min64((begin_ - low_) * p_.pixel, all) : 0;
    const T* x = static_cast<const T*>(p_.x);
    const T** source = reinterpret_cast<const T**>(source_.get());
    live_ = 0;
    for (int64_t k = y_starts_.tap.get()[oy], y = y_starts_.input.get()[oy]; k < axis.taps; k += axis.up, ++y) {
      if (y < 0 || y >= axis.in) continue;
      source[live_] = p_.phases ? x + ((image * ((axis.in + 1) / 2) + y / 2) * ((p_.x_axis.in + 1) / 2) * 4 + begin_ * 2 + y % 2 * 2) * p_.pixel
                                : x + ((image * axis.in + y) * p_.x_axis.in + begin_) * p_.pixel;
      tap_row_.get()[live_] = k;
      weight_.get()[live_] = p_.tap_y == nullptr ? A(1) : static_cast<A>(p_.tap_y[k]);
      ++live_;
    }
    const bool separable = p_.tap_x != nullptr;
    const int combined = separable ? live_ : 1;
    if (separable) live_ = 1;
    for (int r = 0; r < live_; ++r) {
      A* row = buffer_.get() + r * width_;
      for (int64_t j = 0; j < before; ++j) row[j] = 0;
      if (!p_.phases) {
        weighted_sum(source + r, weight_.get() + r, combined, inside, row + before);
      } else {  // two pixels of the row lie side by side, the next two behind the other row's
        const int64_t pair = 2 * p_.pixel;
        for (int64_t j = 0; j < inside; j += pair) {
          weighted_sum(source + r, weight_.get() + r, combined, min64(pair, inside - j), row + before + j);
          for (int k = 0; k < combined; ++k) source[r + k] += 2 * pair;
        }
      }
      for (int64_t j = before + inside; j < all; ++j) row[j] = 0;
    }
  }

  // The sources and weights of a phase's first output, each source at `shift(input pixel)` of its buffer row. Returns their number.
  template <typename Shift>
  int gather(int64_t phase, const A* rows, int64_t width, Shift&& shift) {
    const A** source = reinterpret_cast<const A**>(source_.get());
    int count = 0;
    for (int r = 0; r < live_; ++r) {
      const double* tap = p_.tap_x != nullptr ? p_.tap_x : p_.tap + tap_row_.get()[r] * p_.x_axis.taps;
      int64_t i = x_starts_.input.get()[phase] - low_;
      for (int64_t k = x_starts_.tap.get()[phase]; k < p_.x_axis.taps; k += p_.x_axis.up, ++i) {
        source[count] = rows + r * width + shift(i);
        weight_.get()[count++] = static_cast<A>(tap[k]);
      }
    }
    return count;
  }

  // Step 2 where pixels are long: output by output. Those of one phase have the same taps; from one to the next, the inputs advance by down.
  void by_pixels(int64_t outputs, A* dst) {
    const A** source = reinterpret_cast<const A**>(source_.get());
    const int64_t step = p_.x_axis.down * p_.pixel;
    for (int64_t phase = 0; phase < min64(p_.x_axis.up, outputs); ++phase) {
      const int count = gather(phase, buffer_.get(), width_, [this](int64_t i) { return i * p_.pixel; });
      for (int64_t o = phase; o < outputs; o += p_.x_axis.up) {
        weighted_sum(source, weight_.get(), count, p_.pixel, dst + o * p_.pixel);
        for (int k = 0; k < count; ++k) source[k] += step;
      }
    }
  }

  // Step 2 where pixels are short: all outputs of one phase at once. Only one of up and down is above 1.
  void by_phases(int64_t outputs, A* dst) {
    const int64_t up = p_.x_axis.up, down = p_.x_axis.down, pixel = p_.pixel;
    const A** source = reinterpret_cast<const A**>(source_.get());
    const A* rows = buffer_.get();
    if (down > 1) {  // deal the pixels out: those of equal index mod down become adjacent
      for (int r = 0; r < live_; ++r)
        for (int64_t d = 0; d < down; ++d)
          every<true>(buffer_.get() + r * width_ + d * pixel, dealt_.get() + (r * down + d) * part_, (high_ - low_ - d + down - 1) / down, down);
      rows = dealt_.get();
    }
    const auto shift = [&](int64_t i) { return down > 1 ? i % down * part_ + i / down * pixel : i * pixel; };
    for (int64_t phase = 0; phase < min64(up, outputs); ++phase) {
      const int count = gather(phase, rows, down > 1 ? down * part_ : width_, shift);
      const int64_t n = up == 1 ? outputs : (outputs - phase + up - 1) / up;
      A* one = up == 1 ? dst : phase_.get();
      weighted_sum(source, weight_.get(), count, n * pixel, one);
      if (up > 1) every<false>(one, dst + phase * pixel, n, up);
    }
  }

  // Takes every `step`-th pixel of `from`, or puts the pixels of `from` to every `step`-th of `to`.
  template <bool TAKE>
  void every(const A* from, A* to, int64_t n, int64_t step) const {
    const int64_t pixel = p_.pixel;
    const auto copy = [&](auto s, auto width) {
#pragma GCC ivdep
      for (int64_t j = 0; j < n; ++j)
        for (int64_t c = 0; c < width; ++c) TAKE ? to[j * width + c] = from[j * s * width + c] : to[j * s * width + c] = from[j * width + c];
    };
    using Two = std::integral_constant<int64_t, 2>;
    using One = std::integral_constant<int64_t, 1>;
    if (pixel == 1 && step == 2)
      copy(Two(), One());
    else
      copy(step, pixel);
  }

  const Upfirdn2dParams& p_;
  const int64_t rows_, tile_, width_, part_;
  Starts y_starts_, x_starts_;
  Buffer<A> buffer_, dealt_, phase_, result_;
  Buffer<const void*> source_;
  Buffer<A> weight_;
  Buffer<int64_t> tap_row_;
  int64_t planned_ = -1, low_ = 0, high_ = 0, begin_ = 0, end_ = 0;
  int live_ = 0;
};

template <typename T>
void run(const Upfirdn2dParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  Rows<T> rows(p);
  const auto each = [&](auto&& epilogue) {
    int64_t image = begin / p.y_axis.out, y = begin % p.y_axis.out;
    for (int64_t item = begin; item < end; ++item) {
      rows.row(image, y, epilogue);
      if (++y == p.y_axis.out) y = 0, ++image;
    }
  };
  if (p.epilogue == nullptr) return each([](A*, int64_t, int64_t, int64_t) {});
  Epilogue<A> epilogue(*p.epilogue);
  const int64_t channels = p.epilogue->channels;
  each([&](A* z, int64_t image, int64_t q, int64_t count) {
    if (p.pixel != channels) {  // planes
      for (int64_t i = 0; i < count; i += kBlock)
        epilogue.plane(z + i, z + i, static_cast<int>(min64(kBlock, count - i)), image / channels, image % channels, q + i);
      return;
    }
    for_pixel_blocks(q, q + count, channels, [&](int64_t first, int pixels, int64_t c, int width) {
      A* block = z + (first - q) * channels + c;
      epilogue.pixels(block, block, image, first, pixels, c, width);
    });
  });
}

}  // namespace

void upfirdn2d(const Upfirdn2dParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) { run<std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

STYLEGAN_OPS_END_VARIANT
