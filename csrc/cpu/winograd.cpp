// The forward steps: images and weights to points, then products, the way back and what stands behind the convolution.
// Bytes moved: an image once in, with the overlap of its tiles from the cache; its points, 36/16 of its size, out and
// in again; the result once out.
#include "ops/winograd.h"

#include "epilogue.h"
#include "winograd.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

constexpr int64_t kTiles = kWinogradTiles, kChunk = kWinogradChunk, kPanel = kWinogradPanel;
constexpr int64_t kBlockGroups = kWinogradBlock, kBlockPanels = 2;  // the sums of a work item fit a private cache

template <typename A>
using Vector = typename Simd<A>::Vector;
template <typename A>
using Unaligned = typename Simd<A>::Unaligned;

// The n first lanes in the accumulation dtype, zeros behind.
template <typename T, typename A = accumulate_t<T>>
inline STYLEGAN_OPS_IN_LOOP void load_lanes(const T* from, int64_t n, Vector<A>& to) {
  constexpr int lanes = Simd<A>::kLanes;
  if (n >= lanes) {
    A buffer[lanes];
    to = *reinterpret_cast<const Unaligned<A>*>(load(from, lanes, buffer));
  } else {
    A some[lanes] = {}, buffer[lanes];
    if (n > 0) std::memcpy(some, load(from, static_cast<int>(n), buffer), n * sizeof(A));
    to = *reinterpret_cast<const Unaligned<A>*>(some);
  }
}

inline float widened(float v) { return v; }
inline double widened(double v) { return v; }
inline float widened(bfloat16 v) { return to_float(v); }
inline float widened(float16 v) { return to_float(v); }

struct Place {
  int64_t n, y, x;  // sample and tile
};
inline Place place(const WinogradTiles& t, int64_t tile) {
  const int64_t i = t.first + tile, area = t.tiles_y * t.tiles_x;
  return {i / area, i % area / t.tiles_x, i % t.tiles_x};
}

// Of images, or of gradients of the output.
template <typename T, template <typename, typename> class Taps, bool GRADIENT>
void image_groups(const WinogradImageParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  using F = Taps<Vector<A>, A>;
  constexpr int side = GRADIENT ? F::kOutputs : kPoints, lanes = Simd<A>::kLanes;
  constexpr int64_t step = kTiles * kChunk;  // from point to point
  const int64_t stride = p.form == WinogradForm::kDown && !GRADIENT ? 2 : 1, parities = stride * stride;
  const T* const image = static_cast<const T*>(p.image);
  const A* const factors = static_cast<const A*>(p.factors);
  for (int64_t item = begin * kTiles * parities; item < end * kTiles * parities; ++item) {
    const int64_t parity = item / kTiles % parities, group = item / kTiles / parities, r = item % kTiles;
    A* const room = static_cast<A*>(p.points) + item / kTiles * p.chunks * kSquare * step + r * kChunk;
    const int64_t tile = group * kTiles + r;
    const bool is_there = tile < p.tiles.count;
    const Place at = place(p.tiles, tile);
    const int64_t y = at.y * F::kOutputs * stride + parity / 2 - p.pad_y;
    const int64_t x = at.x * F::kOutputs * stride + parity % 2 - p.pad_x;
    for (int64_t c = 0; c < p.chunks * kChunk; c += lanes) {
      const int64_t left = is_there ? p.channels - c : 0;
      Vector<A> in[side * side], out[kSquare], factor = Vector<A>{} + A(1);
      if (factors != nullptr && left > 0) load_lanes(factors + at.n * p.channels + c, left, factor);
      for (int i = 0; i < side; ++i)
        for (int j = 0; j < side; ++j) {
          Vector<A>& v = in[i * side + j];
          v = Vector<A>{};
          const int64_t row = y + i * stride, column = x + j * stride;
          if (left <= 0 || row < 0 || row >= p.height || column < 0 || column >= p.width) continue;
          const T* const from = image + ((at.n * p.height + row) * p.width + column) * p.channels + c;
          load_lanes(from, left, v);
          // The next tile's; this one's come too irregularly for the processor to foresee.
          if (j >= side - F::kOutputs) __builtin_prefetch(from + F::kOutputs * stride * p.channels);
          v *= factor;
        }
      if constexpr (GRADIENT)
        both<side, kPoints>([](auto... a) STYLEGAN_OPS_IN_LOOP { F::gradient(a...); }, in, out);
      else
        both<side, kPoints>([](auto... a) STYLEGAN_OPS_IN_LOOP { F::image(a...); }, in, out);
      A* const to = room + c / kChunk * kSquare * step + c % kChunk;
      for (int k = 0; k < kSquare; ++k) *reinterpret_cast<Unaligned<A>*>(to + k * step) = out[k];
    }
  }
}

