#include "executor_kernels.h"

#include "cuda/tensor_core.cuh"

namespace {

using namespace stylegan_ops::cuda;

__device__ int thread_number() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
__device__ int block_number() { return blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z); }

// 1. Threads and shared memory

__global__ void number(unsigned* x, int) {
  const int i = block_number() * int(blockDim.x * blockDim.y * blockDim.z) + thread_number();
  x[i] = i;
}

// The order in which threads run, which no kernel may show.
__global__ void show_order(unsigned* x, int) { x[1 + block_number() * blockDim.x + threadIdx.x] = x[0]++; }

__global__ void fresh_shared(unsigned* x, int n) {
  __shared__ unsigned variable[32];
  unsigned* dynamic = dynamic_shared<unsigned>();
  const int i = threadIdx.x;
  x += block_number() * 2 * n;
  x[i] = variable[i], x[n + i] = dynamic[i];
  variable[i] = dynamic[i] = 7;
}

template <typename T>
__device__ void reverse_through(T* shared, unsigned* x, int n) {
  x += block_number() * n;
  const int i = threadIdx.x;
  shared[i] = x[i];
  __syncthreads();
  x[i] = shared[n - 1 - i];
}
__global__ void reverse_static(unsigned* x, int n) {
  __shared__ unsigned shared[1024];
  reverse_through(shared, x, n);
}
__global__ void reverse_dynamic(unsigned* x, int n) { reverse_through(dynamic_shared<unsigned>(), x, n); }

// The next lane's value: with a __syncwarp in between, and without.
template <bool SYNC>
__global__ void neighbour(unsigned* x, int n) {
  __shared__ unsigned shared[1024];
  const int i = threadIdx.x;
  shared[i] = x[i];
  if (SYNC) __syncwarp();
  x[i] = shared[i / 32 * 32 + (i + n) % 32];
}

// 2. Collectives

__global__ void barriers(unsigned* x, int n) {
  const int i = threadIdx.x;
  const unsigned v = x[i];
  x[i] = __syncthreads_count(v);
  x[n + i] = __syncthreads_and(v);
  x[2 * n + i] = __syncthreads_or(v);
}

template <int KIND>
__global__ void shuffle(unsigned* x, int width) {
  const unsigned lane = threadIdx.x % 32, v = x[threadIdx.x], by = x[blockDim.x + threadIdx.x];
  const unsigned mask = x[2 * blockDim.x + threadIdx.x];
  if ((mask >> lane & 1) == 0) return;
  unsigned result = 0;
  if (KIND == 0) result = __shfl_sync(mask, v, by, width);
  if (KIND == 1) result = __shfl_up_sync(mask, v, by, width);
  if (KIND == 2) result = __shfl_down_sync(mask, v, by, width);
  if (KIND == 3) result = __shfl_xor_sync(mask, v, by, width);
  x[threadIdx.x] = result;
}

__global__ void votes(unsigned* x, int n) {
  const unsigned mask = x[n + threadIdx.x], v = x[threadIdx.x];
  if ((mask >> threadIdx.x % 32 & 1) == 0) return;
  x[threadIdx.x] = __ballot_sync(mask, v);
  x[n + threadIdx.x] = __any_sync(mask, v) | __all_sync(mask, v) << 1;
}

// The lanes from n on end early; the others go on with the full mask, which then no longer means those.
__global__ void early_exit(unsigned* x, int n) {
  if (int(threadIdx.x) >= n) return;
  x[threadIdx.x] = __ballot_sync(0xffffffffu, 1);
}

// The halves of a warp meet among themselves, one of them twice, before all meet.
__global__ void halves(unsigned* x, int) {
  const unsigned lane = threadIdx.x, mask = lane < 16 ? 0xffffu : 0xffff0000u;
  unsigned v = __ballot_sync(mask, lane % 2);
  if (lane < 16) v += __ballot_sync(mask, 1);
  x[lane] = v + __ballot_sync(0xffffffffu, lane % 3 == 0);
}

