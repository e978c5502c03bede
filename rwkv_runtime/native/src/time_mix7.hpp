// The time mix of RWKV-7 between its matrices, a head of a lane at a time.
//
// The memory lies key by key, so that a vector holds values that never meet: a token multiplies each key's row by its
// decay, adds key * value and takes rate * recalled away, and both what this token reads and what the next one recalls
// are summed over the keys in that same pass.
#pragma once
#include "heads.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

// What one token does to the memory, per key, and its value.
struct Token7 {
    alignas(64) Row decay, key, taken, receptance, removal, value;
    float strength;  // receptance * key * bonus, summed over the head
};

struct Step7 {
    float* cells;
    const Token7& token;
    const float* next_removal;
    float *recalled, *read;
    int64_t size, stride;

    template <int VECTORS>
    inline __attribute__((always_inline)) void run(int64_t first) const {
        Vec value[VECTORS], gone[VECTORS], reads[VECTORS] = {}, recalls[VECTORS] = {};
        for (int q = 0; q < VECTORS; ++q) {
            value[q] = load(token.value + first + q * WIDTH);
            gone[q] = load(recalled + first + q * WIDTH);
        }
        for (int64_t j = 0; j < size; ++j) {
            float* row = cells + j * stride + first;
            const Vec decay = spread(token.decay[j]), key = spread(token.key[j]), taken = spread(token.taken[j]);
            const Vec receptance = spread(token.receptance[j]), removal = spread(next_removal[j]);
            for (int q = 0; q < VECTORS; ++q) {
                const Vec cell = load(row + q * WIDTH) * decay + value[q] * key - gone[q] * taken;
                store(row + q * WIDTH, cell);
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

template <class T, class Low>
struct TimeMixer7 {
    const TimeMix7& call;

    void operator()(int64_t task) {
        const int64_t size = call.size, stride = padded(size), lane = task / call.heads, head = task % call.heads;
        const int64_t width = call.heads * size, start = lane * call.tokens * width + head * size;
        const int64_t length = call.lengths[lane];
        Memory memory;
        Token7 tokens[2];
        alignas(64) Row recalled = {}, read;
        take_by_value(memory, call.memory + task * size * size, size);
        if (length) prepare(start, head, tokens[0]);
        recall(memory, tokens[0].removal, length ? size : 0, recalled);
        for (int64_t t = 0; t < length; ++t) {
            const Token7& now = tokens[t & 1];
            Token7& next = tokens[~t & 1];
            if (t + 1 < length) prepare(start + (t + 1) * width, head, next);
            const float* removal = t + 1 < length ? next.removal : now.removal;
            by_block(stride, Step7{memory.cells, now, removal, recalled, read, size, stride});
            finish(start + t * width, head, now, read);
        }
        put_by_value(memory, call.memory_after + task * size * size, size);
        clear_rows(static_cast<T*>(call.mixed) + start, length, call.tokens, width, size);
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

    void prepare(int64_t place, int64_t head, Token7& token) const {
        const int64_t first = head * call.size;
        Vec squares = {}, strength = {};
        along(call.size, [&](int64_t c, auto at) {
            const int64_t p = place + c, channel = first + c;
            const Vec key = at.get(typed(call.key) + p), receptance = at.get(typed(call.receptance) + p);
            const Vec rate = sigmoid(at.get(low(call.rate) + p) + at.get(call.rate_bias + channel));
            const Vec decay = sigmoid(at.get(low(call.decay) + p) + at.get(call.decay_bias + channel));
            const Vec removal = key * at.get(call.removal_scale + channel);
            const Vec written = key * ((rate - 1.0f) * at.get(call.key_rate + channel) + 1.0f);
            squares += removal * removal;
            strength += receptance * written * at.get(call.bonus + channel);
            at.put(token.decay + c, exponential(decay * call.decay_scale));
            at.put(token.key + c, written);
            at.put(token.taken + c, rate);
            at.put(token.receptance + c, receptance);
            at.put(token.removal + c, removal);
            at.put(token.value + c, value_of(p, channel, at));
        });
        clear_past(token.value, call.size);
        token.strength = sum(strength);
        const float length = sqrtf(sum(squares)), scale = 1.0f / (length < 1e-12f ? 1e-12f : length);
        along(call.size, [&](int64_t c, auto at) {
            const Vec removal = at.get(token.removal + c) * scale;
            at.put(token.removal + c, removal);
            at.put(token.taken + c, at.get(token.taken + c) * removal);
        });
    }

    template <class Place>
    Vec value_of(int64_t p, int64_t channel, Place at) const {
        const Vec value = at.get(typed(call.value) + p);
        if (!call.first_value) return value;
        const Vec blend = sigmoid(at.get(low(call.blend) + p) + at.get(call.blend_bias + channel));
        return value + blend * (at.get(typed(call.first_value) + p) - value);
    }

    void finish(int64_t place, int64_t head, const Token7& token, float* read) const {
        const int64_t first = head * call.size;
        normalise(read, call.size, call.norm_epsilon);
        along(call.size, [&](int64_t c, auto at) {
            Vec mixed = at.get(read + c) * at.get(call.norm_weight + first + c) + at.get(call.norm_bias + first + c);
            mixed = mixed + at.get(token.value + c) * token.strength;
            at.put(static_cast<T*>(call.mixed) + place + c, mixed * at.get(low(call.gate) + place + c));
        });
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