template <typename T, template <typename, typename> class Taps>
void weight_panels(const WinogradWeightParams& p, int64_t begin, int64_t end, int first_parity, int last_parity) {
  using A = accumulate_t<T>;
  using F = Taps<Vector<A>, A>;
  constexpr int lanes = Simd<A>::kLanes, taps = F::kTaps;
  constexpr int64_t step = kChunk * kPanel;  // from one point to the next
  const T* const w = static_cast<const T*>(p.w);
  int64_t offsets[9];
  for (int k = 0; k < 9; ++k) offsets[k] = k / 3 * p.stride_y + k % 3 * p.stride_x;
  Buffer<A> gathered(kChunk * 9 * kPanel);  // [chunk, taps, panel]
  for (int64_t item = begin * p.chunks; item < end * p.chunks; ++item) {
    const int64_t panel = item / p.chunks, c = item % p.chunks;
    const int64_t outputs = min64(kPanel, p.out_channels - panel * kPanel);
    const int64_t inputs = min64(kChunk, p.in_channels - c * kChunk);
    if (outputs < kPanel || inputs < kChunk) std::memset(gathered.get(), 0, kChunk * 9 * kPanel * sizeof(A));
    const T* const corner = w + panel * kPanel * p.stride_o + c * kChunk * p.stride_i;
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t i = 0; i < inputs; ++i) {
        const T* const from = corner + o * p.stride_o + i * p.stride_i;
        A* const to = gathered.get() + i * 9 * kPanel + o;
#pragma GCC unroll 9
        for (int k = 0; k < 9; ++k) to[k * kPanel] = widened(from[offsets[k]]);
      }
    for (int parity = first_parity; parity < last_parity; ++parity) {
      for (int64_t i = 0; i < kChunk; ++i)
        for (int64_t o = 0; o < kPanel; o += lanes) {
          Vector<A> in[taps * taps], out[kSquare];
          for (int k = 0; k < taps * taps; ++k) {
            const int y = taps == 3 ? k / taps : kTapsOf[true][parity / 2][k / taps];
            const int x = taps == 3 ? k % taps : kTapsOf[true][parity % 2][k % taps];
            const A* const from = gathered.get() + (i * 9 + y * 3 + x) * kPanel + o;
            in[k] = y < 0 || x < 0 ? Vector<A>{} : *reinterpret_cast<const Unaligned<A>*>(from);
          }
          both<taps, kPoints>([](auto... a) STYLEGAN_OPS_IN_LOOP { F::weight(a...); }, in, out);
          A* const to = static_cast<A*>(p.points) +
                        (((parity - first_parity) * p.panels + panel) * p.chunks + c) * kSquare * step + i * kPanel + o;
          for (int k = 0; k < kSquare; ++k) *reinterpret_cast<Unaligned<A>*>(to + k * step) = out[k];
        }
    }
  }
}

// What a machine's registers hold: two vectors of sums and one factor for each row.
template <typename A>
constexpr int kRows = kVectorBytes == 64 ? 12 : 6;

