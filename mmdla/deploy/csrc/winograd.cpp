// Winograd's convolution F(4x4, 3x3) in float32, channels last: stride 1, padding 1, one group.
//
//   Y = A^T [ (G g G^T) . (B^T d B) ] A
//
// for each tile of 4x4 outputs and the 6x6 inputs d it sees (Lavin & Gray, "Fast Algorithms for
// Convolutional Neural Networks", 2016, Section 4.3). The 36 products over channels are small matrix
// multiplications. A thread takes a block of tiles through all three steps, so that what lies between
// them stays in its L2 cache, and no thread waits for another.
//
// Vectors are those of GCC and clang, as wide as the machine's. Nothing here may be compiled with
// -ffast-math: ReLU must let NaN through.

#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/CPUAllocator.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <optional>
#include <vector>

namespace {

// kRows x kCols vectors of sums stay in registers, beside one vector of each column and one more.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kRows = 10, kCols = 2;
#elif defined(__AVX__)
constexpr int kLanes = 8, kRows = 6, kCols = 2;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRows = 6, kCols = 4;
#else
constexpr int kLanes = 4, kRows = 6, kCols = 2;
#endif
constexpr int64_t kPanel = 32;  // output channels that are computed together; `PANEL` of winograd.py
constexpr int64_t kLine = 16;   // floats in 64 bytes
constexpr int64_t kSmallWeights = 1 << 17;  // floats, half of an L2 cache

typedef float vec __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t mask __attribute__((vector_size(kLanes * sizeof(float))));

inline vec load(const float* p) {
  vec v;
  std::memcpy(&v, p, sizeof(vec));
  return v;
}
inline void store(float* p, vec v) { std::memcpy(p, &v, sizeof(vec)); }
inline vec load(const float* p, int64_t n) {
  vec v = {};
  std::memcpy(&v, p, n * sizeof(float));
  return v;
}
inline void store(float* p, vec v, int64_t n) { std::memcpy(p, &v, n * sizeof(float)); }
inline vec relu_(vec v) { return (vec)((mask)v & ~(mask)(v < 0.f)); }

// Rows an odd number of cache lines apart do not compete for the same sets.
inline int64_t odd_lines(int64_t floats) { return ((floats + kLine - 1) / kLine | 1) * kLine; }

// o = B^T d for a line of six
template <typename In, typename Out>
inline void input_line(In in, Out out) {
  const vec d0 = in(0), d1 = in(1), d2 = in(2), d3 = in(3), d4 = in(4), d5 = in(5);
  const vec p = d4 - 4.f * d2, q = d3 - 4.f * d1, r = d4 - d2, s = d3 - d1;
  out(0, 4.f * d0 - 5.f * d2 + d4);
  out(1, p + q);
  out(2, p - q);
  out(3, r + 2.f * s);
  out(4, r - 2.f * s);
  out(5, 4.f * d1 - 5.f * d3 + d5);
}

// o = A^T m for a line of six
template <typename In, typename Out>
inline void output_line(In in, Out out) {
  const vec m0 = in(0), m1 = in(1), m2 = in(2), m3 = in(3), m4 = in(4), m5 = in(5);
  const vec s = m1 + m2, d = m1 - m2, t = m3 + m4, e = m3 - m4;
  out(0, m0 + s + t);
  out(1, d + 2.f * e);
  out(2, s + 4.f * t);
  out(3, d + 8.f * e + m5);
}

// m (R, N vectors) = v (R, channels) times u (channels, kPanel)
template <int R, int N>
void multiply(const float* v, int64_t vs, const float* u, int64_t channels, float* m) {
  vec sum[R][N];
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < N; ++j) sum[r][j] = vec{};
  for (int64_t k = 0; k < channels; ++k, u += kPanel) {
    vec b[N];
    for (int j = 0; j < N; ++j) b[j] = load(u + j * kLanes);
    for (int r = 0; r < R; ++r) {
      vec a = v[r * vs + k] - vec{};
      for (int j = 0; j < N; ++j) sum[r][j] += a * b[j];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < N; ++j) store(m + r * kPanel + j * kLanes, sum[r][j]);
}

template <int N, int R = kRows>
void multiply_rows(int rows, const float* v, int64_t vs, const float* u, int64_t channels, float* m) {
  if constexpr (R > 0) {
    if (rows == R) return multiply<R, N>(v, vs, u, channels, m);
    multiply_rows<N, R - 1>(rows, v, vs, u, channels, m);
  }
}

struct Map {
  const float* data;
  int64_t channels;
};

struct Problem {
  std::vector<Map> in;
  std::vector<float> zeros;  // what a pixel outside the map holds
  const float *u, *bias, *residual;
  float* out;
  bool relu;
  int64_t h, w, channels, out_channels, tiles_y, tiles_x;
  int64_t vs, v_plane, m_plane;  // strides of V (36, tiles, channels) and M (36, tiles, kPanel)

