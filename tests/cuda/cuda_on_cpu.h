// CUDA on a CPU: with this header before it, g++ compiles a .cu file, and every kernel in it runs without a GPU.
//
// Idea: a GPU runs the threads of a block side by side; they wait for one another at barriers and nowhere else. So here
// each thread is a *fiber*: a function with a stack of its own, that runs until it reaches a barrier and then hands over
// to the next fiber. When all have arrived, all may go on. The order in which they run is the caller's choice: a kernel
// that is right gives the same numbers in any order, and one that forgot a barrier gives others.
//
// What else comes to light: a barrier that some threads never reach (nobody can go on), and, because the caller puts
// marks around its arrays, what is written beside them.
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

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
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
    bool begun;
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
    std::vector<Group> warps;
    std::vector<uint64_t> shown[2];  // what the threads of a warp show one another, by turns here and there
    Group all;
    jmp_buf outside;
    int running;
    bool backwards, stuck;
    uint3 index;
    dim3 size, grid;
    void (*kernel)(void*);
    void* arguments;
};

inline thread_local Block block;

inline void go_on_with(int number) {
    Thread& thread = block.threads[block.running = number];
    if (thread.begun) _longjmp(thread.place, 1);
    thread.begun = true;
    setcontext(&thread.context);
}

// Let the next fiber run that can; when none can, leave the block.
inline void give_way() {
    int count = block.threads.size(), step = block.backwards ? count - 1 : 1;
    for (int i = 1, number = block.running; i <= count; i++) {
        number = (number + step) % count;
        if (block.threads[number].state == RUNS) {
            if (number != block.running && _setjmp(block.threads[block.running].place) == 0) go_on_with(number);
            return;
        }
    }
    block.stuck = block.all.alive > 0;
    _longjmp(block.outside, 1);
}

// If all of a group that are alive wait, let threads first to last - 1 go on.
inline void release(Group& group, State waiting, int first, int last) {
    if (group.waiting < group.alive) return;
    group.waiting = 0;
    for (int i = first; i < last; i++)
        if (block.threads[i].state == waiting) block.threads[i].state = RUNS;
}

inline void release_block() { release(block.all, AT_BARRIER, 0, block.threads.size()); }

inline void release_warp(int warp) {
    int last = std::min<int>((warp + 1) * WARP, block.threads.size());
    release(block.warps[warp], AT_WARP_BARRIER, warp * WARP, last);
}

inline void wait_for_block() {
    block.threads[block.running].state = AT_BARRIER;
    block.all.waiting++;
    release_block();
    give_way();
}

inline void wait_for_warp() {
    int warp = block.running / WARP;
    block.threads[block.running].state = AT_WARP_BARRIER;
    block.warps[warp].waiting++;
    release_warp(warp);
    give_way();
}

inline void run_thread() {
    block.kernel(block.arguments);
    int warp = block.running / WARP;
    block.threads[block.running].state = DONE;
    block.all.alive--;
    block.warps[warp].alive--;
    release_block();
    release_warp(warp);
    give_way();
}

// Run one block to its end; false if a barrier was not reached by all.
inline bool run_block() {
    int count = block.threads.size();
    block.all = {count, 0};
    block.stuck = false;
    for (int warp = 0; warp < (int)block.warps.size(); warp++)
        block.warps[warp] = {std::min(WARP, count - warp * WARP), 0};
    for (int i = 0; i < count; i++) {
        Thread& thread = block.threads[i];
        thread.state = RUNS;
        thread.begun = false;
        thread.exchanges = 0;
        thread.index = {i % block.size.x, i / block.size.x % block.size.y, i / block.size.x / block.size.y};
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.get();
        thread.context.uc_stack.ss_size = STACK;
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, run_thread, 0);
    }
    if (_setjmp(block.outside) == 0) go_on_with(block.backwards ? count - 1 : 0);
    return !block.stuck;
}

// ---- a launch --------------------------------------------------------------------------------------------------------

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
}

// Run a kernel over a grid, a few blocks at a time. Returns the number of the first block that got stuck, or -1.
template <class... A>
long launch(void (*kernel)(A...), dim3 grid, dim3 size, void** arguments, int workers, bool backwards) {
    struct Call {
        void (*kernel)(A...);
        void** arguments;
    } made{kernel, arguments};
    long blocks = long(grid.x) * grid.y * grid.z;
    std::atomic<long> next{0}, stuck{-1};
    auto work = [&] {
        block.size = size;
        block.grid = grid;
        block.backwards = backwards;
        block.arguments = &made;
        block.kernel = [](void* given) {
            Call* made = static_cast<Call*>(given);
            call(made->kernel, made->arguments, std::index_sequence_for<A...>{});
        };
        block.threads.resize(size.x * size.y * size.z);
        for (Thread& thread : block.threads)
            if (!thread.stack) thread.stack.reset(new char[STACK]);
        block.warps.resize((block.threads.size() + WARP - 1) / WARP);
        for (auto& shown : block.shown) shown.resize(block.threads.size());
        for (long i; stuck < 0 && (i = next++) < blocks;) {
            long number = backwards ? blocks - 1 - i : i;
            block.index = {unsigned(number % grid.x), unsigned(number / grid.x % grid.y), unsigned(number / grid.x / grid.y)};
            if (!run_block()) stuck = number;
        }
    };
    std::vector<std::thread> others;
    for (int i = 1; i < workers && i < blocks / 16; i++) others.emplace_back(work);
    work();  // this thread keeps its fibers' stacks for the next launch
    for (std::thread& other : others) other.join();
    return stuck;
}

// Each thread of a warp shows a value and gets that of thread `from` of the same warp. Nobody can be two exchanges
// ahead of another, so two places in turn are enough.
template <class T>
T exchange(T value, int from) {
    int first = block.running / WARP * WARP;
    std::vector<uint64_t>& shown = block.shown[block.threads[block.running].exchanges++ % 2];
    T got;
    memcpy(&shown[block.running], &value, sizeof value);
    wait_for_warp();
    memcpy(&got, &shown[first + from % WARP], sizeof got);
    return got;
}

inline int lane() { return block.running % WARP; }

}  // namespace cuda_on_cpu

#define threadIdx (cuda_on_cpu::block.threads[cuda_on_cpu::block.running].index)
#define blockIdx (cuda_on_cpu::block.index)
#define blockDim (cuda_on_cpu::block.size)
#define gridDim (cuda_on_cpu::block.grid)

inline void __syncthreads() { cuda_on_cpu::wait_for_block(); }
inline void __syncwarp(unsigned = ~0u) { cuda_on_cpu::wait_for_warp(); }
template <class T> T __shfl_xor_sync(unsigned, T v, int mask) { return cuda_on_cpu::exchange(v, cuda_on_cpu::lane() ^ mask); }
using std::max;
using std::min;
inline void sincospi(double x, double* sine, double* cosine) { *sine = sin(M_PI * x), *cosine = cos(M_PI * x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t(a) * b) >> 32; }
