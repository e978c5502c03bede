// The time mix of RWKV-5 and 6 between its matrices, a head of a lane at a time.
#pragma once
#include "heads.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

struct Token6 {
    alignas(64) Row decay, key, receptance, value;
    float strength;  // receptance * key * bonus, summed over the head: what a token reads of itself
};

struct Step6 {
    float* cells;
    const Token6& token;
    const float* decay;
    float* read;
    int64_t size, stride;

    template <int VECTORS>
    inline __attribute__((always_inline)) void run(int64_t first) const {
        Vec value[VECTORS], reads[VECTORS];
        for (int q = 0; q < VECTORS; ++q) {
            value[q] = load(token.value + first + q * WIDTH);
            reads[q] = value[q] * token.strength;
        }
        for (int64_t j = 0; j < size; ++j) {
            float* row = cells + j * stride + first;
            const Vec receptance = spread(token.receptance[j]), kept = spread(decay[j]), key = spread(token.key[j]);
            for (int q = 0; q < VECTORS; ++q) {
                const Vec cell = load(row + q * WIDTH);
                reads[q] = reads[q] + cell * receptance;
                store(row + q * WIDTH, cell * kept + value[q] * key);
            }
        }
        for (int q = 0; q < VECTORS; ++q) store(read + first + q * WIDTH, reads[q]);
    }
};

template <class T, class Low>
struct TimeMixer6 {
    const TimeMix6& call;

    void operator()(int64_t task) {
        const int64_t size = call.size, stride = padded(size), lane = task / call.heads, head = task % call.heads;
        const int64_t width = call.heads * size, start = lane * call.tokens * width + head * size;
        const int64_t length = call.lengths[lane];
        Memory memory;
        Token6 token;
        alignas(64) Row read, same_decay;
        take_by_key(memory, call.memory + task * size * size, size);
        if (!call.decay)
            along(size, [&](int64_t c, auto at) {
                at.put(same_decay + c, exponential(-exponential(at.get(call.decay_bias + head * size + c))));
            });
        for (int64_t t = 0; t < length; ++t) {
            prepare(start + t * width, head, token);
            const float* decay = call.decay ? token.decay : same_decay;
            by_block(stride, Step6{memory.cells, token, decay, read, size, stride});
            finish(start + t * width, head, read);
        }
        put_by_key(memory, call.memory_after + task * size * size, size);
        clear_rows(static_cast<T*>(call.mixed) + start, length, call.tokens, width, size);
    }

    void prepare(int64_t place, int64_t head, Token6& token) const {
        const int64_t first = head * call.size;
        Vec strength = {};
        along(call.size, [&](int64_t c, auto at) {
            const Vec key = at.get(typed(call.key) + place + c), receptance = at.get(typed(call.receptance) + place + c);
            strength += receptance * key * at.get(call.bonus + first + c);
            at.put(token.key + c, key);
            at.put(token.receptance + c, receptance);
            at.put(token.value + c, at.get(typed(call.value) + place + c));
            if (call.decay) {
                const Low* decay = static_cast<const Low*>(call.decay) + place + c;
                at.put(token.decay + c, exponential(-exponential(at.get(decay) + at.get(call.decay_bias + first + c))));
            }
        });
        clear_past(token.value, call.size);
        token.strength = sum(strength);
    }

    void finish(int64_t place, int64_t head, float* read) const {
        const int64_t first = head * call.size;
        normalise(read, call.size, call.norm_epsilon);
        along(call.size, [&](int64_t c, auto at) {
            Vec mixed = at.get(read + c) * at.get(call.norm_weight + first + c) + at.get(call.norm_bias + first + c);
            if (call.gate) {
                const Vec gate = at.get(typed(call.gate) + place + c);
                mixed = mixed * gate * sigmoid_of(gate);
            }
            at.put(static_cast<T*>(call.mixed) + place + c, mixed);
        });
    }

    static const T* typed(const void* rows) { return static_cast<const T*>(rows); }
};

template <class T, class Low>
void time_mix6_of(const TimeMix6& call) {
    TimeMixer6<T, Low> work{call};
    for_each_task(call.threads, call.lanes * call.heads, work);
}

inline void time_mix6(const TimeMix6* call) {
    if (call->dtype == FLOAT32)
        call->dtype_low == FLOAT32 ? time_mix6_of<float, float>(*call) : time_mix6_of<float, Bf16>(*call);
    else
        call->dtype_low == FLOAT32 ? time_mix6_of<Bf16, float>(*call) : time_mix6_of<Bf16, Bf16>(*call);
}

}  // namespace UNSPOOL_ISA
}  // namespace unspool
