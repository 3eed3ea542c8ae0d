/* Vector code without intrinsics: loops written over a fixed number of independent lanes, which the
 * compiler turns into whatever registers there are. SIMD_CLONES compiles a function for AVX2 as
 * well and picks at load time; neither version fuses multiply and add, so both give the same bits.
 * Not under sanitizers, whose runtime starts after the loader has to pick. */
#ifndef MUON_KERNELS_SIMD_H
#define MUON_KERNELS_SIMD_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SIMD_SANITIZED 1
#endif
#endif

#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && defined(__GNUC__) &&        \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(SIMD_SANITIZED)
#define SIMD_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define SIMD_CLONES
#endif

#endif
