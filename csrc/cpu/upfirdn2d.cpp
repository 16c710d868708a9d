// upfirdn2d: FourTaps for what StyleGAN resamples with, Rows for every other filter and factor.
#include "ops/upfirdn2d.h"

#include "epilogue.h"
#include "fir_rows.h"
#include "four_taps.h"

STYLEGAN_OPS_BEGIN_VARIANT
namespace {

// The output rows [begin, end) of all images, in bands of one image.
template <typename Kernel, typename Epilogues>
void bands(Kernel kernel, const Upfirdn2dParams& p, int64_t begin, int64_t end, const Epilogues& epilogue) {
  const int64_t out = p.y_axis.out;
  for (int64_t item = begin; item < end;) {
    const int64_t image = item / out, y = item % out, rows = min64(out - y, end - item);
    kernel.rows(image, y, y + rows, epilogue);
    item += rows;
  }
}

template <typename T, typename Epilogues>
void with_epilogue(const Upfirdn2dParams& p, int64_t begin, int64_t end, const Epilogues& epilogue) {
  const ResampleAxis &x = p.x_axis, &y = p.y_axis;
  const int64_t pixel = p.pixel;
  if (p.tap_x != nullptr && x.taps == 4 && y.taps == 4 && x.up == y.up && x.down == y.down) {
    if (x.up == 1 && x.down == 1) return bands(FourTaps<T, 1, 1>(p), p, begin, end, epilogue);
    if (p.epilogue == nullptr && (pixel == 1 || pixel >= kShortPixel)) {
      if (x.up == 2 && x.down == 1) return bands(FourTaps<T, 2, 1>(p), p, begin, end, NoEpilogue());
      if (x.up == 1 && x.down == 2) return bands(FourTaps<T, 1, 2>(p), p, begin, end, NoEpilogue());
    }
  }
  bands(Rows<T>(p), p, begin, end, epilogue);
}

template <typename T>
void run(const Upfirdn2dParams& p, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  if (p.epilogue == nullptr) return with_epilogue<T>(p, begin, end, NoEpilogue());
  Epilogue<A> epilogue(*p.epilogue);
  const int64_t channels = p.epilogue->channels;
  with_epilogue<T>(p, begin, end, [&](A* z, int64_t image, int64_t q, int64_t count) {
    if (p.pixel != channels) {  // planes
      for (int64_t i = 0; i < count; i += kBlock)
        epilogue.plane(z + i, z + i, static_cast<int>(min64(kBlock, count - i)), image / channels, image % channels,
                       q + i);
      return;
    }
    for_row_blocks(q, q + count, channels, [&](int64_t first, int pixels, int64_t c, int width) {
      A* block = z + (first - q) * channels + c;
      epilogue.pixels(block, block, image, first, pixels, c, width);
    });
  });
}

}  // namespace

void upfirdn2d(const Upfirdn2dParams& p, int64_t begin, int64_t end) {
  for_dtype(p.dtype, [&](auto* t) { run<std::remove_pointer_t<decltype(t)>>(p, begin, end); });
}

STYLEGAN_OPS_END_VARIANT
