// A weight matrix times many rows, for processors that multiply bfloat16 and int8 in vectors of 512 bits.
//
// All kinds of weights are seen as words of 32 bits: one float, two bfloat16 or four int8. A panel of 48 rows of weights
// is turned, so that a vector has the same word of 16 rows; it stays in the second cache while all rows of the input pass
// by, eight at a time, their 24 vectors of sums in registers. Weights are turned anew in every call, which takes a
// hundredth of the time of a window, and so can lie in a file that several processes map. Threads that would have fewer
// than three panels each take some of the rows of a panel instead, and each turns it for its own.
//
// Each number of a result is one sum along the columns, word after word, whatever the number of rows.
#pragma once
#include "abi.hpp"
#include "int4.hpp"
#include "rows.hpp"
#include "vec.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)

constexpr int64_t PANEL_VECTORS = 3, PANEL = PANEL_VECTORS * WIDTH;  // rows of weights that are turned together
constexpr int64_t TILE = 8;                                          // rows of input whose sums are in registers
constexpr int64_t DEPTH = 768;                                       // words of a panel that are turned at a time
constexpr int64_t WORDS_OF_A_SHARE = 8;                              // after which a tile asks for memory again
constexpr int64_t ROWS_OF_A_BLOCK = 512;                             // most rows of input that a panel is turned for
constexpr int64_t FEWEST_ROWS = 64, TASKS_OF_A_THREAD = 3;           // fewer, so that no thread waits long for another

// How a word of the input and a vector of words of the weights are multiplied and added to sums.
struct FloatWords {
    typedef __m512 Sums;
    static Sums fused(Sums sums, __m512i x, __m512i weight) {
        return _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(weight), sums);
    }
};
struct ShortWords {
    typedef __m512 Sums;
    static Sums fused(Sums sums, __m512i x, __m512i weight) {
        return _mm512_dpbf16_ps(sums, (__m512bh)x, (__m512bh)weight);
    }
};
struct StepWords {
    typedef __m512i Sums;
    static Sums fused(Sums sums, __m512i x, __m512i weight) { return _mm512_dpbusd_epi32(sums, x, weight); }
};

// Where the words of weights come from.
struct StoredWords {
    const Matrix& matrix;
    int64_t bytes;  // of a row

    const char* begin(int64_t row) const { return static_cast<const char*>(matrix.weight) + row * bytes; }
    __m512i get(int64_t row, int64_t word, __mmask16 there) const {
        return _mm512_maskz_loadu_epi32(there, begin(row) + 4 * word);
    }
};
struct UnpackedWords {
    const Matrix& matrix;

    const char* begin(int64_t row) const { return reinterpret_cast<const char*>(blocks_of(matrix, row)); }
};

inline __mmask16 first_lanes(int64_t count) {
    return count >= WIDTH ? 0xffff : static_cast<__mmask16>((1u << count) - 1);
}

// Words of two halves each, of which `low` are the first.
inline __m512i in_pairs(Halves low, Halves high) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(as<__m256i>(low)),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(as<__m256i>(high)), 16));
}

// The words [first, first + depth) of `count` rows of weights from `row` on: to panel[word][row], rows beyond them as 0.
inline void turn_panel(const StoredWords& words, int64_t row, int64_t count, int64_t first, int64_t depth,
                       int32_t* panel) {
    for (int64_t lane = 0; lane < count; lane += WIDTH)
        for (int64_t word = 0; word < depth; word += WIDTH) {
            __m512i rows[16], columns[16];
            const __mmask16 there = first_lanes(depth - word);
            UNSPOOL_UNROLLED for (int r = 0; r < 16; ++r)
                rows[r] = lane + r < count ? words.get(row + lane + r, first + word, there) : _mm512_setzero_si512();
            turn(rows, columns);
            for (int64_t c = 0; c < WIDTH && word + c < depth; ++c)
                _mm512_store_si512(panel + (word + c) * PANEL + lane, columns[c]);
        }
}

// The same of int4, whose blocks have their words turned already: two columns of sixteen rows are a vector. Whole groups.
inline void turn_panel(const UnpackedWords& words, int64_t row, int64_t count, int64_t first, int64_t depth,
                       int32_t* panel) {
    constexpr int64_t HALF = WIDTH / 2;  // words of a group whose steps are low, or high, halves of bytes
    for (int64_t lane = 0; lane < count; lane += WIDTH)
        for (int64_t word = 0; word < depth; word += WIDTH) {
            const BlockOfInt4& block = blocks_of(words.matrix, row + lane)[(first + word) / WIDTH];
            Vec scale, middle;
            block.get(0, scale, middle);
            auto value = [&](__m512i bytes, int shift) {
                const Bits steps = (as<Bits>(bytes) >> shift) & 15;
                return narrowed((__builtin_convertvector(as<Ints>(steps), Vec) - 8.0f) * scale + middle);
            };
            UNSPOOL_UNROLLED for (int w = 0; w < 2 * FOURS; ++w) {
                const __m512i bytes = _mm512_srli_epi32(_mm512_loadu_si512(block.steps[w / 2]), w % 2 * 16);
                int32_t* to = panel + (word + w) * PANEL + lane;
                _mm512_store_si512(to, in_pairs(value(bytes, 0), value(bytes, 8)));
                _mm512_store_si512(to + HALF * PANEL, in_pairs(value(bytes, 4), value(bytes, 12)));
            }
        }
}

