// Fibers: several flows of control in one operating-system thread, each with a stack of its own, that run until they
// hand over. One fiber is one CUDA thread.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace host_executor {

// Maps `bytes`, rounded up to pages, between two pages that nobody may touch.
inline std::byte* map_between_guards(size_t bytes) {
  const size_t page = sysconf(_SC_PAGESIZE), inner = (bytes + page - 1) / page * page;
  void* p = mmap(nullptr, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED ||
      (inner > 0 && mprotect(static_cast<std::byte*>(p) + page, inner, PROT_READ | PROT_WRITE) != 0)) {
    std::perror("host_executor: mmap");
    std::abort();
  }
  return static_cast<std::byte*>(p) + page;
}

inline void unmap_between_guards(std::byte* p, size_t bytes) {
  const size_t page = sysconf(_SC_PAGESIZE), inner = (bytes + page - 1) / page * page;
  munmap(p - page, inner + 2 * page);
}

#if defined(__x86_64__)
// Saves the registers that a function must keep, changes the stack, restores them from there: some twenty times as fast
// as swapcontext, which also asks the kernel for the signal mask.
using Context = void*;
__attribute__((naked, noinline)) inline void switch_context(Context* /*from*/, Context* /*to*/) {
  asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq (%rsi), %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret");
}
inline void make_context(Context* context, std::byte* stack, size_t bytes, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + bytes) - 2;  // leaves the stack as a call would: 8 bytes off 16
  *top = reinterpret_cast<void*>(entry);
  *context = top - 6;  // the registers' values do not matter
}
#else
using Context = ucontext_t;
inline void switch_context(Context* from, Context* to) { swapcontext(from, to); }
inline void make_context(Context* context, std::byte* stack, size_t bytes, void (*entry)()) {
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = bytes;
  makecontext(context, entry, 0);
}
#endif

class Fiber {
 public:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr size_t kStackBytes = 256 * 1024;
#else
  static constexpr size_t kStackBytes = 64 * 1024;
#endif

  Fiber() : stack_(map_between_guards(kStackBytes)) {
    static size_t made = 0;
    start_ =
        kStackBytes - made++ % 32 * 192;  // equal addresses modulo the page size would share few lines of the cache
  }
  ~Fiber() { unmap_between_guards(stack_, kStackBytes); }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next resume() calls entry, which must never return.
  void start(void (*entry)()) { make_context(&inside_, stack_, start_, entry); }

  // Runs the fiber until it leaves.
  void resume() {
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stack_, kStackBytes);
    switch_context(&outside_, &inside_);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    switch_context(&outside_, &inside_);
#endif
  }

  // Hands over to whoever resumed the fiber; called in the fiber. `forever`: it will not be resumed again.
  void leave([[maybe_unused]] bool forever = false) {
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(forever ? nullptr : &fake, caller_stack_, caller_bytes_);
    switch_context(&inside_, &outside_);
    entered(fake);
#else
    switch_context(&inside_, &outside_);
#endif
  }

  // To be called first of all in a fiber.
  void entered([[maybe_unused]] void* fake = nullptr) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, &caller_stack_, &caller_bytes_);
#endif
  }

  // Forgets what a fiber that was left for good had on its stack.
  void forget() {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack_, kStackBytes);
#endif
  }

  bool owns(const void* p) const {  // the guard pages included
    const size_t page = sysconf(_SC_PAGESIZE);
    return p >= stack_ - page && p < stack_ + kStackBytes + page;
  }

 private:
  std::byte* stack_;
  size_t start_;
  Context inside_{}, outside_{};
#if defined(__SANITIZE_ADDRESS__)
  const void* caller_stack_ = nullptr;
  size_t caller_bytes_ = 0;
#endif
};

}  // namespace host_executor
