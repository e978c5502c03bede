// A weight matrix times a few vectors, as the matrices of rwkv_runtime/matrices.py multiply rows: bfloat16 with vectors
// and results rounded to it, int8 with the vectors in int8 and exact sums, int4 with the vectors in int8 by groups.
//
// Each number of a result is one sum along the columns, in an order that depends on neither the number of vectors nor
// the place of this one among them. Weights are read once for all vectors: that takes most of the time.
#pragma once
#include "abi.hpp"
#include "gemm.hpp"
#include "int4.hpp"
#include "rows.hpp"
#include "vec.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

constexpr int64_t ROWS_OF_A_PRODUCT = 32;

#if defined(__AVX512F__)
// The sums of the lanes of four vectors, within each 128 bits: (0 + 2) + (1 + 3).
inline Vec quarters(Vec a, Vec b, Vec c, Vec d) {
    const __m512 w = as<__m512>(a), x = as<__m512>(b), y = as<__m512>(c), z = as<__m512>(d);
    const __m512d first = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(w, x), _mm512_unpackhi_ps(w, x)));
    const __m512d other = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(y, z), _mm512_unpackhi_ps(y, z)));
    return as<Vec>(_mm512_unpacklo_pd(first, other)) + as<Vec>(_mm512_unpackhi_pd(first, other));
}
inline Ints quarters(Ints a, Ints b, Ints c, Ints d) {
    const __m512i w = as<__m512i>(a), x = as<__m512i>(b), y = as<__m512i>(c), z = as<__m512i>(d);
    const __m512i first = _mm512_add_epi32(_mm512_unpacklo_epi32(w, x), _mm512_unpackhi_epi32(w, x));
    const __m512i other = _mm512_add_epi32(_mm512_unpacklo_epi32(y, z), _mm512_unpackhi_epi32(y, z));
    return as<Ints>(_mm512_unpacklo_epi64(first, other)) + as<Ints>(_mm512_unpackhi_epi64(first, other));
}

// The 128 bits of two vectors in pairs: (0 + 1, 2 + 3) of each.
template <class V>
inline V pairs(V a, V b) {
    const __m512i x = as<__m512i>(a), y = as<__m512i>(b);
    return as<V>(_mm512_shuffle_i32x4(x, y, 0x88)) + as<V>(_mm512_shuffle_i32x4(x, y, 0xdd));
}

// The sums of the lanes of each of R by N vectors; each in the same order, whatever R and N are.
template <int R, int N, class V, class Number>
inline __attribute__((always_inline)) void add_up(const V (&sums)[R][N], Number (&found)[R][N]) {
    if constexpr (R == 4 && N == 4) {
        V rows[4];
        for (int r = 0; r < 4; ++r) rows[r] = quarters(sums[r][0], sums[r][1], sums[r][2], sums[r][3]);
        const V all = pairs(pairs(rows[0], rows[1]), pairs(rows[2], rows[3]));
        memcpy(found, &all, sizeof all);
    } else {
        for (int r = 0; r < R; ++r)
            for (int n = 0; n < N; ++n) {
                const V one = quarters(sums[r][n], sums[r][n], sums[r][n], sums[r][n]), all = pairs(one, one);
                found[r][n] = pairs(all, all)[0];
            }
    }
}
#else
template <int R, int N>
inline void add_up(const Vec (&sums)[R][N], float (&found)[R][N]) {
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n) found[r][n] = sum(sums[r][n]);
}
#endif

// The products of R rows of weights with N vectors, both `columns` long and one behind the other.
template <int R, int N, class T>
inline __attribute__((always_inline)) void dots(const T* weights, const float* x, int64_t columns,
                                                float (&found)[R][N]) {
    Vec sums[R][N] = {};
    int64_t c = 0;
    for (; c + WIDTH <= columns; c += WIDTH) {
        UNSPOOL_UNROLLED
        for (int r = 0; r < R; ++r) {
            const Vec weight = load(weights + r * columns + c);
            UNSPOOL_UNROLLED
            for (int n = 0; n < N; ++n) sums[r][n] = sums[r][n] + weight * load(x + n * columns + c);
        }
    }
    for (int r = 0; r < R && c < columns; ++r)
        for (int n = 0; n < N; ++n) {
            const Vec weight = load_some(weights + r * columns + c, columns - c);
            sums[r][n] = sums[r][n] + weight * load_some(x + n * columns + c, columns - c);
        }
    add_up(sums, found);
}

