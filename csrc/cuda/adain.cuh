// adain: u = act(x + noise * strength[c] + bias[c]) * gain, y = scale * (u - mean) / sqrt(var + eps) + shift, mean and
// variance over the pixels of each (n, c).
//
// Contiguous, a plane that the registers of a block hold: one launch (adain_planes.cuh), one read and one write.
// Else three: blocks leave the moments of what they read, one warp for each plane merges them (moments.cuh), and the
// elementwise kernel (adain_strips.cuh) reads again: two reads and one write.
#pragma once

#include "adain_strips.cuh"

namespace stylegan_ops::cuda {

inline bool reads_planes(const AdainParams& p) { return p.layout == Layout::kContiguous || p.channels == 1; }

// The launches that read the planes to the end or leave their moments; those that merge them.
template <typename T, bool BACKWARD>
class AdainPlan {
  using A = Accumulate<T>;

 public:
  bool whole = false;
  int64_t bytes = 0;  // of the workspace: moments and factors
  Strips strips;      // of channels_last moments

  // `may_be_whole`: nothing is wanted that a plane in registers does not give.
  AdainPlan(const AdainParams& p, bool may_be_whole) : p_(p) {
    const int64_t planes = p.samples * p.channels;
    if (reads_planes(p)) {
      by_plane_vectors<T>(p, [&](auto v) {
        using Teams = PlaneTeams<T, v.value, BACKWARD>;
        whole = may_be_whole && Teams::fits(p);
        const int64_t chunks = Teams(p, whole).chunks;
        terms_ = {p.channels * chunks,     chunks, 0, 1, planes * chunks, static_cast<int>(p.channels), 1,
                  static_cast<int>(chunks)};
      });
    } else {
      strips =
          make_strips<T, kAdainVector<T>>(p.layout, p.samples, p.channels, p.pixels,
                                          aligned({p.x, p.dy, p.noise, p.strength, p.bias}), p.noise != nullptr, true);
      const Strips& s = strips;
      terms_ = {s.chunks * s.row,
                1,
                s.row,
                p.channels,
                s.samples * s.chunks * s.row,
                static_cast<int>(p.channels),
                static_cast<int>(s.chunks),
                s.group};
    }
    factors_ = ceil_div(kMomentParts * terms_.part * static_cast<int64_t>(sizeof(A)), kVectorBytes) * kVectorBytes;
    bytes = whole ? 0 : factors_ + planes * static_cast<int64_t>(sizeof(PlaneFactors<A>));
  }

  // Returns the factors, [N, C] in the workspace; null where all is done. The sums are those of whole planes.
  const PlaneFactors<A>* run(char* workspace, A* bias_sums, A* strength_sums, const Differentiate<T>& differentiate,
                             Stream stream) const {
    A* terms = reinterpret_cast<A*>(workspace);
    auto* factors = reinterpret_cast<PlaneFactors<A>*>(workspace + factors_);
    const int64_t planes = p_.samples * p_.channels;
    const T *x = static_cast<const T*>(p_.x), *dy = static_cast<const T*>(p_.dy);
    const A *scale = static_cast<const A*>(p_.scale), *shift = static_cast<const A*>(p_.shift);
    A *dscale = static_cast<A*>(p_.dscale), *dshift = static_cast<A*>(p_.dshift);
    const AdainInner<A> inner(p_);
    if (reads_planes(p_)) {
      by_plane_vectors<T>(p_, [&](auto v) {
        constexpr int V = v.value;
        const PlaneTeams<T, V, BACKWARD> teams(p_, whole);
        const AdainPlanes<T> args{x,
                                  dy,
                                  static_cast<T*>(p_.y),
                                  scale,
                                  shift,
                                  dscale,
                                  dshift,
                                  bias_sums,
                                  strength_sums,
                                  terms,
                                  static_cast<A>(p_.eps),
                                  static_cast<int>(planes),
                                  static_cast<int>(p_.pixels),
                                  static_cast<int>(teams.chunk),
                                  static_cast<int>(teams.chunks)};
        const auto kernel =
            whole ? adain_planes_kernel<T, V, BACKWARD, true> : adain_planes_kernel<T, V, BACKWARD, false>;
        launch("adain", kernel, dim3(static_cast<unsigned>(teams.blocks)), teams.block(), 0, stream, args, inner,
               differentiate);
      });
      if (whole) return nullptr;
    } else {
      const auto moments =
          strips.vectors ? adain_moments_kernel<T, kAdainVector<T>, BACKWARD> : adain_moments_kernel<T, 1, BACKWARD>;
      launch("adain", moments, strips.grid(), strips.block(), 0, stream, x, dy, inner, terms, strips);
    }
    launch("adain", adain_factors_kernel<A, BACKWARD>,
           dim3(static_cast<unsigned>(ceil_div(planes, kMergeThreads / kWarp))), dim3(kMergeThreads), 0, stream, terms,
           terms_, scale, shift, factors, dscale, dshift, planes, p_.eps);
    return factors;
  }

 private:
  const AdainParams& p_;
  MomentTerms terms_;
  int64_t factors_;  // where they begin in the workspace
};

inline void run_adain(const AdainParams& p, Stream stream) {
  by_dtype(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulate<T>;
    const AdainPlan<T, false> plan(p, true);
    const Differentiate<T> unused(p.activation, 0, false);
    const PlaneFactors<A>* factors = plan.run(static_cast<char*>(p.workspace), nullptr, nullptr, unused, stream);
    if (factors == nullptr) return;
    const Strips s =
        make_strips<T, kAdainVector<T>>(p.layout, p.samples, p.channels, p.pixels,
                                        aligned({p.x, p.y, p.noise, p.strength, p.bias}), p.noise != nullptr, false);
    by_strips<T, kAdainVector<T>>(s, [&](auto v, auto layout) {
      launch("adain", adain_apply_kernel<T, v.value, layout.value>, s.grid(), s.block(), 0, stream,
             static_cast<const T*>(p.x), static_cast<T*>(p.y), AdainInner<A>(p), factors, s);
    });
  });
}

}  // namespace stylegan_ops::cuda
