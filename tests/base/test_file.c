/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the machine's disk keeps the promises of base/file.h, in a directory of its own:
 *   1. modes of opening and their refusals;  2. reads up to the end, writes in many parts, also
 *   empty ones; 3. allocate gives zeros and keeps what is there;  4. locks exclude, until close;
 *   5. names: rename, unlink, list, directories with their parents;  6. read_all and its limit;
 *   7. direct writes leave what buffered ones would, also for who reads beside them and who opens the file anew;
 *   8. gathered writes are there after a sync, behind them only zeros, and one that failed lets no later sync succeed.
 */
#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct mr_disk *disk(void) {
    return mr_disk_system();
}

static int make_dir(void **state) {
    char template[] = "/tmp/millrace-test-XXXXXX";
    if (mkdtemp(template) == NULL) {
        return -1;
    }
    *state = strdup(template);
    return *state == NULL ? -1 : 0;
}

static enum mr_status unlink_in(void *ctx, const char *name) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", (const char *)ctx, name);
    return mr_disk_unlink(disk(), path);
}

static int remove_dir(void **state) {
    if (mr_disk_list(disk(), *state, unlink_in, *state) != MR_OK || rmdir(*state) != 0) {
        return -1;
    }
    free(*state);
    return 0;
}

static const char *in(void **state, const char *name, char ret[512]) {
    (void)snprintf(ret, 512, "%s/%s", (const char *)*state, name);
    return ret;
}

static void opens_as_asked(void **state) {
    char path[512];
    struct mr_file *file;
    struct stat st;
    in(state, "a", path);
    assert_int_equal(mr_file_open(disk(), path, MR_FILE_READ, &file), MR_NOT_FOUND);
    assert_int_equal(mr_file_open(disk(), path, MR_FILE_WRITE, &file), MR_NOT_FOUND);
    assert_int_equal(mr_file_open(disk(), path, MR_FILE_CREATE, &file), MR_OK);
    mr_file_close(file);
    assert_int_equal(mr_file_open(disk(), path, MR_FILE_CREATE, &file), MR_OK);
    mr_file_close(file);
    assert_int_equal(mr_file_open(disk(), path, MR_FILE_CREATE_NEW, &file), MR_BUSY);
    assert_int_equal(mr_file_open(disk(), path, MR_FILE_SECRET, &file), MR_BUSY);
    assert_int_equal(mr_file_open(disk(), in(state, "s", path), MR_FILE_SECRET, &file), MR_OK);
    mr_file_close(file);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(mr_file_open(disk(), in(state, "s/x", path), MR_FILE_CREATE, &file), MR_IO);
    assert_int_equal(mr_file_open(disk(), in(state, "a", path), MR_FILE_READ, &file), MR_OK);
    assert_int_equal(mr_file_pwrite(file, MR_BYTES("x"), 0), MR_IO);
    mr_file_close(file);
    mr_file_close(NULL);
}

static void reads_what_was_written_in_parts(void **state) {
    enum { PARTS = 2500, LEN = PARTS * 7 };
    char path[512];
    struct mr_file *file;
    static uint8_t bytes[LEN];
    static uint8_t back[LEN + 10];
    static struct iovec iov[PARTS];
    size_t used = 0;
    for (size_t i = 0; i < LEN; i++) {
        bytes[i] = (uint8_t)(i * 31 + i / 256);
    }
    for (size_t i = 0; i < PARTS; i++) { /* more than one call takes; every third empty */
        size_t len = i % 3 == 0 ? 0 : i % 11;
        iov[i] = (struct iovec){bytes + used, len};
        used += len;
    }
    size_t len;
    uint64_t size;
    assert_int_equal(mr_file_open(disk(), in(state, "p", path), MR_FILE_CREATE_NEW, &file), MR_OK);
    assert_int_equal(mr_file_pwritev(file, iov, PARTS, 100), MR_OK);
    assert_int_equal(mr_file_pwritev(file, iov, 0, 5), MR_OK);
    assert_int_equal(mr_file_sync(file), MR_OK);
    assert_int_equal(mr_file_size(file, &size), MR_OK);
    assert_int_equal(size, 100 + used);
    assert_int_equal(mr_file_pread(file, back, used + 10, 100, &len), MR_OK);
    assert_int_equal(len, used);
    assert_memory_equal(back, bytes, used);
    assert_int_equal(mr_file_pread(file, back, 10, size, &len), MR_OK);
    assert_int_equal(len, 0);
    assert_int_equal(mr_file_pread(file, back, 100, 0, &len), MR_OK);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(back[i], 0);
    }
    assert_int_equal(mr_file_truncate(file, 3), MR_OK);
    assert_int_equal(mr_file_size(file, &size), MR_OK);
    assert_int_equal(size, 3);
    mr_file_close(file);
}