#if defined(__AVX512BF16__)
typedef Bf16 ShortInput;

inline Vec fused(Vec sum, __m512bh x, __m512bh y) { return as<Vec>(_mm512_dpbf16_ps(as<__m512>(sum), x, y)); }

template <int R, int N>
inline __attribute__((always_inline)) void dots(const Bf16* weights, const Bf16* x, int64_t columns,
                                                float (&found)[R][N]) {
    Vec sums[R][N] = {};
    int64_t c = 0;
    for (; c + 32 <= columns; c += 32) {
        UNSPOOL_UNROLLED
        for (int r = 0; r < R; ++r) {
            const __m512bh weight = (__m512bh)_mm512_loadu_si512(weights + r * columns + c);
            UNSPOOL_UNROLLED
            for (int n = 0; n < N; ++n)
                sums[r][n] = fused(sums[r][n], weight, (__m512bh)_mm512_loadu_si512(x + n * columns + c));
        }
    }
    const __mmask32 left = (1u << (columns - c)) - 1;
    for (int r = 0; r < R && left; ++r)
        for (int n = 0; n < N; ++n) {
            const __m512bh weight = (__m512bh)_mm512_maskz_loadu_epi16(left, weights + r * columns + c);
            sums[r][n] = fused(sums[r][n], weight, (__m512bh)_mm512_maskz_loadu_epi16(left, x + n * columns + c));
        }
    add_up(sums, found);
}
#else
typedef float ShortInput;
#endif

// Of int8, whose vectors come as steps with 128 added.
template <int R, int N>
inline __attribute__((always_inline)) void dots(const int8_t* weights, const uint8_t* x, int64_t columns,
                                                int32_t (&found)[R][N]) {
    int64_t c = 0;
#if defined(__AVX512VNNI__)
    Ints sums[R][N] = {};
    for (; c + 64 <= columns; c += 64) {
        UNSPOOL_UNROLLED
        for (int r = 0; r < R; ++r) {
            const __m512i weight = _mm512_loadu_si512(weights + r * columns + c);
            UNSPOOL_UNROLLED
            for (int n = 0; n < N; ++n)
                sums[r][n] = as<Ints>(_mm512_dpbusd_epi32(
                    as<__m512i>(sums[r][n]), _mm512_loadu_si512(x + n * columns + c), weight));
        }
    }
    add_up(sums, found);
#else
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n) found[r][n] = 0;
#endif
    for (int r = 0; r < R && c < columns; ++r)
        for (int n = 0; n < N; ++n)
            for (int64_t left = c; left < columns; ++left)
                found[r][n] +=
                    static_cast<int32_t>(x[n * columns + left]) * static_cast<int32_t>(weights[r * columns + left]);
}

inline float rounded(float x) {
    float lanes[WIDTH] = {x};
    Bf16 halves[WIDTH];
    store(halves, load(lanes));
    return number(halves[0]);
}

// Ask for rows of `bytes` that follow one another: tiles read several at a time, which hardware does not foresee.
inline __attribute__((always_inline)) void fetch(const void* weights, int64_t row, int64_t count, int64_t bytes) {
    const char* begin = static_cast<const char*>(weights) + row * bytes;
    for (int64_t place = 0; place < count * bytes; place += 64) __builtin_prefetch(begin + place);
}

// Vectors as a kind of matrix wants them, and what becomes of the products of some of its rows with some of them.
struct Floats {
    const Matrix& matrix;
    const float* x;

    inline __attribute__((always_inline)) void fetch_ahead(int64_t row, int64_t count) const {
        fetch(matrix.weight, row, count, 4 * matrix.columns);
    }

    template <int R, int N>
    void tile(int64_t row, int64_t lane, float (&y)[R][N]) const {
        dots(static_cast<const float*>(matrix.weight) + row * matrix.columns, x + lane * matrix.columns, matrix.columns,
             y);
    }
};