// Memory that is needed later, to be asked for in small shares: the processor keeps few requests at a time, and waits.
struct WeightsAhead {
    const char *begin, *end;

    inline __attribute__((always_inline)) void fetch(int64_t bytes) {
        const char* stop = bytes < end - begin ? begin + bytes : end;
        for (; begin < stop; begin += 64) __builtin_prefetch(begin, 0, 2);
    }
};

// Adds the products of R rows of input with V vectors of a panel to their sums, [R][PANEL], which start as 0 if `fresh`.
template <class Words, int R, int V>
inline void add_tile(const char* x, int64_t stride, const int32_t* panel, int64_t depth, int32_t* sums, bool fresh,
                     WeightsAhead later) {
    typename Words::Sums found[R][V];
    UNSPOOL_UNROLLED for (int r = 0; r < R; ++r)
        UNSPOOL_UNROLLED for (int v = 0; v < V; ++v) {
            const __m512i before = fresh ? _mm512_setzero_si512() : _mm512_load_si512(sums + r * PANEL + v * WIDTH);
            memcpy(&found[r][v], &before, sizeof before);
        }
    const int64_t share = (later.end - later.begin) * WORDS_OF_A_SHARE / depth + 64;
    for (int64_t word = 0; word < depth; ++word) {
        if (word % WORDS_OF_A_SHARE == 0) later.fetch(share);
        __m512i weight[V];
        UNSPOOL_UNROLLED for (int v = 0; v < V; ++v) weight[v] = _mm512_load_si512(panel + word * PANEL + v * WIDTH);
        UNSPOOL_UNROLLED for (int r = 0; r < R; ++r) {
            int32_t own;
            memcpy(&own, x + r * stride + 4 * word, sizeof own);
            const __m512i everywhere = _mm512_set1_epi32(own);
            UNSPOOL_UNROLLED for (int v = 0; v < V; ++v) found[r][v] = Words::fused(found[r][v], everywhere, weight[v]);
        }
    }
    UNSPOOL_UNROLLED for (int r = 0; r < R; ++r)
        UNSPOOL_UNROLLED for (int v = 0; v < V; ++v) {
            __m512i after;
            memcpy(&after, &found[r][v], sizeof after);
            _mm512_store_si512(sums + r * PANEL + v * WIDTH, after);
        }
}

// What becomes of sums: rounded as the kind of matrix says, and stored.
template <class Out>
struct Result {
    const Gemm& call;

    void put(const int32_t* sums, int64_t lane, int64_t row, int64_t count) const {
        Out* to = static_cast<Out*>(call.y) + lane * call.matrix->rows + row;
        for (int64_t c = 0; c < count; c += WIDTH) {
            const __m512i bits = _mm512_load_si512(sums + c);
            const int64_t left = count - c;
            if (left >= WIDTH)
                store(to + c, number_of(bits, lane, row + c, Whole{}));
            else
                store_some(to + c, number_of(bits, lane, row + c, Part{left}), left);
        }
    }

    template <class Place>
    Vec number_of(__m512i bits, int64_t lane, int64_t row, Place at) const {
        const Matrix& matrix = *call.matrix;
        if (matrix.kind == KIND_FLOAT32) return as<Vec>(bits);
        if (matrix.kind != KIND_INT8)  // rounded to bfloat16, which storing does if that is the type of the result
            return sizeof(Out) == sizeof(Bf16) ? as<Vec>(bits) : widened(narrowed(as<Vec>(bits)));
        Ints offset = {};
        memcpy(&offset, matrix.sums + row, at.count * sizeof(int32_t));
        const Vec exact = __builtin_convertvector(as<Ints>(bits) - 128 * offset, Vec);
        return exact * call.sizes[lane] * at.get(static_cast<const float*>(matrix.scales) + row);
    }
};

template <class Words, class Source, class Out>
struct Multiplier {
    const Gemm& call;
    Source source;
    int64_t stride;  // bytes of a row of input
    int64_t depth;   // words of one
    int64_t block = rows_of_a_block(call);

    int64_t panels() const { return (call.matrix->rows + PANEL - 1) / PANEL; }
    int64_t blocks() const { return (call.lanes + block - 1) / block; }

