// Python's view of the host executor and of the launchers in csrc/cuda: device buffers, the parameter structs, whose
// pointers take buffers, and a function for each launcher. This library holds no kernel: see host_executor.h.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <functional>
#include <optional>
#include <sstream>
#include <thread>
#include <tuple>
#include <vector>

#include "executor_kernels.h"
#include "once.h"
#include "ops/adain.h"
#include "ops/bias_act.h"
#include "ops/conv_epilogue.h"
#include "ops/filtered_lrelu.h"
#include "ops/modulated_conv2d.h"
#include "ops/pixel_norm.h"
#include "ops/upfirdn2d.h"

namespace py = pybind11;
using namespace stylegan_ops;
using host_executor::Buffer;

namespace {

// A struct with its fields.
template <typename P>
class Struct {
 public:
  Struct(py::module_& m, const char* name) : class_(m, name) {
    class_.def(py::init([] { return P{}; }));
  }

  template <typename... F>
  Struct& values(const char* names, F P::*... fields) {
    std::istringstream stream(names);
    (value(stream, fields), ...);
    return *this;
  }

  // Device pointers: a Buffer and the byte in it, or None. Whoever sets it keeps the buffer.
  template <typename... F>
  Struct& pointers(const char* names, F* P::*... fields) {
    std::istringstream stream(names);
    (pointer(stream, fields), ...);
    return *this;
  }

  // Structs by value, of which Python writes into the elements themselves.
  template <typename F, size_t SIZE>
  Struct& array(const char* name, F (P::*field)[SIZE]) {
    class_.def_property_readonly(name, [field](py::object self) {
      py::list elements;
      for (F& element : self.cast<P&>().*field) elements.append(py::cast(&element, py::return_value_policy::reference));
      return elements;
    });
    return *this;
  }

 private:
  static std::string next(std::istringstream& names) {
    std::string name;
    if (!(names >> name)) throw std::logic_error("a field lacks its name");
    return name;
  }

  template <typename F>
  void value(std::istringstream& names, F P::* field) {
    const std::string name = next(names);
    if constexpr (std::is_enum_v<F>)
      class_.def_property(
          name.c_str(), [field](const P& p) { return static_cast<int>(p.*field); },
          [field](P& p, int v) { p.*field = static_cast<F>(v); });
    else
      class_.def_readwrite(name.c_str(), field);
  }

  template <typename F>
  void pointer(std::istringstream& names, F* P::* field) {
    class_.def_property(next(names).c_str(), nullptr,
                        [field](P& p, std::optional<std::pair<const Buffer*, int64_t>> at) {
                          p.*field = at ? static_cast<F*>(static_cast<void*>(at->first->data() + at->second)) : nullptr;
                        });
  }

  py::class_<P> class_;
};

template <typename P>
void bind_launcher(py::module_& m, const char* name, void (*launcher)(const P&, cuda::Stream)) {
  m.def(name, [launcher](const P& p) { launcher(p, nullptr); });
}

using Size = std::tuple<unsigned, unsigned, unsigned>;

void bind_executor(py::module_& m) {
  py::class_<Buffer>(m, "Buffer", py::buffer_protocol())
      .def(py::init([](const std::string& name, size_t bytes, int placement) {
        return std::make_unique<Buffer>(name, bytes, static_cast<host_executor::Placement>(placement));
      }))
      .def_buffer([](Buffer& b) {
        return py::buffer_info(reinterpret_cast<uint8_t*>(b.data()), static_cast<py::ssize_t>(b.bytes()));
      });
  using host_executor::Settings;
  m.def(
      "settings",
      [](int order, uint64_t seed, int architecture, int multiprocessors, int shared_bytes) {
        host_executor::settings = {static_cast<host_executor::Order>(order), seed, architecture, multiprocessors,
                                   shared_bytes};
        host_executor::launched.clear();
      },
      py::arg("order"), py::arg("seed"), py::arg("architecture") = Settings().architecture,
      py::arg("multiprocessors") = Settings().multiprocessors, py::arg("shared_bytes") = Settings().shared_bytes);
  m.def("launched", [] {  // since the last settings: the kernel's symbol, the grid
    std::vector<std::pair<std::string, Size>> all;
    for (const host_executor::Launched& l : host_executor::launched)
      all.push_back({l.symbol(), {l.blocks.x, l.blocks.y, l.blocks.z}});
    return all;
  });
  m.def("test_kernel", [](const std::string& name, Buffer& x, int n, Size grid, Size block, size_t shared) {
    const auto size = [](Size s) { return dim3(std::get<0>(s), std::get<1>(s), std::get<2>(s)); };
    host_executor::launch(name.c_str(), test_kernels().at(name), size(grid), size(block), shared,
                          reinterpret_cast<unsigned*>(x.data()), n);
  });
}

// Threads that all call OncePerKernel for all kernels and devices, `rounds` times. Returns how often it acted, in the
// first round and later, and how often it returned to a thread before anything was done.
std::tuple<int, int, int> run_once_per_kernel(int threads, int kernels, int devices, int rounds) {
  cuda::OncePerKernel once;
  const auto address = [](int kernel) { return reinterpret_cast<const void*>(uintptr_t{4096} * (1 + kernel)); };
  std::vector<std::atomic<bool>> done(kernels * devices);
  std::atomic<int> first{0}, later{0}, early{0};
  const auto round = [&](std::atomic<int>& acted) {
    for (int kernel = 0; kernel < kernels; ++kernel)
      for (int device = 0; device < devices; ++device) {
        std::atomic<bool>& mine = done[kernel * devices + device];
        once(address(kernel), device, [&] { ++acted, mine = true; });
        if (!mine) ++early;
      }
  };
  for (int r = 0; r < rounds; ++r) {
    std::vector<std::thread> running;
    for (int t = 1; t < threads; ++t) running.emplace_back(round, std::ref(r == 0 ? first : later));
    round(r == 0 ? first : later);
    for (std::thread& t : running) t.join();
  }
  return {first, later, early};
}

}  // namespace

