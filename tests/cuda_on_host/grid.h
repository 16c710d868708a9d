// What a running grid is: CUDA's words and built-in variables, settings, threads and what they wait in, and errors.
#pragma once

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <setjmp.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fiber.h"
#include "guarded.h"
#include "numbers.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ static thread_local

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace host_executor {

constexpr unsigned kFullMask = 0xffffffffu;
constexpr size_t kMaxExchanged = 64;  // bytes that a lane brings to a collective

using Where = std::source_location;

enum class Order { kForward, kReverse, kRandom, kNone };  // of blocks and threads; none: nothing runs

// What the next launches do, and what launchers and kernels see of the device.
struct Settings {
  Order order = Order::kForward;
  uint64_t seed = 0;
  int architecture = 80;
  int multiprocessors = 2;       // few, so that grid-stride loops loop
  int shared_bytes = 99 * 1024;  // that a block may ask for: sm_86, 89 and 120
};
inline Settings settings;

// A launch; `launched` holds those since the last settings.
struct Launched {
  const void* kernel;
  dim3 blocks;

  std::string symbol() const {  // in the library that holds the kernel
    Dl_info info{};
    return dladdr(kernel, &info) != 0 && info.dli_sname != nullptr ? info.dli_sname : "";
  }
};
inline std::vector<Launched> launched;

// One collective that a thread waits in.
struct Meeting {
  const char* what;
  Where where;
  unsigned mask = 0;           // of lanes; not for barriers
  const void* mine = nullptr;  // what the lane brings,
  void* all = nullptr;         // where it gets those of all lanes,
  size_t bytes = 0;            // and the size of one
};

struct Thread {
  enum State { kReady, kWaiting, kDone };
  struct Copy {
    void* to;
    const void* from;
    size_t bytes, filled;  // of `bytes` the first `filled` are copied, the others zero
    unsigned group;
  };

  Fiber fiber;
  uint3 index;
  State state = kDone;
  Meeting meeting{};
  unsigned present = 0;      // the lanes that took part in the last one
  std::vector<Copy> copies;  // asynchronous ones under way
  unsigned groups = 0;       // committed so far
};

// The grid that is running.
struct Grid {
  const char* name = "";
  std::function<void()> body;
  std::vector<std::unique_ptr<Thread>> threads;  // made when first needed, kept for later launches
  int size = 0;                                  // threads in a block
  Thread* current = nullptr;                     // null outside of kernels
  int arrived = 0, yes = 0;                      // at the block's barrier; those with a true predicate
  int yes_of_all = 0;                            // of the barrier that was completed last
  std::array<unsigned, 32> alive, meeting;       // of each warp the lanes that have not ended; that wait for others
  void* shared = nullptr;
  sigjmp_buf fault;
  std::string error;
};
inline Grid grid;

inline std::string text(const uint3& v) {
  return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
}
inline std::string text(const Where& where) {
  const std::string file = where.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line());
}

inline std::string text(const Thread& t) {
  return std::string(grid.name) + ": block " + text(blockIdx) + ", thread " + text(t.index) + ": ";
}
inline std::string text(const Meeting& m) {
  char mask[32] = "";
  if (m.mask != 0) std::snprintf(mask, sizeof(mask), " of lanes 0x%x", m.mask);
  return std::string(m.what) + mask + " at " + text(m.where);
}

// Errors

// Ends the launch with an error. In a kernel it leaves the thread's fiber for good.
[[noreturn]] inline void fail(const std::string& message) {
  Thread* t = grid.current;
  if (t == nullptr) throw std::runtime_error(std::string(grid.name) + ": " + message);
  grid.error = text(*t) + message;
  t->fiber.leave(true);
  std::abort();
}

inline void on_fault(int signal, siginfo_t* info, void*) {
  Thread* t = grid.current;
  if (t == nullptr) {  // not ours
    ::signal(signal, SIG_DFL);
    return;
  }
  const bool overflow = signal != SIGFPE && t->fiber.owns(info->si_addr);
  grid.error = text(*t) + (signal == SIGFPE ? "integer division by zero"
                           : overflow       ? "the stack overflows"
                                            : "accesses " + Buffer::locate(info->si_addr));
  siglongjmp(grid.fault, 1);
}

// Turns faults of kernels into errors for as long as it lives. AddressSanitizer has its own way.
class FaultHandler {
 public:
#if defined(__SANITIZE_ADDRESS__)
  FaultHandler() {}
#else
  FaultHandler() {
    static std::array<std::byte, 64 * 1024> stack;  // a handler cannot run on a stack that overflowed
    const stack_t alternative{stack.data(), 0, stack.size()};
    sigaltstack(&alternative, &stack_before_);
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &before_[i]);
  }
  ~FaultHandler() {
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
    sigaltstack(&stack_before_, nullptr);
  }

 private:
  static constexpr std::array kSignals{SIGSEGV, SIGBUS, SIGFPE};
  std::array<struct sigaction, kSignals.size()> before_;
  stack_t stack_before_;
#endif
};

inline void check_aligned(const void* p, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0)
    fail("a vector of " + std::to_string(bytes) + " bytes is not aligned to its size: " + Buffer::locate(p));
}

}  // namespace host_executor
