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

// Work in tasks. Each thread has a share of those that follow one another, for memory that is read on and on comes fastest,
// and what it asks for ahead is its own; who is through with his share takes tasks of the others'.
class Job {
public:
    Job(int64_t tasks, int64_t threads, void (*work)(void*, int64_t), void* data)
        : threads(threads), work_(work), data_(data), shares_(threads < MOST_SHARES ? threads : MOST_SHARES) {
        for (int64_t share = 0; share < shares_; ++share) {
            share_[share].next = tasks * share / shares_;
            share_[share].end = tasks * (share + 1) / shares_;
        }
    }

    void take_tasks(int64_t thread) {
        for (int64_t turn = 0; turn < shares_; ++turn) {
            Share& share = share_[(thread + turn) % shares_];
            for (int64_t task = share.next++; task < share.end; task = share.next++) work_(data_, task);
        }
    }

    const int64_t threads;  // that may take tasks
    std::atomic<int64_t> arrived{0};

private:
    struct alignas(64) Share {
        std::atomic<int64_t> next;
        int64_t end;
    };
    static constexpr int64_t MOST_SHARES = 32;

    void (*work_)(void*, int64_t);
    void* data_;
    int64_t shares_;
    Share share_[MOST_SHARES];
};

// Call work(data) on so many threads, of which this one is the first.
void on_threads(Region region, int64_t count, void (*work)(void*), void* data) {
    if (region) return region(work, data, static_cast<unsigned>(count), 0);
    std::vector<std::thread> helpers;
    try {
        for (int64_t started = 1; started < count; ++started) helpers.emplace_back(work, data);
    } catch (const std::system_error&) {  // no more threads to be had: those that run do the work
    }
    work(data);
    for (std::thread& helper : helpers) helper.join();
}

// Waits by turns: awake at first, then leaving the processor to whoever else wants it.
class Waiting {
public:
    void wait() {
        if (++turns_ > TURNS_AWAKE) return std::this_thread::yield();
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }

private:
    static constexpr int TURNS_AWAKE = 4096;  // about a tenth of a millisecond
    int turns_ = 0;
};

}  // namespace

// The threads of one call of many jobs, awake from its beginning to its end. One goes through the call; the others wait
// for the job that it is at, and take tasks of it. A thread that has not come, or that the system lets wait, is waited for
// by nobody unless it is within a job. `turn_` goes up when a job opens, to an odd number, and when it closes: who has
// entered before it closed finds the job there until he leaves.
struct Team {
public:
    void run(Job& job) {
        job_ = &job;
        ++turn_;
        job.take_tasks(0);
        ++turn_;
        for (Waiting waiting; inside_;) waiting.wait();
    }

    void end() { turn_ = OVER; }

    // What the others do until the end.
    void help() {
        const int64_t number = ++helpers_;
        int64_t seen = 0;
        for (Waiting waiting; seen != OVER;) {
            const int64_t turn = turn_;
            if (turn == seen || turn == OVER || turn % 2 == 0) {
                waiting.wait();
                seen = turn;
            } else {
                seen = enter(number);
                waiting = {};
            }
        }
    }

private:
    static constexpr int64_t OVER = -1;

    // Take tasks of a job that is open, if one is; returns the turn that it was.
    int64_t enter(int64_t number) {
        ++inside_;
        const int64_t turn = turn_;
        if (turn > 0 && turn % 2 && number < job_->threads) job_->take_tasks(number);
        --inside_;
        return turn;
    }

    alignas(64) std::atomic<int64_t> turn_{0};
    Job* job_ = nullptr;
    alignas(64) std::atomic<int64_t> inside_{0};
    std::atomic<int64_t> helpers_{0};
};

namespace {

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
    const int64_t count = threads.count < tasks ? threads.count : tasks;
    if (count <= 1) {
        for (int64_t task = 0; task < tasks; ++task) work(data, task);
        return;
    }
    Job job(tasks, count, work, data);
    if (threads.team) return threads.team->run(job);
    auto member = [](void* own) {
        Job& shared = *static_cast<Job*>(own);
        shared.take_tasks(shared.arrived++);
    };
    on_threads(threads.region, count, member, &job);
}

void run_in_team(const Threads& threads, void (*work)(void*, const Threads&), void* data) {
    if (threads.count <= 1) return work(data, threads);
    Team team;
    const std::thread::id caller = std::this_thread::get_id();
    auto member = [&] {
        if (std::this_thread::get_id() != caller) return team.help();
        work(data, {threads.region, threads.count, &team});
        team.end();
    };
    on_threads(threads.region, threads.count, [](void* own) { (*static_cast<decltype(member)*>(own))(); }, &member);
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
extern "C" __attribute__((visibility("default"))) int unspool_abi() { return 8; }
