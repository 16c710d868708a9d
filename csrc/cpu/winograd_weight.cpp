// The steps of the weight gradient behind the images' transforms: sums over the tiles for every point, and their way
// back to filters.
#include <utility>

#include "ops/winograd.h"
#include "winograd.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

constexpr int64_t kTiles = kWinogradTiles, kChunk = kWinogradChunk;
constexpr int64_t kFilters = kWinogradFilters * kWinogradFilters;

// The points of one dimension that take the same transformed tap, in order.
template <typename F>
std::pair<int, int> points_of(int64_t filter) {
  int first = 0, last = F::kPoints;
  while (F::filter(first) != filter) ++first;
  while (F::filter(last - 1) != filter) --last;
  return {first, last};
}

template <typename A, template <typename, typename> class Form>
void sum_chunks(const WinogradSumParams& p, int64_t begin, int64_t end) {
  using F = Form<typename Simd<A>::Vector, A>;
  using Unaligned = typename Simd<A>::Unaligned;
  constexpr int lanes = Simd<A>::kLanes, rows = kVectorBytes == 64 ? 8 : 4, points = F::kPoints;
  constexpr int64_t piece = kTiles * kChunk, square = points * points, block = kFilters * kChunk * kChunk;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t filter = item / p.in_chunks, ci = item % p.in_chunks;
    const auto [top, bottom] = points_of<F>(filter / kWinogradFilters);
    const auto [first, last] = points_of<F>(filter % kWinogradFilters);
    A* const sums = static_cast<A*>(p.sums) + (ci * p.out_chunks * kFilters + filter) * kChunk * kChunk;
    const A* const image = static_cast<const A*>(p.image) + ci * square * piece;
    const A* const gradient = static_cast<const A*>(p.gradient);
    for (int64_t o = 0; o < p.out_chunks * kChunk; o += 2 * lanes)
      for (int64_t i = 0; i < kChunk; i += rows) {
        Products<A, rows> products;
        products.clear();
        // The two vectors may lie in two chunks.
        const int64_t left = o / kChunk, right = (o + lanes) / kChunk, of_left = o % kChunk,
                      of_right = (o + lanes) % kChunk;
        for (int64_t g = 0; g < p.groups; ++g)
          for (int64_t y = top; y < bottom; ++y)
            for (int64_t x = first; x < last; ++x) {
              const int64_t k = (y * points + x) * piece;
              const A* a = image + g * p.in_chunks * square * piece + k + i;
              const A* b0 = gradient + (g * p.out_chunks + left) * square * piece + k + of_left;
              const A* b1 = gradient + (g * p.out_chunks + right) * square * piece + k + of_right;
#pragma GCC unroll 2
              for (int64_t r = 0; r < piece; r += kChunk) products.add(a + r, 1, b0 + r, b1 + r);
            }
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
          Unaligned* const to0 = reinterpret_cast<Unaligned*>(sums + left * block + (i + r) * kChunk + of_left);
          Unaligned* const to1 = reinterpret_cast<Unaligned*>(sums + right * block + (i + r) * kChunk + of_right);
          *to0 = p.first ? products.sum[r][0] : *to0 + products.sum[r][0];
          *to1 = p.first ? products.sum[r][1] : *to1 + products.sum[r][1];
        }
      }
  }
}

template <typename T, template <typename, typename> class Form>
void filter_chunks(const WinogradFilterParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  using V = typename Simd<A>::Vector;
  using F = Form<V, A>;
  using Unaligned = typename Simd<A>::Unaligned;
  constexpr int lanes = Simd<A>::kLanes, taps = kTaps * kTaps;
  constexpr int64_t step = kChunk * kChunk;  // from one transformed tap to the next
  Buffer<A> filters(kChunk * kChunk * taps);
  for (int64_t ci = begin; ci < end; ++ci) {
    const int64_t inputs = min64(kChunk, p.in_channels - ci * kChunk);
    for (int64_t co = 0; co * kChunk < p.out_channels; ++co) {
      const A* const sums = static_cast<const A*>(p.sums) + (ci * p.out_chunks + co) * kFilters * step;
      for (int64_t i = 0; i < inputs; ++i)
        for (int64_t o = 0; o < kChunk; o += lanes) {
          V in[kFilters], out[taps];
          for (int k = 0; k < kFilters; ++k)
            in[k] = *reinterpret_cast<const Unaligned*>(sums + k * step + i * kChunk + o);
          both<kWinogradFilters, kTaps>([](auto... a) __attribute__((always_inline)) { F::weight_gradient(a...); }, in,
                                        out);
          for (int k = 0; k < taps; ++k)
            for (int l = 0; l < lanes; ++l) filters.get()[((o + l) * kChunk + i) * taps + k] = out[k][l];
        }
      for (int64_t o = 0; o < min64(kChunk, p.out_channels - co * kChunk); ++o) {
        T* const dw = static_cast<T*>(p.dw) + ((co * kChunk + o) * p.in_channels + ci * kChunk) * taps;
        const A* const from = filters.get() + o * kChunk * taps;
        if constexpr (std::is_same_v<T, A>)
          std::memcpy(dw, from, inputs * taps * sizeof(A));
        else
          store(from, static_cast<int>(inputs * taps), dw);
      }
    }
  }
}

}  // namespace

void winograd_sum(const WinogradSumParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) {
    using A = accumulate_t<std::remove_pointer_t<decltype(t)>>;
    p.stride == 1 ? sum_chunks<A, Dense>(p, begin, end) : sum_chunks<A, Down>(p, begin, end);
  });
}

void winograd_filter(const WinogradFilterParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    p.stride == 1 ? filter_chunks<T, Dense>(p, begin, end) : filter_chunks<T, Down>(p, begin, end);
  });
}

STYLEGAN_OPS_END_VARIANT
