// A window of tokens of each lane through all layers of RWKV-7, from the embeddings to the residual stream, in one call.
//
// What lies between two matrices is in the type that they take, `T`, and passes from one kernel to the next within
// `scratch`: the results are those of the same kernels called one by one.
#pragma once
#include "gemm.hpp"
#include "rows.hpp"
#include "shift_mix.hpp"
#include "time_mix7.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)

template <class T>
struct Reader7 {
    const Window7& call;
    const int64_t count = call.lanes * call.tokens, width = call.heads * call.size, rows = count * width;
    T *mixes, *steps, *mixed, *added, *hidden;
    float *streams[2], *sizes;
    char* space;

    static constexpr int32_t dtype() { return sizeof(T) == sizeof(float) ? FLOAT32 : BFLOAT16; }

    // The pieces of `scratch`, whole cache lines apart; their sizes in sum are within what abi.hpp asks for.
    void lay_out() {
        char* free = static_cast<char*>(call.scratch);
        auto take = [&](int64_t bytes) {
            char* piece = free;
            free += (bytes + 63) / 64 * 64;
            return piece;
        };
        streams[0] = reinterpret_cast<float*>(take(rows * sizeof(float)));
        streams[1] = reinterpret_cast<float*>(take(rows * sizeof(float)));
        sizes = reinterpret_cast<float*>(take(count * sizeof(float)));
        mixes = reinterpret_cast<T*>(take(6 * rows * sizeof(T)));
        steps = reinterpret_cast<T*>(take(8 * rows * sizeof(T)));
        mixed = reinterpret_cast<T*>(take(rows * sizeof(T)));
        added = reinterpret_cast<T*>(take(rows * sizeof(T)));
        hidden = reinterpret_cast<T*>(take(count * call.hidden * sizeof(T)));
        space = take(count * call.hidden * sizeof(Bf16));
    }

    void run() {
        lay_out();
        const float* stream = call.stream;
        for (int64_t layer = 0; layer < call.layers; ++layer) {
            const Layer7& own = call.layer[layer];
            stream = enter(own.norm1, own.mix, 6, stream, layer ? added : nullptr, call.att_shift, call.att_shift_after, layer);
            time_mix(own, layer);
            product(own.output, mixed, added);
            stream = enter(own.norm2, own.ffn_mix, 1, stream, added, call.ffn_shift, call.ffn_shift_after, layer);
            if (layer + 1 < call.layers || call.residual) channel_mix(own, mixes, count);
        }
        if (call.residual) leave(stream, count, call.residual);
        if (call.ends) end(call.layer[call.layers - 1], stream);
    }

    // Add what the half before gave, normalise and mix; returns the sum.
    const float* enter(const Norm7& norm, const float* mix, int64_t mixes_of_it, const float* stream, const T* more,
                       const float* before, float* after, int64_t layer) {
        const int64_t place = layer * call.lanes * width;
        float* summed = stream == streams[0] ? streams[1] : streams[0];
        const ShiftMix step = {call.threads, call.lanes, call.tokens, width, mixes_of_it, call.lengths, stream, more,
                               norm.weight, norm.bias, before + place, mix, summed, mixes, after + place, call.epsilon,
                               dtype(), dtype()};
        shift_mix(&step);
        return more ? summed : stream;
    }

    void time_mix(const Layer7& own, int64_t layer) {
        const T *x_r = mixes, *x_w = x_r + rows, *x_k = x_w + rows, *x_v = x_k + rows, *x_a = x_v + rows;
        T *r = steps, *k = r + rows, *v = k + rows, *w = v + rows, *a = w + rows, *g = a + rows;
        T *blend = g + rows, *first = blend + rows;
        product(own.receptance, x_r, r);
        product(own.key, x_k, k);
        product(own.value, x_v, layer ? v : first);
        low_rank(own.gate_down, own.gate_up, x_a + rows, g, sigmoid);
        low_rank(own.decay_down, own.decay_up, x_w, w, hyperbolic_tangent);
        low_rank(own.rate_down, own.rate_up, x_a, a);
        if (layer) low_rank(own.blend_down, own.blend_up, x_v, blend);
        const int64_t cells = call.lanes * width * call.size;
        const TimeMix7 step = {call.threads, call.lanes, call.tokens, call.heads, call.size, call.lengths,
                               call.memory + layer * cells, call.memory_after + layer * cells, r, k, layer ? v : first,
                               layer ? first : nullptr, g, w, a, layer ? blend : nullptr, own.decay_bias, own.rate_bias,
                               own.blend_bias, own.removal_scale, own.key_rate, own.bonus, own.norm_weight,
                               own.norm_bias, mixed, call.decay_scale, call.head_epsilon, dtype(), dtype()};
        time_mix7(&step);
    }

