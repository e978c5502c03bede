// Residual addition, layer norm, token shift and mixes in one pass over the rows.
#pragma once
#include "abi.hpp"
#include "vec.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

constexpr int64_t ROWS_OF_A_TASK = 16;

template <class Added, class Mixed>
struct ShiftMixer {
    const ShiftMix& call;

    int64_t blocks() const { return (call.tokens + ROWS_OF_A_TASK - 1) / ROWS_OF_A_TASK; }

    void operator()(int64_t task) {
        const int64_t lane = task / blocks(), begin = task % blocks() * ROWS_OF_A_TASK;
        const int64_t end = begin + ROWS_OF_A_TASK < call.tokens ? begin + ROWS_OF_A_TASK : call.tokens;
        alignas(64) float rows[2][LARGEST_WIDTH], summed[LARGEST_WIDTH];
        const size_t row_bytes = call.width * sizeof(float);
        float *before = rows[0], *now = rows[1], *last = call.last + lane * call.width;
        if (begin)
            norm(lane * call.tokens + begin - 1, summed, before);
        else
            memcpy(before, call.previous + lane * call.width, row_bytes);
        if (!begin && !call.lengths[lane]) memcpy(last, before, row_bytes);
        for (int64_t token = begin; token < end; ++token) {
            const int64_t row = lane * call.tokens + token;
            norm(row, call.added ? call.summed + row * call.width : summed, now);
            mix(row, before, now);
            if (token == call.lengths[lane] - 1) memcpy(last, now, row_bytes);
            float* older = before;
            before = now;
            now = older;
        }
    }

    // The sum of a row goes to `summed`, its norm to `normed`.
    void norm(int64_t row, float* summed, float* normed) const {
        const float* stream = call.stream + row * call.width;
        if (call.added) {
            const Added* added = static_cast<const Added*>(call.added) + row * call.width;
            along(call.width, [&](int64_t c, auto at) { at.put(summed + c, at.get(stream + c) + at.get(added + c)); });
            stream = summed;
        }
        Vec total = {}, squares = {};
        along(call.width, [&](int64_t c, auto at) { total += at.get(stream + c); });
        const float mean = sum(total) / call.width;
        along(call.width, [&](int64_t c, auto at) {
            const Vec apart = at.only(at.get(stream + c) - mean);
            squares += apart * apart;
        });
        const float scale = 1.0f / sqrtf(sum(squares) / call.width + call.epsilon);
        along(call.width, [&](int64_t c, auto at) {
            at.put(normed + c, (at.get(stream + c) - mean) * scale * at.get(call.weight + c) + at.get(call.bias + c));
        });
    }

    void mix(int64_t row, const float* before, const float* now) const {
        Mixed* mixed = static_cast<Mixed*>(call.mixed) + row * call.width;
        const int64_t apart = call.lanes * call.tokens * call.width;
        along(call.width, [&](int64_t c, auto at) {
            const Vec current = at.get(now + c), change = at.get(before + c) - current;
            for (int64_t m = 0; m < call.mixes; ++m)
                at.put(mixed + m * apart + c, change * at.get(call.mix + m * call.width + c) + current);
        });
    }
};

template <class Added, class Mixed>
void shift_mix_of(const ShiftMix& call) {
    ShiftMixer<Added, Mixed> work{call};
    for_each_task(call.threads, call.lanes * work.blocks(), work);
}

inline void shift_mix(const ShiftMix* call) {
    if (call->dtype_added == FLOAT32)
        call->dtype_mixed == FLOAT32 ? shift_mix_of<float, float>(*call) : shift_mix_of<float, Bf16>(*call);
    else
        call->dtype_mixed == FLOAT32 ? shift_mix_of<Bf16, float>(*call) : shift_mix_of<Bf16, Bf16>(*call);
}

template <class Mixed>
void lerp_rows_of(const LerpRows& call) {
    auto work = [&](int64_t row) {
        const int64_t lane = row / call.tokens, size = call.lanes * call.tokens * call.width;
        const float* now = call.normed + row * call.width;
        const float* before = row % call.tokens ? now - call.width : call.previous + lane * call.width;
        along(call.width, [&](int64_t c, auto at) {
            const Vec current = at.get(now + c), change = at.get(before + c) - current;
            for (int64_t m = 0; m < call.mixes; ++m) {
                const int64_t place = m * size + row * call.width + c;
                at.put(static_cast<Mixed*>(call.mixed) + place, change * at.get(call.amounts + place) + current);
            }
        });
    };
    for_each_task(call.threads, call.lanes * call.tokens, work);
}

inline void lerp_rows(const LerpRows* call) {
    call->dtype_mixed == FLOAT32 ? lerp_rows_of<float>(*call) : lerp_rows_of<Bf16>(*call);
}

}  // namespace UNSPOOL_ISA
}  // namespace unspool
