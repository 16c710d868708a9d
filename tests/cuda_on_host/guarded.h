// Device memory: buffers between guard pages. What lies between a buffer and the guard pages is filled with 0xFF (NaN
// in every dtype), is poisoned under AddressSanitizer, and is checked for having been written.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "fiber.h"

namespace host_executor {

// Where a buffer touches a guard page: its first byte, its last one as nearly as 16-byte alignment allows, or its last
// one whatever the alignment.
enum class Placement { kStart, kEnd, kUnaligned };

class Buffer {
 public:
  static constexpr size_t kAlignment = 16;  // torch's allocations have more, views of images less

  Buffer(std::string name, size_t bytes, Placement placement) : name_(std::move(name)), bytes_(bytes) {
    const size_t page = sysconf(_SC_PAGESIZE);
    mapped_ = (bytes + page - 1) / page * page;
    base_ = map_between_guards(mapped_);
    size_t offset = placement == Placement::kStart ? 0 : mapped_ - bytes;
    if (placement == Placement::kEnd) offset = offset / kAlignment * kAlignment;
    data_ = base_ + offset;
    std::memset(base_, 0xFF, mapped_);
#if defined(__SANITIZE_ADDRESS__)
    __asan_poison_memory_region(base_, mapped_);
    __asan_unpoison_memory_region(data_, bytes_);
#endif
    all().push_back(this);
  }
  ~Buffer() {
    std::erase(all(), this);
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(base_, mapped_);
#endif
    unmap_between_guards(base_, mapped_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

  // What was written around the buffer since the last call, or "".
  std::string damage() {
    std::string found;
#if !defined(__SANITIZE_ADDRESS__)
    for (std::byte* p = base_; p < base_ + mapped_; ++p) {
      if ((p >= data_ && p < data_ + bytes_) || *p == std::byte{0xFF}) continue;
      if (found.empty()) found = "wrote " + whereabouts(p);
      *p = std::byte{0xFF};
    }
#endif
    return found;
  }

  // Every buffer there is.
  static std::vector<Buffer*>& all() {
    static std::vector<Buffer*> buffers;
    return buffers;
  }

  // An address in words: "4 bytes beyond the end of x, 100 bytes".
  static std::string locate(const void* address) {
    const std::byte* p = static_cast<const std::byte*>(address);
    const size_t page = sysconf(_SC_PAGESIZE);
    for (const Buffer* b : all())
      if (p >= b->base_ - page && p < b->base_ + b->mapped_ + page) return b->whereabouts(p);
    char text[64];
    std::snprintf(text, sizeof(text), "at %p, in no buffer", address);
    return text;
  }

 private:
  std::string whereabouts(const std::byte* p) const {
    const std::string of = " of " + name_ + ", " + std::to_string(bytes_) + " bytes";
    if (p < data_) return std::to_string(data_ - p) + " bytes before the start" + of;
    if (p >= data_ + bytes_) return std::to_string(p - data_ - bytes_) + " bytes beyond the end" + of;
    return "byte " + std::to_string(p - data_) + of;
  }

  std::string name_;
  size_t bytes_, mapped_;
  std::byte *base_, *data_;
};

}  // namespace host_executor