struct Shorts {
    const Matrix& matrix;
    const ShortInput* x;

    inline __attribute__((always_inline)) void fetch_ahead(int64_t row, int64_t count) const {
        fetch(matrix.weight, row, count, 2 * matrix.columns);
    }

    template <int R, int N>
    void tile(int64_t row, int64_t lane, float (&y)[R][N]) const {
        dots(static_cast<const Bf16*>(matrix.weight) + row * matrix.columns, x + lane * matrix.columns, matrix.columns,
             y);
        for (int r = 0; r < R; ++r)
            for (int n = 0; n < N; ++n) y[r][n] = rounded(y[r][n]);
    }
};

struct Steps {
    const Matrix& matrix;
    const uint8_t* x;
    const float* sizes;  // of a step of each vector

    inline __attribute__((always_inline)) void fetch_ahead(int64_t row, int64_t count) const {
        fetch(matrix.weight, row, count, matrix.columns);
    }

    template <int R, int N>
    void tile(int64_t row, int64_t lane, float (&y)[R][N]) const {
        int32_t exact[R][N];
        dots(static_cast<const int8_t*>(matrix.weight) + row * matrix.columns, x + lane * matrix.columns,
             matrix.columns, exact);
        const float* scales = static_cast<const float*>(matrix.scales);
        for (int r = 0; r < R; ++r)
            for (int n = 0; n < N; ++n)
                y[r][n] = (exact[r][n] - 128 * matrix.sums[row + r]) * sizes[lane + n] * scales[row + r];
    }
};

// Some rows of the matrix with all vectors. Of a single vector the rows are read one behind the other, as memory likes it;
// of several, in tiles, each number of which is used for four products.
template <class Inputs>
struct Product {
    const Inputs& inputs;
    int64_t rows, lanes;
    float* y;

    void operator()(int64_t task) const {
        const int64_t begin = task * ROWS_OF_A_PRODUCT;
        const int64_t end = begin + ROWS_OF_A_PRODUCT < rows ? begin + ROWS_OF_A_PRODUCT : rows;
        int64_t lane = 0;
        for (; lane + 4 <= lanes; lane += 4) stripe<4, 4>(begin, end, lane);
        for (; lane < lanes; ++lane) stripe<1, 1>(begin, end, lane);
    }

    template <int R, int N>
    void stripe(int64_t begin, int64_t end, int64_t lane) const {
        int64_t row = begin;
        for (; row + R <= end; row += R) {
            if (N > 1 && !lane) inputs.fetch_ahead(row + R, R);
            tile<R, N>(row, lane);
        }
        for (; row < end; ++row) tile<1, N>(row, lane);
    }

    template <int R, int N>
    inline __attribute__((always_inline)) void tile(int64_t row, int64_t lane) const {
        float found[R][N];
        inputs.template tile<R, N>(row, lane, found);
        for (int r = 0; r < R; ++r)
            for (int n = 0; n < N; ++n) y[(lane + n) * rows + row + r] = found[r][n];
    }
};

template <class Inputs>
void multiply_by(const Threads& threads, const Inputs& inputs, int64_t lanes, float* y) {
    const int64_t rows = inputs.matrix.rows;
    Product<Inputs> work{inputs, rows, lanes, y};
    for_each_task(threads, (rows + ROWS_OF_A_PRODUCT - 1) / ROWS_OF_A_PRODUCT, work);
}

// Of int4: sixteen rows with all vectors. The rows of a vector go one behind the other as memory has them.
struct ProductOfInt4 {
    const Matrix& matrix;
    const VectorInGroups* x;
    int64_t lanes;
    float* y;

    void operator()(int64_t task) const {
        int64_t lane = 0;
        for (; lane + 4 <= lanes; lane += 4) tile<4>(task, lane);
        for (; lane < lanes; ++lane) tile<1>(task, lane);
    }

