// The time mix of RWKV-7 between its matrices, a head of a lane at a time.
//
// The memory lies key by key, so that a vector holds values that never meet: a token multiplies each key's row by its
// decay, adds key * value and takes rate * recalled away, and both what this token reads and what the next one recalls
// are summed over the keys in that same pass.
#pragma once
#include "heads.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

// What a few tokens do to the memory, per key, and their values: a padded row of each for every token.
constexpr int64_t TOKENS_OF_A_CHUNK = 8;
struct Chunk7 {
    float *decay, *key, *taken, *receptance, *removal, *value, *read;  // [token][padded size]
    float strength[TOKENS_OF_A_CHUNK];                                  // receptance * key * bonus, summed over the head
    alignas(64) float space[7 * TOKENS_OF_A_CHUNK * LARGEST_HEAD];      // where they lie, one behind the other

    explicit Chunk7(int64_t stride) {
        float* free = space;
        float** const all[] = {&decay, &key, &taken, &receptance, &removal, &value, &read};
        for (float** rows : all) {
            *rows = free;
            free += TOKENS_OF_A_CHUNK * stride;
        }
    }
};

struct Step7 {
    float* cells;
    const Chunk7& chunk;
    int64_t row;  // of the token in the chunk's arrays
    const float* next_removal;
    float *recalled, *read;
    int64_t size, stride;

    template <int VECTORS>
    inline __attribute__((always_inline)) void run(int64_t first) const {
        Vec value[VECTORS], gone[VECTORS], reads[VECTORS] = {}, recalls[VECTORS] = {};
        for (int q = 0; q < VECTORS; ++q) {
            value[q] = load(chunk.value + row + first + q * WIDTH);
            gone[q] = load(recalled + first + q * WIDTH);
        }
        for (int64_t j = 0; j < size; ++j) {
            float* own = cells + j * stride + first;
            const Vec decay = spread(chunk.decay[row + j]), key = spread(chunk.key[row + j]);
            const Vec taken = spread(chunk.taken[row + j]), receptance = spread(chunk.receptance[row + j]);
            const Vec removal = spread(next_removal[j]);
            for (int q = 0; q < VECTORS; ++q) {
                const Vec cell = load(own + q * WIDTH) * decay + value[q] * key - gone[q] * taken;
                store(own + q * WIDTH, cell);
                reads[q] = reads[q] + cell * receptance;
                recalls[q] = recalls[q] + cell * removal;
            }
        }
        for (int q = 0; q < VECTORS; ++q) {
            store(read + first + q * WIDTH, reads[q]);
            store(recalled + first + q * WIDTH, recalls[q]);
        }
    }
};

// Tokens are prepared and finished a chunk at a time, so that the processor overlaps what does not wait for the memory.
template <class T, class Low>
struct TimeMixer7 {
    const TimeMix7& call;

    void operator()(int64_t task) {
        const int64_t size = call.size, lane = task / call.heads, head = task % call.heads;
        const int64_t width = call.heads * size, start = lane * call.tokens * width + head * size;
        const int64_t length = call.lengths[lane];
        Memory memory;
        Chunk7 chunks[2] = {Chunk7(padded(size)), Chunk7(padded(size))};
        alignas(64) Row recalled = {};
        const float* next = call.memory + (task + 1) * size * size;
        take_by_value(memory, call.memory + task * size * size, size, next);
        prepare(start, head, count_at(0, length), chunks[0]);
        recall(memory, chunks[0].removal, length ? size : 0, recalled);
        for (int64_t first = 0; first < length; first += TOKENS_OF_A_CHUNK) {
            Chunk7& now = chunks[first / TOKENS_OF_A_CHUNK % 2];
            Chunk7& next = chunks[1 - first / TOKENS_OF_A_CHUNK % 2];
            const int64_t behind = first + TOKENS_OF_A_CHUNK;
            prepare(start + behind * width, head, count_at(behind, length), next);
            const int64_t later = behind + TOKENS_OF_A_CHUNK;
            read(memory, now, next, count_at(first, length), behind < length, recalled, start + later * width,
                 count_at(later, length));
            finish(start + first * width, head, count_at(first, length), now);
        }
        put_by_value(memory, call.memory_after + task * size * size, size, next);
        clear_rows(static_cast<T*>(call.mixed) + start, length, call.tokens, width, size);
    }

    static int64_t count_at(int64_t first, int64_t length) {
        const int64_t left = length - first;
        return left < 0 ? 0 : left < TOKENS_OF_A_CHUNK ? left : TOKENS_OF_A_CHUNK;
    }

    // Ask for the rows of a token: a head's are far apart, which hardware does not foresee.
    inline __attribute__((always_inline)) void fetch_ahead(int64_t place) const {
        const void* const typed_rows[] = {call.receptance, call.key, call.value, call.first_value};
        const void* const low_rows[] = {call.gate, call.decay, call.rate, call.blend};
        for (const void* rows : typed_rows) fetch_row(rows ? typed(rows) + place : nullptr);
        for (const void* rows : low_rows) fetch_row(rows ? low(rows) + place : nullptr);
        for (int64_t c = 0; c < call.size; c += 64 / sizeof(T)) __builtin_prefetch(static_cast<T*>(call.mixed) + place + c, 1);
    }

