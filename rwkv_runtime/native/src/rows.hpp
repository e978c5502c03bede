// What happens between two matrices of the channel mix, and to and from int8.
#pragma once
#include "abi.hpp"
#include "vec.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

constexpr int64_t NUMBERS_OF_A_TASK = 1 << 14;

inline Vec squared_relu_of(Vec x) {
    const Vec positive = maximum(x, Vec{});
    return positive * positive;
}

// 2 sigmoid(2 x) - 1: next to 0 with an error of 6e-8, not of as many digits.
inline Vec hyperbolic_tangent_of(Vec x) { return 2.0f * sigmoid_of(x + x) - 1.0f; }

template <class T, class Activation>
void activate(const Threads& threads, int64_t count, const T* before, T* after, Activation activation) {
    auto work = [&](int64_t task) {
        const int64_t begin = task * NUMBERS_OF_A_TASK, left = count - begin;
        along(left < NUMBERS_OF_A_TASK ? left : NUMBERS_OF_A_TASK,
              [&](int64_t c, auto at) { at.put(after + begin + c, activation(at.get(before + begin + c))); });
    };
    for_each_task(threads, (count + NUMBERS_OF_A_TASK - 1) / NUMBERS_OF_A_TASK, work);
}

template <class Activation>
void activate_any(const Elementwise& call, Activation activation) {
    if (call.dtype == FLOAT32)
        activate(call.threads, call.count, static_cast<const float*>(call.before), static_cast<float*>(call.after), activation);
    else
        activate(call.threads, call.count, static_cast<const Bf16*>(call.before), static_cast<Bf16*>(call.after), activation);
}

inline void squared_relu(const Elementwise* call) {
    activate_any(*call, [](Vec x) { return squared_relu_of(x); });
}
inline void hyperbolic_tangent(const Elementwise* call) {
    activate_any(*call, [](Vec x) { return hyperbolic_tangent_of(x); });
}
inline void sigmoid(const Elementwise* call) {
    activate_any(*call, [](Vec x) { return sigmoid_of(x); });
}

// Round to the nearest integer of [-127, 127] and store as int8, or with 128 added as an unsigned byte.
template <class Place>
inline void put_int8(int8_t* to, Vec x, int32_t offset, Place at) {
    const float magic = 12582912.0f;
    const Vec rounded = (minimum(maximum(x, spread(-127.0f)), spread(127.0f)) + magic) - magic;
    const Bytes bytes = __builtin_convertvector(__builtin_convertvector(rounded, Ints) + offset, Bytes);
    memcpy(to, &bytes, at.count);
}

template <class T, class Activation>
void quantise_rows_of(const QuantiseRows& call, Activation activation) {
    auto work = [&](int64_t row) {
        const T* before = static_cast<const T*>(call.before) + row * call.columns;
        Vec found = {}, lost = {};
        along(call.columns, [&](int64_t c, auto at) {
            const Vec x = activation(at.get(before + c));
            found = maximum(magnitude(x), found);
            lost += x * 0.0f;  // NaN from a NaN or an infinity, which no int8 can say: the scale does
        });
        const float reach = largest(found), finer = reach > 0.0f ? 127.0f / reach : 0.0f;
        call.scales[row] = reach / 127.0f + sum(lost);
        along(call.columns, [&](int64_t c, auto at) {
            put_int8(call.quantised + row * call.columns + c, activation(at.get(before + c)) * finer, call.offset, at);
        });
    };
    for_each_task(call.threads, call.rows, work);
}

inline void quantise_rows(const QuantiseRows* call) {
    auto same = [](Vec x) { return x; };
    auto squared = [](Vec x) { return squared_relu_of(x); };
    if (call->dtype == FLOAT32)
        call->squared_relu ? quantise_rows_of<float>(*call, squared) : quantise_rows_of<float>(*call, same);
    else
        call->squared_relu ? quantise_rows_of<Bf16>(*call, squared) : quantise_rows_of<Bf16>(*call, same);
}

template <class T>
void dequantise_sums_of(const DequantiseSums& call) {
    auto work = [&](int64_t row) {
        const int32_t* sums = call.sums + row * call.columns;
        T* after = static_cast<T*>(call.after) + row * call.columns;
        along(call.columns, [&](int64_t c, auto at) {
            Ints exact = {};
            memcpy(&exact, sums + c, at.count * sizeof(int32_t));
            at.put(after + c, __builtin_convertvector(exact, Vec) * call.row_scales[row] * at.get(call.column_scales + c));
        });
    };
    for_each_task(call.threads, call.rows, work);
}

inline void dequantise_sums(const DequantiseSums* call) {
    call->dtype == FLOAT32 ? dequantise_sums_of<float>(*call) : dequantise_sums_of<Bf16>(*call);
}

}  // namespace UNSPOOL_ISA
}  // namespace unspool
