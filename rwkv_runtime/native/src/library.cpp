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

// Work in tasks. Each thread has a share of tasks that follow one another, since memory that is read on and on comes
// fastest and what a thread asks for ahead is then its own. A thread that is through with its share goes on with what is
// left of the others', in their order.
class Job {
public:
    Job(int64_t tasks, int64_t threads, void (*work)(void*, int64_t), void* data)
        : threads(threads), work_(work), data_(data), shares_(threads < MOST_SHARES ? threads : MOST_SHARES) {
        for (int64_t share = 0; share < shares_; ++share) {
            share_[share].next.store(tasks * share / shares_, std::memory_order_relaxed);
            share_[share].end = tasks * (share + 1) / shares_;
        }
    }

    void take_tasks(int64_t thread) {
        for (int64_t turn = 0; turn < shares_; ++turn) {
            Share& share = share_[(thread + turn) % shares_];
            if (share.next.load(std::memory_order_relaxed) >= share.end) continue;
            for (int64_t task = share.next++; task < share.end; task = share.next++) work_(data_, task);
        }
    }

    const int64_t threads;  // that may take tasks

private:
    struct alignas(64) Share {
        std::atomic<int64_t> next{0};
        int64_t end = 0;
    };
    static constexpr int64_t MOST_SHARES = 32;

    void (*work_)(void*, int64_t);
    void* data_;
    int64_t shares_;
    Share share_[MOST_SHARES];
};

// Call work() on this thread and up to most - 1 others. A region always has all threads, of which those that come last may find
// nothing to do: an OpenMP runtime ends threads that a region has no use for, and starts them anew for the next one.
template <class Work>
void on_threads(const Threads& threads, int64_t most, Work& work) {
    auto call = [](void* own) { (*static_cast<Work*>(own))(); };
    if (threads.region) return threads.region(call, &work, static_cast<unsigned>(threads.count), 0);
    std::vector<std::thread> helpers;
    try {
        for (int64_t started = 1; started < most; ++started) helpers.emplace_back(call, &work);
    } catch (...) {  // no more threads to be had: those that run do the work
    }
    work();
    for (std::thread& helper : helpers) helper.join();
}

// Waits by turns: awake at first, then leaving the processor to whoever else wants it.
class Waiting {
public:
    void wait() {
        if (++turns_ > TURNS_AWAKE) return std::this_thread::yield();
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("isb");
#endif
    }

private:
    static constexpr int TURNS_AWAKE = 4096;  // about a tenth of a millisecond
    int turns_ = 0;
};

}  // namespace

// The threads of one call of many jobs, awake from its beginning to its end. One leads: it goes through the call; the others
// wait for the job that it is at, and take tasks of it. Within the call it waits only for those who have entered the job.
//
// `turn_` holds the number of a turn and, while its job is open, how many threads may take tasks of it; only the leader
// writes it. A helper says that it is inside before it looks whether the job is open, and the leader closes the job before
// it looks whether anybody is inside: in the one order that all threads see (which is what the default order of atomics
// promises, and no weaker one), at least one of the two notices the other. So the leader's job and what it points to are there
// as long as any helper is inside.
struct Team {
    void lead(Job& job) {
        const int64_t turn = turn_ / TURN * TURN + TURN;
        job_ = &job;
        turn_ = turn + job.threads;
        job.take_tasks(0);
        turn_ = turn;
        for (Waiting waiting; inside_;) waiting.wait();
    }

    void end() { turn_ = OVER; }

    // What a helper does until the end; the leader has number 0.
    void help(int64_t number) {
        Waiting waiting;
        for (int64_t seen = 0;;) {
            const int64_t turn = turn_;
            if (turn == OVER) return;
            if (turn == seen || number >= turn % TURN) {
                waiting.wait();
            } else {
                seen = enter(number);
                waiting = {};
            }
        }
    }

private:
    static constexpr int64_t OVER = -1, TURN = 1 << 16;  // more than there are threads

    // Take tasks of the job that is open, if one is; returns the turn that it was.
    int64_t enter(int64_t number) {
        ++inside_;
        const int64_t turn = turn_;
        if (number < turn % TURN) job_->take_tasks(number);
        --inside_;
        return turn;
    }

    alignas(64) std::atomic<int64_t> turn_{0};
    Job* job_ = nullptr;
    alignas(64) std::atomic<int64_t> inside_{0};
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
    const int64_t most = takers(threads), count = most < tasks ? most : tasks;
    if (count <= 1) {
        for (int64_t task = 0; task < tasks; ++task) work(data, task);
        return;
    }
    Job job(tasks, count, work, data);
    if (threads.team) return threads.team->lead(job);
    std::atomic<int64_t> arrived{0};
    auto member = [&] {
        const int64_t number = arrived++;
        if (number < count) job.take_tasks(number);
    };
    on_threads(threads, count, member);
}

void run_in_team(const Threads& threads, void (*work)(void*, const Threads&), void* data) {
    const int64_t most = takers(threads);
    if (most <= 1) return work(data, {threads.region, 1, 0, nullptr});
    Team team;
    const std::thread::id caller = std::this_thread::get_id();
    std::atomic<int64_t> helpers{0};
    auto member = [&] {
        if (std::this_thread::get_id() == caller) {
            work(data, {threads.region, most, 0, &team});
            team.end();
        } else if (const int64_t number = ++helpers; number < most) {
            team.help(number);
        }
    };
    on_threads(threads, most, member);
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
