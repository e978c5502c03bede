// One token of each lane through all layers of RWKV-7, from the embeddings to the residual stream, in one call.
#pragma once
#include "products.hpp"
#include "shift_mix.hpp"
#include "time_mix7.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

struct Decoder7 {
    const Decode7& call;
    const int64_t width = call.heads * call.size, rows = call.lanes * width;  // numbers of a row, and of all lanes
    float *mixes, *steps, *space, *hidden, *mixed, *added, *streams[2];

    // The pieces of `scratch`; their sizes in sum are what abi.hpp promises.
    void lay_out() {
        float* free = call.scratch;
        auto take = [&](int64_t count) {
            float* piece = free;
            free += count;
            return piece;
        };
        mixes = take(6 * rows);
        steps = take(8 * rows);
        mixed = take(rows);
        added = take(rows);
        streams[0] = take(rows);
        streams[1] = take(rows);
        hidden = take(call.lanes * call.hidden);
        space = take(call.lanes * call.hidden);
    }

    void run() {
        lay_out();
        memcpy(streams[0], call.stream, rows * sizeof(float));
        for (int64_t layer = 0; layer < call.layers; ++layer) {
            const Layer7& own = call.layer[layer];
            enter(own.norm1, own.mix, 6, layer ? added : nullptr, call.att_shift, call.att_shift_after, layer);
            time_mix(own, layer);
            product(own.output, mixed, added);
            enter(own.norm2, own.ffn_mix, 1, added, call.ffn_shift, call.ffn_shift_after, layer);
            product(own.ffn_key, mixes, hidden);
            const int64_t numbers = call.lanes * own.ffn_key.rows;
            const Elementwise relu = {busy(call.threads, numbers * sizeof(float)), numbers, hidden, hidden, FLOAT32};
            squared_relu(&relu);
            product(own.ffn_value, hidden, added);
        }
        along(rows, [&](int64_t c, auto at) {
            at.put(call.residual + c, at.get(streams[0] + c) + at.get(added + c));
        });
    }

    void product(const Matrix& matrix, const float* x, float* y) {
        multiply(call.threads, matrix, call.lanes, x, y, space);
    }

    // Through two small matrices, with an activation between them.
    template <class Activation>
    void low_rank(const Matrix& down, const Matrix& up, const float* x, float* y, Activation activation) {
        product(down, x, hidden);
        along(call.lanes * down.rows, [&](int64_t c, auto at) { at.put(hidden + c, activation(at.get(hidden + c))); });
        product(up, hidden, y);
    }

    void enter(const Norm7& norm, const float* mix, int64_t count, const float* more, const float* before, float* after,
               int64_t layer) {
        const ShiftMix step = {{nullptr, 1}, call.lanes, 1, width, count, call.lengths, streams[0], more, norm.weight,
                               norm.bias, before + layer * rows, mix, streams[1], mixes, after + layer * rows,
                               call.epsilon, FLOAT32, FLOAT32};
        shift_mix(&step);
        if (!more) return;
        float* summed = streams[1];
        streams[1] = streams[0];
        streams[0] = summed;
    }

    void time_mix(const Layer7& own, int64_t layer) {
        const float *x_r = mixes, *x_w = x_r + rows, *x_k = x_w + rows, *x_v = x_k + rows, *x_a = x_v + rows;
        float *r = steps, *k = r + rows, *v = k + rows, *w = v + rows, *a = w + rows, *g = a + rows;
        float *blend = g + rows, *first = blend + rows;
        product(own.receptance, x_r, r);
        product(own.key, x_k, k);
        product(own.value, x_v, layer ? v : first);
        low_rank(own.decay_down, own.decay_up, x_w, w, [](Vec x) { return hyperbolic_tangent_of(x); });
        low_rank(own.rate_down, own.rate_up, x_a, a, [](Vec x) { return x; });
        low_rank(own.gate_down, own.gate_up, x_a + rows, g, [](Vec x) { return sigmoid_of(x); });
        if (layer) low_rank(own.blend_down, own.blend_up, x_v, blend, [](Vec x) { return x; });
        const int64_t cells = rows * call.size;
        const Threads threads = busy(call.threads, cells * sizeof(float));
        const TimeMix7 step = {threads, call.lanes, 1, call.heads, call.size, call.lengths, call.memory + layer * cells,
                               call.memory_after + layer * cells, r, k, layer ? v : first, layer ? first : nullptr, g, w,
                               a, blend, own.decay_bias, own.rate_bias, own.blend_bias, own.removal_scale, own.key_rate,
                               own.bonus, own.norm_weight, own.norm_bias, mixed, call.decay_scale, call.head_epsilon,
                               FLOAT32, FLOAT32};
        time_mix7(&step);
    }
};

// As many threads as the large matrices keep busy, all together and the largest by itself.
inline Threads team_of(const Decode7& call) {
    int64_t bytes = 0, largest = 0;
    for (int64_t layer = 0; layer < call.layers; ++layer) {
        const Layer7& own = call.layer[layer];
        const Matrix* const large[] = {&own.receptance, &own.key, &own.value, &own.output, &own.ffn_key, &own.ffn_value};
        for (const Matrix* matrix : large) {
            const int64_t read = bytes_to_read(*matrix, call.lanes);
            bytes += read;
            largest = read > largest ? read : largest;
        }
    }
    const Threads together = busy(call.threads, bytes), each = busy(call.threads, largest, BYTES_OF_ONE_AWAKE);
    return together.busy < each.busy ? together : each;
}

inline void decode7(const Decode7* call) {
    auto work = [&](const Threads& team) {
        Decode7 own = *call;
        own.threads = team;
        Decoder7 decoder{own};
        decoder.run();
    };
    in_team(team_of(*call), work);
}

}  // namespace UNSPOOL_ISA
}  // namespace unspool
