// How fast one core of a processor with AVX-512 reads memory at all, in pages of 4 KiB and in huge ones, and, where files
// are named, from where the system keeps them: the bound of decoding, which reads all weights once a token. Prints
// billions of bytes a second of processor time, medians of nine rounds in turn.
//
//     g++ -O2 -mavx512f tests/bench/read_peak.cpp -o read_peak && ./read_peak [FILE ...]
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <immintrin.h>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <vector>

static double seconds() {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

struct Memory {
    std::string name;
    const char* begin;
    size_t size;
    std::vector<double> found;

    void read() {
        __m512i sums[4] = {};
        const double started = seconds();
        for (size_t i = 0; i + 256 <= size; i += 256)
            for (int k = 0; k < 4; ++k) sums[k] = _mm512_add_epi32(sums[k], _mm512_loadu_si512(begin + i + 64 * k));
        asm volatile("" ::"v"(sums[0]), "v"(sums[1]), "v"(sums[2]), "v"(sums[3]));
        found.push_back(size / (seconds() - started) * 1e-9);
    }
};

static Memory written(const char* name, int advice) {
    const size_t size = 256u << 20;
    void* begin = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(begin, size, advice);
    std::memset(begin, 1, size);
    return {name, static_cast<const char*>(begin), size, {}};
}

static Memory mapped(const char* path) {
    const int file = open(path, O_RDONLY);
    struct stat facts;
    if (file < 0 || fstat(file, &facts)) return {path, nullptr, 0, {}};
    void* begin = mmap(nullptr, facts.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    return {path, static_cast<const char*>(begin), static_cast<size_t>(facts.st_size), {}};
}

int main(int count, char** paths) {
    std::vector<Memory> all = {written("4 KiB", MADV_NOHUGEPAGE), written("huge", MADV_HUGEPAGE)};
    for (int i = 1; i < count; ++i) all.push_back(mapped(paths[i]));
    for (int round = 0; round < 10; ++round)
        for (Memory& one : all) one.read();
    for (Memory& one : all) {
        one.found.erase(one.found.begin());  // the first one fetches a file
        std::sort(one.found.begin(), one.found.end());
        std::printf("%s %.1f\n", one.name.c_str(), one.found[4]);
    }
}