    // To `added`, of so many rows.
    void channel_mix(const Layer7& own, const T* x, int64_t lines) {
        product(own.ffn_key, x, hidden, lines);
        if (own.ffn_value.kind == KIND_INT8) {
            product_of_steps(own.ffn_value, hidden, added, 1, lines);
        } else {
            activate_hidden(squared_relu, lines * own.ffn_key.rows);
            product(own.ffn_value, hidden, added, lines);
        }
    }

    // Through two small matrices, perhaps with an activation between them.
    void low_rank(const Matrix& down, const Matrix& up, const T* x, T* y, void (*activation)(const Elementwise*) = nullptr) {
        product(down, x, hidden);
        if (activation) activate_hidden(activation, count * down.rows);
        product(up, hidden, y);
    }

    void activate_hidden(void (*activation)(const Elementwise*), int64_t numbers) {
        const Elementwise step = {call.threads, numbers, hidden, hidden, dtype()};
        activation(&step);
    }

    void product(const Matrix& matrix, const T* x, T* y) { product(matrix, x, y, count); }

    void product(const Matrix& matrix, const T* x, T* y, int64_t lines) {
        if (matrix.kind == KIND_INT8) return product_of_steps(matrix, x, y, 0, lines);
        const bool in_halves = sizeof(T) == sizeof(float) && matrix.kind != KIND_FLOAT32;
        if (in_halves) {
            Bf16* halves = reinterpret_cast<Bf16*>(space);
            auto work = [&](int64_t row) {
                along(matrix.columns, [&](int64_t c, auto at) {
                    at.put(halves + row * matrix.columns + c, at.get(x + row * matrix.columns + c));
                });
            };
            for_each_task(call.threads, lines, work);
        }
        const Gemm gemm_call = {call.threads, &matrix, lines, in_halves ? space : static_cast<const void*>(x), nullptr, y,
                                dtype()};
        gemm(&gemm_call);
    }

    void product_of_steps(const Matrix& matrix, const T* x, T* y, int32_t of_squared_relu, int64_t lines) {
        int8_t* rounded = reinterpret_cast<int8_t*>(space);
        const QuantiseRows quantise = {call.threads, lines, matrix.columns, x, rounded, sizes, dtype(), of_squared_relu, 128};
        quantise_rows(&quantise);
        const Gemm gemm_call = {call.threads, &matrix, lines, rounded, sizes, y, dtype()};
        gemm(&gemm_call);
    }

    // What is left of the last layer for each lane's last token alone.
    void end(const Layer7& own, const float* stream) {
        T* mixes_of_ends = mixed;  // which nobody needs any more
        for (int64_t lane = 0; lane < call.lanes; ++lane) {
            const int64_t length = call.lengths[lane], row = lane * call.tokens + (length ? length - 1 : 0);
            memcpy(mixes_of_ends + lane * width, mixes + row * width, width * sizeof(T));
            memcpy(call.ends + lane * width, stream + row * width, width * sizeof(float));
        }
        channel_mix(own, mixes_of_ends, call.lanes);
        leave(call.ends, call.lanes, call.ends);
    }

    void leave(const float* stream, int64_t lines, float* to) {
        auto work = [&](int64_t row) {
            along(width, [&](int64_t c, auto at) {
                const int64_t place = row * width + c;
                at.put(to + place, at.get(stream + place) + at.get(added + place));
            });
        };
        for_each_task(call.threads, lines, work);
    }
};

template <class T>
void window7_of(const Window7& call) {
    auto work = [&](const Threads& team) {
        Window7 own = call;
        own.threads = team;
        Reader7<T> reader{own};
        reader.run();
    };
    in_team(call.threads, work);
}

inline void window7(const Window7* call) {
    call->dtype == FLOAT32 ? window7_of<float>(*call) : window7_of<Bf16>(*call);
}
constexpr void (*WINDOW7)(const Window7*) = window7;

#else
constexpr void (*WINDOW7)(const Window7*) = nullptr;
#endif

}  // namespace UNSPOOL_ISA
}  // namespace unspool
