// What every kernel's contract shares: dtypes, the memory layout, and how a CPU kernel's variant is chosen. No torch,
// no CUDA headers.
#pragma once

#include <atomic>
#include <cstdint>

namespace stylegan_ops {

enum class DType : int32_t { kFloat64, kFloat32, kBFloat16, kFloat16 };

// How a 4-D image lies in memory: [N, C, H, W] or [N, H, W, C], both without gaps.
enum class Layout : int32_t { kContiguous, kChannelsLast };

namespace cpu {

// The SIMD variants of the CPU kernels: each file of csrc/cpu is compiled once for each.
enum Variant : int32_t { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

Variant variant();                     // the one in use: the best of this machine unless selected
bool select_variant(int64_t variant);  // false where it was not built or this machine lacks it

bool has_bfloat16();  // whether this machine multiplies bfloat16 in hardware

}  // namespace cpu

namespace cuda {

using Stream = void*;  // a cudaStream_t

inline std::atomic<int64_t> launches = 0;  // that the library has made, for those who count them

}  // namespace cuda
}  // namespace stylegan_ops

// Declares the kernel `cpu::NAME(params, begin, end)`, which does the work items [begin, end) in the variant in use.
#ifdef STYLEGAN_OPS_X86_VARIANTS
#define STYLEGAN_OPS_CPU_KERNEL(NAME, PARAMS)                          \
  namespace cpu {                                                      \
  namespace baseline {                                                 \
  void NAME(const PARAMS& params, int64_t begin, int64_t end);         \
  }                                                                    \
  namespace avx2 {                                                     \
  void NAME(const PARAMS& params, int64_t begin, int64_t end);         \
  }                                                                    \
  namespace avx512 {                                                   \
  void NAME(const PARAMS& params, int64_t begin, int64_t end);         \
  }                                                                    \
  inline void NAME(const PARAMS& params, int64_t begin, int64_t end) { \
    switch (variant()) {                                               \
      case kAvx512:                                                    \
        return avx512::NAME(params, begin, end);                       \
      case kAvx2:                                                      \
        return avx2::NAME(params, begin, end);                         \
      default:                                                         \
        return baseline::NAME(params, begin, end);                     \
    }                                                                  \
  }                                                                    \
  }
#else
#define STYLEGAN_OPS_CPU_KERNEL(NAME, PARAMS)                                                                \
  namespace cpu {                                                                                            \
  namespace baseline {                                                                                       \
  void NAME(const PARAMS& params, int64_t begin, int64_t end);                                               \
  }                                                                                                          \
  inline void NAME(const PARAMS& params, int64_t begin, int64_t end) { baseline::NAME(params, begin, end); } \
  }
#endif
