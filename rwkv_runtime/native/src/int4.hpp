// Weights of int4: groups of 32 columns, each with a scale and the value of its middle step, so that a weight is
// (step - 8) * scale + middle. Steps share bytes as rwkv_runtime/matrices.py says: of a block of 128 columns, byte i holds
// the steps of columns i (low half) and 64 + i; of a pair of groups at the end of a row, those of columns i and 32 + i.
#pragma once
#include "abi.hpp"
#include "vec.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

constexpr int64_t GROUP = 32, PAIR = 2 * GROUP, BLOCK_OF_INT4 = 4 * GROUP;

// A row of a matrix.
struct RowOfInt4 {
    const uint8_t* packed;
    const Bf16 *scales, *middles;  // [groups]

    RowOfInt4(const uint8_t* all, const void* all_scales, int64_t row, int64_t columns)
        : packed(all + row * (columns / 2)),
          scales(static_cast<const Bf16*>(all_scales) + row * 2 * (columns / GROUP)),
          middles(scales + columns / GROUP) {}
};

// Where the steps of a group lie: 32 bytes, in one half of each.
struct HalvesOfBytes {
    const uint8_t* bytes;
    int shift;

    HalvesOfBytes(const uint8_t* packed, int64_t group, int64_t columns) {
        const int64_t first = group * GROUP / BLOCK_OF_INT4 * BLOCK_OF_INT4, place = group - first / GROUP;
        const bool is_block = first + BLOCK_OF_INT4 <= columns;
        bytes = packed + first / 2 + (is_block ? (place & 1) * GROUP : 0);
        shift = (is_block ? place >= 2 : place == 1) ? 4 : 0;
    }
};

// A vector in int8: each group is `sizes` times its steps, and `sums` is what that comes to in sum.
struct VectorInGroups {
    const int8_t* steps;  // [columns]
    const float *sizes, *sums;  // [groups]
};

// `space` holds a vector's length of floats.
inline VectorInGroups in_groups(const float* x, int64_t columns, float* space) {
    int8_t* steps = reinterpret_cast<int8_t*>(space);
    float *sizes = space + columns / 4, *sums = sizes + columns / GROUP;
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding and taking it away rounds to the nearest integer
    for (int64_t group = 0; group < columns / GROUP; ++group) {
        const float* own = x + group * GROUP;
        Vec found = {}, lost = {}, total = {};
        for (int64_t c = 0; c < GROUP; c += WIDTH) {
            found = maximum(magnitude(load(own + c)), found);
            lost += load(own + c) * 0.0f;  // NaN from a NaN or an infinity, which no int8 can say: the size does
        }
        const float reach = largest(found), finer = reach > 0.0f ? 127.0f / reach : 0.0f;
        for (int64_t c = 0; c < GROUP; c += WIDTH) {
            const Vec scaled = minimum(maximum(load(own + c) * finer, spread(-127.0f)), spread(127.0f));
            const Vec rounded = (scaled + magic) - magic;
            const Bytes bytes = __builtin_convertvector(__builtin_convertvector(rounded, Ints), Bytes);
            memcpy(steps + group * GROUP + c, &bytes, sizeof bytes);
            total += rounded;
        }
        sizes[group] = reach / 127.0f + sum(lost);
        sums[group] = sizes[group] * sum(total);
    }
    return {steps, sizes, sums};
}

inline float product_of_group(const RowOfInt4& row, const VectorInGroups& x, int64_t group, int64_t columns) {
    const HalvesOfBytes halves(row.packed, group, columns);
    const int8_t* steps = x.steps + group * GROUP;
    int32_t exact = 0;
    for (int64_t c = 0; c < GROUP; ++c)
        exact += static_cast<int32_t>((halves.bytes[c] >> halves.shift) & 15) * static_cast<int32_t>(steps[c]);
    const float scale = number(row.scales[group]);
    return exact * scale * x.sizes[group] + (number(row.middles[group]) - 8.0f * scale) * x.sums[group];
}

#if defined(__AVX512VNNI__)
// Of R rows with one vector, sixteen groups at a time; `count` of them, a multiple of 4, are there. A vector of exact sums
// has eight of one group and eight of the next.
template <int R>
struct SumsOfInt4 {
    Vec products[R][2] = {}, offsets[R] = {};

