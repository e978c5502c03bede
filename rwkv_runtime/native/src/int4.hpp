// Weights of int4: groups of 32 columns, each with a scale and the value of its middle step, so that a weight is
// (step - 8) * scale + middle. They lie in blocks of one group of sixteen rows, as a product reads them: block after block
// along the columns, then the next sixteen rows. Rows that fill the last sixteen up are zeros.
#pragma once
#include "abi.hpp"
#include "vec.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

constexpr int64_t GROUP = 32, ROWS_OF_A_BLOCK_OF_INT4 = 16, FOURS = 4;

// A byte of row r in the fours w holds the steps of column 4 w + its place (low half) and of the 16th column behind that.
struct BlockOfInt4 {
    uint8_t steps[FOURS][ROWS_OF_A_BLOCK_OF_INT4][4];
    struct {
        Bf16 scale, middle;
    } values[ROWS_OF_A_BLOCK_OF_INT4];

    // Of WIDTH rows.
    inline __attribute__((always_inline)) void get(int64_t row, Vec& scale, Vec& middle) const {
        Bits both;
        memcpy(&both, values + row, sizeof both);
        scale = as<Vec>(both << 16);
        middle = as<Vec>(both & 0xffff0000u);
    }
};
static_assert(sizeof(BlockOfInt4) == 320, "blocks lie one behind the other as Python packs them");

// The blocks of sixteen rows, of which `row` is the first.
inline const BlockOfInt4* blocks_of(const Matrix& matrix, int64_t row) {
    return static_cast<const BlockOfInt4*>(matrix.weight) + row / ROWS_OF_A_BLOCK_OF_INT4 * (matrix.columns / GROUP);
}

// A vector in int8: each group is `sizes` times its steps, `sums` is what that comes to in sum, and `balances` is -8 times
// the sum of the steps: what makes of products with steps from 0 to 15 those with steps from -8 to 7.
struct VectorInGroups {
    const int8_t* steps;        // [columns]
    const float *sizes, *sums;  // [groups]
    const int32_t* balances;    // [groups]
};

// `space` holds a vector's length of floats.
inline VectorInGroups in_groups(const float* x, int64_t columns, float* space) {
    int8_t* steps = reinterpret_cast<int8_t*>(space);
    float *sizes = space + columns / 4, *sums = sizes + columns / GROUP;
    int32_t* balances = reinterpret_cast<int32_t*>(sums + columns / GROUP);
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
        const float steps_in_sum = sum(total);
        sizes[group] = reach / 127.0f + sum(lost);
        sums[group] = sizes[group] * steps_in_sum;
        balances[group] = steps_in_sum == steps_in_sum ? -8 * static_cast<int32_t>(steps_in_sum) : 0;
    }
    return {steps, sizes, sums, balances};
}

// The steps of WIDTH rows of a block, from `row` on, and their exact products with a group of a vector. Exact in float,
// too, where that is what is used: sums stay below 2^24.
#if defined(__AVX512VNNI__)
struct StepsOfRows {
    __m512i low[FOURS], high[FOURS];  // of the high ones sixteen times as much, as they lie in their bytes

    inline __attribute__((always_inline)) StepsOfRows(const BlockOfInt4& block, int64_t) {
        UNSPOOL_UNROLLED for (int w = 0; w < FOURS; ++w) {
            const __m512i bytes = _mm512_loadu_si512(block.steps[w]);
            low[w] = _mm512_and_si512(bytes, _mm512_set1_epi8(15));
            high[w] = _mm512_andnot_si512(_mm512_set1_epi8(15), bytes);
        }
    }

    inline __attribute__((always_inline)) Vec times(const int8_t* x, int32_t balance) const {
        __m512i sums = _mm512_set1_epi32(balance), more = _mm512_setzero_si512();
        UNSPOOL_UNROLLED for (int w = 0; w < FOURS; ++w) {
            sums = with_four(sums, low[w], x + 4 * w);
            more = with_four(more, high[w], x + GROUP / 2 + 4 * w);
        }
        return as<Vec>(_mm512_cvtepi32_ps(_mm512_add_epi32(sums, _mm512_srai_epi32(more, 4))));
    }

    // The same four numbers of x for all rows, which the multiplication itself spreads: compilers add an instruction.
    static inline __attribute__((always_inline)) __m512i with_four(__m512i sums, __m512i steps, const int8_t* x) {
        typedef const int8_t Four[4];
        asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sums) : "v"(steps), "m"(*reinterpret_cast<Four*>(x)));
        return sums;
    }
};
#elif defined(__AVX2__)
#if defined(__AVX512BW__)
typedef __m512i Fours;
inline Fours low_halves(Fours bytes) { return _mm512_and_si512(bytes, _mm512_set1_epi8(15)); }
inline Fours high_halves(Fours bytes) { return low_halves(_mm512_srli_epi16(bytes, 4)); }
inline Fours everywhere(int32_t four) { return _mm512_set1_epi32(four); }
inline Fours with_products(Fours sums, Fours steps, Fours x) {
    return _mm512_add_epi32(sums, _mm512_madd_epi16(_mm512_maddubs_epi16(steps, x), _mm512_set1_epi16(1)));
}
#else
typedef __m256i Fours;
inline Fours low_halves(Fours bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(15)); }
inline Fours high_halves(Fours bytes) { return low_halves(_mm256_srli_epi16(bytes, 4)); }
inline Fours everywhere(int32_t four) { return _mm256_set1_epi32(four); }
inline Fours with_products(Fours sums, Fours steps, Fours x) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(steps, x), _mm256_set1_epi16(1)));
}
#endif