  // V of one tile
  void transform_input(int64_t tile, float* v) const {
    const int64_t image = tile / (tiles_y * tiles_x);
    const int64_t y0 = tile / tiles_x % tiles_y * 4 - 1, x0 = tile % tiles_x * 4 - 1;
    for (const auto& map : in) {
      const float* pixels[36];
      const float* base = map.data + image * h * w * map.channels;
      for (int a = 0; a < 6; ++a)
        for (int b = 0; b < 6; ++b) {
          const int64_t y = y0 + a, x = x0 + b;
          const bool inside = y >= 0 && y < h && x >= 0 && x < w;
          pixels[a * 6 + b] = inside ? base + (y * w + x) * map.channels : zeros.data();
        }
      for (int64_t c = 0; c < map.channels; c += kLanes) {
        const int64_t n = map.channels - c;
        vec t[36];
        for (int b = 0; b < 6; ++b) {
          const auto keep = [&](int a, vec x) { t[a * 6 + b] = x; };
          if (n >= kLanes)
            input_line([&](int a) { return load(pixels[a * 6 + b] + c); }, keep);
          else
            input_line([&](int a) { return load(pixels[a * 6 + b] + c, n); }, keep);
        }
        // What the next tile sees and this one does not.
        for (int a = 0; a < 6; ++a)
          for (int b = 2; b < 6; ++b) __builtin_prefetch(pixels[a * 6 + b] + 4 * map.channels + c);
        // The last vector of a map may reach into the next map's place, which is written afterwards.
        for (int a = 0; a < 6; ++a)
          input_line(
              [&](int b) { return t[a * 6 + b]; },
              [&](int b, vec x) { store(v + (a * 6 + b) * v_plane + c, x); });
      }
      v += map.channels;
    }
  }

  // Outputs of one tile for channels k to k + n, from M
  void transform_output(int64_t tile, const float* m, int64_t k, int64_t n) const {
    const int64_t image = tile / (tiles_y * tiles_x);
    const int64_t y0 = tile / tiles_x % tiles_y * 4, x0 = tile % tiles_x * 4;
    const int64_t ny = std::min<int64_t>(4, h - y0), nx = std::min<int64_t>(4, w - x0);
    const int64_t first = ((image * h + y0) * w + x0) * out_channels + k;
    for (int64_t c = 0; c < n; c += kLanes) {
      const int64_t left = std::min<int64_t>(kLanes, n - c);
      vec t[24], o[16];
      for (int b = 0; b < 6; ++b)
        output_line(
            [&](int a) { return load(m + (a * 6 + b) * m_plane + c); },
            [&](int a, vec x) { t[a * 6 + b] = x; });
      for (int a = 0; a < 4; ++a)
        output_line(
            [&](int b) { return t[a * 6 + b]; }, [&](int b, vec x) { o[a * 4 + b] = x; });
      const vec add = load(bias + k + c, left);
      for (int64_t a = 0; a < ny; ++a)
        for (int64_t b = 0; b < nx; ++b) {
          const int64_t at = first + (a * w + b) * out_channels + c;
          vec y = o[a * 4 + b] + add;
          if (left == kLanes) {
            if (residual) y += load(residual + at);
            store(out + at, relu ? relu_(y) : y);
          } else {
            if (residual) y += load(residual + at, left);
            store(out + at, relu ? relu_(y) : y, left);
          }
        }
    }
  }