// m[r * stride + o] = sum over the channels of a group's points times a panel's, for one point.
template <typename A>
inline void multiply(const A* image, const A* weight, int64_t chunks, A* m, int64_t stride) {
  constexpr int rows = kRows<A>, lanes = Simd<A>::kLanes;
  for (int64_t o = 0; o < kPanel; o += 2 * lanes)
    for (int64_t r = 0; r < kTiles; r += rows) {
      Products<A, rows> products;
      products.clear();
      const A *a = image + r * kChunk, *b = weight + o;
      for (int64_t c = 0; c < chunks; ++c, a += kSquare * kTiles * kChunk, b += kSquare * kChunk * kPanel)
        for (int k = 0; k < kChunk; ++k) products.add(a + k, kChunk, b + k * kPanel, b + k * kPanel + lanes);
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        *reinterpret_cast<Unaligned<A>*>(m + (r + i) * stride + o) = products.sum[i][0];
        *reinterpret_cast<Unaligned<A>*>(m + (r + i) * stride + o + lanes) = products.sum[i][1];
      }
    }
}

// The transformed weights of one parity's panels alone.
template <typename A, template <typename, typename> class Taps>
void make_panels(WinogradWeightParams p, int parity, int64_t first, int64_t last, A* points) {
  for_dtype(p.dtype, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    if constexpr (std::is_same_v<accumulate_t<T>, A>) {
      p.w = static_cast<const T*>(p.w) + first * kPanel * p.stride_o;
      p.out_channels -= first * kPanel;
      p.points = points;
      weight_panels<T, Taps>(p, 0, last - first, parity, parity + 1);
    }
  });
}