static void allocates_zeros(void **state) {
    char path[512];
    struct mr_file *file;
    struct stat st;
    uint8_t back[4096];
    size_t len;
    assert_int_equal(mr_file_open(disk(), in(state, "z", path), MR_FILE_CREATE_NEW, &file), MR_OK);
    assert_int_equal(mr_file_pwrite(file, MR_BYTES("head"), 0), MR_OK);
    assert_int_equal(mr_file_allocate(file, 1 << 20), MR_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 1 << 20);
    assert_true(st.st_blocks * 512 >= 1 << 20);
    assert_int_equal(mr_file_pread(file, back, sizeof back, 0, &len), MR_OK);
    assert_memory_equal(back, "head\0\0\0\0", 8);
    assert_int_equal(mr_file_pread(file, back, sizeof back, (1 << 20) - 4096, &len), MR_OK);
    assert_int_equal(len, 4096);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(back[i], 0);
    }
    mr_file_close(file);
}

enum { DIRECT_SIZE = 8 << 20 };

/* Lengths around blocks, around what is gathered at once, and small ones. */
static size_t some_len(uint64_t *random) {
    static const size_t near[] = {1, 100, 4096, 8192, 65536, 1 << 20, (2 << 20) + 4096};
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    size_t len = near[(*random >> 33) % (sizeof near / sizeof *near)];
    size_t shift = (*random >> 40) % 3;
    return shift == 0 || len == 1 ? len : len - 1 + shift;
}

static void expect_content(const char *path, const uint8_t *model) {
    struct mr_file *file;
    size_t got;
    uint8_t *seen = malloc(DIRECT_SIZE);
    assert_non_null(seen);
    assert_int_equal(mr_file_open(disk(), path, MR_FILE_READ, &file), MR_OK);
    assert_int_equal(mr_file_pread(file, seen, DIRECT_SIZE, 0, &got), MR_OK);
    assert_int_equal(got, DIRECT_SIZE);
    assert_memory_equal(seen, model, DIRECT_SIZE);
    mr_file_close(file);
    free(seen);
}

/* Whether the directory's file system can or not: what is read is the same. */
static void direct_writes_are_writes(void **state) {
    char path[512];
    struct mr_file *file;
    uint8_t *model = calloc(1, DIRECT_SIZE);
    assert_non_null(model);
    in(state, "a", path);
    assert_int_equal(mr_file_open(disk(), path, MR_FILE_CREATE, &file), MR_OK);
    assert_int_equal(mr_file_allocate(file, DIRECT_SIZE), MR_OK);
    mr_file_direct(file);
    uint64_t random = 1;
    size_t at = 0;
    for (int n = 0;; n++) {
        size_t len = some_len(&random);
        if (at + len > DIRECT_SIZE) {
            break;
        }
        for (size_t i = 0; i < len; i++) {
            model[at + i] = (uint8_t)(at + i * 7 + (size_t)n);
        }
        struct iovec parts[3] = {{model + at, len / 3}, {model + at + len / 3, 0}, {model + at + len / 3, len - len / 3}};
        assert_int_equal(mr_file_pwritev(file, parts, 3, at), MR_OK);
        at += len;
        if (n % 5 == 4) { /* an end of the process between */
            assert_int_equal(mr_file_sync(file), MR_OK);
            mr_file_close(file);
            assert_int_equal(mr_file_open(disk(), path, MR_FILE_WRITE, &file), MR_OK);
            mr_file_direct(file);
        }
        if (n % 3 == 0) {
            expect_content(path, model);
        }
    }
    uint64_t size;
    assert_int_equal(mr_file_size(file, &size), MR_OK);
    assert_int_equal(size, DIRECT_SIZE);
    mr_file_close(file);
    expect_content(path, model);
    free(model);
}

static void directs_whole_blocks_only(void **state) {
    char path[512];
    char seen[16];
    struct mr_file *file;
    uint64_t size;
    size_t got;
    in(state, "a", path);
    assert_int_equal(mr_file_open(disk(), path, MR_FILE_CREATE, &file), MR_OK);
    assert_int_equal(mr_file_allocate(file, 5000), MR_OK);
    mr_file_direct(file);
    assert_int_equal(mr_file_pwrite(file, MR_BYTES("end"), 4997), MR_OK);
    assert_int_equal(mr_file_size(file, &size), MR_OK);
    assert_int_equal(size, 5000);
    assert_int_equal(mr_file_pread(file, seen, sizeof seen, 4996, &got), MR_OK);
    assert_int_equal(got, 4);
    assert_memory_equal(seen, "\0end", 4);
    mr_file_close(file);
}

