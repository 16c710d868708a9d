// Sums that the walk of strip.cuh makes: those of a row over its lanes, by shuffles, and those of a column over the
// block's rows of threads, through shared memory.
#pragma once

#include "strip.cuh"

namespace stylegan_ops::cuda {

// Sums over the lanes of a row, at most a warp of them, of W values, and to[r * apart] = the sum for the rows
// r = row, row + blockDim.y, ... below `rows`.
//
// Where a row has a whole warp, half of the lanes take over half of the values in each of the first steps, so that W
// sums cost little more shuffles than one.
template <int W, typename A>
__device__ __forceinline__ void add_lanes(A (&values)[W], int row, int rows, A* to, int apart) {
  const int lane = threadIdx.x % kWarp, row_step = blockDim.y;
  if (blockDim.x >= kWarp) {
#pragma unroll
    for (int count = W, half = kWarp / 2; half > 0; half /= 2) {
      count = count > 1 ? count / 2 : 0;
      const bool upper = lane & half;
#pragma unroll
      for (int w = 0; w < count; ++w) {
        const A kept = upper ? values[w + count] : values[w], given = upper ? values[w] : values[w + count];
        values[w] = kept + __shfl_xor_sync(0xffffffffu, given, half);
      }
      if (count == 0) values[0] += __shfl_xor_sync(0xffffffffu, values[0], half);
    }
    row += lane / (kWarp / W) * row_step;
    if (lane % (kWarp / W) == 0 && row < rows) to[row * apart] = values[0];
  } else {
    for (int distance = blockDim.x / 2; distance > 0; distance /= 2) {
#pragma unroll
      for (int w = 0; w < W; ++w) values[w] += __shfl_xor_sync(0xffffffffu, values[w], distance);
    }
#pragma unroll
    for (int w = 0; w < W; ++w)
      if (threadIdx.x == 0 && row + w * row_step < rows) to[(row + w * row_step) * apart] = values[w];
  }
}

// out[r * apart] = the sum over the warps of row r, divided by divisors[r] where there are any.
template <typename A>
__device__ __forceinline__ void add_warps(const A* kept, int rows, int warps, const A* divisors, A* out,
                                          int64_t apart) {
  for (int r = threadIdx.y * blockDim.x + threadIdx.x; r < rows; r += kStripThreads) {
    A sum = 0;
    for (int i = 0; i < warps; ++i) sum += kept[r * warps + i];
    out[r * apart] = divisors == nullptr ? sum : sum / divisors[r];
  }
}

// out[column] = factor * the sum of v over the block's rows of threads. The stride of the buffer is such that both the
// writes of a warp and its reads, with the columns adjacent, meet every bank once.
template <int V>
constexpr int kColumnStride = kStripThreads + kWarp / V;

template <int V, typename A>
__device__ __forceinline__ void add_columns(const A (&v)[V], A factor, A* buffer, int tile, int64_t columns, A* out) {
  const int thread = threadIdx.y * blockDim.x + threadIdx.x, width = blockDim.x * V;
  const int64_t first = static_cast<int64_t>(tile) * width;
  __syncthreads();
#pragma unroll
  for (int k = 0; k < V; ++k) buffer[k * kColumnStride<V> + thread] = v[k];
  __syncthreads();
  for (int j = thread; j < width && first + j < columns; j += kStripThreads) {
    A sum = 0;
    for (int i = j / V; i < kStripThreads; i += blockDim.x) sum += buffer[j % V * kColumnStride<V> + i];
    out[first + j] = sum * factor;
  }
}

}  // namespace stylegan_ops::cuda
