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

// Take it from, or put it to, an array in which a step along the key, and one along the value, are so many cells.
inline void take_memory(Memory& memory, const float* from, int64_t size, int64_t by_key, int64_t by_value) {
    const int64_t stride = padded(size);
    for (int64_t key = 0; key < size; ++key) {
        for (int64_t value = 0; value < size; ++value)
            memory.cells[key * stride + value] = from[key * by_key + value * by_value];
        for (int64_t value = size; value < stride; ++value) memory.cells[key * stride + value] = 0.0f;
    }
}
inline void put_memory(const Memory& memory, float* to, int64_t size, int64_t by_key, int64_t by_value) {
    const int64_t stride = padded(size);
    for (int64_t key = 0; key < size; ++key)
        for (int64_t value = 0; value < size; ++value)
            to[key * by_key + value * by_value] = memory.cells[key * stride + value];
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
