// Tensor side of the CPU's own 3x3 convolution (winograd.h), and the one rule that says where it runs in place of the
// library's.
#ifndef STYLEGAN_OPS_BACKEND_CUDA

#include "winograd.h"

#include <atomic>

#include "fused.h"
#include "tensor.h"

namespace stylegan_ops {
namespace {

constexpr int64_t kSquare = kWinogradPoints * kWinogradPoints;
constexpr int64_t kPrivateCache = 1 << 20, kSharedCache = 8 << 20;  // bytes, of one core and of all, more or less

enum Choice : int64_t { kByRule, kLibrary, kWinograd };
std::atomic<int64_t> choice{kByRule};

int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

template <typename Kernel>
void parallel(int64_t items, Kernel&& kernel) {
  torch::stable::parallel_for(0, items, 1, kernel);
}

WinogradForm form_of(const ConvGeometry& g) {
  return g.stride == 1 ? WinogradForm::kSame : g.transposed ? WinogradForm::kUp : WinogradForm::kDown;
}

// Of an image of outputs; each of the four of a transposed convolution has half of its sides.
WinogradTiles tiles_of(WinogradForm form, int64_t samples, int64_t height, int64_t width) {
  const int64_t side = winograd_outputs(form) * (form == WinogradForm::kUp ? 2 : 1);
  return {samples, blocks(height, side), blocks(width, side), 0, 0};
}

// Calls f with one part of the tiles after the other, where a tile has so many bytes of points and a part should.
template <typename F>
void in_parts(WinogradTiles tiles, int64_t of_tile, int64_t bytes, F&& f) {
  constexpr int64_t block = kWinogradBlock * kWinogradTiles;
  const int64_t all = tiles.samples * tiles.tiles_y * tiles.tiles_x;
  const int64_t most = std::max<int64_t>(bytes / (of_tile * block), 1) * block;
  const int64_t part = blocks(blocks(all, blocks(all, most)), block) * block;
  for (; tiles.first < all; tiles.first += part) {
    tiles.count = std::min(part, all - tiles.first);
    f(tiles);
  }
}

// Room for the points of a part, and the step that fills it.
struct Points {
  Tensor image;  // channels_last
  OptionalTensor factors;
  WinogradImageParams params{};
  Tensor points;

  Points(const Tensor& x, OptionalTensor given, WinogradForm form, int64_t pad_y, int64_t pad_x, bool is_gradient)
      : image(torch::stable::contiguous(x, MemoryFormat::ChannelsLast)), factors(given) {
    params.image = image.const_data_ptr();
    params.factors = operand(factors, x, x.size(0) * x.size(1), "winograd: factors");
    params.height = x.size(2), params.width = x.size(3), params.channels = x.size(1);
    params.chunks = blocks(x.size(1), is_gradient ? kWinogradPanel : kWinogradChunk) * (is_gradient ? 2 : 1);
    params.pad_y = pad_y, params.pad_x = pad_x;
    params.is_gradient = is_gradient;
    params.form = form;
    params.dtype = dtype_of(x);
  }

  int64_t numbers_of_tile() const {
    const int64_t parities = params.form == WinogradForm::kDown && !params.is_gradient ? 4 : 1;
    return parities * params.chunks * kSquare * kWinogradChunk;
  }