PYBIND11_MODULE(cuda_on_host, m) {
  bind_executor(m);
  m.def("run_once_per_kernel", run_once_per_kernel);
  m.def("find_per_device", [](const std::vector<int>& devices, const py::function& find) {
    cuda::PerDevice known;
    std::vector<int> values;
    for (int device : devices) values.push_back(known(device, [&] { return find(device).cast<int>(); }));
    return values;
  });

  Struct<Activation>(m, "Activation")
      .values("act alpha gain clamp", &Activation::act, &Activation::alpha, &Activation::gain, &Activation::clamp);

  using B = BiasActParams;
  Struct<B>(m, "BiasActParams")
      .pointers("x b y", &B::x, &B::b, &B::y)
      .values("outer channels inner dtype activation", &B::outer, &B::channels, &B::inner, &B::dtype, &B::activation);
  bind_launcher(m, "bias_act", cuda::launch_bias_act);

  using G = BiasActBackwardParams;
  Struct<G>(m, "BiasActBackwardParams")
      .pointers("dy ref dx db workspace", &G::dy, &G::ref, &G::dx, &G::db, &G::workspace)
      .values("outer channels inner order dtype activation", &G::outer, &G::channels, &G::inner, &G::order, &G::dtype,
              &G::activation);
  bind_launcher(m, "bias_act_backward", cuda::launch_bias_act_backward);
  m.def("bias_act_backward_workspace", cuda::bias_act_backward_workspace);

  using N = PixelNormParams;
  Struct<N>(m, "PixelNormParams")
      .pointers("x dy y", &N::x, &N::dy, &N::y)
      .values("outer channels inner eps dtype", &N::outer, &N::channels, &N::inner, &N::eps, &N::dtype);
  m.attr("PixelNormBackwardParams") = m.attr("PixelNormParams");
  bind_launcher(m, "pixel_norm", cuda::launch_pixel_norm);
  bind_launcher(m, "pixel_norm_backward", cuda::launch_pixel_norm_backward);

  using I = AdainParams;
  Struct<I>(m, "AdainParams")
      .pointers("x dy y scale shift noise strength bias", &I::x, &I::dy, &I::y, &I::scale, &I::shift, &I::noise,
                &I::strength, &I::bias)
      .pointers("dscale dshift dnoise dstrength dbias workspace", &I::dscale, &I::dshift, &I::dnoise, &I::dstrength,
                &I::dbias, &I::workspace)
      .values("samples channels pixels noise_stride eps layout dtype activation", &I::samples, &I::channels, &I::pixels,
              &I::noise_stride, &I::eps, &I::layout, &I::dtype, &I::activation);
  m.attr("AdainBackwardParams") = m.attr("AdainParams");
  bind_launcher(m, "adain", cuda::launch_adain);
  m.def("adain_workspace", cuda::adain_workspace);
  bind_launcher(m, "adain_backward", cuda::launch_adain_backward);
  m.def("adain_backward_workspace", cuda::adain_backward_workspace);

  using E = EpilogueOperands;
  Struct<E>(m, "EpilogueOperands")
      .pointers("scale noise strength bias", &E::scale, &E::noise, &E::strength, &E::bias)
      .values("channels noise_stride activation", &E::channels, &E::noise_stride, &E::activation);

  using C = ConvEpilogueParams;
  Struct<C>(m, "ConvEpilogueParams")
      .pointers("y out", &C::y, &C::out)
      .values("operands samples pixels layout dtype", &C::operands, &C::samples, &C::pixels, &C::layout, &C::dtype);
  bind_launcher(m, "conv_epilogue", cuda::launch_conv_epilogue);

  using D = ConvEpilogueBackwardParams;
  Struct<D>(m, "ConvEpilogueBackwardParams")
      .pointers("dout ref y scale noise strength bias dy", &D::dout, &D::ref, &D::y, &D::scale, &D::noise, &D::strength,
                &D::bias, &D::dy)
      .pointers("dscale dbias dstrength dnoise workspace", &D::dscale, &D::dbias, &D::dstrength, &D::dnoise,
                &D::workspace)
      .values("recovers order samples channels pixels noise_stride layout dtype activation", &D::recovers, &D::order,
              &D::samples, &D::channels, &D::pixels, &D::noise_stride, &D::layout, &D::dtype, &D::activation);
  bind_launcher(m, "conv_epilogue_backward", cuda::launch_conv_epilogue_backward);
  m.def("conv_epilogue_backward_workspace", cuda::conv_epilogue_backward_workspace);

  using R = ResampleAxis;
  Struct<R>(m, "ResampleAxis").values("in out up down pad taps", &R::in, &R::out, &R::up, &R::down, &R::pad, &R::taps);

  using F = DeviceFilter;
  Struct<F>(m, "DeviceFilter")
      .pointers("f", &F::f)
      .values("one_axis correlation gain", &F::one_axis, &F::correlation, &F::gain);

  using S = DemodulationParams;
  Struct<S>(m, "DemodulationParams")
      .pointers("w styles scale", &S::w, &S::styles, &S::scale)
      .values("samples out_channels in_channels taps stride_o stride_i eps dtype", &S::samples, &S::out_channels,
              &S::in_channels, &S::taps, &S::stride_o, &S::stride_i, &S::eps, &S::dtype);
  bind_launcher(m, "demodulation", cuda::launch_demodulation);

  using L = ModulationParams::Layer;
  Struct<L>(m, "Layer")
      .values("in_channels out_channels roots styles scale", &L::in_channels, &L::out_channels, &L::roots, &L::styles,
              &L::scale);

  using M = ModulationParams;
  Struct<M>(m, "ModulationParams")
      .pointers("given roots factors styles scale", &M::given, &M::roots, &M::factors, &M::styles, &M::scale)
      .array("layer", &M::layer)
      .values("samples layers most_channels eps dtype", &M::samples, &M::layers, &M::most_channels, &M::eps, &M::dtype);
  bind_launcher(m, "modulation", cuda::launch_modulation);

  using P = PackWeightParams;
  Struct<P>(m, "PackWeightParams")
      .pointers("w out", &P::w, &P::out)
      .values("stride_o stride_i stride_y stride_x in_channels out_channels kernel_y kernel_x from_float32 dtype",
              &P::stride_o, &P::stride_i, &P::stride_y, &P::stride_x, &P::in_channels, &P::out_channels, &P::kernel_y,
              &P::kernel_x, &P::from_float32, &P::dtype);
  bind_launcher(m, "pack_weight", cuda::launch_pack_weight);

  using V = FusedConvParams;
  Struct<V>(m, "FusedConvParams")
      .pointers("x w styles y factor products workspace", &V::x, &V::w, &V::styles, &V::y, &V::factor, &V::products,
                &V::workspace)
      .values("samples height width in_channels out_height out_width out_channels", &V::samples, &V::height, &V::width,
              &V::in_channels, &V::out_height, &V::out_width, &V::out_channels)
      .values("kernel stride pad_y pad_x transposed tf32 epilogue dtype", &V::kernel, &V::stride, &V::pad_y, &V::pad_x,
              &V::transposed, &V::tf32, &V::epilogue, &V::dtype);
  bind_launcher(m, "fused_conv", cuda::launch_fused_conv);
  m.def("fused_conv_workspace", cuda::fused_conv_workspace);

  using U = Upfirdn2dParams;
  Struct<U>(m, "Upfirdn2dParams")
      .pointers("x out bias", &U::x, &U::out, &U::bias)
      .values("filter images pixel x_axis y_axis conv epilogue channels dtype", &U::filter, &U::images, &U::pixel,
              &U::x_axis, &U::y_axis, &U::conv, &U::epilogue, &U::channels, &U::dtype);
  m.attr("ConvBlurParams") = m.attr("Upfirdn2dParams");
  bind_launcher(m, "upfirdn2d", cuda::launch_upfirdn2d);
  bind_launcher(m, "conv_blur", cuda::launch_conv_blur);
  m.def("has_conv_blur", [](int dtype) { return cuda::has_conv_blur(static_cast<DType>(dtype)); });

  using K = FilteredLreluParams;
  Struct<K>(m, "FilteredLreluParams")
      .values("values tangents results activation", &K::values, &K::tangents, &K::results, &K::activation);
  bind_launcher(m, "filtered_lrelu", cuda::launch_filtered_lrelu);

  using W = FusedConvWeightParams;
  Struct<W>(m, "FusedConvWeightParams")
      .pointers("x dy styles scale dw workspace", &W::x, &W::dy, &W::styles, &W::scale, &W::dw, &W::workspace)
      .values("stride_o stride_i stride_y stride_x", &W::stride_o, &W::stride_i, &W::stride_y, &W::stride_x)
      .values("samples height width in_channels out_height out_width out_channels", &W::samples, &W::height, &W::width,
              &W::in_channels, &W::out_height, &W::out_width, &W::out_channels)
      .values("kernel stride pad_y pad_x tf32 dtype", &W::kernel, &W::stride, &W::pad_y, &W::pad_x, &W::tf32,
              &W::dtype);
  bind_launcher(m, "fused_conv_weight", cuda::launch_fused_conv_weight);
  m.def("fused_conv_weight_workspace", cuda::fused_conv_weight_workspace);
}
