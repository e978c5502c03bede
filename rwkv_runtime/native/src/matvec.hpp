// A weight matrix times one vector, as the matrices of rwkv_runtime/matrices.py multiply a row: bfloat16 with the vector
// and the result rounded to it, int8 with the vector in int8 and exact sums, int4 with the vector in int8 by groups.
#pragma once
#include "abi.hpp"
#include "int4.hpp"
#include "rows.hpp"
#include "vec.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

constexpr int64_t ROWS_OF_A_PRODUCT = 32;

template <class T>
inline float dot(const T* row, const float* x, int64_t columns) {
    Vec sums[4] = {};
    int64_t c = 0;
    for (; c + 4 * WIDTH <= columns; c += 4 * WIDTH)
        for (int q = 0; q < 4; ++q) sums[q] = sums[q] + load(row + c + q * WIDTH) * load(x + c + q * WIDTH);
    for (; c + WIDTH <= columns; c += WIDTH) sums[0] = sums[0] + load(row + c) * load(x + c);
    if (c < columns) sums[1] = sums[1] + load_some(row + c, columns - c) * load_some(x + c, columns - c);
    return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// Four sums, or each product would wait for the one before. Rows follow one another in memory, so what is fetched ahead
// at the end of one is the beginning of the next; for bfloat16 that cost a quarter of the speed, here it gains.
inline int32_t dot(const int8_t* row, const uint8_t* x, int64_t columns) {
    int32_t total = 0;
    int64_t c = 0;
#if defined(__AVX512VNNI__)
    __m512i sums[4] = {};
    for (; c + 256 <= columns; c += 256)
        for (int q = 0; q < 4; ++q) {
            __builtin_prefetch(row + c + 4096 + q * 64);
            const __m512i steps = _mm512_loadu_si512(x + c + q * 64), weights = _mm512_loadu_si512(row + c + q * 64);
            sums[q] = _mm512_dpbusd_epi32(sums[q], steps, weights);
        }
    const __m512i both = _mm512_add_epi32(sums[0], sums[1]), others = _mm512_add_epi32(sums[2], sums[3]);
    total = _mm512_reduce_add_epi32(_mm512_add_epi32(both, others));
#endif
    for (; c < columns; ++c) total += static_cast<int32_t>(x[c]) * static_cast<int32_t>(row[c]);
    return total;
}

inline float rounded(float x) {
    float lanes[WIDTH] = {x};
    Bf16 halves[WIDTH];
    store(halves, load(lanes));
    return as<float>(static_cast<uint32_t>(halves[0].bits) << 16);
}

struct Product {
    const Matrix& matrix;
    const float* x;
    float* y;
    const uint8_t* steps;  // of int8: the vector's, with 128 added
    float scale;           // of one of these steps
    VectorInGroups groups;  // of int4

    void operator()(int64_t task) const {
        const int64_t begin = task * ROWS_OF_A_PRODUCT, columns = matrix.columns;
        const int64_t end = begin + ROWS_OF_A_PRODUCT < matrix.rows ? begin + ROWS_OF_A_PRODUCT : matrix.rows;
        for (int64_t row = begin; row < end; ++row) {
            if (matrix.kind == KIND_INT8) {
                const int8_t* weights = static_cast<const int8_t*>(matrix.weight) + row * columns;
                const int32_t exact = dot(weights, steps, columns) - 128 * matrix.sums[row];
                y[row] = exact * scale * static_cast<const float*>(matrix.scales)[row];
            } else if (matrix.kind == KIND_INT4) {
                const uint8_t* packed = static_cast<const uint8_t*>(matrix.weight);
                y[row] = dot(RowOfInt4(packed, matrix.scales, row, columns), groups, columns);
            } else if (matrix.kind == KIND_BFLOAT16) {
                y[row] = rounded(dot(static_cast<const Bf16*>(matrix.weight) + row * columns, x, columns));
            } else {
                y[row] = dot(static_cast<const float*>(matrix.weight) + row * columns, x, columns);
            }
        }
    }
};

// `space` holds a vector's length of floats: the vector as the matrix wants it.
inline void multiply(const Threads& threads, const Matrix& matrix, const float* x, float* y, float* space) {
    Product product{matrix, x, y, nullptr, 0.0f, {}};
    if (matrix.kind == KIND_BFLOAT16) {
        along(matrix.columns, [&](int64_t c, auto at) {
            Bf16 halves[WIDTH];
            store(halves, at.get(x + c));
            at.put(space + c, load(halves));
        });
        product.x = space;
    } else if (matrix.kind == KIND_INT8) {
        int8_t* steps = reinterpret_cast<int8_t*>(space);
        const QuantiseRows call = {{nullptr, 1}, 1, matrix.columns, x, steps, &product.scale, FLOAT32, 0};
        quantise_rows(&call);
        for (int64_t c = 0; c < matrix.columns; ++c) steps[c] = static_cast<int8_t>(steps[c] ^ 0x80);
        product.steps = reinterpret_cast<const uint8_t*>(steps);
    } else if (matrix.kind == KIND_INT4) {
        product.groups = in_groups(x, matrix.columns, space);
    }
    for_each_task(threads, (matrix.rows + ROWS_OF_A_PRODUCT - 1) / ROWS_OF_A_PRODUCT, product);
}

inline void matvec(const MatVec* call) { multiply(call->threads, *call->matrix, call->x, call->y, call->space); }

}  // namespace UNSPOOL_ISA
}  // namespace unspool
