// adain: u = act(x + noise * strength + bias) * gain, y = (u - mean) * scale / sqrt(var + eps) + shift; backward: with
// the normalised u' = (u - mean) / sqrt(var + eps), du = (dy - mean(dy) - u' mean(dy u')) * scale / sqrt(var + eps) and
// dx = du da/dz.
//
// Both read their tensors once for the sums (moments.h) and once more to apply them, and compute u twice. Contiguous: a
// work item is planes, each of which is found in the cache the second time. channels_last: the runs of a sample leave
// their moments, which one thread merges in their order; patterns of all channels as long as a block. Bytes moved per
// element: forward two reads and one write, backward four reads and one write, where the second reads of what fits the
// cache are free.
#include "ops/adain.h"

#include "adain_inner.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

// 1. Contiguous

template <bool BACKWARD, typename T>
Moments plane_moments(const AdainParams& p, Inner<T>& inner, int64_t n, int64_t c) {
  using A = accumulate_t<T>;
  alignas(64) A grad[kBlock];
  Moments m;
  for (int64_t q = 0; q < p.pixels; q += kBlock) {
    const int64_t i = (n * p.channels + c) * p.pixels + q;
    const int count = static_cast<int>(min64(kBlock, p.pixels - q));
    inner.plane(i, count, n, c, q);
    const A *u = inner.u, *dy = BACKWARD ? load(static_cast<const T*>(p.dy) + i, count, grad, count) : nullptr;
    const A centre = static_cast<A>(q == 0 ? sum(u, count) / count : m.mean);
    const auto sums = add_up_all<BACKWARD ? 4 : 2, A>(count, [=](auto& totals, int j) {
      using V = const std::remove_reference_t<decltype(totals[0])>;
      const auto d = at<V>(u + j) - centre;
      totals[0] += d, totals[1] += d * d;
      if constexpr (BACKWARD) totals[2] += at<V>(dy + j), totals[3] += at<V>(dy + j) * d;
    });
    m.add(static_cast<double>(q), count, centre, sums[0], sums[1], BACKWARD ? sums[2] : 0, BACKWARD ? sums[3] : 0);
  }
  return m;
}

template <bool BACKWARD, typename T>
void planes(const AdainParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  alignas(64) A grad[kBlock], du[kBlock], buffer[kBlock];
  Inner<T> inner(p);
  Buffer<A> noise_sums(p.partial_noise == nullptr ? 0 : p.pixels);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / p.groups, first = item % p.groups * p.group;
    for (int64_t q = 0; p.partial_noise != nullptr && q < p.pixels; ++q) noise_sums.get()[q] = 0;
    for (int64_t c = first; c < min64(first + p.group, p.channels); ++c) {
      const int64_t plane = n * p.channels + c;
      const Factors<A> f = factors_of<BACKWARD, A>(p, plane_moments<BACKWARD>(p, inner, n, c), plane);
      const A strength = static_cast<A>(value<A>(p.strength, c, 1));
      double bias_sum = 0, strength_sum = 0;
      for (int64_t q = 0; q < p.pixels; q += kBlock) {
        const int64_t i = plane * p.pixels + q;
        const int count = static_cast<int>(min64(kBlock, p.pixels - q));
        inner.plane(i, count, n, c, q);
        const A* u = inner.u;
        T* y = static_cast<T*>(p.y) + i;
        A* out = target(y, buffer, count, count);
        if constexpr (BACKWARD) {
          const A* dy = load(static_cast<const T*>(p.dy) + i, count, grad, count);
#pragma GCC ivdep
          for (int j = 0; j < count; ++j) du[j] = (u[j] - f.centre) * f.slope + (dy[j] * f.grad + f.offset);
          differentiate(p.activation, 0, inner.ref, du, out, count);
          if (p.partial_bias != nullptr) bias_sum += sum(out, count);
          if (p.partial_strength != nullptr)
            strength_sum += dot(out, static_cast<const A*>(p.noise) + n * p.noise_stride + q, count);
          if (p.partial_noise != nullptr) {
            A* rows = noise_sums.get() + q;
#pragma GCC ivdep
            for (int j = 0; j < count; ++j) rows[j] += out[j] * strength;
          }
        } else {
#pragma GCC ivdep
          for (int j = 0; j < count; ++j) out[j] = (u[j] - f.centre) * f.slope + f.offset;
        }
        store(out, count, y, count);
      }
      if (p.partial_bias != nullptr) p.partial_bias[plane] = bias_sum;
      if (p.partial_strength != nullptr) p.partial_strength[plane] = strength_sum;
    }
    for (int64_t q = 0; p.partial_noise != nullptr && q < p.pixels; ++q)
      p.partial_noise[item * p.pixels + q] = noise_sums.get()[q];
  }
}

// 2. channels_last

constexpr int64_t kFirstPixels = 32, kPixels = 512;  // whose sums have one centre