    // With several threads a matrix of few panels is cut along the rows of the input too.
    static int64_t rows_of_a_block(const Gemm& call) {
        const int64_t panels = (call.matrix->rows + PANEL - 1) / PANEL, threads = takers(call.threads);
        int64_t rows = ROWS_OF_A_BLOCK;
        auto tasks = [&] { return panels * ((call.lanes + rows - 1) / rows); };
        while (threads > 1 && rows > FEWEST_ROWS && tasks() < TASKS_OF_A_THREAD * threads) rows /= 2;
        return rows;
    }

    void operator()(int64_t task) const {
        alignas(64) int32_t panel[DEPTH * PANEL], sums[ROWS_OF_A_BLOCK * PANEL];
        const int64_t row = task % panels() * PANEL, lane = task / panels() * block;
        const int64_t count = call.matrix->rows - row < PANEL ? call.matrix->rows - row : PANEL;
        const int64_t end = call.lanes - lane < block ? call.lanes : lane + block;
        for (int64_t first = 0; first < depth; first += DEPTH) {
            const int64_t words = depth - first < DEPTH ? depth - first : DEPTH;
            turn_panel(source, row, count, first, words, panel);
            const Piece piece = {panel, sums, first, words, row, count, lane, end};
            if (count > 2 * WIDTH)
                multiply<3>(piece);
            else if (count > WIDTH)
                multiply<2>(piece);
            else
                multiply<1>(piece);
        }
    }

    // Some words of a panel, and the sums of all rows of a block with it.
    struct Piece {
        const int32_t* panel;
        int32_t* sums;
        int64_t first, words, row, count, lane, end;
    };

    template <int V>
    void multiply(const Piece& piece) const {
        const int64_t end = piece.end;
        int64_t lane = piece.lane;
        for (; lane + TILE <= end; lane += TILE) tile<TILE, V>(piece, lane);
        for (; lane + 2 <= end; lane += 2) tile<2, V>(piece, lane);
        for (; lane < end; ++lane) tile<1, V>(piece, lane);
    }

    // A share of the weights of the next panel: as much of them as this tile is of all rows of input.
    inline __attribute__((always_inline)) WeightsAhead ahead(const Piece& piece, int64_t lane, int64_t count) const {
        const char* next = source.begin(piece.row + PANEL);
        if (piece.first) return {next, next};
        const int64_t bytes = source.begin(piece.row + 2 * PANEL) - next, all = piece.end - piece.lane;
        return {next + bytes * (lane - piece.lane) / all, next + bytes * (lane + count - piece.lane) / all};
    }

    template <int R, int V>
    void tile(const Piece& piece, int64_t lane) const {
        // Where all words are there at once, the sums of one tile after another lie in the same place, near at hand.
        int32_t* sums = piece.sums + (depth > DEPTH ? (lane - piece.lane) * PANEL : 0);
        const char* x = static_cast<const char*>(call.x) + lane * stride + 4 * piece.first;
        add_tile<Words, R, V>(x, stride, piece.panel, piece.words, sums, piece.first == 0, ahead(piece, lane, R));
        if (piece.first + piece.words < depth) return;
        const Result<Out> result{call};
        for (int r = 0; r < R; ++r) result.put(sums + r * PANEL, lane + r, piece.row, piece.count);
    }
};

template <class Words, class Out, class Source>
void gemm_of(const Gemm& call, Source source, int64_t bytes) {
    Multiplier<Words, Source, Out> work{call, source, call.matrix->columns * bytes, call.matrix->columns * bytes / 4};
    for_each_task(call.threads, work.panels() * work.blocks(), work);
}

template <class Out>
void gemm_to(const Gemm& call) {
    const Matrix& matrix = *call.matrix;
    if (matrix.kind == KIND_FLOAT32)
        gemm_of<FloatWords, Out>(call, StoredWords{matrix, 4 * matrix.columns}, 4);
    else if (matrix.kind == KIND_BFLOAT16)
        gemm_of<ShortWords, Out>(call, StoredWords{matrix, 2 * matrix.columns}, 2);
    else if (matrix.kind == KIND_INT8)
        gemm_of<StepWords, Out>(call, StoredWords{matrix, matrix.columns}, 1);
    else
        gemm_of<ShortWords, Out>(call, UnpackedWords{matrix}, 2);
}

inline void gemm(const Gemm* call) { call->dtype == FLOAT32 ? gemm_to<float>(*call) : gemm_to<Bf16>(*call); }
constexpr void (*GEMM)(const Gemm*) = gemm;

#else
constexpr void (*GEMM)(const Gemm*) = nullptr;
#endif

// Whether the rows of a matrix fill whole words.
inline bool in_words(const Matrix& matrix) {
    const int64_t together = matrix.kind == KIND_FLOAT32 ? 1 : matrix.kind == KIND_INT8 ? 4 : 2;
    return matrix.columns % together == 0;
}

}  // namespace UNSPOOL_ISA
}  // namespace unspool
