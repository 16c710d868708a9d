// FIR filters with any factors, one output row at a time in tiles that fit the first-level cache.
//
// 1. Columns: the input rows under the filter are combined into a row buffer with zeros where the image ends
//    (separable: one row, their weighted sum; else one row per row of taps).
// 2. Rows: every output is a weighted sum of shifted parts of the buffer. Zero-inserted pixels are never multiplied:
//    an output's taps are those of its phase. Where pixels are short the sums run over whole rows instead of pixels:
//    the buffer is dealt out by `down` first, the outputs are put together by `up` afterwards.
// 3. What stands behind the filter, if anything.
// Bytes moved per element: each input once and each output once; a row's further readings come from the cache.
#pragma once

#include "ops/upfirdn2d.h"
#include "weighted_sum.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

// What stands behind the filter where nothing does.
struct NoEpilogue {
  template <typename A>
  void operator()(A*, int64_t, int64_t, int64_t) const {}
};

constexpr int64_t kTileElements = 4096;  // of a row of the buffer
constexpr int64_t kTilePixels = 16;      // at least, so that the filter's overlap between tiles stays small
constexpr int64_t kShortPixel = 16;      // elements below which a pixel is too short for a loop of its own

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

// Rows of an image that lie behind each other: `first`, first + 1, ...
template <typename T>
struct Band {
  T* data;
  int64_t first;
};