// Calls f(first pixel, pixels, the element's place) for the blocks of `width` channels of the pixels of sample n.
template <typename F>
inline void for_pixels(const AdainParams& p, int64_t n, int64_t first, int64_t last, int64_t c, int64_t width, F&& f) {
  const int64_t rows = width == p.channels ? kBlock / width : 1;
  for (int64_t q = first; q < last; q += rows)
    f(q, static_cast<int>(min64(rows, last - q)), (n * p.pixels + q) * p.channels + c);
}

// Adds a block of PARTS times `length` elements, each whole pixels, to the sums about the centres: of u - centre and
// its square, and of dy and dy (u - centre).
template <int PARTS, bool BACKWARD, typename A>
inline void add_parts(const A* u, const A* dy, const A* centres, A (&sums)[4][kBlock], int length) {
#pragma GCC ivdep
  for (int j = 0; j < length; ++j) {
    A s[4] = {sums[0][j], sums[1][j], sums[2][j], sums[3][j]};
    for (int part = 0; part < PARTS; ++part) {
      const A d = u[part * length + j] - centres[j];
      s[0] += d, s[1] += d * d;
      if constexpr (BACKWARD) s[2] += dy[part * length + j], s[3] += dy[part * length + j] * d;
    }
    sums[0][j] = s[0], sums[1][j] = s[1];
    if constexpr (BACKWARD) sums[2][j] = s[2], sums[3][j] = s[3];
  }
}

template <bool BACKWARD, typename T>
void statistics(const AdainParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  constexpr int kSums = BACKWARD ? 4 : 2;
  alignas(64) A grad[kBlock], centres[kBlock], sums[4][kBlock];
  alignas(64) double totals[4][kBlock];
  Inner<T> inner(p);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / p.runs, first = item % p.runs * p.run, last = min64(first + p.run, p.pixels);
    for (int64_t c = 0; c < p.channels; c += kBlock) {
      const int64_t width = min64(kBlock, p.channels - c);
      double* moments[kMoments];
      for (int m = 0; m < kMoments; ++m) {
        moments[m] = p.moments + (item * kMoments + m) * p.channels + c;
        for (int64_t j = 0; j < width; ++j) moments[m][j] = 0;
      }
      inner.set_channels(c, width);
      for (int64_t q = first, tile_end; q < last; q = tile_end) {
        tile_end = min64(q + (q == first ? kFirstPixels : kPixels), last);
        if (q == first) {
          inner.pixels((n * p.pixels + q) * p.channels + c, 1, n, q);
          repeat(inner.u, width, A(0), centres);
        } else {
          for (int64_t j = 0; j < width; ++j) centres[j] = static_cast<A>(moments[0][j]);
          repeat(centres, width, A(0), centres);
        }
        for (int s = 0; s < kSums; ++s)
          for (int j = 0; j < kBlock; ++j) sums[s][j] = 0, totals[s][j] = 0;
        for_pixels(p, n, q, tile_end, c, width, [&](int64_t pixel, int pixels, int64_t i) {
          const int count = static_cast<int>(pixels * width);
          inner.pixels(i, pixels, n, pixel);
          const A *u = inner.u, *dy = BACKWARD ? load(static_cast<const T*>(p.dy) + i, count, grad, count) : nullptr;
          if (pixels % 4 == 0)
            add_parts<4, BACKWARD>(u, dy, centres, sums, count / 4);
          else if (pixels % 2 == 0)
            add_parts<2, BACKWARD>(u, dy, centres, sums, count / 2);
          else
            add_parts<1, BACKWARD>(u, dy, centres, sums, count);
        });
        for (int s = 0; s < kSums; ++s) add_rows(sums[s], width, totals[s]);
        const double before = static_cast<double>(q - first), more = static_cast<double>(tile_end - q);
#pragma GCC ivdep
        for (int64_t j = 0; j < width; ++j) {
          Moments m{moments[0][j], moments[1][j], moments[2][j], moments[3][j]};
          m.add(before, more, centres[j], totals[0][j], totals[1][j], BACKWARD ? totals[2][j] : 0,
                BACKWARD ? totals[3][j] : 0);
          moments[0][j] = m.mean, moments[1][j] = m.m2, moments[2][j] = m.total, moments[3][j] = m.product;
        }
      }
    }
  }
}

template <bool BACKWARD, typename A>
void merge_runs(const AdainParams& p, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    A* factors = static_cast<A*>(p.factors) + n * 4 * p.channels;
    for (int64_t c = 0; c < p.channels; ++c) {
      Moments m;
      for (int64_t run = 0; run < p.runs; ++run) {
        const double* of = p.moments + (n * p.runs + run) * kMoments * p.channels + c;
        const int64_t first = run * p.run, count = min64(p.run, p.pixels - first);
        m.add(static_cast<double>(first), static_cast<double>(count), of[0], 0, of[p.channels], of[2 * p.channels],
              of[3 * p.channels]);
      }
      const Factors<A> f = factors_of<BACKWARD, A>(p, m, n * p.channels + c);
      factors[c] = f.centre, factors[p.channels + c] = f.slope;
      factors[2 * p.channels + c] = f.offset, factors[3 * p.channels + c] = f.grad;
    }
  }
}

