// The second stage of the reductions: what blocks left in a workspace is added in a fixed order, so that the result
// depends neither on the order in which blocks ran nor on the run.
//
// One launch makes up to kMaxSums sums at once. One thread adds every k-th term of one output, in float64 (terms are
// few and float32 would lose what the first stage kept); the threads of an output then add theirs by a tree. Where
// outputs are adjacent in memory, 32 of them lie side by side in a block, else a block makes one and its threads read
// adjacent terms.
#pragma once

#include "device.cuh"

namespace stylegan_ops::cuda {

constexpr int kMaxSums = 4, kSumThreads = 256;

// out[a, b] = sum over i, j of in[a * step_a + b * step_b + i * step_i + j * step_j]
struct Sum {
  const void* in;  // of the accumulation dtype, as out is
  void* out;       // [count_a, count_b]
  int64_t count_a, count_b, step_a, step_b;
  int64_t count_i, count_j, step_i, step_j;
  int side_by_side() const { return step_b == 1 ? kWarp : 1; }
};

struct Sums {
  Sum of[kMaxSums];
};

template <typename A>
__global__ void __launch_bounds__(kSumThreads) sums_kernel(Sums sums) {
  const Sum& s = sums.of[blockIdx.y];
  const int width = s.step_b == 1 ? kWarp : 1, x = threadIdx.x % width;
  const int64_t output = static_cast<int64_t>(blockIdx.x) * width + x, outputs = s.count_a * s.count_b;
  if (output - x >= outputs) return;  // the launch has blocks for the sum with the most outputs
  const int count = static_cast<int>(s.count_i * s.count_j), count_j = static_cast<int>(s.count_j);
  double sum = 0;
  if (output < outputs) {
    const A* in = static_cast<const A*>(s.in) + output / s.count_b * s.step_a + output % s.count_b * s.step_b;
    for (int t = threadIdx.x / width; t < count; t += kSumThreads / width)
      sum += in[t / count_j * s.step_i + t % count_j * s.step_j];
  }
  __shared__ double parts[kSumThreads];
  parts[threadIdx.x] = sum;
  for (int half = kSumThreads / 2; half >= width; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
  }
  if (threadIdx.x < width && output < outputs) static_cast<A*>(s.out)[output] = static_cast<A>(parts[x]);
}

// A list of sums on the host, with the workspace that their terms need.
template <typename A>
class SumList {
 public:
  explicit SumList(void* workspace) : workspace_(static_cast<char*>(workspace)) {}

  // Where the first stage writes the terms of a sum that goes to s.out; null where that is null. A sum of one term is
  // written where it belongs.
  A* add(Sum s) {
    if (s.out == nullptr) return nullptr;
    const int64_t terms = s.count_a * s.count_b * s.count_i * s.count_j;
    if (s.count_i * s.count_j > INT32_MAX)
      throw std::runtime_error("stylegan_ops: the image is too large for its sums");
    if (s.count_i * s.count_j == 1) return static_cast<A*>(s.out);
    s.in = workspace_ + bytes_;
    bytes_ += ceil_div(terms * sizeof(A), kVectorBytes) * kVectorBytes;
    sums_.of[count_++] = s;
    return static_cast<A*>(const_cast<void*>(s.in));
  }

  int64_t bytes() const { return bytes_; }

  void run(Stream stream) const {
    if (count_ == 0) return;
    int64_t blocks = 0;
    for (int i = 0; i < count_; ++i) {
      const Sum& s = sums_.of[i];
      const int64_t needed = ceil_div(s.count_a * s.count_b, s.side_by_side());
      blocks = needed > blocks ? needed : blocks;
    }
    launch("sums", sums_kernel<A>, dim3(static_cast<unsigned>(blocks), count_), dim3(kSumThreads), 0, stream, sums_);
  }

 private:
  char* workspace_;
  int64_t bytes_ = 0;
  int count_ = 0;
  Sums sums_{};
};

}  // namespace stylegan_ops::cuda