// From images of T to results of O, with the same accumulation dtype.
template <typename T, typename O = T>
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
        phase_((tile_ + p.x_axis.up) * p.pixel),
        result_(tile_ * p.pixel),
        source_(rows_ * p.x_axis.taps + p.y_axis.taps),
        weight_(rows_ * p.x_axis.taps + p.y_axis.taps),
        tap_row_(p.y_axis.taps),
        row_(p.y_axis.taps) {
    for (int64_t y = 0; y < p.y_axis.out; ++y) y_starts_.set(p.y_axis, y, y);
  }

  // The output rows [begin, end) of an image.
  template <typename Epilogues>
  void rows(int64_t image, int64_t begin, int64_t end, const Epilogues& epilogue) {
    rows(image, source(image), result(image), begin, end, epilogue);
  }

  Band<const T> source(int64_t image) const {
    return {static_cast<const T*>(p_.x) + image * p_.y_axis.in * p_.x_axis.in * p_.pixel, 0};
  }
  Band<O> result(int64_t image) const {
    return {static_cast<O*>(p_.out) + image * p_.y_axis.out * p_.x_axis.out * p_.pixel, 0};
  }

  // The same from and to a part of the image's rows.
  template <typename Epilogues>
  void rows(int64_t image, Band<const T> from, Band<O> to, int64_t begin, int64_t end, const Epilogues& epilogue) {
    from_ = from;
    for (int64_t y = begin; y < end; ++y) row(image, y, to.data + (y - to.first) * p_.x_axis.out * p_.pixel, epilogue);
  }

 private:
  template <typename Epilogues>
  void row(int64_t image, int64_t oy, O* out, const Epilogues& epilogue) {
    const int64_t pixel = p_.pixel;
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

  static int64_t tile_outputs(const Upfirdn2dParams& p) {
    int64_t tile = kTileElements / p.pixel;
    if (tile < kTilePixels) tile = kTilePixels;
    tile = (tile + p.x_axis.up - 1) / p.x_axis.up * p.x_axis.up;
    return min64(tile, p.x_axis.out);
  }

  // The inputs [low_, high_) of the outputs of a tile, the part [begin_, end_) of them inside the image, and where each
  // phase starts.
  void plan(int64_t ox, int64_t outputs) {
    const ResampleAxis& axis = p_.x_axis;
    planned_ = ox;
    low_ = floor_div(ox * axis.down - axis.pad, axis.up);
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
    const T** source = reinterpret_cast<const T**>(source_.get());
    live_ = 0;
    for (int64_t k = y_starts_.tap.get()[oy], y = y_starts_.input.get()[oy]; k < axis.taps; k += axis.up, ++y) {
      if (y < 0 || y >= axis.in) continue;
      row_.get()[live_] = y;
      source[live_] = from_.data + ((y - from_.first) * p_.x_axis.in + begin_) * p_.pixel;
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
      if (p_.phases != nullptr)
        columns_of_phases(image, r, combined, row + before);
      else
        weighted_sum(source + r, weight_.get() + r, combined, inside, row + before);
      if (p_.bias != nullptr) add_bias(image, weight_.get() + r, combined, inside, row + before);
      for (int64_t j = before + inside; j < all; ++j) row[j] = 0;
    }
  }

  // What the bias of each input adds to `count` elements of combined rows.
  void add_bias(int64_t image, const A* weight, int rows, int64_t count, A* to) const {
    const A* bias = static_cast<const A*>(p_.bias);
    A sum = 0;
    for (int k = 0; k < rows; ++k) sum += weight[k];
    if (p_.pixel != p_.channels) {  // planes
      const A b = sum * bias[image % p_.channels];
      for (int64_t j = 0; j < count; ++j) to[j] += b;
      return;
    }
    for (int64_t j = 0; j < count; j += p_.pixel)
#pragma GCC ivdep
      for (int64_t c = 0; c < p_.pixel; ++c) to[j + c] += sum * bias[c];
  }

  // The inputs [begin_, end_) of the live rows r, r + 1, ..., whose even and odd pixels lie in images of their own.
  void columns_of_phases(int64_t image, int r, int combined, A* to) {
    const Phases& phases = *p_.phases;
    const T** source = reinterpret_cast<const T**>(source_.get());
    for (int b = 0; b < 2; ++b) {
      int64_t i = begin_ + (begin_ + b) % 2;
      for (int k = r; k < r + combined; ++k) {
        const int64_t y = row_.get()[k];
        const T* half = static_cast<const T*>(phases.image[y % 2][b]);
        source[k] = half + ((image * phases.height[y % 2] + y / 2) * phases.width[b] + i / 2) * p_.pixel;
      }
      for (; i < end_; i += 2) {
        weighted_sum(source + r, weight_.get() + r, combined, p_.pixel, to + (i - begin_) * p_.pixel);
        for (int k = r; k < r + combined; ++k) source[k] += p_.pixel;
      }
    }
  }

  // The sources and weights of a phase's first output, each source at `shift(input pixel)` of its buffer row. Returns
  // their number.
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

  // Step 2 where pixels are long: output by output. Those of one phase have the same taps; from one to the next, the
  // inputs advance by down.
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
    if (down > 1) {
      for (int r = 0; r < live_; ++r) deal(buffer_.get() + r * width_, dealt_.get() + r * down * part_);
      rows = dealt_.get();
    }
    const auto shift = [&](int64_t i) { return down > 1 ? i % down * part_ + i / down * pixel : i * pixel; };
    const int64_t n = (outputs + up - 1) / up;
    for (int64_t phase = 0; phase < up; ++phase) {
      const int count = gather(phase, rows, down > 1 ? down * part_ : width_, shift);
      weighted_sum(source, weight_.get(), count, (phase + (n - 1) * up < outputs ? n : n - 1) * pixel,
                   up == 1 ? dst : phase_.get() + phase * n * pixel);
    }
    if (up > 1) put_together(phase_.get(), dst, outputs);
  }

  // Makes the pixels of equal index mod down adjacent. The pairs of the commonest case are taken apart in one
  // vectorised loop.
  void deal(const A* from, A* to) const {
    const int64_t down = p_.x_axis.down, pixel = p_.pixel, n = high_ - low_;
    if (pixel == 1 && down == 2) {
      A *even = to, *odd = to + part_;
#pragma GCC ivdep
      for (int64_t j = 0; j < n / 2; ++j) even[j] = from[2 * j], odd[j] = from[2 * j + 1];
      if (n % 2 != 0) even[n / 2] = from[n - 1];
      return;
    }
    for (int64_t phase = 0; phase < down; ++phase, to += part_)
      for (int64_t i = phase, j = 0; i < n; i += down, ++j)
        for (int64_t c = 0; c < pixel; ++c) to[j * pixel + c] = from[i * pixel + c];
  }

  // The reverse of deal, for the phases of the outputs. Pairs and fours are put together in one vectorised loop.
  void put_together(const A* from, A* to, int64_t outputs) const {
    const int64_t up = p_.x_axis.up, pixel = p_.pixel, n = (outputs + up - 1) / up;
    int64_t done = 0;
    if (pixel == 1 && up == 2) {
#pragma GCC ivdep
      for (int64_t j = 0; j < outputs / 2; ++j) to[2 * j] = from[j], to[2 * j + 1] = from[n + j];
      done = outputs / 2;
    } else if (pixel == 1 && up == 4) {
#pragma GCC ivdep
      for (int64_t j = 0; j < outputs / 4; ++j) {
        to[4 * j] = from[j], to[4 * j + 1] = from[n + j];
        to[4 * j + 2] = from[2 * n + j], to[4 * j + 3] = from[3 * n + j];
      }
      done = outputs / 4;
    }
    for (int64_t phase = 0; phase < up; ++phase, from += n * pixel)
      for (int64_t o = phase + done * up, j = done; o < outputs; o += up, ++j)
        for (int64_t c = 0; c < pixel; ++c) to[o * pixel + c] = from[j * pixel + c];
  }

  const Upfirdn2dParams& p_;
  Band<const T> from_{};
  const int64_t rows_, tile_, width_, part_;
  Starts y_starts_, x_starts_;
  Buffer<A> buffer_, dealt_, phase_, result_;
  Buffer<const void*> source_;
  Buffer<A> weight_;
  Buffer<int64_t> tap_row_, row_;  // of the live rows: the row of taps and the row of inputs
  int64_t planned_ = -1, low_ = 0, high_ = 0, begin_ = 0, end_ = 0;
  int live_ = 0;
};

}  // namespace
STYLEGAN_OPS_END_VARIANT