    inline __attribute__((always_inline)) void add(const RowOfInt4 (&rows)[R], const VectorInGroups& x, int64_t group,
                                                   int64_t count) {
        const __mmask16 there = static_cast<__mmask16>((1u << count) - 1);
        const Vec sizes = as<Vec>(_mm512_maskz_loadu_ps(there, x.sizes + group));
        const Vec sums = as<Vec>(_mm512_maskz_loadu_ps(there, x.sums + group));
        Vec scales[R];
        UNSPOOL_UNROLLED for (int r = 0; r < R; ++r) {
            const Vec scale = some(rows[r].scales + group, there), middle = some(rows[r].middles + group, there);
            scales[r] = scale * sizes;
            offsets[r] += (middle - 8.0f * scale) * sums;
        }
        for (int64_t place = 0; place < count; place += 4) {
            const int8_t* steps = x.steps + (group + place) * GROUP;
            const __m512i vectors[2] = {_mm512_loadu_si512(steps), _mm512_loadu_si512(steps + PAIR)};
            UNSPOOL_UNROLLED for (int r = 0; r < R; ++r) add_block(rows[r], r, group, place, vectors, scales[r]);
        }
    }

    inline __attribute__((always_inline)) void add_block(const RowOfInt4& row, int r, int64_t group, int64_t place,
                                                         const __m512i (&vectors)[2], Vec scales) {
        const __m512i low = _mm512_set1_epi8(15);
        const __m512i bytes = _mm512_loadu_si512(row.packed + (group + place) * GROUP / 2);
        const __m512i halves[2] = {_mm512_and_si512(bytes, low), _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low)};
        for (int half = 0; half < 2; ++half) {
            const __m512i exact = _mm512_dpbusd_epi32(_mm512_setzero_si512(), halves[half], vectors[half]);
            const int first = static_cast<int>(place) + 2 * half;
            const __m512i which = _mm512_mask_set1_epi32(_mm512_set1_epi32(first), 0xff00, first + 1);
            products[r][half] += as<Vec>(_mm512_cvtepi32_ps(exact)) *
                                 as<Vec>(_mm512_permutexvar_ps(which, as<__m512>(scales)));
        }
    }

    static Vec some(const Bf16* from, __mmask16 there) {
        return widened(as<Halves>(_mm256_maskz_loadu_epi16(there, from)));
    }
};
#endif

// The products of R rows with a vector; each in the same order, whatever R is.
template <int R>
inline __attribute__((always_inline)) void dots(const RowOfInt4 (&rows)[R], const VectorInGroups& x, int64_t columns,
                                                float (&found)[R]) {
    const int64_t groups = columns / GROUP;
    int64_t group = 0;
    for (int r = 0; r < R; ++r) found[r] = 0.0f;
#if defined(__AVX512VNNI__)
    SumsOfInt4<R> sums;
    const int64_t whole = groups / 4 * 4;
    for (; group + 16 <= whole; group += 16) sums.add(rows, x, group, 16);
    if (group < whole) sums.add(rows, x, group, whole - group);
    group = whole;
    for (int r = 0; r < R; ++r) found[r] = sum(sums.products[r][0] + sums.products[r][1] + sums.offsets[r]);
#endif
    for (; group < groups; ++group)
        for (int r = 0; r < R; ++r) found[r] += product_of_group(rows[r], x, group, columns);
}

inline void unpack_int4(const UnpackInt4* call) {
    typedef uint8_t Unsigned __attribute__((vector_size(WIDTH)));
    auto work = [&](int64_t index) {
        const RowOfInt4 row(call->packed, call->scales, index, call->columns);
        Bf16* values = static_cast<Bf16*>(call->values) + index * call->columns;
        for (int64_t group = 0; group < call->columns / GROUP; ++group) {
            const HalvesOfBytes halves(row.packed, group, call->columns);
            const float scale = number(row.scales[group]), middle = number(row.middles[group]);
            for (int64_t c = 0; c < GROUP; c += WIDTH) {
                Unsigned bytes;
                memcpy(&bytes, halves.bytes + c, sizeof bytes);
                const Vec steps = __builtin_convertvector((bytes >> halves.shift) & 15, Vec);
                store(values + group * GROUP + c, (steps - 8.0f) * scale + middle);
            }
        }
    };
    for_each_task(call->threads, call->rows, work);
}

}  // namespace UNSPOOL_ISA
}  // namespace unspool
