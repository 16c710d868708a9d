// The launchers of the fused convolution: which of the kernel's instantiations a layer takes.
#include <limits>

#include "conv_plan.cuh"
#include "modulated_conv2d.cuh"
#include "sums.cuh"

namespace stylegan_ops::cuda {

namespace {

// Blocks, from the many positions of a large layer to the few of a small one. The sums of a thread: M * N * 4 registers
// for each phase. Ordinary pipes and float64 have fewer shapes and make the phases of a transposed convolution one by
// one: they wait for arithmetic, not for input.
using Large = ConvShape<4, 1, 4, 8>;             // 256 positions x 64 channels
using Medium = ConvShape<2, 2, 4, 4>;            // 128 x 64
using Small = ConvShape<2, 2, 2, 4>;             // 64 x 64
using Narrow = ConvShape<2, 1, 8, 4>;            // 256 x 32, for at most 32 channels
using Picture = ConvShape<4, 1, 4, 1>;           // 256 x 8, for at most 8 channels
using Phases = ConvShape<2, 2, 2, 4, 4>;         // 64 x 4 phases x 64
using PhasesNarrow = ConvShape<4, 1, 2, 4, 4>;   // 128 x 4 phases x 32
using PhasesPicture = ConvShape<4, 1, 2, 1, 4>;  // 128 x 4 phases x 8

template <typename... Shapes>
struct List {};
using TensorShapes = List<Picture, Narrow, Large, Medium, Small>;
using PhaseShapes = List<PhasesPicture, PhasesNarrow, Phases>;
using PlainShapes = List<Picture, Medium, Small>;
using DoubleShapes = List<ConvShape<4, 1, 2, 1>, ConvShape<2, 2, 2, 2>>;

struct Choice {
  ConvPlan plan{};
  int shape = -1;  // in its list
  bool by_phases = false;
};

// The shape and the splits that take the fewest clocks. A block takes half of the shared memory where it can, so that
// one computes while another waits.
template <typename Sum, typename... Shapes>
Choice choose(List<Shapes...>, const ConvPlan& geometry) {
  const ConvShapeSize sizes[] = {{Shapes::kPositions, Shapes::kChannels, Shapes::kPhases,
                                  Shapes::template kRingBytes<Sum>, Shapes::kThreads / kWarp, Shapes::kM,
                                  Shapes::kN}...};
  const int limit = max_shared_bytes(), processors = multiprocessors();
  Choice best;
  int64_t fewest = -1;
  for (int i = 0; i < static_cast<int>(sizeof...(Shapes)); ++i) {
    Choice c{geometry, i};
    int64_t blocks = plan_tiles(c.plan, sizes[i], limit / 2);
    if (blocks == 0) blocks = plan_tiles(c.plan, sizes[i], limit);
    if (blocks == 0) continue;
    const int64_t clocks = split_channels(c.plan, sizes[i], blocks, processors, sizeof(Sum));
    if (fewest < 0 || clocks < fewest) best = c, fewest = clocks;
  }
  return best;
}

// What follows the main kernel: a second stage where blocks leave partial results, and the sums of products.
template <typename T>
struct Ending {
  using Sum = Accumulate<T>;
  bool has_second_stage;
  dim3 grid, block;  // of the second stage
  int parts = 0;     // of a sample's pixels, for which products are left
  Sum* partial = nullptr;
  int64_t partial_bytes = 0;
  Products<T> products{};
  SumList<Sum> sums;

  Ending(const ConvPlan& p, const FusedConvParams& params)
      : has_second_stage(p.splits > 1 || (params.factor != nullptr && p.tile_n > 1)),
        partial_bytes(
            has_second_stage ? ceil_div(p.splits * output_bytes(params, sizeof(Sum)), kVectorBytes) * kVectorBytes : 0),
        sums(static_cast<char*>(params.workspace) + partial_bytes) {
    if (has_second_stage) {
      // 32 loads a thread or one pixel, so that small images are a block's.
      constexpr int kLoads = 32, kLanes = 8;
      const int64_t lanes = ceil_div(params.out_channels, kStoredChannels<Sum>), pixels = p.out_height * p.out_width;
      block.x = std::min<int64_t>(lanes, kLanes), block.y = kSecondThreads / block.x;
      const int64_t rows = ceil_div(pixels, block.y);
      parts = params.factor == nullptr ? rows : std::clamp<int64_t>(pixels * p.splits / (block.y * kLoads), 1, rows);
      grid = dim3(p.samples * parts, ceil_div(lanes, block.x));
      partial = static_cast<Sum*>(params.workspace);
    } else {
      parts = p.tiles_y * p.tiles_x * p.phases;
    }
    if (params.factor == nullptr) return;
    products.factor = static_cast<const T*>(params.factor);
    products.parts = sums.add({nullptr, params.products, p.samples, p.out_channels, int64_t(parts) * p.out_channels, 1,
                               parts, 1, p.out_channels, 0});
  }

  int64_t workspace_bytes() const { return partial_bytes + sums.bytes(); }

