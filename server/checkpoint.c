/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoint: POST /v1/checkpoint: makes one now, of everything acknowledged before, and says when it is complete. */
#include "server/reply.h"
#include "server/routes.h"

void mr_route_checkpoint(struct mr_request *request, struct mr_response *response) {
    struct mr_ask ask = {.kind = MR_ASK_CHECKPOINT};
    enum mr_status status = mr_server_ask(request->server, &ask);
    if (status != MR_OK) {
        mr_reply_not_asked(response, status);
        return;
    }
    if (ask.status != MR_OK) {
        response->retry_after_s = 1;
        mr_problem(response, 503, ask.status == MR_UNSUPPORTED
                                      ? "checkpoints have stopped after a disk error: restart to begin again; "
                                        "nothing is lost, the log has everything"
                                      : "the checkpoint failed, the reports say why; the one before it holds");
        return;
    }
    struct mr_json json;
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    mr_json_key(&json, "checkpoint");
    mr_json_uint(&json, ask.number);
    mr_json_key(&json, "seq");
    mr_json_uint(&json, ask.seq);
    mr_json_object_end(&json);
}
