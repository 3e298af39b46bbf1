/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room for ids, of two streams: what expires in one makes room in it although only the other has events, and no tick
 * comes because nothing is due.
 */
#include "tests/pipeline/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static const char yaml[] =
    "node: { data_dir: data, shards: 1 }\n"
    "limits: { body: 64KiB, inflated: 64KiB, event: 4KiB, batch_events: 1000, in_flight: 1MiB }\n"
    "log: { segment: 2MiB, reserve: 0 }\n"
    "streams:\n"
    "  full:\n"
    "    id: id\n    time: { field: ts, format: ms }\n"
    "    dedup: { mode: exact, horizon: 1s, ids: 40 }\n    watermark: { idle_timeout: off }\n"
    "  busy:\n"
    "    id: id\n    time: { field: ts, format: ms }\n"
    "    dedup: { mode: exact, horizon: 1h, ids: 1000 }\n    watermark: { idle_timeout: off }\n"
    "rules:\n"
    "  r: { from: [full, busy], window: { size: 1h }, metrics: { n: count } }\n";

static bool send(struct node *node, uint32_t stream, uint32_t first, uint32_t count) {
    struct mr_buf body;
    mr_buf_init(&body, 1 << 16);
    for (uint32_t i = first; i < first + count; i++) {
        mr_buf_printf(&body, "{\"id\":\"e%u\",\"ts\":1700000000000}\n", i);
    }
    assert_non_null(mr_buf_reserve(&body, MR_PADDING));
    struct mr_batch *batch = NULL;
    struct mr_error error;
    assert_int_equal(mr_decode(node->decoder, node->data.plan->streams[stream].schema, MR_FORMAT_NDJSON, &body, &batch,
                               &error), MR_OK);
    batch->stream = stream;
    return node_submit(node, batch);
}

static void room_though_others_have_the_events(void **state) {
    (void)state;
    struct node node;
    struct mr_error error;
    node_open(&node, yaml, INT64_C(1700000000000));
    assert_int_equal(node_start(&node, &error), MR_OK);
    assert_true(node_become_live(&node));
    assert_true(send(&node, 0, 0, 36)); /* no refusal, which would ask for a tick */
    node.clock.wall_ms += 2000;
    node.clock.mono_ns += UINT64_C(2000000000);
    assert_true(send(&node, 1, 0, 10));
    assert_true(send(&node, 0, 1000, 36));
    assert_int_equal(node.answer.accepted, 36);
    assert_false(send(&node, 0, 2000, 36)); /* and none has gone yet */
    assert_int_equal(node.answer.refusal, MR_REFUSAL_IDS_FULL);
    node_stop(&node);
    node_close(&node);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(room_though_others_have_the_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
