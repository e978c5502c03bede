// WKV-7 forward and backward on a CPU, one row and head after another; threads share them with OpenMP, if there is any.
//
// For one head with state S [value][key], a token does
//     S <- S * diag(decay) + (S a) b^T + v k^T,   y = S r
// with a = -removal and b = removal * rate, so every input is an ordinary input and a reset is decay = a = 0.
// The forward pass keeps the state before every CHUNK-th token; the backward pass recomputes a chunk's states from it
// and walks back. All arrays are float32, contiguous: inputs [B, T, H, N], states [B, H, N, N].
// The loops over N are plain; `omp simd` makes vector instructions of them (-fopenmp-simd where there is no OpenMP).

#include <cstddef>
#include <cstring>
#include <vector>

namespace {

constexpr int N = 64;
constexpr int CHUNK = 16;
constexpr std::size_t STATE = static_cast<std::size_t>(N) * N;

struct Token {
  const float *r, *w, *k, *v, *a, *b;
};

// Writes the state after the token, and, per value row, what `a` recalled from the state before it.
// `after` may be `before`: a row is read whole before it is written.
inline void advance(const float* before, float* after, const Token& t, float* recalled) {
  for (int i = 0; i < N; ++i) {
    const float* s = before + i * N;
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int j = 0; j < N; ++j) sum += s[j] * t.a[j];
    recalled[i] = sum;
    const float value = t.v[i];
    float* out = after + i * N;
#pragma omp simd
    for (int j = 0; j < N; ++j) out[j] = s[j] * t.w[j] + sum * t.b[j] + value * t.k[j];
  }
}

inline void read(const float* state, const float* r, float* y) {
  for (int i = 0; i < N; ++i) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int j = 0; j < N; ++j) sum += state[i * N + j] * r[j];
    y[i] = sum;
  }
}

struct Gradients {
  float *r, *w, *k, *v, *a, *b;
};

// `grad` is the gradient of the state after the token and becomes that of the state before it.
inline void retreat(const float* before, const float* after, float* grad, const Token& t,
                    const float* recalled, const float* dy, const Gradients& g) {
  float zero[N] = {};
  for (float* out : {g.r, g.w, g.k, g.a, g.b}) std::memcpy(out, zero, sizeof zero);
  for (int i = 0; i < N; ++i) {
    float* gi = grad + i * N;
    const float *si = before + i * N, *ti = after + i * N;
    const float d = dy[i], value = t.v[i], kept = recalled[i];
    float through_b = 0.0f, through_k = 0.0f;
#pragma omp simd reduction(+ : through_b, through_k)
    for (int j = 0; j < N; ++j) {
      gi[j] += d * t.r[j];
      through_b += gi[j] * t.b[j];
      through_k += gi[j] * t.k[j];
    }
    g.v[i] = through_k;
#pragma omp simd
    for (int j = 0; j < N; ++j) {
      g.r[j] += ti[j] * d;
      g.w[j] += gi[j] * si[j];
      g.k[j] += gi[j] * value;
      g.b[j] += gi[j] * kept;
      g.a[j] += si[j] * through_b;
      gi[j] = gi[j] * t.w[j] + through_b * t.a[j];
    }
  }
}

}  // namespace

extern "C" {

int wkv7_head_size() { return N; }
int wkv7_chunk() { return CHUNK; }

// `saved` is [B, H, ceil(T / CHUNK), N, N]; `last` [B, H, N, N] may be `first` itself.
void wkv7_forward(int rows, int tokens, int heads, const float* r, const float* w, const float* k, const float* v,
                  const float* a, const float* b, const float* first, float* y, float* saved, float* last) {
  const int chunks = (tokens + CHUNK - 1) / CHUNK, width = heads * N;
#pragma omp parallel for schedule(dynamic)
  for (int one = 0; one < rows * heads; ++one) {
    alignas(64) float state[STATE];
    alignas(64) float recalled[N];
    const std::size_t base = static_cast<std::size_t>(one / heads) * tokens * width + (one % heads) * N;
    std::memcpy(state, first + one * STATE, sizeof state);
    for (int t = 0; t < tokens; ++t) {
      if (t % CHUNK == 0) std::memcpy(saved + (static_cast<std::size_t>(one) * chunks + t / CHUNK) * STATE, state, sizeof state);
      const std::size_t p = base + static_cast<std::size_t>(t) * width;
      advance(state, state, Token{r + p, w + p, k + p, v + p, a + p, b + p}, recalled);
      read(state, r + p, y + p);
    }
    std::memcpy(last + one * STATE, state, sizeof state);
  }
}

// `dlast` is the gradient of the last state, `dfirst` receives that of the first.
void wkv7_backward(int rows, int tokens, int heads, const float* r, const float* w, const float* k, const float* v,
                   const float* a, const float* b, const float* saved, const float* dy, const float* dlast, float* dr,
                   float* dw, float* dk, float* dv, float* da, float* db, float* dfirst) {
  const int chunks = (tokens + CHUNK - 1) / CHUNK, width = heads * N;
#pragma omp parallel
  {
    std::vector<float> states((CHUNK + 1) * STATE);
    alignas(64) float recalled[CHUNK][N];
#pragma omp for schedule(dynamic)
    for (int one = 0; one < rows * heads; ++one) {
      const std::size_t base = static_cast<std::size_t>(one / heads) * tokens * width + (one % heads) * N;
      float* grad = dfirst + one * STATE;
      std::memcpy(grad, dlast + one * STATE, STATE * sizeof(float));
      for (int chunk = chunks - 1; chunk >= 0; --chunk) {
        const int begin = chunk * CHUNK, length = tokens - begin < CHUNK ? tokens - begin : CHUNK;
        std::memcpy(states.data(), saved + (static_cast<std::size_t>(one) * chunks + chunk) * STATE, STATE * sizeof(float));
        for (int u = 0; u < length; ++u) {
          const std::size_t p = base + static_cast<std::size_t>(begin + u) * width;
          advance(&states[u * STATE], &states[(u + 1) * STATE], Token{r + p, w + p, k + p, v + p, a + p, b + p}, recalled[u]);
        }
        for (int u = length - 1; u >= 0; --u) {
          const std::size_t p = base + static_cast<std::size_t>(begin + u) * width;
          retreat(&states[u * STATE], &states[(u + 1) * STATE], grad, Token{r + p, w + p, k + p, v + p, a + p, b + p},
                  recalled[u], dy + p, Gradients{dr + p, dw + p, dk + p, dv + p, da + p, db + p});
        }
      }
    }
  }
}

}  // extern "C"
