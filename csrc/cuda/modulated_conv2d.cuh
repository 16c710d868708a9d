// The fused modulated convolution as an implicit GEMM, in channels_last:
//
//   y[n, q, o] = epilogue(sum over taps t, channels i of (styles[n, i] * x[n, stride * q + t - pad, i]) * w[t, o, i])
//
//   x -- cp.async --> input tile, scaled in place --- ldmatrix, once a tap ---> A --+
//   w -- cp.async --> ring of taps ------------------ ldmatrix, once a tap ---> B --> mma.sync --> sums in registers
//                                          sums --> shared memory --> scale, noise, bias, activation, clamp --> y
//
// Rows of the GEMM are positions, columns are output channels, and k is taps * channels. A block makes WARPS_M * M * 16
// positions (a rectangle of one image, or whole small images) of WARPS_N * N * 8 channels; a warp M x N fragments of
// 16 x 8. Per chunk of channels the tile goes through L2 once; every tap reads it at another offset.
//
// A transposed convolution of stride 2 is four dense ones, one for each parity of the output pixel, so that no zero is
// ever multiplied. With PHASES == 4 a block makes all four from one tile: nine taps in all, sorted by the input pixel
// that they read, whose fragments of A stay in registers meanwhile. With PHASES == 1 the phases are blocks of their
// own.
//
// Where a layer has too few tiles for the device, blocks share its chunks (split-K) and leave float sums in a
// workspace, which a second kernel adds in a fixed order.
//
// The gradient of a layer's input is such a convolution too, with the styles as its scale; that of the styles comes out
// of the same sums, multiplied by the input on their way to memory (see Products).
//
// Why this shape: a warp of M = 4, N = 8 reads 32 wavefronts of shared memory for 32 mma of 2 clocks each (A100): half
// of what the tensor cores would wait for. Bytes: x once (and its halo), y once, w from L2.
#pragma once

#include "conv_math.cuh"
#include "conv_store.cuh"