  void fill(const WinogradTiles& tiles) {
    params.tiles = tiles;
    const int64_t groups = blocks(tiles.count, kWinogradTiles);
    if (params.points == nullptr) {  // the first part is the largest
      points = empty(image, {groups * kWinogradTiles, numbers_of_tile()}, accumulate_type(image));
      params.points = points.mutable_data_ptr();
    }
    parallel(groups, [&](int64_t begin, int64_t end) { cpu::winograd_image(params, begin, end); });
  }
};

// The weights [O, I, 3, 3], or [I, O, 3, 3] of a transposed convolution, whose taps a stride of 1 reverses. All but
// points.
WinogradWeightParams filters_of(const Tensor& weight, const ConvGeometry& g) {
  const int out = g.transposed ? 1 : 0, in = 1 - out;
  WinogradWeightParams p{};
  p.w = weight.const_data_ptr();
  p.out_channels = weight.size(out), p.in_channels = weight.size(in);
  p.stride_o = weight.stride(out), p.stride_i = weight.stride(in);
  p.stride_y = weight.stride(2), p.stride_x = weight.stride(3);
  if (g.transposed && g.stride == 1) {
    const int64_t last = 2 * (p.stride_y + p.stride_x);
    p.w = static_cast<const char*>(p.w) + last * static_cast<int64_t>(weight.element_size());
    p.stride_y = -p.stride_y, p.stride_x = -p.stride_x;
  }
  p.chunks = blocks(p.in_channels, kWinogradChunk), p.panels = blocks(p.out_channels, kWinogradPanel);
  p.form = form_of(g);
  p.dtype = dtype_of(weight);
  return p;
}

// The output's height (d == 2) or width.
int64_t side_of(const Tensor& x, int d, const ConvGeometry& g) {
  const int64_t pad = d == 2 ? g.pad_y : g.pad_x, extra = d == 2 ? g.extra_y : g.extra_x;
  return g.transposed ? (x.size(d) - 1) * g.stride - 2 * pad + 3 + extra : (x.size(d) + 2 * pad - 3) / g.stride + 1;
}

// What was set, if anything.
std::optional<bool> wanted() { return choice == kByRule ? std::nullopt : std::optional(choice == kWinograd); }

bool is_slow(const Tensor& x) { return x.scalar_type() == ScalarType::BFloat16 && cpu::has_bfloat16(); }

}  // namespace

// Measured against the library's convolutions (docs/performance.md): the transforms of the weights want pixels to share
// them, those of the images want channels. A transposed convolution's weights make four times the points.
bool uses_winograd(const Tensor& x, int64_t out_channels, int64_t kernel_y, int64_t kernel_x, const ConvGeometry& g) {
  const WinogradForm form = form_of(g);
  if (kernel_y != 3 || kernel_x != 3 || g.stride > 2 || x.numel() == 0 || form == WinogradForm::kDown) return false;
  if (std::min(g.pad_y, g.pad_x) < 0 || std::min(side_of(x, 2, g), side_of(x, 3, g)) < 1) return false;  // an error
  if (wanted() || is_slow(x)) return wanted().value_or(false);
  const int64_t pixels = x.size(0) * x.size(2) * x.size(3);
  const bool has_few_weights = x.size(1) * out_channels <= 128 * 64 && pixels >= 4096;
  return std::min(x.size(1), out_channels) >= 32 && pixels >= 1024 && (form == WinogradForm::kSame || has_few_weights);
}

bool uses_winograd_weight(const Tensor& x, const Tensor& dy, int64_t kernel_y, int64_t kernel_x,
                          const ConvGeometry& g) {
  if (kernel_y != 3 || kernel_x != 3 || g.stride > 2 || x.numel() == 0 || dy.numel() == 0) return false;
  if (wanted() || is_slow(x)) return wanted().value_or(false);
  const Tensor& outputs = g.transposed ? x : dy;
  return std::min(x.size(1), dy.size(1)) >= 32 && outputs.size(0) * outputs.size(2) * outputs.size(3) >= 256;
}

Tensor winograd(const Tensor& x, const Tensor& weight, OptionalTensor styles, const ConvGeometry& g, Behind behind) {
  const int64_t n = x.size(0), out = weight.size(g.transposed ? 1 : 0);
  const WinogradForm form = form_of(g);
  const bool is_up = form == WinogradForm::kUp;
  // The first outputs of the full image of a transposed convolution read the input before the first.
  const auto pad = [&](int64_t given) { return is_up ? 1 : g.transposed ? 2 - given : given; };
  const int64_t height = side_of(x, 2, g), width = side_of(x, 3, g);
  Tensor y = empty_dense(x, {n, out, height, width}, MemoryFormat::ChannelsLast);
  Points image(x, styles, form, pad(g.pad_y), pad(g.pad_x), false);
  WinogradProductParams p{};
  p.y = y.mutable_data_ptr();
  p.height = height, p.width = width, p.chunks = image.params.chunks;
  if (is_up) p.crop_y = g.pad_y, p.crop_x = g.pad_x;
  p.form = form;
  p.epilogue = epilogue_operands(x, n, out, height * width, behind);
  p.dtype = dtype_of(x);
  // What a thread has transformed of the image is still in its cache when it multiplies it; transformed weights that do
  // not fit into a cache are made again for every part, whose tiles then take them column by column.
  WinogradWeightParams filters = filters_of(weight, g);
  const int64_t element = accumulate_type(x) == ScalarType::Double ? 8 : 4, parities = is_up ? 4 : 1;
  const int64_t size = parities * filters.panels * filters.chunks * kSquare * kWinogradChunk * kWinogradPanel;
  const bool is_private = size * element > kSharedCache;
  Tensor points;
  if (is_private) {
    p.filters = &filters;
  } else {
    points = empty(x, {size}, accumulate_type(x));
    p.weight = filters.points = points.mutable_data_ptr();
    parallel(filters.panels, [&](int64_t begin, int64_t end) { cpu::winograd_weight(filters, begin, end); });
  }
  const int64_t bytes =
      is_private ? 3 * kSharedCache : std::max(torch::stable::get_num_threads() * kPrivateCache, size * element);
  in_parts(tiles_of(form, n, height + p.crop_y, width + p.crop_x), image.numbers_of_tile() * element, bytes,
           [&](const WinogradTiles& tiles) {
             image.fill(tiles);
             p.image = image.points.const_data_ptr(), p.tiles = tiles;
             parallel(blocks(tiles.count, kWinogradBlock * kWinogradTiles) * parities * blocks(out, 2 * kWinogradPanel),
                      [&](int64_t begin, int64_t end) { cpu::winograd_product(p, begin, end); });
           });
  return y;
}

Tensor winograd_weight(const Tensor& x, const Tensor& dy, OptionalTensor styles, const ConvGeometry& g) {
  // The gradient of a transposed convolution's weights is that of the other one with the images exchanged.
  const WinogradForm form = g.stride == 1 ? WinogradForm::kSame : WinogradForm::kDown;
  Points image(g.transposed ? dy : x, g.transposed ? std::nullopt : styles, form, g.pad_y, g.pad_x, false);
  Points gradient(g.transposed ? x : dy, g.transposed ? styles : std::nullopt, form, 0, 0, true);
  WinogradWeightGradientParams p{};
  p.in_channels = image.params.channels, p.out_channels = gradient.params.channels;
  p.chunks = image.params.chunks, p.panels = gradient.params.chunks / 2;
  p.form = form;
  p.dtype = dtype_of(x);
  Tensor dw = empty_dense(x, {p.out_channels, p.in_channels, 3, 3}, MemoryFormat::Contiguous), sums;
  p.dw = dw.mutable_data_ptr();
  // The parts decide the order of the sums, so they are the same for any number of threads.
  const int64_t element = accumulate_type(x) == ScalarType::Double ? 8 : 4;
  const int64_t size = p.chunks * p.panels * winograd_parities(form) * kSquare * kWinogradChunk * kWinogradPanel;
  const int64_t bytes = std::max(4 * kPrivateCache, std::min(size * element, 4 * kSharedCache));
  const WinogradTiles all = tiles_of(form, x.size(0), gradient.params.height, gradient.params.width);
  const int64_t count = all.samples * all.tiles_y * all.tiles_x;
  in_parts(all, (image.numbers_of_tile() + gradient.numbers_of_tile()) * element, bytes,
           [&](const WinogradTiles& tiles) {
             image.fill(tiles), gradient.fill(tiles);
             p.image = image.points.const_data_ptr(), p.gradient = gradient.points.const_data_ptr();
             p.groups = blocks(tiles.count, kWinogradTiles);
             p.is_first = tiles.first == 0, p.is_last = tiles.first + tiles.count == count;
             if (p.is_first && !p.is_last)
               sums = empty(x, {size}, accumulate_type(x)), p.sums = sums.mutable_data_ptr();
             parallel(p.chunks * p.panels,
                      [&](int64_t begin, int64_t end) { cpu::winograd_weight_gradient(p, begin, end); });
           });
  return dw;
}

}  // namespace stylegan_ops

namespace {
void set_cpu_convolution(int64_t value) {
  STD_TORCH_CHECK(value >= 0 && value <= 2, "set_cpu_convolution: choice must be 0, 1 or 2 (got ", value, ")");
  stylegan_ops::choice = value;
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(stylegan_ops, CompositeExplicitAutograd, m) {
  m.impl("set_cpu_convolution", TORCH_BOX(&set_cpu_convolution));
}
#endif
