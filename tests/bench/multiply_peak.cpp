// How much one core of a processor with AVX512_BF16 and VNNI can multiply at all: 24 independent sums in registers, no
// memory. Prints billions of operations a second of processor time; a multiplication and an addition are two.
//
//     g++ -O2 tests/bench/multiply_peak.cpp -o multiply_peak && ./multiply_peak
#include <cstdio>
#include <ctime>

static double seconds() {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

#define ONE(op, sum) op " %%zmm30, %%zmm31, %%zmm" #sum "\n"
#define EIGHT(op, a, b, c, d, e, f, g, h) \
    ONE(op, a) ONE(op, b) ONE(op, c) ONE(op, d) ONE(op, e) ONE(op, f) ONE(op, g) ONE(op, h)
#define ALL(op) \
    EIGHT(op, 0, 1, 2, 3, 4, 5, 6, 7) \
    EIGHT(op, 8, 9, 10, 11, 12, 13, 14, 15) EIGHT(op, 16, 17, 18, 19, 20, 21, 22, 23)

#define TURN(op)                                                                                                  \
    asm volatile(ALL(op) ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
                 "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

template <class Turn>
static void report(const char* name, int operations, Turn turn) {
    const long turns = 2000000;
    double best = 1e9;
    for (int round = 0; round < 9; ++round) {
        const double begun = seconds();
        for (long i = 0; i < turns; ++i) turn();
        const double taken = seconds() - begun;
        best = taken < best ? taken : best;
    }
    std::printf("%s %.0f\n", name, 24.0 * operations * turns / best * 1e-9);
}

int main() {
    report("fp32", 2 * 16, [] { TURN("vfmadd231ps"); });
    report("bf16", 2 * 32, [] { TURN("vdpbf16ps"); });
    report("int8", 2 * 64, [] { TURN("vpdpbusd"); });
}
