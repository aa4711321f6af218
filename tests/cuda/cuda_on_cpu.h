// CUDA on a CPU: with this header before it, g++ compiles a .cu file, and every kernel in it runs without a GPU.
//
// Idea: a GPU runs the threads of a block side by side; they wait for one another at barriers and nowhere else. So here
// each thread is a *fiber*: a function with a stack of its own, that runs until it reaches a barrier and then hands over
// to the next fiber. When all have arrived, all may go on. The order in which they run is the caller's choice: a kernel
// that is right gives the same numbers in any order, and one that forgot a barrier gives others.
//
// What else comes to light: a barrier that some threads never reach (nobody can go on), and, because the caller puts
// marks around its arrays, what is written beside them. g++ checks on the way (-fsanitize) that vectors begin where they
// must, that integers do not overflow, and that arrays of a known length have what is asked of them.
// Leaves out: how fast a GPU is, how it groups memory accesses, caches, and everything that no kernel here uses.

#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <ucontext.h>
#include <utility>
#include <vector>

// ---- the words of CUDA C++ -------------------------------------------------------------------------------------------

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
#define __shared__ static thread_local  // one OS thread runs one block at a time
#define __align__(bytes) __attribute__((aligned(bytes)))

// Numbers of threads and blocks are unsigned to CUDA. Here they have a sign, so that a product that is too large for 32
// bits is an overflow, which g++ finds, instead of a smaller number.
struct uint3 { int x, y, z; };
struct dim3 { int x, y, z; };
struct alignas(16) float4 { float x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace cuda_on_cpu {

// ---- fibers ----------------------------------------------------------------------------------------------------------

constexpr int WARP = 32;
constexpr size_t STACK = 64 * 1024;  // bytes

enum State { RUNS, AT_BARRIER, AT_WARP_BARRIER, DONE };

struct Thread {
    ucontext_t context;  // where it begins
    jmp_buf place;       // where it stopped; unlike a context it costs no call of the operating system
    bool begun = false;
    int exchanges;  // that it has made
    State state;
    uint3 index;
    std::unique_ptr<char[]> stack;
};

struct Group {  // of threads that wait for one another: a block or a warp
    int alive, waiting;
};

struct Block {
    std::vector<Thread> threads;
    int count;  // of the threads
    std::vector<Group> warps;
    std::vector<uint64_t> shown[2];  // what the threads of a warp show one another, by turns here and there
    Group all;
    jmp_buf outside;
    int running;  // the number of the thread that runs
    Thread* now;  // the thread itself
    bool backwards, stuck = false;
    const char* fault;  // what went wrong, and where
    unsigned line;
    uint3 index;
    dim3 size, grid;
    void (*kernel)(void*);
    void* arguments;
};

inline thread_local Block own_block;  // of this OS thread
inline thread_local Block* block;     // the same, without a look whether it has been made

inline void go_on_with(int number) {
    block->now = &block->threads[block->running = number];
    if (block->now->begun) _longjmp(block->now->place, 1);
    block->now->begun = true;
    setcontext(&block->now->context);
}

inline bool goes_on(int number) {
    if (block->threads[number].state != RUNS) return false;
    if (number != block->running && _setjmp(block->now->place) == 0) go_on_with(number);
    return true;
}

// Let the next fiber run that can; when none can, leave the block. Forwards the threads of all warps take turns, so that
// the warps stay side by side. Backwards a warp goes on as far as it can before another warp runs. On a GPU all that lies
// between these two may happen.
inline void give_way() {
    int count = block->count, running = block->running;
    if (block->backwards) {
        int first = running / WARP * WARP, size = std::min(WARP, count - first);
        for (int i = 1; i <= size; i++)
            if (goes_on(first + (running - first + size - i) % size)) return;
    }
    int step = block->backwards ? count - 1 : 1;
    for (int i = 1, number = running; i <= count; i++) {
        number = (number + step) % count;
        if (goes_on(number)) return;
    }
    block->stuck = block->all.alive > 0;
    if (_setjmp(block->now->place) == 0) _longjmp(block->outside, 1);
}

// If all of a group that are alive wait, let threads first to last - 1 go on.
inline void release(Group& group, State waiting, int first, int last) {
    if (group.waiting < group.alive) return;
    group.waiting = 0;
    for (int i = first; i < last; i++)
        if (block->threads[i].state == waiting) block->threads[i].state = RUNS;
}

inline void release_block() { release(block->all, AT_BARRIER, 0, block->count); }

inline void release_warp(int warp) {
    int last = std::min<int>((warp + 1) * WARP, block->count);
    release(block->warps[warp], AT_WARP_BARRIER, warp * WARP, last);
}

inline void wait_for_block() {
    block->now->state = AT_BARRIER;
    block->all.waiting++;
    release_block();
    give_way();
}

inline void wait_for_warp() {
    int warp = block->running / WARP;
    block->now->state = AT_WARP_BARRIER;
    block->warps[warp].waiting++;
    release_warp(warp);
    give_way();
}

inline void run_thread() {
    for (;;) {  // a block after the other: to begin a fiber costs calls of the operating system
        block->kernel(block->arguments);
        int warp = block->running / WARP;
        block->now->state = DONE;
        block->all.alive--;
        block->warps[warp].alive--;
        release_block();
        release_warp(warp);
        give_way();
    }
}

// Run one block to its end; false if a barrier was not reached by all.
inline bool run_block() {
    int count = block->count;
    block->all = {count, 0};
    bool anew = block->stuck;  // then its fibers are somewhere in the middle
    block->stuck = false;
    block->fault = nullptr;
    for (int warp = 0; warp < (int)block->warps.size(); warp++)
        block->warps[warp] = {std::min(WARP, count - warp * WARP), 0};
    for (int i = 0; i < count; i++) {
        Thread& thread = block->threads[i];
        thread.state = RUNS;
        thread.exchanges = 0;
        thread.index = {i % block->size.x, i / block->size.x % block->size.y, i / block->size.x / block->size.y};
        if (thread.begun && !anew) continue;
        thread.begun = false;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.get();
        thread.context.uc_stack.ss_size = STACK;
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, run_thread, 0);
    }
    if (_setjmp(block->outside) == 0) go_on_with(block->backwards ? count - 1 : 0);
    return !block->stuck;
}

// ---- faults ----------------------------------------------------------------------------------------------------------

// What g++ knows of a place where it checks something: the beginning of what it hands to the functions below.
struct Checked {
    const char* file;
    unsigned line, column;
    void* type;
    unsigned char log_alignment;  // only where an address is checked
};

// Leave the block; a GPU would not.
inline void fail(const char* fault, const Checked* where) {
    block->fault = fault;
    block->line = where->line;
    block->stuck = true;
    _longjmp(block->outside, 1);
}

// ---- a launch --------------------------------------------------------------------------------------------------------

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
}