    template <class Number>
    inline __attribute__((always_inline)) void fetch_row(const Number* row) const {
        constexpr int64_t NUMBERS_OF_A_LINE = 64 / sizeof(Number);
        for (int64_t c = 0; row && c < call.size; c += NUMBERS_OF_A_LINE) __builtin_prefetch(row + c);
    }

    // The tokens of a chunk, one after another, through the memory.
    void read(Memory& memory, Chunk7& now, const Chunk7& next, int64_t count, bool goes_on, float* recalled,
              int64_t later, int64_t later_count) const {
        const int64_t size = call.size, stride = padded(size);
        for (int64_t t = 0; t < count; ++t) {
            if (t < later_count) fetch_ahead(later + t * call.heads * size);
            const float* removal = t + 1 < count ? now.removal + (t + 1) * stride : goes_on ? next.removal : now.removal;
            by_block(stride, Step7{memory.cells, now, t * stride, removal, recalled, now.read + t * stride, size, stride});
        }
    }

    // What the memory holds for a key: summed over the keys, per value.
    void recall(const Memory& memory, const float* removal, int64_t keys, float* recalled) const {
        const int64_t stride = padded(call.size);
        for (int64_t i = 0; i < stride; i += WIDTH) {
            Vec found = {};
            for (int64_t j = 0; j < keys; ++j) found = found + load(memory.cells + j * stride + i) * removal[j];
            store(recalled + i, found);
        }
    }

    void prepare(int64_t place, int64_t head, int64_t count, Chunk7& chunk) const {
        for (int64_t t = 0; t < count; ++t)
            prepare_token(place + t * call.heads * call.size, head * call.size, t, t * padded(call.size), chunk);
    }

    void prepare_token(int64_t place, int64_t first, int64_t token, int64_t row, Chunk7& chunk) const {
        Vec squares = {}, strength = {};
        along(call.size, [&](int64_t c, auto at) {
            const int64_t p = place + c, channel = first + c, to = row + c;
            const Vec key = at.get(typed(call.key) + p), receptance = at.get(typed(call.receptance) + p);
            const Vec rate = sigmoid_of(at.get(low(call.rate) + p) + at.get(call.rate_bias + channel));
            const Vec decay = sigmoid_of(at.get(low(call.decay) + p) + at.get(call.decay_bias + channel));
            const Vec removal = key * at.get(call.removal_scale + channel);
            const Vec written = key * ((rate - 1.0f) * at.get(call.key_rate + channel) + 1.0f);
            squares += removal * removal;
            strength += receptance * written * at.get(call.bonus + channel);
            at.put(chunk.decay + to, exponential(decay * call.decay_scale));
            at.put(chunk.key + to, written);
            at.put(chunk.taken + to, rate);
            at.put(chunk.receptance + to, receptance);
            at.put(chunk.removal + to, removal);
            at.put(chunk.value + to, value_of(p, channel, at));
        });
        clear_past(chunk.value + row, call.size);
        chunk.strength[token] = sum(strength);
        const float length = sqrtf(sum(squares)), scale = 1.0f / (length < 1e-12f ? 1e-12f : length);
        along(call.size, [&](int64_t c, auto at) {
            const Vec removal = at.get(chunk.removal + row + c) * scale;
            at.put(chunk.removal + row + c, removal);
            at.put(chunk.taken + row + c, at.get(chunk.taken + row + c) * removal);
        });
    }

    template <class Place>
    Vec value_of(int64_t p, int64_t channel, Place at) const {
        const Vec value = at.get(typed(call.value) + p);
        if (!call.first_value) return value;
        const Vec blend = sigmoid_of(at.get(low(call.blend) + p) + at.get(call.blend_bias + channel));
        return value + blend * (at.get(typed(call.first_value) + p) - value);
    }

    void finish(int64_t place, int64_t head, int64_t count, Chunk7& chunk) const {
        const int64_t first = head * call.size;
        for (int64_t t = 0; t < count; ++t, place += call.heads * call.size) {
            float *read = chunk.read + t * padded(call.size), *value = chunk.value + t * padded(call.size);
            normalise(read, call.size, call.norm_epsilon);
            along(call.size, [&](int64_t c, auto at) {
                Vec mixed = at.get(read + c) * at.get(call.norm_weight + first + c) + at.get(call.norm_bias + first + c);
                mixed = mixed + at.get(value + c) * chunk.strength[t];
                at.put(static_cast<T*>(call.mixed) + place + c, mixed * at.get(low(call.gate) + place + c));
            });
        }
    }

    static const T* typed(const void* rows) { return static_cast<const T*>(rows); }
    static const Low* low(const void* rows) { return static_cast<const Low*>(rows); }
};

template <class T, class Low>
void time_mix7_of(const TimeMix7& call) {
    TimeMixer7<T, Low> work{call};
    for_each_task(call.threads, call.lanes * call.heads, work);
}

inline void time_mix7(const TimeMix7* call) {
    if (call->dtype == FLOAT32)
        call->dtype_low == FLOAT32 ? time_mix7_of<float, float>(*call) : time_mix7_of<float, Bf16>(*call);
    else
        call->dtype_low == FLOAT32 ? time_mix7_of<Bf16, float>(*call) : time_mix7_of<Bf16, Bf16>(*call);
}

}  // namespace UNSPOOL_ISA
}  // namespace unspool
