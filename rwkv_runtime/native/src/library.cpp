// What is compiled for any processor: which kernels this one can run, and how work is spread over threads.
#include <atomic>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "abi.hpp"

namespace unspool {
namespace portable { const Kernels* kernels(); }
#if defined(UNSPOOL_HAS_AVX2)
namespace avx2 { const Kernels* kernels(); }
#endif
#if defined(UNSPOOL_HAS_AVX512)
namespace avx512 { const Kernels* kernels(); }
#endif
#if defined(UNSPOOL_HAS_AVX512_BF16)
namespace avx512_bf16 { const Kernels* kernels(); }
#endif

namespace {

struct Job {
    std::atomic<int64_t> next{0};
    int64_t tasks;
    void (*work)(void*, int64_t);
    void* data;
};

void take_tasks(void* shared) {
    Job& job = *static_cast<Job*>(shared);
    for (int64_t task = job.next++; task < job.tasks; task = job.next++) job.work(job.data, task);
}

void start_and_join(Job& job, int64_t count) {
    std::vector<std::thread> helpers;
    try {
        for (int64_t started = 1; started < count; ++started) helpers.emplace_back(take_tasks, &job);
    } catch (const std::system_error&) {  // no more threads to be had: those that run do the work
    }
    take_tasks(&job);
    for (std::thread& helper : helpers) helper.join();
}

#if defined(__x86_64__)
// Whether the processor multiplies matrices in tiles: AMX with bfloat16.
bool has_tiles() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1);
}
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_avx512_bf16() {
    return has_avx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
}
#else
bool has_tiles() { return false; }
#endif

}  // namespace

void run_tasks(const Threads& threads, int64_t tasks, void (*work)(void*, int64_t), void* data) {
    Job job;
    job.tasks = tasks;
    job.work = work;
    job.data = data;
    const int64_t count = threads.count < tasks ? threads.count : tasks;
    if (count <= 1)
        take_tasks(&job);
    else if (threads.region)
        threads.region(take_tasks, &job, static_cast<unsigned>(count), 0);
    else
        start_and_join(job, count);
}

}  // namespace unspool

// The kernels of an instruction set, or null if they were not built or this processor cannot run them.
extern "C" __attribute__((visibility("default"))) const unspool::Kernels* unspool_kernels(const char* name) {
    if (!std::strcmp(name, "portable")) return unspool::portable::kernels();
#if defined(UNSPOOL_HAS_AVX2)
    if (!std::strcmp(name, "avx2") && unspool::has_avx2()) return unspool::avx2::kernels();
#endif
#if defined(UNSPOOL_HAS_AVX512)
    if (!std::strcmp(name, "avx512") && unspool::has_avx512()) return unspool::avx512::kernels();
#endif
#if defined(UNSPOOL_HAS_AVX512_BF16)
    if (!std::strcmp(name, "avx512_bf16") && unspool::has_avx512_bf16()) return unspool::avx512_bf16::kernels();
#endif
    return nullptr;
}

// Whether this processor has a faster way to multiply matrices than these kernels know.
extern "C" __attribute__((visibility("default"))) int unspool_has_tiles() { return unspool::has_tiles(); }

// So that Python can tell a library of another version from its own.
extern "C" __attribute__((visibility("default"))) int unspool_abi() { return 7; }
