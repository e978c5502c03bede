// What Python and this library say to each other: plain structs, filled by rwkv_runtime/native/library.py in the same
// order. No pointer is kept after a call. Outputs never overlap inputs unless a field says so.
#pragma once
#include <cstdint>

namespace unspool {

enum Dtype : int32_t { FLOAT32 = 0, BFLOAT16 = 1 };

// How a call may use threads. `region` is GOMP_parallel of the OpenMP runtime that the process already has, or null:
// then threads are started and joined within the call. Work is cut so that no result depends on how many there are.
typedef void (*Region)(void (*)(void*), void*, unsigned, unsigned);
struct Team;
struct Threads {
    Region region;
    int64_t count;
    int64_t busy;  // how many of them may have a part in this; 0 is all
    Team* team;    // those that wait, awake, for the next piece of a call, see library.cpp; null from outside
};

// summed = stream + added (if `added` is there), normed = LayerNorm(summed), and for each of the mixes
// mixed = normed + mix * (the normed row before it - normed). The row before a lane's first is `previous`.
struct ShiftMix {
    Threads threads;
    int64_t lanes, tokens, width, mixes;
    const int64_t* lengths;   // [lanes]
    const float* stream;      // [lanes, tokens, width]
    const void* added;        // [lanes, tokens, width] of `dtype_added`, or null
    const float* weight;      // [width]
    const float* bias;        // [width]
    const float* previous;    // [lanes, width]
    const float* mix;         // [mixes, width]
    float* summed;            // [lanes, tokens, width]; untouched without `added`
    void* mixed;              // [mixes, lanes, tokens, width] of `dtype_mixed`
    float* last;              // [lanes, width]: the normed row at each lane's length - 1, or its `previous`
    float epsilon;
    int32_t dtype_added, dtype_mixed;
};

// mixed = normed + amount * (the row before - normed), with amounts of each token's own.
struct LerpRows {
    Threads threads;
    int64_t lanes, tokens, width, mixes;
    const float* normed;      // [lanes, tokens, width]
    const float* previous;    // [lanes, width]
    const float* amounts;     // [mixes, lanes, tokens, width]
    void* mixed;              // [mixes, lanes, tokens, width] of `dtype_mixed`
    int32_t dtype_mixed;
};

// The time mix of RWKV-7 between its matrices. Rows at and after a lane's length become 0.
struct TimeMix7 {
    Threads threads;
    int64_t lanes, tokens, heads, size;
    const int64_t* lengths;                       // [lanes]
    const float* memory;                          // [lanes, heads, value, key]
    float* memory_after;                          // the same
    const void *receptance, *key, *value;         // [lanes, tokens, heads * size] of `dtype`
    const void* first_value;                      // the same, or null: the value stays as it is
    const void* gate;                             // the same of `dtype_low`
    const void *decay, *rate, *blend;             // the same of `dtype_low`, before bias and sigmoid
    const float *decay_bias, *rate_bias, *blend_bias, *removal_scale, *key_rate, *bonus;  // [heads * size]
    const float *norm_weight, *norm_bias;         // [heads * size]
    void* mixed;                                  // [lanes, tokens, heads * size] of `dtype`
    float decay_scale, norm_epsilon;
    int32_t dtype, dtype_low;
};

// The time mix of RWKV-5 and 6 between its matrices. Rows at and after a lane's length become 0.
struct TimeMix6 {
    Threads threads;
    int64_t lanes, tokens, heads, size;
    const int64_t* lengths;                // [lanes]
    const float* memory;                   // [lanes, heads, key, value]
    float* memory_after;                   // the same
    const void *receptance, *key, *value;  // [lanes, tokens, heads * size] of `dtype`
    const void* gate;                      // the same, before silu, or null: no gate
    const void* decay;                     // the same of `dtype_low`: log(-log) of what survives, before `decay_bias`; or null
    const float* decay_bias;               // [heads * size]; all there is of the decay if `decay` is null
    const float* bonus;                    // [heads * size]
    const float *norm_weight, *norm_bias;  // [heads * size]
    void* mixed;                           // [lanes, tokens, heads * size] of `dtype`
    float norm_epsilon;
    int32_t dtype, dtype_low;
};

// The time mix of RWKV-4 between its matrices: mixed = sigmoid(receptance) * the weighted mean of the values.
struct TimeMix4 {
    Threads threads;
    int64_t lanes, tokens, width;
    const int64_t* lengths;                                                // [lanes]
    const float *numerator, *denominator, *maximum;                        // [lanes, width]
    float *numerator_after, *denominator_after, *maximum_after;            // [lanes, width]
    const void *receptance, *key, *value;                                  // [lanes, tokens, width] of `dtype`
    const float *log_decay, *bonus;                                        // [width]
    void* mixed;                                                           // [lanes, tokens, width] of `dtype`
    int32_t dtype;
};

// after = f(before), number by number. The two may be the same memory.
struct Elementwise {
    Threads threads;
    int64_t count;
    const void* before;  // [count] of `dtype`
    void* after;         // [count] of `dtype`
    int32_t dtype;
};

// Rows of int8 with a scale each: row = scale * quantised. With `squared_relu`, of max(row, 0) squared. With an `offset`
// of 128 instead of 0 it is added to each step, which then is an unsigned byte.
struct QuantiseRows {
    Threads threads;
    int64_t rows, columns;
    const void* before;  // [rows, columns] of `dtype`
    int8_t* quantised;   // [rows, columns]
    float* scales;       // [rows]
    int32_t dtype, squared_relu, offset;
};

// after = sums * row scale * column scale.
struct DequantiseSums {
    Threads threads;
    int64_t rows, columns;
    const int32_t* sums;         // [rows, columns]
    const float* row_scales;     // [rows]
    const float* column_scales;  // [columns]
    void* after;                 // [rows, columns] of `dtype`
    int32_t dtype;
};

// A weight matrix. Of int8, a row is its scale times its steps, and `sums` are the sums of each row's steps. Of int4, see
// int4.hpp.
enum Kind : int64_t { KIND_FLOAT32 = 0, KIND_BFLOAT16 = 1, KIND_INT8 = 2, KIND_INT4 = 3 };
struct Matrix {
    int64_t kind, rows, columns;
    const void* weight;   // [rows, columns]; of int4 blocks [rows / 16, columns / 32], see int4.hpp
    const void* scales;   // of int8: [rows] floats
    const int32_t* sums;  // of int8: [rows]
};

// y = x matrix^T, for a few vectors x.
struct Products {
    Threads threads;
    const Matrix* matrix;
    int64_t lanes;   // at most MOST_LANES
    const float* x;  // [lanes, columns]
    float* y;        // [lanes, rows]
    float* space;    // [lanes, columns], for the kernel
};

// y = x matrix^T, for any number of rows x; rows of the matrix fill whole words of 32 bits.
struct Gemm {
    Threads threads;
    const Matrix* matrix;
    int64_t lanes;       // rows of x
    const void* x;       // [lanes, columns] float32, of bfloat16 and int4 in bfloat16, of int8 in steps with 128 added
    const float* sizes;  // [lanes], of int8: the size of each row's steps
    void* y;             // [lanes, rows] of `dtype`
    int32_t dtype;
};

// The values of int4 weights in bfloat16.
struct UnpackInt4 {
    Threads threads;
    int64_t rows, columns;
    const void* blocks;  // [rows / 16, columns / 32], see int4.hpp
    void* values;        // [rows, columns] bfloat16
};

struct Norm7 {
    const float *weight, *bias;  // [width]
};

// All that a layer of RWKV-7 has. Vectors are [heads * size].
struct Layer7 {
    Norm7 norm1, norm2;
    const float* mix;      // [6, width] for receptance, decay, key, value, rate, gate
    const float* ffn_mix;  // [width]
    Matrix receptance, key, value, output, decay_down, decay_up, rate_down, rate_up, gate_down, gate_up;
    Matrix blend_down, blend_up;  // not looked at in the first layer
    Matrix ffn_key, ffn_value;
    const float *decay_bias, *rate_bias, *blend_bias, *removal_scale, *key_rate, *bonus, *norm_weight, *norm_bias;
};

// One token of each of a few lanes through all layers of RWKV-7.
struct Decode7 {
    Threads threads;
    int64_t layers, lanes, heads, size;               // at most MOST_LANES
    int64_t hidden;                                   // the most rows or columns of any matrix
    const Layer7* layer;                              // [layers]
    const int64_t* lengths;                           // [lanes]: 1, or 0 for a lane without a token
    const float* stream;                              // [lanes, width]: the embeddings after the first norm
    const float *att_shift, *memory, *ffn_shift;      // [layers, lanes, width], [layers, lanes, heads, value, key], ...
    float *att_shift_after, *memory_after, *ffn_shift_after;
    float* residual;                                  // [lanes, width]
    float* scratch;                                   // [lanes, 18 * width + 2 * hidden], for the kernel
    float epsilon, head_epsilon, decay_scale;
};

// A window of tokens of each lane through all layers of RWKV-7. Rows at and after a lane's length mean nothing.
struct Window7 {
    Threads threads;
    int64_t layers, lanes, tokens, heads, size;
    int64_t hidden;                                   // the most rows or columns of any matrix
    float* ends;                                      // [lanes, width]: instead of `residual`, each lane's last row; or null
    const Layer7* layer;                              // [layers]
    const int64_t* lengths;                           // [lanes]
    const float* stream;                              // [lanes, tokens, width]: the embeddings after the first norm
    const float *att_shift, *memory, *ffn_shift;      // [layers, lanes, width], [layers, lanes, heads, value, key], ...
    float *att_shift_after, *memory_after, *ffn_shift_after;
    float* residual;                                  // [lanes, tokens, width], or null: less is wanted
    // For the kernel, of items of `dtype`: lanes * tokens * (width * (8 + 16 * item) + hidden * (2 + item) + 4) + 1024
    // bytes.
    void* scratch;
    float epsilon, head_epsilon, decay_scale;
    int32_t dtype;                                    // of what lies between two matrices
};

// The kernels of one instruction set.
struct Kernels {
    void (*shift_mix)(const ShiftMix*);
    void (*lerp_rows)(const LerpRows*);
    void (*time_mix7)(const TimeMix7*);
    void (*time_mix6)(const TimeMix6*);
    void (*time_mix4)(const TimeMix4*);
    void (*squared_relu)(const Elementwise*);
    void (*hyperbolic_tangent)(const Elementwise*);
    void (*sigmoid)(const Elementwise*);
    void (*quantise_rows)(const QuantiseRows*);
    void (*dequantise_sums)(const DequantiseSums*);
    void (*unpack_int4)(const UnpackInt4*);
    void (*products)(const Products*);
    void (*decode7)(const Decode7*);
    void (*gemm)(const Gemm*);        // null where the instruction set has no fast way for it
    void (*window7)(const Window7*);  // null where gemm is
};

// Bounds of the buffers on the stack; Python refuses what is beyond them.
constexpr int64_t LARGEST_WIDTH = 16384;
constexpr int64_t LARGEST_HEAD = 256;
constexpr int64_t MOST_LANES = 64;

inline int64_t takers(const Threads& threads) { return threads.busy ? threads.busy : threads.count; }

// Call work(data, task) for every task below `tasks`, each once, on threads.
void run_tasks(const Threads& threads, int64_t tasks, void (*work)(void*, int64_t), void* data);

// Call work(data, threads that are a team) once, on the calling thread: none of the pieces in it wakes a thread.
void run_in_team(const Threads& threads, void (*work)(void*, const Threads&), void* data);

// As many of the threads as have something to do: for less than this many bytes each, waking them up, or telling those
// that are awake, takes longer than one thread does.
constexpr int64_t BYTES_OF_A_THREAD = 2 << 20, BYTES_OF_ONE_AWAKE = 48 << 10;
inline Threads busy(const Threads& threads, int64_t bytes, int64_t of_each) {
    const int64_t wanted = bytes / of_each;
    return {threads.region, threads.count, wanted < 1 ? 1 : wanted < threads.count ? wanted : threads.count, threads.team};
}
inline Threads busy(const Threads& threads, int64_t bytes) {
    return busy(threads, bytes, threads.team ? BYTES_OF_ONE_AWAKE : BYTES_OF_A_THREAD);
}

template <class Work>
void for_each_task(const Threads& threads, int64_t tasks, Work& work) {
    run_tasks(threads, tasks, [](void* data, int64_t task) { (*static_cast<Work*>(data))(task); }, &work);
}

template <class Work>
void in_team(const Threads& threads, Work& work) {
    run_in_team(threads, [](void* data, const Threads& team) { (*static_cast<Work*>(data))(team); }, &work);
}

}  // namespace unspool