  void run(const ConvPlan& p, const FusedConvParams& params, Stream stream) const {
    if (has_second_stage)
      launch("modulated_conv2d", add_splits_kernel<T>, grid, block, 0, stream, static_cast<const Sum*>(partial),
             static_cast<T*>(params.y), p.splits, output_bytes(params, 1), parts, p.out_height * p.out_width,
             p.out_channels, products, Epilogue<Sum>(params.epilogue));
    sums.run(stream);
  }
};

template <typename Core, typename Shape>
void launch_shape(const ConvPlan& p, const FusedConvParams& params, Stream stream) {
  using T = typename Core::Element;
  using Sum = typename Core::Sum;
  const Ending<T> ending(p, params);
  const bool ends = !ending.has_second_stage;
  const ConvOperands<T> operands{static_cast<const T*>(params.x),
                                 static_cast<const T*>(params.w),
                                 static_cast<const Sum*>(params.styles),
                                 ends ? static_cast<T*>(params.y) : nullptr,
                                 ending.partial,
                                 ends ? ending.products : Products<T>{}};
  const int64_t blocks = int64_t(p.tiles_n) * p.tiles_y * p.tiles_x * p.o_tiles * p.phases;
  launch("modulated_conv2d", modulated_conv2d_kernel<Core, Shape>, dim3(blocks, p.splits), dim3(Shape::kThreads),
         p.shared_bytes(Shape::kPositions * Shape::kPhases, Shape::template kRingBytes<Sum>), stream, p, operands,
         Epilogue<Sum>(params.epilogue));
  ending.run(p, params, stream);
}

template <typename Core, typename... Shapes>
void launch_choice(List<Shapes...>, const Choice& c, const FusedConvParams& params, [[maybe_unused]] Stream stream) {
  int i = 0;
  ((i++ == c.shape ? launch_shape<Core, Shapes>(c.plan, params, stream) : void()), ...);
}

// The arithmetic of a dtype on this device: f(core, its shapes, its shapes for all phases at once).
template <typename F>
auto by_core(const FusedConvParams& params, F&& f) {
  const bool ampere = code_architecture(add_splits_kernel<float>) >= 80;
  switch (params.dtype) {
    case DType::kFloat16:
      return f(TensorCore<__half>(), TensorShapes(), PhaseShapes());
    case DType::kBFloat16:
      if (ampere) return f(TensorCore<__nv_bfloat16>(), TensorShapes(), PhaseShapes());
      return f(Plain<__nv_bfloat16>(), PlainShapes(), List<>());
    case DType::kFloat32:
      if (ampere && params.tf32) return f(TensorCore<float, Tf32>(), TensorShapes(), PhaseShapes());
      return f(Plain<float>(), PlainShapes(), List<>());
    default:
      return f(Plain<double>(), DoubleShapes(), List<>());
  }
}

template <typename Core, typename Dense, typename... Phase>
Choice choose_shape(const FusedConvParams& params, Core, Dense dense, List<Phase...> phases) {
  using Sum = typename Core::Sum;
  const ConvPlan geometry = conv_geometry(params, sizeof(typename Core::Element));
  if constexpr (sizeof...(Phase) > 0) {
    // All phases from one tile, unless the image is so small that the phases' unequal sizes count.
    if (params.transposed && params.kernel == 3 && geometry.positions_y * geometry.positions_x >= 256) {
      Choice c = choose<Sum>(phases, geometry);
      c.by_phases = true;
      if (c.shape >= 0) return c;
    }
  }
  const Choice c = choose<Sum>(dense, geometry);
  if (c.shape < 0) throw std::runtime_error("modulated_conv2d: too little shared memory");
  return c;
}

bool is_empty(const FusedConvParams& p) { return p.samples * p.out_height * p.out_width * p.out_channels == 0; }

void check_sizes(const FusedConvParams& p) {
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  if (p.samples * p.height * p.width > kMost || p.samples * p.out_height * p.out_width > kMost ||
      p.kernel * p.kernel * p.out_channels * packed_channels(p.in_channels, p.dtype) > kMost ||
      std::max({p.in_channels, p.out_channels, p.samples}) > kMost)
    throw std::runtime_error("modulated_conv2d: a batch must have at most 2^31 - 1 pixels, a weight elements");
}

}  // namespace

int64_t fused_conv_workspace(const FusedConvParams& params) {
  if (is_empty(params)) return 0;
  return by_core(params, [&](auto core, auto dense, auto phases) -> int64_t {
    return Ending<typename decltype(core)::Element>(choose_shape(params, core, dense, phases).plan, params)
        .workspace_bytes();
  });
}

void launch_fused_conv(const FusedConvParams& params, Stream stream) {
  if (is_empty(params)) return;
  check_sizes(params);
  by_core(params, [&](auto core, auto dense, auto phases) {
    using Core = decltype(core);
    const Choice c = choose_shape(params, core, dense, phases);
    if (c.by_phases)
      launch_choice<Core>(phases, c, params, stream);
    else
      launch_choice<Core>(dense, c, params, stream);
  });
}

}  // namespace stylegan_ops::cuda