namespace stylegan_ops::cuda {

template <typename T>
struct ConvOperands {
  const T* x;                   // [N, height, width, I]
  const T* w;                   // [taps, O, packed channels]
  const Accumulate<T>* styles;  // [N, I], or null
  T* y;                         // [N, out_height, out_width, O], or null
  Accumulate<T>* partial;  // [splits, N, out_height, out_width, O]: for a second stage, in place of all else; or null
  Products<T> products;
};

// The nine taps of a transposed convolution, sorted by the input pixel that they read: four of pixel (i, j), two of
// (i, j - 1), two of (i - 1, j), one of (i - 1, j - 1). The i-th digit of each number tells of the i-th tap.
constexpr uint64_t kPhaseTaps = 0x876524310, kPhaseOfTap = 0x010203210, kReadsAnother = 0x101010001;
__host__ __device__ constexpr int digit(uint64_t digits, int i) { return static_cast<int>(digits >> 4 * i & 15); }

// The taps of a block, in the order in which it takes them. Returns their number.
template <int PHASES>
__device__ __forceinline__ int list_taps(const ConvPlan& p, const ConvBlock& block, ConvTap* taps) {
  // Of a phase that is a block: every second tap of the kernel.
  const int apart = p.phases == 4 ? 2 : 1;
  const int ny = p.phases == 4 ? (p.kernel + 1 - block.phase_y) / 2 : p.kernel;
  const int nx = p.phases == 4 ? (p.kernel + 1 - block.phase_x) / 2 : p.kernel;
  const int t = threadIdx.x;
  if (t < ny * nx) {
    const int tap = PHASES == 4 ? digit(kPhaseTaps, t) : 0;
    const int y = PHASES == 4 ? tap / 3 : block.phase_y + t / nx * apart;
    const int x = PHASES == 4 ? tap % 3 : block.phase_x + t % nx * apart;
    // A transposed convolution reads from the last pixel back.
    const int from_y = p.step == 2 ? p.extent - 1 - y / 2 : y, from_x = p.step == 2 ? p.extent - 1 - x / 2 : x;
    const int columns = (p.tile_x - 1) * p.stride + p.extent;
    taps[t] = {(y * p.kernel + x) * p.out_channels * p.packed_channels,
               (from_y * p.row_slots + tile_column(from_x, p.stride, columns)) * kPitch};
  }
  return ny * nx;
}

// sum += A B for one tap of one chunk; w: the lane's part of the warp's columns. ALL: no fragment is masked, no test is
// made.
template <bool ALL, typename Core, int M, int N>
__device__ __forceinline__ void multiply_tap(typename Core::Sum (&sum)[M][N][4], const int (&row)[M][Core::kRows],
                                             SharedAddress tap, SharedAddress w, int m_used, int n_used) {
#pragma unroll
  for (int k = 0; k < kChunkBytes; k += Core::kStepBytes) {
    typename Core::B b[N];
    Core::template load_b<kPitch>(b, w + k);
#pragma unroll
    for (int f = 0; f < M; ++f)
      if (ALL || f < m_used) {
        typename Core::A a;
        Core::load_a(a, row[f], tap + k);
#pragma unroll
        for (int j = 0; j < N; ++j)
          if (ALL || j < n_used) Core::multiply(sum[f][j], a, b[j]);
      }
  }
}

// The same with fragments of A that are in registers already.
template <bool ALL, typename Core, int STEPS, int M, int N>
__device__ __forceinline__ void multiply_tap(typename Core::Sum (&sum)[M][N][4], const typename Core::A (&a)[STEPS][M],
                                             SharedAddress w, int m_used, int n_used) {
#pragma unroll
  for (int k = 0; k < STEPS; ++k) {
    typename Core::B b[N];
    Core::template load_b<kPitch>(b, w + k * Core::kStepBytes);
#pragma unroll
    for (int f = 0; f < M; ++f)
#pragma unroll
      for (int j = 0; j < N; ++j)
        if (ALL || (f < m_used && j < n_used)) Core::multiply(sum[f][j], a[k][f], b[j]);
  }
}

// All sums of a block, which `store(sum, ring, first_row, first_column, m_used)` takes from the registers when no more
// of the shared memory is read. The whole block calls it; `shared` begins behind what the caller keeps there.
template <typename Core, typename Shape, typename Store>
__device__ __forceinline__ void convolve(const ConvPlan& p, const ConvBlock& block,
                                         const ConvOperands<typename Core::Element>& operands, unsigned char* shared,
                                         Store&& store) {
  using T = typename Core::Element;
  using Sum = typename Core::Sum;
  constexpr int M = Shape::kM, N = Shape::kN, kPhases = Shape::kPhases, kThreads = Shape::kThreads;
  constexpr int kSteps = kChunkBytes / Core::kStepBytes;

  ConvTap* taps = reinterpret_cast<ConvTap*>(shared);
  int* table = reinterpret_cast<int*>(shared + kTapBytes);
  unsigned char* ring = reinterpret_cast<unsigned char*>(table) + p.table_bytes();
  const InputTile<T, kThreads> input(p, block, operands.x, operands.styles, table,
                                     ring + Shape::template kRingBytes<Sum>);
  const WeightRing<T, Shape::kChannels, kThreads> weights(p, block.o, operands.w, ring);
  const int tap_count = list_taps<kPhases>(p, block, taps);
  const int positions = block.positions();

  // Where the warp's rows and columns begin. Rows beyond the last position compute what nobody stores.
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int first_row = warp % Shape::kWarpsM * M * 16, first_column = warp / Shape::kWarpsM * N * 8;
  const int m_used = max(0, min(M, (positions - first_row + 15) / 16));
  const int n_used = max(0, min(N, (p.out_channels - block.o - first_column + 7) / 8));
  const bool all_used = m_used == M && n_used == N;
  int row[M][Core::kRows];
#pragma unroll
  for (int f = 0; f < M; ++f)
#pragma unroll
    for (int r = 0; r < Core::kRows; ++r) {
      int s, i, j;
      block.position(min(first_row + f * 16 + Core::a_row(lane, r), positions - 1), s, i, j);
      row[f][r] = keep((s * p.sample_slots + i * p.stride * p.row_slots + j) * kPitch + Core::a_byte(lane));
    }

  Sum sum[kPhases][M][N][4];
#pragma unroll
  for (int i = 0; i < kPhases * M * N * 4; ++i) (&sum[0][0][0][0])[i] = 0;

  const int column = keep(first_column * kPitch + Core::template b_byte<kPitch, N>(lane));

  // The pipeline. When a step begins its own weights have arrived, and those of three steps later set out; with the
  // first of a chunk's taps sets out the input of the next chunk.
  unsigned step = 0;
  const int first_chunk = tap_count > 0 ? block.first_chunk : block.last_chunk;  // a phase of a 1 x 1 kernel has no tap
  int next_chunk = first_chunk, next_tap = 0;
  const auto start_weights = [&](unsigned later) {
    if (next_chunk < block.last_chunk) {
      weights.copy(taps[next_tap].weights + next_chunk * (kChunkBytes / static_cast<int>(sizeof(T))), step + later);
      if (++next_tap == tap_count) next_tap = 0, ++next_chunk;
    }
    copy_commit();
  };
  // With few taps the input of this chunk is in the group that set out last.
  const auto wait = [&] {
    if (tap_count >= kStages - 1)
      copy_wait<kStages - 2>();
    else
      copy_wait<0>();
  };
  const auto begin_chunk = [&](int chunk, int buffer) {
    if (p.buffers == 1 && chunk != first_chunk) {
      __syncthreads();
      input.copy(chunk, 0);
      copy_commit();
      copy_wait<0>();
    }
    wait();
    input.scale(chunk, buffer);
  };
  const auto begin_tap = [&](int tap, int chunk, int buffer) {
    wait();
    __syncthreads();
    if (tap == 0 && p.buffers == 2 && chunk + 1 < block.last_chunk) input.copy(chunk + 1, buffer ^ 1);
    start_weights(kStages - 1);
    return weights.stage(step++) + column;
  };

  __syncthreads();
  if (first_chunk < block.last_chunk) input.copy(first_chunk, 0);
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) start_weights(s);

