// What the kernels need of their device: launches, 16-byte vectors, conversions, warp sums. The only file that knows
// nvcc from a host compiler, which runs the same kernels in tests/cuda_on_host, and the only one that launches.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#else
#include "host_executor.h"
#endif

#include "once.h"
#include "ops/kernel.h"

namespace stylegan_ops::cuda {

constexpr int kWarp = 32;
constexpr int kVectorBytes = 16;  // the widest load and store

// 1. Launches

#ifdef __CUDACC__

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("stylegan_ops: ") + what + ": " + cudaGetErrorString(error));
}

inline int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  if (device >= kMostDevices) throw std::runtime_error("stylegan_ops: too many devices: " + std::to_string(device));
  return device;
}

// Attributes of the current device.
inline int device_attribute(cudaDeviceAttr attribute) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, attribute, current_device()), "cudaDeviceGetAttribute");
  return value;
}
inline int multiprocessors() {
  static PerDevice known;
  return known(current_device(), [] { return device_attribute(cudaDevAttrMultiProcessorCount); });
}
inline int max_shared_bytes() {
  static PerDevice known;
  return known(current_device(), [] { return device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); });
}

// The architecture that a kernel's code was compiled for, 75 and up: what __CUDA_ARCH__ was, which is not the device's
// where that runs PTX of an older one. All kernels of the library are compiled alike.
template <typename... Parameters>
int code_architecture(void (*kernel)(Parameters...)) {
  static PerDevice known;
  return known(current_device(), [&] {
    cudaFuncAttributes attributes;
    check(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
    if (attributes.ptxVersion != 0) return attributes.ptxVersion;
    return 10 * device_attribute(cudaDevAttrComputeCapabilityMajor) +  // a runtime that does not tell
           device_attribute(cudaDevAttrComputeCapabilityMinor);
  });
}

// Lets the kernel's launches ask for all the shared memory that its own leaves, not for 48 KiB alone.
inline void allow_all_shared_memory(const void* kernel, const char* name) {
  static OncePerKernel known;
  known(kernel, current_device(), [&] {
    cudaFuncAttributes attributes;
    check(cudaFuncGetAttributes(&attributes, kernel), name);
    const int left = max_shared_bytes() - static_cast<int>(attributes.sharedSizeBytes);
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, left), name);
  });
}

// Runs kernel(args...) on the stream.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream,
            const Arguments&... args) {
  if (shared_bytes > 48 * 1024) allow_all_shared_memory(reinterpret_cast<const void*>(kernel), name);
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(args...);
  check(cudaGetLastError(), name);
}

// The shared memory that the launch asked for, 16-byte aligned; in place of `extern __shared__`.
template <typename T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ uint4 dynamic_shared_memory[];
  return reinterpret_cast<T*>(dynamic_shared_memory);
}

template <int BYTES>
__device__ __forceinline__ void check_aligned(const void*) {}  // the hardware checks

#else

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, Stream,
            const Arguments&... args) {
  host_executor::launch(name, kernel, grid, block, shared_bytes, args...);
}
inline int multiprocessors() { return host_executor::kMultiprocessors; }
inline int max_shared_bytes() { return host_executor::kMaxSharedBytes; }
template <typename... Parameters>
int code_architecture(void (*)(Parameters...)) {
  return 80;
}

template <typename T>
T* dynamic_shared() {
  return static_cast<T*>(host_executor::dynamic_shared());
}

template <int BYTES>
void check_aligned(const void* p) {
  host_executor::check_aligned(p, BYTES);
}

#endif

// 2. Numbers: T is what lies in memory, Accumulate<T> what is computed in.

template <typename T>
using Accumulate = std::conditional_t<std::is_same_v<T, double>, double, float>;

__device__ __forceinline__ double widen(double v) { return v; }
__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ float widen(__half v) { return __half2float(v); }
__device__ __forceinline__ float widen(__nv_bfloat16 v) { return __bfloat162float(v); }

template <typename T>
__device__ __forceinline__ T narrow(Accumulate<T> v) {
  if constexpr (std::is_same_v<T, __half>)
    return __float2half_rn(v);
  else if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return __float2bfloat16_rn(v);
  else
    return v;
}

// v within [-bound, bound]; NaN stays NaN.
template <typename A>
__device__ __forceinline__ A clamped(A v, A bound) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<A, float>) {
    asm("min.NaN.f32 %0, %0, %1;" : "+f"(v) : "f"(bound));
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(v) : "f"(-bound));
    return v;
  }
#endif
  v = v > bound ? bound : v;
  return v < -bound ? -bound : v;
}

// Calls f with a value of the C++ type of the dtype.
template <typename F>
void by_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat64:
      return f(double());
    case DType::kFloat32:
      return f(float());
    case DType::kBFloat16:
      return f(__nv_bfloat16());
    case DType::kFloat16:
      return f(__half());
  }
}

// N adjacent elements, moved by one instruction where N * sizeof(T) is 2, 4, 8 or 16.
template <typename T, int N>
struct alignas(sizeof(T) * N) Vector {
  T at[N];
};

template <typename T, int N>
__device__ __forceinline__ Vector<T, N> load(const T* p) {
  check_aligned<sizeof(T) * N>(p);
  return *reinterpret_cast<const Vector<T, N>*>(p);
}

template <typename T, int N>
__device__ __forceinline__ void store(T* p, const Vector<T, N>& v) {
  check_aligned<sizeof(T) * N>(p);
  *reinterpret_cast<Vector<T, N>*>(p) = v;
}

// Makes the compiler forget that it has widened these elements before: it then keeps them as they are, and widens them
// again, in place of holding both.
template <typename T, int N>
__device__ __forceinline__ void keep_narrow([[maybe_unused]] Vector<T, N>& v) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == 2 && N % 2 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += 2) asm("" : "+r"(*reinterpret_cast<uint32_t*>(v.at + i)));
  }
#endif
}

// 3. Warps

template <typename A>
__device__ __forceinline__ A warp_sum(A v) {
#pragma unroll
  for (int lane = kWarp / 2; lane > 0; lane /= 2) v += __shfl_xor_sync(0xffffffffu, v, lane);
  return v;
}

// 4. Host arithmetic

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace stylegan_ops::cuda
