// Chooses the SIMD variant of the CPU kernels once, when the library is loaded.
#include "kernel.h"

#include <atomic>

namespace stylegan_ops::cpu {
namespace {

bool runs_here(int64_t variant) {
  if (variant == kBaseline) return true;
#ifdef STYLEGAN_OPS_X86_VARIANTS
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (variant == kAvx2) return avx2;
  if (variant == kAvx512)
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
  return false;
}

std::atomic<int32_t> current{runs_here(kAvx512) ? kAvx512 : runs_here(kAvx2) ? kAvx2 : kBaseline};

}  // namespace

Variant variant() { return static_cast<Variant>(current.load(std::memory_order_relaxed)); }

bool select_variant(int64_t variant) {
  if (!runs_here(variant)) return false;
  current.store(static_cast<int32_t>(variant), std::memory_order_relaxed);
  return true;
}

bool has_bfloat16() {
#ifdef STYLEGAN_OPS_X86_VARIANTS
  static const bool has = [] {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16") != 0;  // every processor with AMX has it too
  }();
  return has;
#else
  return true;
#endif
}

}  // namespace stylegan_ops::cpu
