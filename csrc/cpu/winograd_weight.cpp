// The weight gradient behind the images' transforms: products summed over the tiles, and their way back to filters. The
// sums of a work item stay in a private cache where all tiles come at once.
#include "ops/winograd.h"
#include "winograd.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

constexpr int64_t kTiles = kWinogradTiles, kChunk = kWinogradChunk, kPanel = kWinogradPanel;
constexpr int64_t kPiece = kTiles * kChunk,
                  kSums = kChunk * kPanel;  // of an image's points, and of sums, for one point

// sums [kChunk, kPanel] (+)= the products of one point over the tiles of all groups.
template <typename A>
inline void sum_products(const A* image, int64_t image_step, const A* gradient, int64_t gradient_step, int64_t groups,
                         bool is_first, A* sums) {
  using Unaligned = typename Simd<A>::Unaligned;
  constexpr int lanes = Simd<A>::kLanes, rows = kVectorBytes == 64 ? 8 : 4;
  const auto chunk = [](int64_t o) { return o / kChunk * kSquare * kPiece + o % kChunk; };  // where output o lies
  for (int64_t o = 0; o < kPanel; o += 2 * lanes)
    for (int64_t i = 0; i < kChunk; i += rows) {
      Products<A, rows> products;
      products.clear();
      for (int64_t g = 0; g < groups; ++g) {
        const A *a = image + g * image_step + i, *b = gradient + g * gradient_step;
#pragma GCC unroll 2
        for (int64_t r = 0; r < kPiece; r += kChunk) products.add(a + r, 1, b + chunk(o) + r, b + chunk(o + lanes) + r);
      }
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        Unaligned* const to = reinterpret_cast<Unaligned*>(sums + (i + r) * kPanel + o);
        Unaligned* const next = reinterpret_cast<Unaligned*>(sums + (i + r) * kPanel + o + lanes);
        *to = is_first ? products.sum[r][0] : *to + products.sum[r][0];
        *next = is_first ? products.sum[r][1] : *next + products.sum[r][1];
      }
    }
}

// filters [kPanel, kChunk, 3, 3] from the sums of all parities.
template <typename A, template <typename, typename> class Taps>
inline void filters_of(const A* sums, int64_t parities, A* filters) {
  using V = typename Simd<A>::Vector;
  using F = Taps<V, A>;
  constexpr int lanes = Simd<A>::kLanes, taps = F::kTaps;
  for (int parity = 0; parity < parities; ++parity, sums += kSquare * kSums)
    for (int64_t i = 0; i < kChunk; ++i)
      for (int64_t o = 0; o < kPanel; o += lanes) {
        V in[kSquare], out[taps * taps];
        for (int k = 0; k < kSquare; ++k)
          in[k] = taps == 2 && is_zero(false, parity, k)
                      ? V{}
                      : *reinterpret_cast<const typename Simd<A>::Unaligned*>(sums + k * kSums + i * kPanel + o);
        both<kPoints, taps>([](auto... a) STYLEGAN_OPS_IN_LOOP { F::weight_gradient(a...); }, in, out);
        for (int k = 0; k < taps * taps; ++k) {
          const int y = taps == 3 ? k / taps : kTapsOf[false][parity / 2][k / taps];
          const int x = taps == 3 ? k % taps : kTapsOf[false][parity % 2][k % taps];
          if (y < 0 || x < 0) continue;
          for (int l = 0; l < lanes; ++l) filters[((o + l) * kChunk + i) * 9 + y * 3 + x] = out[k][l];
        }
      }
}

template <typename T>
void gradient_blocks(const WinogradWeightGradientParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const int64_t parities = winograd_parities(p.form), points = parities * kSquare;
  Buffer<A> own(p.sums == nullptr ? points * kSums : 0), filters(kPanel * kChunk * 9);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t chunk = item / p.panels, panel = item % p.panels;
    A* const sums = p.sums == nullptr ? own.get() : static_cast<A*>(p.sums) + item * points * kSums;
    for (int64_t k = 0; k < points; ++k) {
      const int parity = static_cast<int>(k / kSquare), point = static_cast<int>(k % kSquare);
      if (parities > 1 && is_zero(false, parity, point)) continue;
      const A* const image = static_cast<const A*>(p.image) + ((parity * p.chunks + chunk) * kSquare + point) * kPiece;
      const A* const gradient = static_cast<const A*>(p.gradient) + (2 * panel * kSquare + point) * kPiece;
      sum_products(image, parities * p.chunks * kSquare * kPiece, gradient, 2 * p.panels * kSquare * kPiece, p.groups,
                   p.is_first, sums + k * kSums);
    }
    if (!p.is_last) continue;
    parities == 1 ? filters_of<A, ThreeTaps>(sums, parities, filters.get())
                  : filters_of<A, TwoTaps>(sums, parities, filters.get());
    const int64_t inputs = min64(kChunk, p.in_channels - chunk * kChunk);
    for (int64_t o = 0; o < min64(kPanel, p.out_channels - panel * kPanel); ++o) {
      T* const dw = static_cast<T*>(p.dw) + ((panel * kPanel + o) * p.in_channels + chunk * kChunk) * 9;
      const A* const from = filters.get() + o * kChunk * 9;
      if constexpr (std::is_same_v<T, A>)
        std::memcpy(dw, from, inputs * 9 * sizeof(A));
      else
        store(from, static_cast<int>(inputs * 9), dw);
    }
  }
}

}  // namespace

void winograd_weight_gradient(const WinogradWeightGradientParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) { gradient_blocks<std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

STYLEGAN_OPS_END_VARIANT
