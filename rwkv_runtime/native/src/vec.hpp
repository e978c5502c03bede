// Vectors of floats as wide as the instruction set that this file is compiled for, and what is computed with them.
// Only compiler extensions that GCC and Clang share, with intrinsics where those are slow. No library templates: their
// instances would be shared with code for older processors.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// For loops whose every turn is to be written out, so that what they go over stays in registers.
#define UNSPOOL_UNROLLED _Pragma("GCC unroll 16")

namespace unspool {
namespace UNSPOOL_ISA {

#if defined(__AVX512F__)
constexpr int WIDTH = 16, BLOCK = 4;  // lanes of a vector; vectors of a head that stay in registers
#elif defined(__AVX2__)
constexpr int WIDTH = 8, BLOCK = 2;
#else
constexpr int WIDTH = 4, BLOCK = 2;
#endif

typedef float Vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t Ints __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t Bits __attribute__((vector_size(4 * WIDTH)));
typedef uint16_t Halves __attribute__((vector_size(2 * WIDTH)));
typedef int8_t Bytes __attribute__((vector_size(WIDTH)));

struct Bf16 {
    uint16_t bits;
};

inline Vec spread(float x) { return x - Vec{}; }

template <class To, class From>
inline To as(From from) {
    static_assert(sizeof(To) == sizeof(From), "a cast keeps the bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

inline float number(Bf16 x) { return as<float>(static_cast<uint32_t>(x.bits) << 16); }

inline Vec widened(Halves halves) {
#if defined(__AVX512F__)  // of the conversion below GCC makes two halves
    return as<Vec>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(as<__m256i>(halves)), 16));
#elif defined(__AVX2__)
    return as<Vec>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(as<__m128i>(halves)), 16));
#else
    return as<Vec>(__builtin_convertvector(halves, Bits) << 16);
#endif
}

inline Halves narrowed(Vec x) {
#if defined(__AVX512BF16__)
    return as<Halves>(_mm512_cvtneps_pbh(as<__m512>(x)));
#else
    Bits bits = as<Bits>(x);
    Bits nearest_even = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    Bits kept = x == x ? nearest_even : (bits >> 16) | 0x40;  // else a NaN could be rounded to a number
    return __builtin_convertvector(kept, Halves);
#endif
}

inline Vec load(const float* from) {
    Vec x;
    memcpy(&x, from, sizeof x);
    return x;
}
inline Vec load(const Bf16* from) {
    Halves x;
    memcpy(&x, from, sizeof x);
    return widened(x);
}
inline void store(float* to, Vec x) { memcpy(to, &x, sizeof x); }
inline void store(Bf16* to, Vec x) {
    Halves halves = narrowed(x);
    memcpy(to, &halves, sizeof halves);
}

// The first `count` lanes; the others are 0 when loaded, and stay untouched when stored.
template <class T>
inline Vec load_some(const T* from, int64_t count) {
    T lanes[WIDTH] = {};
    memcpy(lanes, from, count * sizeof(T));
    return load(lanes);
}
template <class T>
inline void store_some(T* to, Vec x, int64_t count) {
    T lanes[WIDTH];
    store(lanes, x);
    memcpy(to, lanes, count * sizeof(T));
}

// A place in a row: all lanes of a vector, or, at the end of a row of odd width, some.
struct Whole {
    static constexpr int64_t count = WIDTH;
    template <class T> Vec get(const T* from) const { return load(from); }
    template <class T> void put(T* to, Vec x) const { store(to, x); }
    Vec only(Vec x) const { return x; }
};
struct Part {
    int64_t count;
    template <class T> Vec get(const T* from) const { return load_some(from, count); }
    template <class T> void put(T* to, Vec x) const { store_some(to, x, count); }
    Vec only(Vec x) const {
        float lanes[WIDTH] = {};
        store_some(lanes, x, count);
        return load(lanes);
    }
};

// Call body(column, place) for every vector of a row.
template <class Body>
inline __attribute__((always_inline)) void along(int64_t columns, Body body) {
    int64_t column = 0;
    for (; column + WIDTH <= columns; column += WIDTH) body(column, Whole{});
    if (column < columns) body(column, Part{columns - column});
}