__global__ void sum_doubles(unsigned* x, int) {
  double* v = reinterpret_cast<double*>(x);
  const double sum = warp_sum(v[threadIdx.x]);
  v[threadIdx.x] = sum;
}

__global__ void atomics(unsigned* x, int) {
  int* v = reinterpret_cast<int*>(x);
  const int i = threadIdx.x;
  atomicAdd(&v[0], i);
  atomicMax(&v[1], i % 7 - 3);
  atomicMin(&v[2], -i);
  for (int seen = v[3], before = seen + 1; before != seen; seen = before)
    if ((before = atomicCAS(&v[3], seen, seen + 2)) == seen) break;
  if (atomicExch(&v[4], 1) == 0) v[5] = 5;
  atomicAdd(reinterpret_cast<float*>(&v[6]), 0.5f);
}

// Looks at an asynchronous copy before and after waiting for it.
__global__ void async_copies(unsigned* x, int n) {
  unsigned* shared = dynamic_shared<unsigned>();
  for (int g = 0; g < 3; ++g) {
    copy_async(shared_address(shared + 4 * g), x + 4 * g, g != 1);
    copy_commit();
  }
  copy_wait<1>();
  for (int i = 0; i < 12; ++i) x[n + i] = shared[i];
  copy_wait<0>();
  for (int i = 0; i < 12; ++i) x[n + 12 + i] = shared[i];
}

// 3. Mistakes

__global__ void some_end_before_the_barrier(unsigned*, int n) {
  if (int(threadIdx.x) < n) __syncthreads();
}
__global__ void two_barriers(unsigned*, int n) {
  if (int(threadIdx.x) < n)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void two_shuffles(unsigned* x, int n) {
  if (int(threadIdx.x) < n)
    x[threadIdx.x] = __shfl_sync(0xffffffffu, threadIdx.x, 0);
  else
    x[threadIdx.x] = __shfl_sync(0xffffffffu, threadIdx.x, 1);
}
__global__ void two_masks(unsigned*, int n) { __syncwarp(int(threadIdx.x) < n ? 0xffffffffu : 0xfffffffeu); }
__global__ void not_in_the_mask(unsigned*, int) { __syncwarp(0xffu); }
__global__ void absent_lane(unsigned* x, int n) {
  if (int(threadIdx.x) < n) x[threadIdx.x] = __shfl_sync((1u << n) - 1, threadIdx.x, n);
}
__global__ void read_at(unsigned* x, int n) {
  if (thread_number() == 5) x[0] = x[n];
}
__global__ void write_at(unsigned* x, int n) {
  if (thread_number() == 5) x[n] = 0;
}
__global__ void load_vector_at(unsigned* x, int n) { x[0] = load<unsigned, 4>(x + n).at[0]; }
__global__ void store_vector_at(unsigned* x, int n) { store(x + n, Vector<unsigned, 2>{}); }
__global__ void dynamic_beyond(unsigned* x, int n) { x[0] = dynamic_shared<unsigned>()[n]; }
__global__ void divide(unsigned* x, int n) { x[0] /= n; }
__attribute__((noinline)) unsigned deep(unsigned* x, int n) {
  volatile unsigned frame[256];
  frame[n % 256] = x[0];
  return n == 0 ? frame[0] : deep(x, n - 1) + frame[n % 256];
}
__global__ void recursion(unsigned* x, int n) { x[0] = deep(x, n); }

// 4. Numbers

__global__ void half_to_float(unsigned* x, int) {
  const int i = block_number() * blockDim.x + threadIdx.x;
  x[i] = __float_as_uint(widen(__ushort_as_half(x[i])));
}
__global__ void bfloat_to_float(unsigned* x, int) {
  const int i = block_number() * blockDim.x + threadIdx.x;
  x[i] = __float_as_uint(widen(__ushort_as_bfloat16(x[i])));
}
__global__ void float_to_half(unsigned* x, int) {
  const int i = block_number() * blockDim.x + threadIdx.x;
  x[i] = __half_as_ushort(narrow<__half>(__uint_as_float(x[i])));
}
__global__ void float_to_bfloat(unsigned* x, int) {
  const int i = block_number() * blockDim.x + threadIdx.x;
  x[i] = __bfloat16_as_ushort(narrow<__nv_bfloat16>(__uint_as_float(x[i])));
}

// 5. Tensor cores: c [16, 8] = a [16, k] b [k, 8], both of 16-bit elements (k = 16) or of float (k = 8), behind each
// other in x, a by rows and b by columns, 32 bytes each. The fragments are read as the PTX manual draws them.
template <typename T>
__global__ void multiply(unsigned* x, int) {
  const unsigned lane = threadIdx.x, row = lane / 4, column = lane % 4;  // columns of 4 bytes
  const unsigned* b = x + 16 * 8;
  float* c = reinterpret_cast<float*>(x + 16 * 8 + 8 * 8);
  const unsigned fa[4] = {x[row * 8 + column], x[(row + 8) * 8 + column], x[row * 8 + column + 4],
                          x[(row + 8) * 8 + column + 4]};
  const unsigned fb[2] = {b[row * 8 + column], b[row * 8 + column + 4]};
  float sum[4] = {};
  multiply_add<T>(sum, fa, fb);
  for (int i = 0; i < 4; ++i) c[(row + i / 2 * 8) * 8 + column * 2 + i % 2] = sum[i];
}

// The same with a and b from shared memory by ldmatrix; b is given by rows and loaded transposed.
__global__ void multiply_loaded(unsigned* x, int) {
  unsigned* a = dynamic_shared<unsigned>();  // [16, 8]
  unsigned* b = a + 16 * 8;                  // [16, 4]
  float* c = reinterpret_cast<float*>(x + 16 * 8 + 8 * 8);
  const unsigned lane = threadIdx.x;
  for (int i = 0; i < 6; ++i) a[i * 32 + lane] = x[i * 32 + lane];
  __syncwarp();
  unsigned fa[4], fb[4];
  load_matrices(fa, shared_address(a + lane % 16 * 8 + lane / 16 * 4));
  load_transposed(fb, shared_address(b + lane % 16 * 4));
  const unsigned first[2] = {fb[0], fb[1]};
  float sum[4] = {};
  multiply_add<__half>(sum, fa, first);
  for (int i = 0; i < 4; ++i) c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}

}  // namespace