struct Said {  // how a launch went: the first block that did not come to its end, or -1; if g++ found why, what and where
    long stuck;
    const char* fault;
    unsigned line;
};

// Run blocks first to last - 1 of a grid, a few at a time.
template <class... A>
Said launch(void (*kernel)(A...), dim3 grid, dim3 size, long first, long last, void** arguments, int workers,
            bool backwards) {
    struct Call {
        void (*kernel)(A...);
        void** arguments;
    } made{kernel, arguments};
    long blocks = last - first;
    std::atomic<long> next{0};
    std::atomic<bool> over{false};
    Said said{-1, nullptr, 0};
    auto work = [&] {
        block = &own_block;
        block->size = size;
        block->grid = grid;
        block->backwards = backwards;
        block->arguments = &made;
        block->kernel = [](void* given) {
            Call* made = static_cast<Call*>(given);
            call(made->kernel, made->arguments, std::index_sequence_for<A...>{});
        };
        block->threads.resize(block->count = size.x * size.y * size.z);
        for (Thread& thread : block->threads)
            if (!thread.stack) thread.stack.reset(new char[STACK]);
        block->warps.resize((block->count + WARP - 1) / WARP);
        for (auto& shown : block->shown) shown.resize(block->count);
        for (long i; !over && (i = next++) < blocks;) {
            long number = backwards ? last - 1 - i : first + i;
            block->index = {int(number % grid.x), int(number / grid.x % grid.y), int(number / grid.x / grid.y)};
            if (!run_block() && !over.exchange(true)) said = {number, block->fault, block->line};
        }
    };
    std::vector<std::thread> others;
    for (int i = 1; i < workers && i < blocks / 16; i++) others.emplace_back(work);
    work();  // this thread keeps its fibers' stacks for the next launch
    for (std::thread& other : others) other.join();
    return said;
}

// Each thread of a warp shows a value and gets that of thread `from` of the same warp. Nobody can be two exchanges
// ahead of another, so two places in turn are enough.
template <class T>
T exchange(T value, int from) {
    int first = block->running / WARP * WARP;
    std::vector<uint64_t>& shown = block->shown[block->now->exchanges++ % 2];
    T got;
    memcpy(&shown[block->running], &value, sizeof value);
    wait_for_warp();
    memcpy(&got, &shown[first + from % WARP], sizeof got);
    return got;
}

inline int lane() { return block->running % WARP; }

}  // namespace cuda_on_cpu

// ---- what g++ calls where a check fails ------------------------------------------------------------------------------

extern "C" {
using cuda_on_cpu::Checked;
using cuda_on_cpu::fail;

inline void wrong_address(Checked* where, void* address) {
    if (!address) fail("the address of nothing is used", where);
    fail("several numbers at once, from an address that their size does not divide", where);
}
#define OVERFLOWS(name) \
    void __ubsan_handle_##name(Checked* where, void*, void*) { fail("an integer overflows", where); }

void __ubsan_handle_type_mismatch_v1(Checked* where, void* address) { wrong_address(where, address); }
void __ubsan_handle_negate_overflow(Checked* where, void*) { fail("an integer overflows", where); }
OVERFLOWS(add_overflow)
OVERFLOWS(sub_overflow)
OVERFLOWS(mul_overflow)
OVERFLOWS(shift_out_of_bounds)
void __ubsan_handle_divrem_overflow(Checked* where, void*, void*) { fail("an integer is divided by 0", where); }
void __ubsan_handle_out_of_bounds(Checked* where, void*) { fail("an array has no such number", where); }
}

#define threadIdx (cuda_on_cpu::block->now->index)
#define blockIdx (cuda_on_cpu::block->index)
#define blockDim (cuda_on_cpu::block->size)
#define gridDim (cuda_on_cpu::block->grid)

inline void __syncthreads() { cuda_on_cpu::wait_for_block(); }
inline void __syncwarp(unsigned = ~0u) { cuda_on_cpu::wait_for_warp(); }
template <class T> T __shfl_xor_sync(unsigned, T v, int mask) { return cuda_on_cpu::exchange(v, cuda_on_cpu::lane() ^ mask); }
using std::max;
using std::min;
inline void sincospi(double x, double* sine, double* cosine) { *sine = sin(M_PI * x), *cosine = cos(M_PI * x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t(a) * b) >> 32; }