#if defined(__AVX512F__)
// columns[c] = the c-th words of the sixteen rows.
inline __attribute__((always_inline)) void turn(__m512i (&rows)[16], __m512i (&columns)[16]) {
    __m512i half[16];
    UNSPOOL_UNROLLED for (int r = 0; r < 16; r += 4) {
        const __m512i a = _mm512_unpacklo_epi32(rows[r], rows[r + 1]), b = _mm512_unpackhi_epi32(rows[r], rows[r + 1]);
        const __m512i c = _mm512_unpacklo_epi32(rows[r + 2], rows[r + 3]);
        const __m512i d = _mm512_unpackhi_epi32(rows[r + 2], rows[r + 3]);
        half[r] = _mm512_unpacklo_epi64(a, c);
        half[r + 1] = _mm512_unpackhi_epi64(a, c);
        half[r + 2] = _mm512_unpacklo_epi64(b, d);
        half[r + 3] = _mm512_unpackhi_epi64(b, d);
    }
    UNSPOOL_UNROLLED for (int c = 0; c < 4; ++c) {
        const __m512i low = _mm512_shuffle_i32x4(half[c], half[c + 4], 0x88);
        const __m512i high = _mm512_shuffle_i32x4(half[c], half[c + 4], 0xdd);
        const __m512i more = _mm512_shuffle_i32x4(half[c + 8], half[c + 12], 0x88);
        const __m512i most = _mm512_shuffle_i32x4(half[c + 8], half[c + 12], 0xdd);
        columns[c] = _mm512_shuffle_i32x4(low, more, 0x88);
        columns[c + 4] = _mm512_shuffle_i32x4(high, most, 0x88);
        columns[c + 8] = _mm512_shuffle_i32x4(low, more, 0xdd);
        columns[c + 12] = _mm512_shuffle_i32x4(high, most, 0xdd);
    }
}
#endif

inline float sum(Vec x) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps(as<__m512>(x));
#else
    float lanes[WIDTH];
    memcpy(lanes, &x, sizeof x);
    for (int half = WIDTH / 2; half; half /= 2)
        for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    return lanes[0];
#endif
}

inline float largest(Vec x) {
    float lanes[WIDTH], found;
    memcpy(lanes, &x, sizeof x);
    found = lanes[0];
    for (int lane = 1; lane < WIDTH; ++lane) found = lanes[lane] > found ? lanes[lane] : found;
    return found;
}

// The larger, or smaller, of two; NaN in x stays.
#if defined(__AVX512F__)
inline Vec maximum(Vec x, Vec y) { return as<Vec>(_mm512_max_ps(as<__m512>(y), as<__m512>(x))); }
inline Vec minimum(Vec x, Vec y) { return as<Vec>(_mm512_min_ps(as<__m512>(y), as<__m512>(x))); }
#elif defined(__AVX2__)
inline Vec maximum(Vec x, Vec y) { return as<Vec>(_mm256_max_ps(as<__m256>(y), as<__m256>(x))); }
inline Vec minimum(Vec x, Vec y) { return as<Vec>(_mm256_min_ps(as<__m256>(y), as<__m256>(x))); }
#else
inline Vec maximum(Vec x, Vec y) { return x < y ? y : x; }
inline Vec minimum(Vec x, Vec y) { return y < x ? y : x; }
#endif
inline Vec magnitude(Vec x) { return as<Vec>(as<Bits>(x) & 0x7fffffffu); }

// e to the power of x, within 2 units in the last place; 0 below the smallest normal number. Cephes' polynomial.
inline Vec exponential(Vec x) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding and taking it away rounds to the nearest integer
    Vec in_range = minimum(maximum(x, spread(-87.33f)), spread(88.37f));
    Vec power = (in_range * 1.44269504f + magic) - magic;
    Vec rest = in_range - power * 0.693359375f;
    rest = rest + power * 2.12194440e-4f;
    Vec series = spread(1.9875691500e-4f);
    series = series * rest + 1.3981999507e-3f;
    series = series * rest + 8.3334519073e-3f;
    series = series * rest + 4.1665795894e-2f;
    series = series * rest + 1.6666665459e-1f;
    series = series * rest + 0.5f;
    Vec result = series * (rest * rest) + rest + 1.0f;
#if defined(__AVX512F__)
    const __mmask16 not_below = _mm512_cmp_ps_mask(as<__m512>(x), _mm512_set1_ps(-87.33f), _CMP_NLT_UQ);
    return as<Vec>(_mm512_maskz_scalef_ps(not_below, as<__m512>(result), as<__m512>(power)));
#else
    Ints exponent = __builtin_convertvector(power, Ints) + 127;
    result = result * as<Vec>(exponent << 23);
    return x < -87.33f ? Vec{} : result;
#endif
}

inline Vec sigmoid_of(Vec x) { return 1.0f / (1.0f + exponential(-x)); }

}  // namespace UNSPOOL_ISA
}  // namespace unspool
