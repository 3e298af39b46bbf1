/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: every job taken is run once, by a worker with its own reader, also when closing; the
 * queue is bounded; and admission never lets more bytes in than its limit nor a request past a
 * drain.
 *
 * Steps: 1. four threads push jobs while the workers run them. 2. workers held still:
 * MR_WORKERS_QUEUE jobs fit, the next does not, close runs them. 3. a reader that cannot be
 * opened. 4. threads charge and release at random; the sum seen never passes the limit. 5. drain
 * waits for those inside, and times out on one who stays.
 */
#include "server/workers.h"

#include "base/check.h"
#include "server/admission.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct fake_results {
    struct mr_results results;
    struct mr_results_reader readers[8];
    uint32_t opened;
    uint32_t closed;
    uint32_t fail_at; /* the n-th open fails; 0: none */
};

static struct fake_results fake;

enum mr_status mr_results_reader_open(struct mr_results *results, struct mr_results_reader **ret) {
    assert_ptr_equal(results, &fake.results);
    if (fake.opened + 1 == fake.fail_at) {
        return MR_IO;
    }
    *ret = &fake.readers[fake.opened++];
    return MR_OK;
}

void mr_results_reader_close(struct mr_results_reader *reader) {
    assert_true(reader >= fake.readers && reader < fake.readers + 8);
    fake.closed++;
}

enum { PUSHERS = 4, JOBS = 2000 };

struct job {
    struct mr_worker_job job; /* first */
    _Atomic uint32_t runs;
    pthread_mutex_t *gate; /* NULL: none */
};

static void run(struct mr_worker_job *job, struct mr_results_reader *reader) {
    struct job *mine = (struct job *)job;
    MR_ASSERT(reader != NULL);
    if (mine->gate != NULL) {
        pthread_mutex_lock(mine->gate);
        pthread_mutex_unlock(mine->gate);
    }
    atomic_fetch_add(&mine->runs, 1);
}

static struct job jobs[PUSHERS][JOBS];
static struct mr_workers *workers;

static void *push_all(void *arg) {
    struct job *mine = arg;
    for (uint32_t i = 0; i < JOBS; i++) {
        mine[i].job.run = run;
        while (!mr_workers_push(workers, &mine[i].job)) {
            (void)sched_yield();
        }
    }
    return NULL;
}

static void test_all_run(void **state) {
    (void)state;
    pthread_t threads[PUSHERS];
    fake = (struct fake_results){.opened = 0};
    assert_int_equal(mr_workers_open(&fake.results, 2, &workers), MR_OK);
    for (uint32_t i = 0; i < PUSHERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, push_all, jobs[i]), 0);
    }
    for (uint32_t i = 0; i < PUSHERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    mr_workers_close(workers);
    for (uint32_t i = 0; i < PUSHERS; i++) {
        for (uint32_t k = 0; k < JOBS; k++) {
            assert_int_equal(atomic_load(&jobs[i][k].runs), 1);
        }
    }
    assert_int_equal(fake.opened, 2);
    assert_int_equal(fake.closed, 2);
}

static void test_bounded(void **state) {
    (void)state;
    static struct job held[MR_WORKERS_QUEUE + 3];
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    uint32_t taken = 0;
    fake = (struct fake_results){.opened = 0};
    assert_int_equal(mr_workers_open(&fake.results, 1, &workers), MR_OK);
    pthread_mutex_lock(&gate);
    for (uint32_t i = 0; i < MR_WORKERS_QUEUE + 3; i++) {
        held[i] = (struct job){.job = {.run = run}, .gate = &gate};
        taken += mr_workers_push(workers, &held[i].job);
    }
    /* The worker may have taken one off the queue already, not more. */
    assert_in_range(taken, MR_WORKERS_QUEUE, MR_WORKERS_QUEUE + 1);
    pthread_mutex_unlock(&gate);
    mr_workers_close(workers);
    uint32_t runs = 0;
    for (uint32_t i = 0; i < MR_WORKERS_QUEUE + 3; i++) {
        runs += atomic_load(&held[i].runs);
    }
    assert_int_equal(runs, taken);
}

static void test_open_fails(void **state) {
    (void)state;
    fake = (struct fake_results){.fail_at = 2};
    assert_int_equal(mr_workers_open(&fake.results, 3, &workers), MR_IO);
    assert_int_equal(fake.closed, 1);
    mr_workers_close(NULL);
}

static struct mr_admission admission;
static mr_counter in_flight;

static void *charge_and_release(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg + 1;
    for (uint32_t i = 0; i < 20000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t bytes = seed >> 55;
        if (mr_admission_charge(&admission, bytes)) {
            mr_admission_release(&admission, bytes);
        }
    }
    return NULL;
}

static void test_charges(void **state) {
    (void)state;
    pthread_t threads[3];
    mr_counter_set(&in_flight, 0);
    mr_admission_init(&admission, 1000, &in_flight);
    assert_false(mr_admission_charge(&admission, 1001));
    assert_false(mr_admission_charge(&admission, UINT64_MAX));
    assert_true(mr_admission_fits(&admission, 1000));
    assert_true(mr_admission_charge(&admission, 400));
    assert_true(mr_admission_charge(&admission, 600));
    assert_false(mr_admission_charge(&admission, 1));
    assert_false(mr_admission_fits(&admission, 1));
    assert_true(mr_admission_charge(&admission, 0));
    assert_int_equal(mr_counter_read(&in_flight), 1000);
    mr_admission_release(&admission, 1000);
    for (uintptr_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, charge_and_release, (void *)i), 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(mr_counter_read(&in_flight), 0);
}

static void *leave(void *arg) {
    (void)arg;
    mr_admission_leave(&admission);
    return NULL;
}

static void test_drain(void **state) {
    (void)state;
    pthread_t thread;
    mr_admission_init(&admission, 1000, &in_flight);
    assert_true(mr_admission_enter(&admission));
    assert_true(mr_admission_enter(&admission));
    assert_false(mr_admission_closed(&admission));
    assert_false(mr_admission_drain(&admission, mr_clock_system(), 1));
    assert_true(mr_admission_closed(&admission));
    assert_false(mr_admission_enter(&admission));
    mr_admission_leave(&admission);
    assert_int_equal(pthread_create(&thread, NULL, leave, NULL), 0);
    assert_true(mr_admission_drain(&admission, mr_clock_system(), 60000));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(mr_admission_drain(&admission, mr_clock_system(), 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_run),    cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_open_fails), cmocka_unit_test(test_charges),
        cmocka_unit_test(test_drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