/* A file that grows; every fifth write is synced, and then all of it is there. */
static void gathered_writes_are_there_after_a_sync(void **state) {
    char path[512];
    struct mr_file *file;
    uint64_t size;
    size_t got;
    uint8_t *model = calloc(1, DIRECT_SIZE);
    uint8_t *seen = malloc(DIRECT_SIZE);
    assert_true(model != NULL && seen != NULL);
    assert_int_equal(mr_file_open(disk(), in(state, "g", path), MR_FILE_CREATE_NEW, &file), MR_OK);
    mr_file_gather(file);
    uint64_t random = 2;
    size_t at = 0;
    for (int n = 0;; n++) {
        size_t len = some_len(&random);
        if (at + len > DIRECT_SIZE) {
            break;
        }
        for (size_t i = 0; i < len; i++) {
            model[at + i] = (uint8_t)(1 + (at + i * 7 + (size_t)n) % 255);
        }
        struct iovec parts[2] = {{model + at, len / 4}, {model + at + len / 4, len - len / 4}};
        assert_int_equal(mr_file_pwritev(file, parts, 2, at), MR_OK);
        at += len;
        if (n % 5 == 4) {
            assert_int_equal(mr_file_sync(file), MR_OK);
            assert_int_equal(mr_file_size(file, &size), MR_OK);
            assert_true(size >= at && size < at + 4096);
            assert_int_equal(mr_file_pread(file, seen, DIRECT_SIZE, 0, &got), MR_OK);
            assert_int_equal(got, size);
            assert_memory_equal(seen, model, size);
        }
    }
    mr_file_close(file);
    free(seen);
    free(model);
}

/* The failure is said by a later write or by the sync; what was gathered is lost, so no sync succeeds any more, even
 * when there is room again. */
static void lost_writes_are_never_synced(void **state) {
    static uint8_t bytes[48 << 10];
    char path[512];
    struct mr_file *file;
    struct rlimit before;
    assert_int_equal(mr_file_open(disk(), in(state, "g", path), MR_FILE_CREATE_NEW, &file), MR_OK);
    int fd = open(path, O_WRONLY | O_DIRECT);
    bool direct = fd >= 0;
    (void)close(fd);
    mr_file_gather(file);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    struct rlimit small = {.rlim_cur = 2 << 20, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum mr_status status = MR_OK;
    uint64_t at = 0;
    for (; status == MR_OK && at < 4 << 20; at += sizeof bytes) {
        status = mr_file_pwrite(file, mr_bytes_of(bytes, sizeof bytes), at);
    }
    assert_int_equal(status, MR_IO);
    assert_true(at >= 2 << 20);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    if (direct) {
        assert_int_equal(mr_file_sync(file), MR_IO);
        assert_int_equal(mr_file_pwrite(file, MR_BYTES("more"), at), MR_IO);
        assert_int_equal(mr_file_sync(file), MR_IO);
    }
    mr_file_close(file);
}

static void locks_exclude(void **state) {
    char path[512];
    struct mr_file *first;
    struct mr_file *second;
    assert_int_equal(mr_file_open(disk(), in(state, "l", path), MR_FILE_CREATE, &first), MR_OK);
    assert_int_equal(mr_file_open(disk(), path, MR_FILE_CREATE, &second), MR_OK);
    assert_int_equal(mr_file_lock(first), MR_OK);
    assert_int_equal(mr_file_lock(first), MR_OK);
    assert_int_equal(mr_file_lock(second), MR_BUSY);
    mr_file_close(first);
    assert_int_equal(mr_file_lock(second), MR_OK);
    mr_file_close(second);
}

struct listing {
    char text[256];
    enum mr_status answer;
};

static enum mr_status note_name(void *ctx, const char *name) {
    struct listing *l = ctx;
    strncat(l->text, name, sizeof l->text - strlen(l->text) - 1);
    return l->answer;
}

static void names_come_and_go(void **state) {
    char a[512];
    char b[512];
    struct mr_file *file;
    struct listing l = {.answer = MR_OK};
    assert_int_equal(mr_file_open(disk(), in(state, "from", a), MR_FILE_CREATE, &file), MR_OK);
    mr_file_close(file);
    assert_int_equal(mr_disk_rename(disk(), a, in(state, "to", b)), MR_OK);
    assert_int_equal(mr_disk_rename(disk(), a, b), MR_NOT_FOUND);
    assert_int_equal(mr_disk_sync_dir(disk(), *state), MR_OK);
    assert_int_equal(mr_disk_list(disk(), *state, note_name, &l), MR_OK);
    assert_string_equal(l.text, "to");
    l.answer = MR_LIMIT;
    assert_int_equal(mr_disk_list(disk(), *state, note_name, &l), MR_LIMIT);
    assert_int_equal(mr_disk_unlink(disk(), b), MR_OK);
    assert_int_equal(mr_disk_unlink(disk(), b), MR_NOT_FOUND);
    assert_int_equal(mr_disk_list(disk(), b, note_name, &l), MR_NOT_FOUND);
    assert_int_equal(mr_disk_sync_dir(disk(), b), MR_NOT_FOUND);
    uint64_t free_bytes = 0;
    assert_int_equal(mr_disk_free_bytes(disk(), *state, &free_bytes), MR_OK);
    assert_true(free_bytes > 0);
    assert_int_equal(mr_disk_free_bytes(disk(), b, &free_bytes), MR_NOT_FOUND);
}

static void makes_directories_with_parents(void **state) {
    static const char *const names[] = {"d", "d/e/f", "d/e/f", "d/e/f/", "d/g//h"};
    char path[512];
    struct stat st;
    struct mr_file *file;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(mr_disk_mkdir(disk(), in(state, names[i], path)), MR_OK);
        assert_int_equal(stat(path, &st), 0);
        assert_true(S_ISDIR(st.st_mode));
    }
    assert_int_equal(mr_file_open(disk(), in(state, "d/file", path), MR_FILE_CREATE, &file), MR_OK);
    mr_file_close(file);
    assert_int_equal(mr_disk_mkdir(disk(), path), MR_IO);
    assert_int_equal(mr_disk_mkdir(disk(), in(state, "d/file/x", path)), MR_IO);
    assert_int_equal(mr_disk_mkdir(disk(), ""), MR_LIMIT);
    assert_int_equal(mr_disk_mkdir(disk(), "/"), MR_OK);
    static const char *const clean[] = {"d/e/f", "d/e", "d/g/h", "d/g"};
    assert_int_equal(mr_disk_unlink(disk(), in(state, "d/file", path)), MR_OK);
    for (size_t i = 0; i < sizeof clean / sizeof clean[0]; i++) {
        assert_int_equal(rmdir(in(state, clean[i], path)), 0);
    }
    assert_int_equal(rmdir(in(state, "d", path)), 0);
}