const std::map<std::string, TestKernel>& test_kernels() {
  static const std::map<std::string, TestKernel> kernels = {
      {"number", number},
      {"show_order", show_order},
      {"fresh_shared", fresh_shared},
      {"reverse_static", reverse_static},
      {"reverse_dynamic", reverse_dynamic},
      {"neighbour", neighbour<true>},
      {"neighbour_without_sync", neighbour<false>},
      {"barriers", barriers},
      {"shfl", shuffle<0>},
      {"shfl_up", shuffle<1>},
      {"shfl_down", shuffle<2>},
      {"shfl_xor", shuffle<3>},
      {"votes", votes},
      {"early_exit", early_exit},
      {"halves", halves},
      {"sum_doubles", sum_doubles},
      {"atomics", atomics},
      {"async_copies", async_copies},
      {"some_end_before_the_barrier", some_end_before_the_barrier},
      {"two_barriers", two_barriers},
      {"two_shuffles", two_shuffles},
      {"two_masks", two_masks},
      {"not_in_the_mask", not_in_the_mask},
      {"absent_lane", absent_lane},
      {"read_at", read_at},
      {"write_at", write_at},
      {"load_vector_at", load_vector_at},
      {"store_vector_at", store_vector_at},
      {"dynamic_beyond", dynamic_beyond},
      {"divide", divide},
      {"recursion", recursion},
      {"half_to_float", half_to_float},
      {"bfloat_to_float", bfloat_to_float},
      {"float_to_half", float_to_half},
      {"float_to_bfloat", float_to_bfloat},
      {"multiply_half", multiply<__half>},
      {"multiply_bfloat16", multiply<__nv_bfloat16>},
      {"multiply_tf32", multiply<Tf32>},
      {"multiply_loaded", multiply_loaded},
  };
  return kernels;
}