  int buffer = 0;
  for (int chunk = first_chunk; chunk < block.last_chunk; ++chunk) {
    const SharedAddress tile = input.buffer(buffer);
    begin_chunk(chunk, buffer);
    if constexpr (kPhases == 1) {
#pragma unroll 1
      for (int tap = 0; tap < tap_count; ++tap) {
        const SharedAddress w = begin_tap(tap, chunk, buffer);
        if (all_used)
          multiply_tap<true, Core>(sum[0], row, tile + taps[tap].input, w, m_used, n_used);
        else if (n_used > 0)
          multiply_tap<false, Core>(sum[0], row, tile + taps[tap].input, w, m_used, n_used);
      }
    } else {
      typename Core::A a[kSteps][M];
#pragma unroll
      for (int tap = 0; tap < 9; ++tap) {
        const SharedAddress w = begin_tap(tap, chunk, buffer);
        if (digit(kReadsAnother, tap) == 1) {
          const SharedAddress pixels = tile + taps[tap].input;
#pragma unroll
          for (int k = 0; k < kSteps; ++k)
#pragma unroll
            for (int f = 0; f < M; ++f)
              if (f < m_used) Core::load_a(a[k][f], row[f], pixels + k * Core::kStepBytes);
        }
        if (all_used)
          multiply_tap<true, Core>(sum[digit(kPhaseOfTap, tap)], a, w, m_used, n_used);
        else
          multiply_tap<false, Core>(sum[digit(kPhaseOfTap, tap)], a, w, m_used, n_used);
      }
    }
    if (p.buffers == 2) buffer ^= 1;
  }

  __syncthreads();
  store(sum, ring, first_row, first_column, m_used);
}

template <typename Core, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    modulated_conv2d_kernel(const ConvPlan p, const ConvOperands<typename Core::Element> operands,
                            const Epilogue<typename Core::Sum> epilogue) {
  const ConvBlock block(p, Shape::kChannels);
  if (block.rows <= 0 || block.columns <= 0) {  // a phase with fewer positions than the others
    if (operands.products.factor != nullptr && threadIdx.x < Shape::kChannels)
      operands.products.leave(p, block, threadIdx.x, 0);
    return;
  }

  // Which pixel of the batch's output a position of each phase is, -1: none.
  int* outputs = dynamic_shared<int>();
  const int positions = block.positions();
  for (int q = threadIdx.x; q < Shape::kPositions; q += Shape::kThreads) {
    int s, i, j;
    block.position(min(q, positions - 1), s, i, j);
#pragma unroll
    for (int phase = 0; phase < Shape::kPhases; ++phase) {
      const int y = (block.y + i) * p.step + block.phase_y + phase / 2 - p.shift_y;
      const int x = (block.x + j) * p.step + block.phase_x + phase % 2 - p.shift_x;
      const bool inside = q < positions && y >= 0 && y < p.out_height && x >= 0 && x < p.out_width;
      outputs[phase * Shape::kPositions + q] = inside ? ((block.n + s) * p.out_height + y) * p.out_width + x : -1;
    }
  }

  unsigned char* shared = reinterpret_cast<unsigned char*>(outputs + Shape::kPhases * Shape::kPositions);
  convolve<Core, Shape>(p, block, operands, shared,
                        [&](const auto& sum, unsigned char* ring, int first_row, int first_column, int m_used) {
                          store_sums<Shape>(p, block, sum, outputs, ring, first_row, first_column, m_used, operands.y,
                                            operands.partial, operands.products, epilogue);
                        });
}

}  // namespace stylegan_ops::cuda