static void reads_all_up_to_a_limit(void **state) {
    char path[512];
    struct mr_file *file;
    static uint8_t bytes[200000];
    struct mr_buf buf;
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(mr_file_open(disk(), in(state, "r", path), MR_FILE_CREATE, &file), MR_OK);
    assert_int_equal(mr_file_pwrite(file, mr_bytes_of(bytes, sizeof bytes), 0), MR_OK);
    mr_file_close(file);
    static const struct {
        size_t cap_max;
        enum mr_status status;
    } cases[] = {{sizeof bytes, MR_OK},
                 {sizeof bytes + 1, MR_OK},
                 {1 << 20, MR_OK},
                 {sizeof bytes - 1, MR_LIMIT},
                 {0, MR_LIMIT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mr_buf_init(&buf, cases[i].cap_max);
        assert_int_equal(mr_disk_read_all(disk(), path, &buf), cases[i].status);
        if (cases[i].status == MR_OK) {
            assert_true(mr_bytes_equal(mr_buf_bytes(&buf), mr_bytes_of(bytes, sizeof bytes)));
        }
        mr_buf_finish(&buf);
    }
    mr_buf_init(&buf, 1 << 20);
    assert_int_equal(mr_disk_read_all(disk(), "/proc/self/status", &buf), MR_OK); /* of size 0 */
    assert_true(buf.len > 0);
    mr_buf_finish(&buf);
    assert_int_equal(mr_disk_read_all(disk(), in(state, "none", path), &buf), MR_NOT_FOUND);
}

/* `millrace check <(…)`: a pipe has no offsets. */
static void reads_a_pipe(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "from a pipe", 11), 11);
    assert_int_equal(close(ends[1]), 0);
    char path[32];
    (void)snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    struct mr_buf buf;
    mr_buf_init(&buf, 100);
    assert_int_equal(mr_disk_read_all(disk(), path, &buf), MR_OK);
    assert_true(mr_bytes_equal(mr_buf_bytes(&buf), MR_BYTES("from a pipe")));
    mr_buf_finish(&buf);
    assert_int_equal(close(ends[0]), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opens_as_asked, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(reads_what_was_written_in_parts, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(allocates_zeros, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(direct_writes_are_writes, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(directs_whole_blocks_only, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(gathered_writes_are_there_after_a_sync, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(lost_writes_are_never_synced, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(locks_exclude, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(names_come_and_go, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(makes_directories_with_parents, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(reads_all_up_to_a_limit, make_dir, remove_dir),
        cmocka_unit_test(reads_a_pipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
