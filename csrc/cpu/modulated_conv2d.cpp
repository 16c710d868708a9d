// gather_taps: the weights of a flipped or phase convolution; interleave: the four phases of a stride-2 transposed
// convolution put together. Bytes moved: each element once in and once out. demodulation: the weights once in.
#include "ops/modulated_conv2d.h"

#include <cmath>
#include <cstring>

#include "block.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

template <typename T>
void gather(const GatherTapsParams& p, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    T* to = static_cast<T*>(p.out) + i * p.height * p.width * p.channels;
    for (int64_t q = 0; q < p.height; ++q)
      for (int64_t r = 0; r < p.width; ++r, to += p.channels) {
        const T* from = static_cast<const T*>(p.w) + i * p.stride_p + (p.last_y - q * p.step) * p.stride_y +
                        (p.last_x - r * p.step) * p.stride_x;
        for (int64_t s = 0; s < p.channels; ++s) to[s] = from[s * p.stride_s];
      }
  }
}

// The taps' squares are summed once for all samples, a block of input channels at a time.
template <typename T>
void demodulate(const DemodulationParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const T* const w = static_cast<const T*>(p.w);
  const A* const styles = static_cast<const A*>(p.styles);
  A* const scale = static_cast<A*>(p.scale);
  A energy[kBlock], weighted[kBlock], buffer[1];
  for (int64_t o = begin; o < end; ++o) {
    for (int64_t n = 0; n < p.samples; ++n) scale[n * p.out_channels + o] = static_cast<A>(p.eps);
    for (int64_t first = 0; first < p.in_channels; first += kBlock) {
      const int count = static_cast<int>(min64(kBlock, p.in_channels - first));
      for (int i = 0; i < count; ++i) {
        const T* const taps = w + o * p.stride_o + (first + i) * p.stride_i;
        energy[i] = 0;
        for (int64_t k = 0; k < p.taps; ++k) {
          const A tap = load(taps + k, 1, buffer)[0];
          energy[i] += tap * tap;
        }
      }
      for (int64_t n = 0; n < p.samples; ++n) {
        const A* const s = styles + n * p.in_channels + first;
        for (int i = 0; i < count; ++i) weighted[i] = s[i] * energy[i];
        scale[n * p.out_channels + o] += static_cast<A>(dot(s, weighted, count));
      }
    }
    for (int64_t n = 0; n < p.samples; ++n) {
      A& d = scale[n * p.out_channels + o];
      d = 1 / std::sqrt(d);
    }
  }
}

// A power of two of the size of the largest of v, such that none is above 1 when divided by it.
template <typename A>
A size_of_largest(const A* v, int64_t count) {
  A most = 0;
  for (int64_t i = 0; i < count; ++i) most = std::fabs(v[i]) > most ? std::fabs(v[i]) : most;
  int exponent = 0;
  std::frexp(most, &exponent);
  return most > 0 && std::isfinite(most) ? std::ldexp(A(1), exponent) : A(1);
}

template <typename A>
void modulate_layers(const ModulationParams& p, int64_t begin, int64_t end) {
  A weighted[kBlock];
  for (int64_t l = begin; l < end; ++l) {
    const ModulationParams::Layer& layer = p.layer[l];
    for (int64_t n = 0; n < p.samples; ++n) {
      const A* const given = static_cast<const A*>(p.given) + (l * p.samples + n) * p.most_channels;
      A* const styles = static_cast<A*>(p.styles) + layer.styles + n * layer.in_channels;
      A* const scale = static_cast<A*>(p.scale) + layer.scale + n * layer.out_channels;
      A divisor = 1, factor = 1;
      if (p.factors != nullptr) {
        const A size = size_of_largest(given, layer.in_channels);
        divisor = size * static_cast<const A*>(p.factors)[2 * l];
        factor = size * static_cast<const A*>(p.factors)[2 * l + 1];
      }
      for (int64_t i = 0; i < layer.in_channels; ++i) styles[i] = given[i] / divisor;
      for (int64_t o = 0; o < layer.out_channels; ++o) {
        scale[o] = factor;
        if (layer.roots < 0) continue;
        const A* const roots = static_cast<const A*>(p.roots) + layer.roots + o * layer.in_channels;
        double energy = p.eps;
        for (int64_t first = 0; first < layer.in_channels; first += kBlock) {
          const int count = static_cast<int>(min64(kBlock, layer.in_channels - first));
          for (int i = 0; i < count; ++i) weighted[i] = given[first + i] * roots[first + i];
          energy += dot(weighted, weighted, count);
        }
        scale[o] = static_cast<A>(factor / std::sqrt(energy));
      }
    }
  }
}

}  // namespace

void modulation(const ModulationParams& p, int64_t begin, int64_t end) {
  if (p.dtype == DType::kFloat64) return modulate_layers<double>(p, begin, end);
  modulate_layers<float>(p, begin, end);
}

void demodulation(const DemodulationParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) { demodulate<std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

void gather_taps(const GatherTapsParams& p, int64_t begin, int64_t end) {
  if (p.element_size == 8) return gather<uint64_t>(p, begin, end);
  if (p.element_size == 4) return gather<uint32_t>(p, begin, end);
  gather<uint16_t>(p, begin, end);
}

void interleave(const InterleaveParams& p, int64_t begin, int64_t end) {
  const int64_t pixel = p.channels * p.element_size;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / p.height, y = item % p.height;
    char* to = static_cast<char*>(p.out) + item * p.width * pixel;
    for (int b = 0; b < 2; ++b) {
      const int64_t row = n * p.phases.height[y % 2] + y / 2;
      const char* from = static_cast<const char*>(p.phases.image[y % 2][b]) + row * p.phases.width[b] * pixel;
      for (int64_t x = b; x < p.width; x += 2, from += pixel) std::memcpy(to + x * pixel, from, pixel);
    }
  }
}

STYLEGAN_OPS_END_VARIANT
