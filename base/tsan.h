/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * TSan: tells ThreadSanitizer about ordering it cannot see (Concurrency Kit's inline assembly).
 * Nothing in other builds. Used by base/ring.c and base/event_count.c alone.
 */
#if defined(__SANITIZE_THREAD__)
#define MR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MR_TSAN 1
#endif
#endif

#ifdef MR_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);

#define mr_tsan_acquire(addr) __tsan_acquire((void *)(addr))
#define mr_tsan_release(addr) __tsan_release((void *)(addr))
#define mr_tsan_ignore_begin()                                                                     \
    (AnnotateIgnoreReadsBegin(__FILE__, __LINE__), AnnotateIgnoreWritesBegin(__FILE__, __LINE__))
#define mr_tsan_ignore_end()                                                                       \
    (AnnotateIgnoreWritesEnd(__FILE__, __LINE__), AnnotateIgnoreReadsEnd(__FILE__, __LINE__))
#else
#define mr_tsan_acquire(addr) ((void)(addr))
#define mr_tsan_release(addr) ((void)(addr))
#define mr_tsan_ignore_begin() ((void)0)
#define mr_tsan_ignore_end() ((void)0)
#endif