inline int32_t four(const int8_t* x) {
    int32_t all;
    memcpy(&all, x, sizeof all);
    return all;
}

struct StepsOfRows {
    Fours low[FOURS], high[FOURS];

    inline __attribute__((always_inline)) StepsOfRows(const BlockOfInt4& block, int64_t row) {
        UNSPOOL_UNROLLED for (int w = 0; w < FOURS; ++w) {
            Fours bytes;
            memcpy(&bytes, block.steps[w][row], sizeof bytes);
            low[w] = low_halves(bytes);
            high[w] = high_halves(bytes);
        }
    }

    inline __attribute__((always_inline)) Vec times(const int8_t* x, int32_t balance) const {
        Fours sums = everywhere(balance);
        UNSPOOL_UNROLLED for (int w = 0; w < FOURS; ++w) {
            sums = with_products(sums, low[w], everywhere(four(x + 4 * w)));
            sums = with_products(sums, high[w], everywhere(four(x + GROUP / 2 + 4 * w)));
        }
        return __builtin_convertvector(as<Ints>(sums), Vec);
    }
};
#else
struct StepsOfRows {
    Bits words[FOURS];

    StepsOfRows(const BlockOfInt4& block, int64_t row) {
        for (int w = 0; w < FOURS; ++w) memcpy(&words[w], block.steps[w][row], sizeof words[w]);
    }

    Vec times(const int8_t* x, int32_t balance) const {
        Vec sums = spread(static_cast<float>(balance));
        for (int w = 0; w < FOURS; ++w)
            for (int place = 0; place < 4; ++place) {
                const Bits bytes = words[w] >> (8 * place);
                sums += __builtin_convertvector(as<Ints>(bytes & 15), Vec) * static_cast<float>(x[4 * w + place]);
                sums += __builtin_convertvector(as<Ints>((bytes >> 4) & 15), Vec) *
                        static_cast<float>(x[GROUP / 2 + 4 * w + place]);
            }
        return sums;
    }
};
#endif

// The products of WIDTH rows, from `row` of some blocks on, with N vectors; each in the same order, whatever N is.
template <int N>
inline __attribute__((always_inline)) void dots(const BlockOfInt4* blocks, int64_t row, const VectorInGroups* x,
                                                int64_t groups, Vec (&found)[N]) {
    Vec sums[N] = {};
    for (int64_t group = 0; group < groups; ++group) {
        const BlockOfInt4& block = blocks[group];
        const StepsOfRows steps(block, row);
        Vec scale, middle;
        block.get(row, scale, middle);
        UNSPOOL_UNROLLED for (int n = 0; n < N; ++n) {
            const Vec exact = steps.times(x[n].steps + group * GROUP, x[n].balances[group]);
            sums[n] = sums[n] + exact * (scale * x[n].sizes[group]);
            sums[n] = sums[n] + middle * x[n].sums[group];
        }
    }
    for (int n = 0; n < N; ++n) found[n] = sums[n];
}

inline void unpack_int4(const UnpackInt4* call) {
    typedef uint8_t Unsigned __attribute__((vector_size(WIDTH)));
    const int64_t groups = call->columns / GROUP, half = GROUP / 2;
    auto work = [&](int64_t index) {
        const BlockOfInt4* blocks =
            static_cast<const BlockOfInt4*>(call->blocks) + index / ROWS_OF_A_BLOCK_OF_INT4 * groups;
        const int64_t row = index % ROWS_OF_A_BLOCK_OF_INT4;
        Bf16* values = static_cast<Bf16*>(call->values) + index * call->columns;
        for (int64_t group = 0; group < groups; ++group) {
            const BlockOfInt4& block = blocks[group];
            const float scale = number(block.values[row].scale), middle = number(block.values[row].middle);
            uint8_t bytes[GROUP / 2];
            for (int w = 0; w < FOURS; ++w) memcpy(bytes + 4 * w, block.steps[w][row], 4);
            for (int64_t c = 0; c < GROUP; c += WIDTH) {
                Unsigned own;
                memcpy(&own, bytes + c % half, sizeof own);
                const Vec steps = __builtin_convertvector((own >> (c < half ? 0 : 4)) & 15, Vec);
                store(values + group * GROUP + c, (steps - 8.0f) * scale + middle);
            }
        }
    };
    for_each_task(call->threads, call->rows, work);
}

}  // namespace UNSPOOL_ISA
}  // namespace unspool
