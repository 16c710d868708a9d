// filtered_lrelu and its derivatives, a band of result rows at a time.
//
// 1. The fine rows that the band's results need are filtered from x + bias into a buffer of a few hundred kB, and each
//    becomes a(z), or a'(z) times the row that the second filter makes of the tangents.
// 2. The band's results are filtered from the buffer.
// Where bands follow each other, the fine rows that both need move to the buffer's beginning.
// Bytes moved per element: x and tangents once, each result once; the fine image stays in the second-level cache.
#include "ops/filtered_lrelu.h"

#include <optional>

#include "fir_rows.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

template <typename T>
class Bands {
  using A = accumulate_t<T>;

 public:
  explicit Bands(const FilteredLreluParams& p)
      : p_(p),
        activation_(p.activation),
        width_(p.values.x_axis.out * p.values.pixel),
        values_(p.values),
        results_(p.results),
        fine_(min64((p.rows - 1) * p.results.y_axis.down + p.results.y_axis.taps, p.values.y_axis.out) * width_) {
    if (p.tangents.x != nullptr) tangents_.emplace(p.tangents), tangent_row_.emplace(width_);
  }

  // The result rows [begin, end) of an image.
  void band(int64_t image, int64_t begin, int64_t end) {
    const ResampleAxis& y = p_.results.y_axis;
    const int64_t low = inside(begin * y.down - y.pad), high = inside((end - 1) * y.down - y.pad + y.taps);
    int64_t made = low;
    if (image == image_ && low < high_) {
      made = min64(high_, high);
      std::memmove(fine_.get(), fine_.get() + (low - low_) * width_, (made - low) * width_ * sizeof(A));
    }
    image_ = image, low_ = low, high_ = high;
    fill(made);
    results_.rows(image, {fine_.get(), low}, results_.result(image), begin, end, NoEpilogue());
  }

 private:
  int64_t inside(int64_t y) const { return y < 0 ? 0 : min64(y, p_.values.y_axis.out); }

  // Step 1 for the rows [made, high_).
  void fill(int64_t made) {
    const Band<A> fine{fine_.get(), low_};
    const LeakyRelu<A> a = activation_;
    const auto each = [&](auto&& function) {
      values_.rows(image_, values_.source(image_), fine, made, high_, [&](A* z, int64_t, int64_t, int64_t pixels) {
        const int64_t n = pixels * p_.values.pixel;
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) z[i] = function(z[i]);
      });
    };
    if (!tangents_) return each([a](A z) { return a.value(z); });
    each([a](A z) { return a.derivative(z); });
    for (int64_t y = made; y < high_; ++y) {
      A *slopes = fine_.get() + (y - low_) * width_, *tangents = tangent_row_->get();
      tangents_->rows(image_, tangents_->source(image_), {tangents, y}, y, y + 1, NoEpilogue());
#pragma GCC ivdep
      for (int64_t i = 0; i < width_; ++i) slopes[i] *= tangents[i];
    }
  }

  const FilteredLreluParams& p_;
  const LeakyRelu<A> activation_;
  const int64_t width_;
  Rows<T, A> values_;
  std::optional<Rows<T, A>> tangents_;
  Rows<A, T> results_;
  Buffer<A> fine_;
  std::optional<Buffer<A>> tangent_row_;
  int64_t image_ = -1, low_ = 0, high_ = 0;  // what the buffer holds
};

template <typename T>
void run(const FilteredLreluParams& p, int64_t begin, int64_t end) {
  Bands<T> bands(p);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item % p.bands * p.rows;
    bands.band(item / p.bands, first, min64(first + p.rows, p.results.y_axis.out));
  }
}

}  // namespace

void filtered_lrelu(const FilteredLreluParams& p, int64_t begin, int64_t end) {
  for_dtype(p.values.dtype, [&](auto* t) { run<std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

STYLEGAN_OPS_END_VARIANT