template <typename T, template <typename, typename> class Taps>
void product_blocks(const WinogradProductParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  using F = Taps<Vector<A>, A>;
  constexpr int lanes = Simd<A>::kLanes;
  constexpr int64_t width = kBlockPanels * kPanel, side = F::kOutputs, area = side * side;
  const int64_t stride = p.form == WinogradForm::kUp ? 2 : 1, parities = stride * stride;
  const EpilogueOperands& e = p.epilogue;
  const int64_t groups = (p.tiles.count + kTiles - 1) / kTiles, panels = (e.channels + kPanel - 1) / kPanel;
  const int64_t blocks = (groups + kBlockGroups - 1) / kBlockGroups;
  const int64_t of_parity = (panels + kBlockPanels - 1) / kBlockPanels, columns = of_parity * parities;
  const int64_t of_panel = p.chunks * kSquare * kChunk * kPanel;
  const A *const noise = static_cast<const A*>(e.noise), *const scale = static_cast<const A*>(e.scale),
                 *const bias = static_cast<const A*>(e.bias);
  const A strength = e.strength == nullptr ? A(1) : *static_cast<const A*>(e.strength);
  Buffer<A> sums(kBlockGroups * kTiles * kSquare * width), pixels(area * width);
  Buffer<A> own(p.filters == nullptr ? 0 : kBlockPanels * of_panel);
  int64_t made = -1;  // the column whose transformed weights are in it
  A factors[width] = {}, offsets[width] = {};

  for (int64_t item = begin; item < end; ++item) {
    const int64_t block = p.filters == nullptr ? item / columns : item % blocks;
    const int64_t column = p.filters == nullptr ? item % columns : item / blocks;
    const int parity = static_cast<int>(column / of_parity);
    const int64_t g0 = block * kBlockGroups, g1 = min64(g0 + kBlockGroups, groups);
    const int64_t panel0 = column % of_parity * kBlockPanels, panel1 = min64(panel0 + kBlockPanels, panels);
    const A* weights = static_cast<const A*>(p.weight) + (parity * panels + panel0) * of_panel;
    if (p.filters != nullptr) {
      weights = own.get();
      if (column != made) make_panels<A, Taps>(*p.filters, parity, panel0, panel1, own.get());
      made = column;
    }
    for (int k = 0; k < kSquare; ++k)
      for (int64_t panel = panel0; panel < panel1; ++panel)
        for (int64_t g = g0; g < g1; ++g) {
          A* const m = sums.get() + ((g - g0) * kTiles * kSquare + k) * width + (panel - panel0) * kPanel;
          const A* const image = static_cast<const A*>(p.image) + (g * p.chunks * kSquare + k) * kTiles * kChunk;
          const A* const weight = weights + (panel - panel0) * of_panel + k * kChunk * kPanel;
          if (parities > 1 && is_zero(true, parity, k))
            for (int64_t r = 0; r < kTiles; ++r) std::memset(m + r * kSquare * width, 0, kPanel * sizeof(A));
          else
            multiply(image, weight, p.chunks, m, kSquare * width);
        }

    const int64_t c0 = panel0 * kPanel, channels = min64(panel1 * kPanel, e.channels) - c0;
    const int64_t stride_of_pixel = (channels + lanes - 1) / lanes * lanes;
    int64_t sample = -1;
    for (int64_t t = g0 * kTiles; t < min64(g1 * kTiles, p.tiles.count); ++t) {
      const Place at = place(p.tiles, t);
      if (at.n != sample) {
        sample = at.n;
        for (int64_t c = 0; c < channels; ++c) {
          factors[c] = scale == nullptr ? A(1) : scale[sample * e.channels + c0 + c];
          offsets[c] = bias == nullptr ? A(0) : bias[c0 + c];
        }
      }
      const int64_t y0 = at.y * side * stride + parity / 2 - p.crop_y,
                    x0 = at.x * side * stride + parity % 2 - p.crop_x;
      // Pixel (i, j) of the tile, or -1 where it is beyond the image.
      const auto pixel = [&](int64_t i, int64_t j) {
        const int64_t y = y0 + i * stride, x = x0 + j * stride;
        return y < 0 || y >= p.height || x < 0 || x >= p.width ? -1 : y * p.width + x;
      };
      A levels[area] = {};
      for (int64_t k = 0; noise != nullptr && k < area; ++k)
        if (const int64_t q = pixel(k / side, k % side); q >= 0)
          levels[k] = noise[at.n * e.noise_stride + q] * strength;

      const A* const m = sums.get() + (t - g0 * kTiles) * kSquare * width;
      for (int64_t c = 0; c < stride_of_pixel; c += lanes) {
        Vector<A> in[kSquare], out[area];
#pragma GCC unroll 36
        for (int k = 0; k < kSquare; ++k) in[k] = *reinterpret_cast<const Unaligned<A>*>(m + k * width + c);
        both<kPoints, side>([](auto... a) STYLEGAN_OPS_IN_LOOP { F::output(a...); }, in, out);
        const Vector<A> factor = *reinterpret_cast<const Unaligned<A>*>(factors + c);
        const Vector<A> offset = *reinterpret_cast<const Unaligned<A>*>(offsets + c);
#pragma GCC unroll 25
        for (int k = 0; k < area; ++k)
          *reinterpret_cast<Unaligned<A>*>(pixels.get() + k * stride_of_pixel + c) =
              out[k] * factor + (offset + levels[k]);
      }
      activate(e.activation, pixels.get(), static_cast<int>(area * stride_of_pixel));
      for (int64_t k = 0; k < area; ++k) {
        const int64_t q = pixel(k / side, k % side);
        if (q < 0) continue;
        const A* const z = pixels.get() + k * stride_of_pixel;
        T* const to = static_cast<T*>(p.y) + (at.n * p.height * p.width + q) * e.channels + c0;
        if constexpr (std::is_same_v<T, A>)
          std::memcpy(to, z, channels * sizeof(A));
        else
          store(z, static_cast<int>(channels), to);
      }
    }
  }
}

}  // namespace

void winograd_image(const WinogradImageParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    if (p.form == WinogradForm::kSame)
      p.is_gradient ? image_groups<T, ThreeTaps, true>(p, begin, end)
                    : image_groups<T, ThreeTaps, false>(p, begin, end);
    else
      p.is_gradient ? image_groups<T, TwoTaps, true>(p, begin, end) : image_groups<T, TwoTaps, false>(p, begin, end);
  });
}

void winograd_weight(const WinogradWeightParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    p.form == WinogradForm::kSame ? weight_panels<T, ThreeTaps>(p, begin, end, 0, 1)
                                  : weight_panels<T, TwoTaps>(p, begin, end, 0, 4);
  });
}

void winograd_product(const WinogradProductParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    p.form == WinogradForm::kSame ? product_blocks<T, ThreeTaps>(p, begin, end)
                                  : product_blocks<T, TwoTaps>(p, begin, end);
  });
}

STYLEGAN_OPS_END_VARIANT