  // M of a block's tiles for one panel of output channels
  void multiply_panel(const float* v, int64_t tiles, int64_t panel, int64_t n, float* m) const {
    const int64_t parts = (tiles + kRows - 1) / kRows;
    for (int64_t p = 0; p < 36; ++p) {
      const float* weights = u + (panel * 36 + p) * channels * kPanel;
      for (int64_t i = 0; i < parts; ++i) {
        const int64_t row = tiles * i / parts, rows = tiles * (i + 1) / parts - row;
        const float* from = v + p * v_plane + row * vs;
        float* to = m + p * m_plane + row * kPanel;
        int64_t c = 0;
        for (; c + (kCols - 1) * kLanes < n; c += kCols * kLanes)
          multiply_rows<kCols>(rows, from, vs, weights + c, channels, to + c);
        for (; c < n; c += kLanes) multiply_rows<1>(rows, from, vs, weights + c, channels, to + c);
      }
    }
  }
};

// Calls work on so many of PyTorch's threads. A TensorIterator is run by libtorch itself, so that there
// is one OpenMP runtime in the process, whatever the compiler that builds this brings along.
void run(int64_t threads, const std::function<void()>& work) {
  if (threads == 1) return work();
  auto each = at::empty({threads}, at::kByte);
  at::TensorIterator::nullary_op(each).for_each([&](char**, const int64_t*, int64_t) { work(); }, /*grain_size=*/1);
}

at::Tensor winograd(
    at::TensorList xs,
    const at::Tensor& u,
    const at::Tensor& bias,
    const std::optional<at::Tensor>& residual,
    bool relu) {
  TORCH_CHECK(!xs.empty(), "xs must hold one map (N, C, H, W) or more, got none");
  TORCH_CHECK(xs[0].dim() == 4, "xs must hold maps (N, C, H, W), got shape ", xs[0].sizes());
  const int64_t n = xs[0].size(0), h = xs[0].size(2), w = xs[0].size(3);
  const int64_t k = bias.numel(), panels = (k + kPanel - 1) / kPanel;
  const auto last = at::MemoryFormat::ChannelsLast;
  Problem problem;
  std::vector<at::Tensor> kept;
  int64_t channels = 0, widest = 0;
  auto check = [](const at::Tensor& t, const char* name) {
    TORCH_CHECK(
        t.scalar_type() == at::kFloat && t.device().is_cpu(),
        name, " must be float32 on the CPU, got ", t.scalar_type(), " on ", t.device());
  };
  for (const auto& x : xs) {
    check(x, "xs");
    TORCH_CHECK(
        x.dim() == 4 && x.size(0) == n && x.size(2) == h && x.size(3) == w,
        "xs must be of one batch and size, got shapes ", xs[0].sizes(), " and ", x.sizes());
    kept.push_back(x.contiguous(last));
    problem.in.push_back({kept.back().const_data_ptr<float>(), x.size(1)});
    channels += x.size(1);
    widest = std::max(widest, x.size(1));
  }
  check(u, "u");
  check(bias, "bias");
  TORCH_CHECK(bias.dim() == 1, "bias must have one dimension, got shape ", bias.sizes());
  TORCH_CHECK(
      u.dim() == 3 && u.size(0) == panels && u.size(1) == 36 && u.size(2) == channels * kPanel,
      "u must be what transform_weights gives for ", channels, " channels to ", k, ", of shape ",
      at::IntArrayRef({panels, 36, channels * kPanel}), ", got ", u.sizes());
  auto y = at::empty({n, k, h, w}, xs[0].options(), last);
  const auto weights = u.contiguous(), added = bias.contiguous();
  at::Tensor other;
  if (residual) {
    check(*residual, "residual");
    TORCH_CHECK(
        residual->sizes() == y.sizes(),
        "residual must be of the output's shape, ", y.sizes(), ", got ", residual->sizes());
    other = residual->contiguous(last);
  }
  if (y.numel() == 0) return y;

  problem.zeros.resize(widest + kLine);
  problem.u = weights.const_data_ptr<float>();
  problem.bias = added.const_data_ptr<float>();
  problem.residual = residual ? other.const_data_ptr<float>() : nullptr;
  problem.out = y.data_ptr<float>();
  problem.relu = relu;
  problem.h = h;
  problem.w = w;
  problem.channels = channels;
  problem.out_channels = k;
  problem.tiles_y = (h + 3) / 4;
  problem.tiles_x = (w + 3) / 4;
  const int64_t tiles = n * problem.tiles_y * problem.tiles_x;
  const int64_t threads = at::get_num_threads();
  const int64_t row = odd_lines(channels + kLine - 1);
  // Few tiles keep V and M in L2 beside u; where u comes from L3, more of them share what is read.
  int64_t block = (u.numel() <= kSmallWeights ? 2 : 3) * kRows;
  int64_t blocks = (tiles + block - 1) / block;
  // Where blocks are fewer than threads, several threads share a block's output channels.
  const int64_t groups = std::min(panels, std::max<int64_t>(1, (threads + blocks - 1) / blocks));
  if (blocks >= threads) blocks = std::min(tiles, (blocks + threads - 1) / threads * threads);
  const int64_t items = blocks * groups;
  block = (tiles + blocks - 1) / blocks;
  problem.vs = row;
  problem.v_plane = odd_lines(block * row);
  problem.m_plane = odd_lines(block * kPanel);

  // Each thread takes the next item, so that one held up by other processes holds up no other.
  std::atomic<int64_t> next{0};
  const auto work = [&]() {
    const int64_t size = 36 * (problem.v_plane + problem.m_plane);
    const auto memory = c10::GetCPUAllocator()->allocate(size * sizeof(float));
    float* v = static_cast<float*>(memory.get());
    float* m = v + 36 * problem.v_plane;
    for (int64_t i; (i = next++) < items;) {
      const int64_t b = i / groups, g = i % groups;
      const int64_t first = tiles * b / blocks, count = tiles * (b + 1) / blocks - first;
      for (int64_t t = 0; t < count; ++t) problem.transform_input(first + t, v + t * row);
      for (int64_t panel = panels * g / groups; panel < panels * (g + 1) / groups; ++panel) {
        const int64_t width = std::min(kPanel, k - panel * kPanel);
        problem.multiply_panel(v, count, panel, width, m);
        for (int64_t t = 0; t < count; ++t)
          problem.transform_output(first + t, m + t * kPanel, panel * kPanel, width);
      }
    }
  };
  run(std::min(threads, items), work);
  return y;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mmdla, library) {
  library.def("winograd(Tensor[] xs, Tensor u, Tensor bias, Tensor? residual, bool relu) -> Tensor",
              {at::Tag::pt2_compliant_tag, at::Tag::needs_fixed_stride_order});
}
TORCH_LIBRARY_IMPL(mmdla, CPU, library) { library.impl("winograd", &winograd); }