// From the last item to the first: what the statistics have read last is still in the cache.
template <bool BACKWARD, typename T>
void apply(const AdainParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  alignas(64) A grad[kBlock], du[kBlock], buffer[kBlock], bias_sums[kBlock], strength_sums[kBlock];
  alignas(64) A f[4][kBlock];
  Inner<T> inner(p);
  Buffer<A> noise_sums(p.partial_noise == nullptr ? 0 : p.run);
  const A* noise = static_cast<const A*>(p.noise);
  for (int64_t item = end - 1; item >= begin; --item) {
    const int64_t n = item / p.runs, first = item % p.runs * p.run, last = min64(first + p.run, p.pixels);
    for (int64_t q = 0; p.partial_noise != nullptr && q < last - first; ++q) noise_sums.get()[q] = 0;
    for (int64_t c = 0; c < p.channels; c += kBlock) {
      const int64_t width = min64(kBlock, p.channels - c);
      inner.set_channels(c, width);
      for (int k = 0; k < 4; ++k)
        repeat(static_cast<const A*>(p.factors) + (n * 4 + k) * p.channels + c, width, A(0), f[k]);
      for (int j = 0; j < kBlock; ++j) bias_sums[j] = strength_sums[j] = 0;
      for_pixels(p, n, first, last, c, width, [&](int64_t q, int pixels, int64_t i) {
        const int count = static_cast<int>(pixels * width);
        inner.pixels(i, pixels, n, q);
        const A* u = inner.u;
        T* y = static_cast<T*>(p.y) + i;
        A* out = target(y, buffer, count, count);
        if constexpr (BACKWARD) {
          const A* dy = load(static_cast<const T*>(p.dy) + i, count, grad, count);
#pragma GCC ivdep
          for (int j = 0; j < count; ++j) du[j] = (u[j] - f[0][j]) * f[1][j] + (dy[j] * f[3][j] + f[2][j]);
          differentiate(p.activation, 0, inner.ref, du, out, count);
          if (p.partial_bias != nullptr) {
#pragma GCC ivdep
            for (int j = 0; j < count; ++j) bias_sums[j] += out[j];
          }
          for (int k = 0; p.partial_strength != nullptr && k < pixels; ++k) {
            const A level = noise[n * p.noise_stride + q + k];
#pragma GCC ivdep
            for (int j = static_cast<int>(k * width); j < (k + 1) * width; ++j) strength_sums[j] += out[j] * level;
          }
          for (int k = 0; p.partial_noise != nullptr && k < pixels; ++k)
            noise_sums.get()[q - first + k] +=
                static_cast<A>(dot(out + k * width, inner.strengths(), static_cast<int>(width)));
        } else {
#pragma GCC ivdep
          for (int j = 0; j < count; ++j) out[j] = (u[j] - f[0][j]) * f[1][j] + f[2][j];
        }
        store(out, count, y, count);
      });
      // Zero where the pass before has left it.
      if (p.partial_bias != nullptr) add_rows(bias_sums, width, p.partial_bias + item * p.channels + c);
      if (p.partial_strength != nullptr) add_rows(strength_sums, width, p.partial_strength + item * p.channels + c);
    }
    for (int64_t q = first; p.partial_noise != nullptr && q < last; ++q)
      p.partial_noise[n * p.pixels + q] = noise_sums.get()[q - first];
  }
}

// Calls f with whether the backward runs and with a null pointer of the element type.
template <typename F>
void by_kind(const AdainParams& p, F&& f) {
  for_dtype(p.dtype, [&](auto* t) { p.dy == nullptr ? f(std::false_type(), t) : f(std::true_type(), t); });
}

}  // namespace

void adain_planes(const AdainParams& p, int64_t begin, int64_t end) {
  by_kind(p,
          [&](auto backward, auto* t) { planes<backward.value, std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

void adain_statistics(const AdainParams& p, int64_t begin, int64_t end) {
  by_kind(p, [&](auto backward, auto* t) {
    statistics<backward.value, std::remove_pointer_t<decltype(t)>>(p, begin, end);
  });
}

void adain_factors(const AdainParams& p, int64_t begin, int64_t end) {
  by_kind(p, [&](auto backward, auto* t) {
    merge_runs<backward.value, accumulate_t<std::remove_pointer_t<decltype(t)>>>(p, begin, end);
  });
}

void adain_apply(const AdainParams& p, int64_t begin, int64_t end) {
  by_kind(p, [&](auto backward, auto* t) { apply<backward.value, std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

STYLEGAN_OPS_END_VARIANT
