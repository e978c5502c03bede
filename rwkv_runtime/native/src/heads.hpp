// What the recurrences with a matrix memory per head share: the memory key by key while a head is read, and what
// happens to its reads afterwards.
#pragma once
#include "abi.hpp"
#include "vec.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

inline int64_t padded(int64_t size) { return (size + WIDTH - 1) / WIDTH * WIDTH; }

typedef float Row[LARGEST_HEAD];

// A memory key by key, [key][padded value]; what is past the head's size is 0 and stays so.
struct Memory {
    alignas(64) float cells[LARGEST_HEAD * LARGEST_HEAD];
};

#if defined(__AVX512F__)
// Asks for memory that is needed later, a line with every other vector: the processor keeps few requests at a time.
struct Later {
    const char* next;
    int turn = 0;

    explicit Later(const float* from) : next(reinterpret_cast<const char*>(from)) {}

    inline __attribute__((always_inline)) void ask() {
        if (turn++ % 2) return;
        __builtin_prefetch(next);
        next += 64;
    }
};

// To memory that is needed next, and to memory that is not: past the caches, which need not fetch it to have it written.
struct Near {
    Later later;
    void operator()(float* to, __m512i x) {
        _mm512_storeu_si512(to, x);
        later.ask();
    }
};
struct Far {
    Later later;
    void operator()(float* to, __m512i x) {
        if (reinterpret_cast<uintptr_t>(to) % sizeof x)
            _mm512_storeu_si512(to, x);
        else
            _mm512_stream_si512(reinterpret_cast<__m512i*>(to), x);
        later.ask();
    }
};
#else
struct Later {
    explicit Later(const float*) {}
};
struct Near {
    Later later;
};
struct Far {
    Later later;
};
#endif

// to[column][row] = from[row][column]. Of single tokens this is half of the work, so it goes by tiles of 16 by 16 or 4 by 4.
template <class Put>
inline void transpose(const float* from, int64_t from_stride, float* to, int64_t to_stride, int64_t size, Put put) {
    int64_t whole = 0;
#if defined(__AVX512F__)
    whole = size / 16 * 16;
    for (int64_t row = 0; row < whole; row += 16)
        for (int64_t column = 0; column < whole; column += 16) {
            __m512i rows[16], columns[16];
            UNSPOOL_UNROLLED for (int r = 0; r < 16; ++r)
                rows[r] = _mm512_loadu_si512(from + (row + r) * from_stride + column);
            turn(rows, columns);
            UNSPOOL_UNROLLED for (int c = 0; c < 16; ++c) put(to + (column + c) * to_stride + row, columns[c]);
        }
#elif defined(__x86_64__)
    whole = size / 4 * 4;
    for (int64_t row = 0; row < whole; row += 4)
        for (int64_t column = 0; column < whole; column += 4) {
            const float* corner = from + row * from_stride + column;
            __m128 a = _mm_loadu_ps(corner), b = _mm_loadu_ps(corner + from_stride);
            __m128 c = _mm_loadu_ps(corner + 2 * from_stride), d = _mm_loadu_ps(corner + 3 * from_stride);
            _MM_TRANSPOSE4_PS(a, b, c, d);
            float* turned = to + column * to_stride + row;
            _mm_storeu_ps(turned, a);
            _mm_storeu_ps(turned + to_stride, b);
            _mm_storeu_ps(turned + 2 * to_stride, c);
            _mm_storeu_ps(turned + 3 * to_stride, d);
        }
#endif
    for (int64_t row = 0; row < size; ++row)
        for (int64_t column = row < whole ? whole : 0; column < size; ++column)
            to[column * to_stride + row] = from[row * from_stride + column];
}

inline void clear_past_values(Memory& memory, int64_t size) {
    const int64_t stride = padded(size);
    for (int64_t key = 0; key < size; ++key)
        for (int64_t value = size; value < stride; ++value) memory.cells[key * stride + value] = 0.0f;
}

// Take it from, or put it to, an array [key][value].
inline void take_by_key(Memory& memory, const float* from, int64_t size) {
    for (int64_t key = 0; key < size; ++key)
        memcpy(memory.cells + key * padded(size), from + key * size, size * sizeof(float));
    clear_past_values(memory, size);
}
inline void put_by_key(const Memory& memory, float* to, int64_t size) {
    for (int64_t key = 0; key < size; ++key)
        memcpy(to + key * size, memory.cells + key * padded(size), size * sizeof(float));
}

// Take it from, or put it to, an array [value][key]. Meanwhile each asks for a half of the memory of the `next` head.
inline void take_by_value(Memory& memory, const float* from, int64_t size, const float* next) {
    transpose(from, size, memory.cells, padded(size), size, Near{Later(next)});
    clear_past_values(memory, size);
}
inline void put_by_value(const Memory& memory, float* to, int64_t size, const float* next) {
    transpose(memory.cells, padded(size), to, size, size, Far{Later(next + size * size / 2)});
#if defined(__AVX512F__)
    _mm_sfence();  // another thread may read it next
#endif
}

// The cells past a head's size become 0, so that they do not count in sums over whole vectors.
inline void clear_past(float* row, int64_t size) {
    for (int64_t i = size; i < padded(size); ++i) row[i] = 0.0f;
}

// Normalise what a head reads over its values: in place, without weight and bias.
inline void normalise(float* read, int64_t size, float epsilon) {
    Vec total = {}, squares = {};
    along(size, [&](int64_t c, auto at) { total += at.get(read + c); });
    const float mean = sum(total) / size;
    along(size, [&](int64_t c, auto at) {
        const Vec apart = at.only(at.get(read + c) - mean);
        squares += apart * apart;
        at.put(read + c, apart);
    });
    const float scale = 1.0f / sqrtf(sum(squares) / size + epsilon);
    along(size, [&](int64_t c, auto at) { at.put(read + c, at.get(read + c) * scale); });
}

// Call body.run<vectors>(value) for blocks of BLOCK vectors of values, then for what is left.
template <class Body>
inline __attribute__((always_inline)) void by_block(int64_t stride, const Body& body) {
    int64_t value = 0;
    for (; value + BLOCK * WIDTH <= stride; value += BLOCK * WIDTH) body.template run<BLOCK>(value);
    if (BLOCK > 2 && value + 2 * WIDTH <= stride) {
        body.template run<2>(value);
        value += 2 * WIDTH;
    }
    if (value < stride) body.template run<1>(value);
}

template <class T>
void clear_rows(T* rows, int64_t begin, int64_t end, int64_t width, int64_t size) {
    for (int64_t token = begin; token < end; ++token) memset(rows + token * width, 0, size * sizeof(T));
}

}  // namespace UNSPOOL_ISA
}  // namespace unspool