    template <int N>
    void tile(int64_t task, int64_t lane) const {
        const BlockOfInt4* blocks = blocks_of(matrix, task * ROWS_OF_A_BLOCK_OF_INT4);
        for (int64_t row = 0; row < ROWS_OF_A_BLOCK_OF_INT4; row += WIDTH) {
            const int64_t first = task * ROWS_OF_A_BLOCK_OF_INT4 + row, left = matrix.rows - first;
            Vec found[N];
            dots(blocks, row, x + lane, matrix.columns / GROUP, found);
            for (int n = 0; n < N && left > 0; ++n)
                store_some(y + (lane + n) * matrix.rows + first, found[n], left < WIDTH ? left : WIDTH);
        }
    }
};

// From so many vectors on, turning the weights (gemm.hpp) costs less than adding up the lanes of every sum.
constexpr int64_t MANY_LANES = 8;

// `space` holds `lanes` vectors of floats: the vectors as the matrix wants them.
inline void multiply_many(const Threads& threads, const Matrix& matrix, int64_t lanes, const float* x, float* y,
                          float* space) {
    const int64_t columns = matrix.columns;
    float sizes[MOST_LANES];
    if (matrix.kind == KIND_INT8) {
        int8_t* steps = reinterpret_cast<int8_t*>(space);
        const QuantiseRows call = {{nullptr, 1}, lanes, columns, x, steps, sizes, FLOAT32, 0, 128};
        quantise_rows(&call);
    } else if (matrix.kind != KIND_FLOAT32) {
        Bf16* halves = reinterpret_cast<Bf16*>(space);
        along(lanes * columns, [&](int64_t c, auto at) { at.put(halves + c, at.get(x + c)); });
    }
    const void* given = matrix.kind == KIND_FLOAT32 ? x : space;
    const Gemm call = {threads, &matrix, lanes, given, sizes, y, FLOAT32};
    GEMM(&call);
}

// The bytes of a matrix, or what takes as long: from so many vectors on, multiplying takes longer than reading.
inline int64_t bytes_to_read(const Matrix& matrix, int64_t lanes) {
    const int64_t bits = matrix.kind == KIND_FLOAT32 ? 32 : matrix.kind == KIND_BFLOAT16 ? 16 : matrix.kind == KIND_INT8 ? 8 : 4;
    return matrix.rows * matrix.columns * bits / 8 * (1 + lanes / MANY_LANES);
}

// As before, of any number of vectors up to MOST_LANES.
inline void multiply(const Threads& given, const Matrix& matrix, int64_t lanes, const float* x, float* y,
                     float* space) {
    const int64_t columns = matrix.columns;
    const Threads threads = busy(given, bytes_to_read(matrix, lanes));
    if (GEMM && lanes >= MANY_LANES && in_words(matrix)) {
        multiply_many(threads, matrix, lanes, x, y, space);
    } else if (matrix.kind == KIND_BFLOAT16) {
        ShortInput* inputs = reinterpret_cast<ShortInput*>(space);
        along(lanes * columns, [&](int64_t c, auto at) {
            Bf16 halves[WIDTH];
            store(halves, at.get(x + c));
            at.put(inputs + c, load(halves));
        });
        multiply_by(threads, Shorts{matrix, inputs}, lanes, y);
    } else if (matrix.kind == KIND_INT8) {
        float sizes[MOST_LANES];
        int8_t* steps = reinterpret_cast<int8_t*>(space);
        const QuantiseRows call = {{nullptr, 1}, lanes, columns, x, steps, sizes, FLOAT32, 0, 128};
        quantise_rows(&call);
        multiply_by(threads, Steps{matrix, reinterpret_cast<const uint8_t*>(steps), sizes}, lanes, y);
    } else if (matrix.kind == KIND_INT4) {
        VectorInGroups groups[MOST_LANES];
        for (int64_t lane = 0; lane < lanes; ++lane)
            groups[lane] = in_groups(x + lane * columns, columns, space + lane * columns);
        ProductOfInt4 work{matrix, groups, lanes, y};
        for_each_task(threads, (matrix.rows + ROWS_OF_A_BLOCK_OF_INT4 - 1) / ROWS_OF_A_BLOCK_OF_INT4, work);
    } else {
        multiply_by(threads, Floats{matrix, x}, lanes, y);
    }
}

inline void products(const Products* call) {
    multiply(call->threads, *call->matrix, call->lanes, call->x, call->y, call->space);
}

}  // namespace UNSPOOL_ISA
}  // namespace unspool
