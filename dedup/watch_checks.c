/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/watch_parts.h"

#include "base/check.h"
#include "base/hash.h"

#include <stdarg.h>
#include <stdio.h>

enum { REDIS_MAJOR_MIN = 7 }; /* SET with NX and GET */

/* ---- what is wrong ---- */

/* What was found of a server, with its address in front. */
static void note(struct mr_watch_server *server, const char *format, va_list args) {
    char text[MR_WATCH_TROUBLE_MAX];
    (void)vsnprintf(text, sizeof text, format, args); /* cut is fine */
    (void)snprintf(server->trouble, sizeof server->trouble, "%.*s: %s",
                   (int)sizeof server->address - 1, server->address, text);
}

/* Something that somebody must set right. */
static void MR_PRINTF(2, 3) find(struct mr_watch_server *server, const char *format, ...) {
    if (server->round.found) {
        return; /* the first says enough */
    }
    va_list args;
    va_start(args, format);
    note(server, format, args);
    va_end(args);
    server->round.found = true;
    server->not_strict = true;
    server->passed_session = 0;
}

/* Something that passes by itself. */
static void MR_PRINTF(2, 3) put_off(struct mr_watch_server *server, const char *format, ...) {
    va_list args;
    va_start(args, format);
    note(server, format, args);
    va_end(args);
    server->round.failed = true;
    server->not_strict = false;
    server->passed_session = 0;
}

void mr_watch_check_policy(struct mr_watch_server *server, struct mr_bytes policy) {
    if (!mr_bytes_equal(policy, MR_BYTES("noeviction"))) {
        find(server, "maxmemory-policy is %.*s: set noeviction", (int)policy.len,
             (const char *)policy.ptr);
    }
}

void mr_watch_check_refused(struct mr_watch_server *server, struct mr_bytes text) {
    find(server, "claims are refused (%.*s): set that right", (int)(text.len > 150 ? 150 : text.len),
         (const char *)text.ptr);
}

static const struct {
    const char *name;
    const char *wanted;
    const char *why;
} SETTINGS[] = {
    [MR_WATCH_POLICY] = {"maxmemory-policy", "noeviction", ""},
    [MR_WATCH_APPENDONLY] = {"appendonly", "yes", " (a restart would forget claims)"},
    [MR_WATCH_APPENDFSYNC] = {"appendfsync", "always", " (a crash would forget the last claims)"},
};

static void take_setting(struct mr_watch_server *server, enum mr_watch_command command,
                         const struct mr_redis_reply *reply) {
    const char *name = SETTINGS[command].name;
    const char *wanted = SETTINGS[command].wanted;
    if (reply->type != MR_REDIS_LIST || reply->count != 2 ||
        reply->items[1].type != MR_REDIS_TEXT ||
        !mr_bytes_equal(reply->items[0].text, mr_bytes_text(name))) {
        find(server,
             "CONFIG GET %s says nothing: set assume_strict if whoever runs this Redis guarantees "
             "%s",
             name, wanted);
    } else if (!mr_bytes_equal(reply->items[1].text, mr_bytes_text(wanted))) {
        find(server, "%s is %.*s: set %s%s", name, (int)reply->items[1].text.len,
             (const char *)reply->items[1].text.ptr, wanted, SETTINGS[command].why);
    }
}

/* ---- INFO ---- */

static bool info_text(struct mr_watch_server *server, struct mr_bytes info, const char *name,
                      struct mr_bytes *ret) {
    if (mr_watch_info_field(info, name, ret) && ret->len > 0) {
        return true;
    }
    find(server, "INFO has no %s: this Redis cannot be checked", name);
    return false;
}

static bool info_number(struct mr_watch_server *server, struct mr_bytes info, const char *name,
                        uint64_t *ret) {
    struct mr_bytes text;
    if (!info_text(server, info, name, &text)) {
        return false;
    }
    if (!mr_watch_number(text, ret)) {
        find(server, "INFO's %s is %.*s, which is no number: this Redis cannot be checked", name,
             (int)text.len, (const char *)text.ptr);
        return false;
    }
    return true;
}

static bool is_new_enough(struct mr_watch_server *server, struct mr_bytes info) {
    struct mr_bytes version;
    uint64_t major;
    if (!info_text(server, info, "redis_version", &version)) {
        return false;
    }
    size_t len = 0;
    while (len < version.len && version.ptr[len] != '.') {
        len++;
    }
    if (!mr_watch_number(mr_bytes_of(version.ptr, len), &major) || major < REDIS_MAJOR_MIN) {
        find(server, "Redis is version %.*s: %d.0 or newer is needed", (int)version.len,
             (const char *)version.ptr, REDIS_MAJOR_MIN);
        return false;
    }
    return true;
}

static uint64_t identity_of(struct mr_bytes run_id, struct mr_bytes replid) {
    return mr_hash64(replid, mr_checksum(run_id));
}

/* Another process, or the same one with the data of another: it was restarted, promoted, or has copied another master. A
 * replid also changes when the first replica comes; then recent claims are asserted for nothing. What this watch finds at its
 * start may have happened a moment ago: it too believes in it only when its peers do. */
static void take_identity(struct mr_watch *w, struct mr_watch_server *server, uint64_t run,
                          uint64_t identity, uint64_t evicted) {
    bool changed = server->known && server->identity != identity;
    if (!server->known || server->run != run) {
        server->evicted = evicted; /* of this run, or from before this watch */
    }
    server->suspect |= changed || (!server->known && !w->was_strict);
    server->known = true;
    server->run = run;
    server->identity = identity;
    if (changed && server->must_prove) {
        mr_watch_disproved(w, server);
    } else if (changed) {
        mr_watch_suspect(w, server->good_ms);
    }
    if (evicted > server->evicted) {
        mr_watch_lose(
            w, "%s: evicted %llu keys: claims are lost; maxmemory-policy must stay noeviction",
            server->address, (unsigned long long)(evicted - server->evicted));
    }
    server->evicted = evicted; /* CONFIG RESETSTAT sets it back */
}

static void take_info(struct mr_watch *w, struct mr_watch_server *server,
                      const struct mr_redis_reply *reply) {
    struct mr_bytes role;
    struct mr_bytes run_id;
    struct mr_bytes replid;
    uint64_t loading;
    uint64_t evicted;
    struct mr_bytes info = reply->text;
    if (reply->type != MR_REDIS_TEXT) {
        find(server, "INFO gave no text: this Redis cannot be checked");
        return;
    }
    if (!is_new_enough(server, info) || !info_number(server, info, "loading", &loading) ||
        !info_text(server, info, "role", &role)) {
        return;
    }
    if (loading != 0) {
        put_off(server, "is loading its data");
        return;
    }
    if (!mr_bytes_equal(role, MR_BYTES("master"))) {
        find(server, "role is %.*s: give the address of the master", (int)role.len,
             (const char *)role.ptr);
        if (server->must_prove) {
            mr_watch_disproved(w, server);
        }
        return;
    }
    if (info_text(server, info, "run_id", &run_id) &&
        info_text(server, info, "master_replid", &replid) &&
        info_number(server, info, "evicted_keys", &evicted)) {
        take_identity(w, server, mr_checksum(run_id), identity_of(run_id, replid), evicted);
    }
}

/* ---- canaries ---- */

static void take_canary(struct mr_watch *w, struct mr_watch_server *server, uint32_t t,
                        const struct mr_redis_reply *reply) {
    struct mr_bytes key = w->canaries[t].key;
    if (reply->type == MR_REDIS_NIL) {
        mr_watch_lose(w,
                      "%s: %.*s is missing: data was lost (FLUSHALL, or a start without its data)",
                      server->address, (int)key.len, (const char *)key.ptr);
    } else if (reply->type != MR_REDIS_TEXT ||
               !mr_bytes_equal(reply->text, mr_bytes_of(w->target.bytes, MR_EPOCH_LEN))) {
        mr_watch_lose(w, "%s: %.*s is of another epoch: data was lost and made anew",
                      server->address, (int)key.len, (const char *)key.ptr);
    }
}

/* ---- a check ---- */

static void begin(struct mr_watch *w, struct mr_watch_server *server) {
    server->round = (struct mr_watch_round){
        .session = server->session,
        .number = (server->round.number + 1) % MR_WATCH_ROUNDS,
        .began_ns = w->now_ns,
        .began_ms = mr_clock_wall_ms(w->options.clock),
        .canaries_left = w->ready ? w->canary_count : 0,
        .canaries_quota =
            server->passed_session == server->session ? MR_WATCH_CANARIES : UINT32_MAX,
    };
    w->stats.checks++;
}

static void end(struct mr_watch *w, struct mr_watch_server *server) {
    struct mr_watch_round *round = &server->round;
    round->session = 0;
    if (round->failed && !round->found) {
        server->check_ns = w->now_ns + w->hurry_ns;
        return;
    }
    server->check_ns = round->began_ns + w->check_ns;
    if (round->found) {
        return;
    }
    server->passed_session = server->session;
    server->good_ns = round->began_ns;
    server->good_ms = round->began_ms;
    server->not_strict = false;
    server->trouble[0] = '\0';
    if (server->must_prove) {
        mr_watch_proved(w, server);
    }
    if (mr_watch_has_suspects(w)) {
        mr_watch_store_hurry(w, false); /* what do the others say? */
    }
}

static enum mr_status send(struct mr_watch *w, uint32_t number, enum mr_watch_command command,
                           uint32_t t, uint32_t node, bool asking) {
    struct mr_bytes argv[3];
    uint32_t argc;
    if (command == MR_WATCH_INFO) {
        argv[0] = MR_BYTES("INFO");
        argc = 1;
    } else if (command == MR_WATCH_CANARY) {
        argv[0] = MR_BYTES("GET");
        argv[1] = w->canaries[t].key;
        argc = 2;
    } else {
        argv[0] = MR_BYTES("CONFIG");
        argv[1] = MR_BYTES("GET");
        argv[2] = mr_bytes_text(SETTINGS[command].name);
        argc = 3;
    }
    struct mr_watch_tag tag = {command, number, w->servers[number].round.number, t};
    struct mr_redis_command redis_command = {argv, argc, mr_watch_tag_pack(tag), asking};
    return mr_redis_send(w->options.redis, node, &redis_command);
}

/* Whatever cannot be sent now is sent by a later step. */
static bool send_settings(struct mr_watch *w, uint32_t number) {
    struct mr_watch_round *round = &w->servers[number].round;
    uint32_t count = w->options.assume_strict ? 1 : MR_WATCH_CANARY;
    bool any = false;
    while (round->settings_sent < count &&
           send(w, number, (enum mr_watch_command)round->settings_sent, 0, number, false) ==
               MR_OK) {
        round->settings_sent++;
        round->unanswered++;
        any = true;
    }
    return any;
}

static bool send_canaries(struct mr_watch *w, uint32_t number) {
    struct mr_watch_server *server = &w->servers[number];
    struct mr_watch_round *round = &server->round;
    bool any = false;
    while (round->canaries_left > 0 && round->canaries_quota > 0 &&
           round->unanswered < MR_WATCH_UNDER_WAY) {
        uint32_t t = server->rotation;
        if (w->canaries[t].server == number) {
            if (send(w, number, MR_WATCH_CANARY, t, number, false) != MR_OK) {
                break;
            }
            round->canaries_quota--;
            round->unanswered++;
            any = true;
        }
        round->canaries_left--;
        server->rotation = t + 1 < w->canary_count ? t + 1 : 0;
    }
    return any;
}

bool mr_watch_check_step(struct mr_watch *w, uint32_t number) {
    struct mr_watch_server *server = &w->servers[number];
    struct mr_watch_round *round = &server->round;
    bool any = false;
    if (server->session == 0) {
        return false;
    }
    if (round->session == 0) {
        if (w->now_ns < server->check_ns) {
            return false;
        }
        begin(w, server);
        any = true;
    }
    uint32_t count = w->options.assume_strict ? 1 : MR_WATCH_CANARY;
    any |= send_settings(w, number);
    if (round->settings_answered ==
        count) { /* the identity comes first: it says what a canary is worth */
        any |= send_canaries(w, number);
        if (round->unanswered == 0 && (round->canaries_left == 0 || round->canaries_quota == 0)) {
            end(w, server);
            any = true;
        }
    }
    return any;
}

static void take_answer(struct mr_watch *w, struct mr_watch_server *server, struct mr_watch_tag tag,
                        const struct mr_redis_answer *answer) {
    switch (tag.command) {
    case MR_WATCH_INFO:
        take_info(w, server, &answer->reply);
        break;
    case MR_WATCH_CANARY:
        take_canary(w, server, tag.index, &answer->reply);
        break;
    case MR_WATCH_POLICY:
    case MR_WATCH_APPENDONLY:
    case MR_WATCH_APPENDFSYNC:
        take_setting(server, tag.command, &answer->reply);
        break;
    case MR_WATCH_LOOK:
    case MR_WATCH_ACT:
        MR_UNREACHABLE();
    }
}

static void take_refusal(struct mr_watch_server *server, enum mr_watch_command command,
                         struct mr_bytes text) {
    if (command == MR_WATCH_INFO || command == MR_WATCH_CANARY) {
        find(server, "%s is refused (%.*s): allow it to this user",
             command == MR_WATCH_INFO ? "INFO" : "GET", (int)text.len, (const char *)text.ptr);
    } else {
        find(server,
             "CONFIG GET %s is refused (%.*s): allow it to this user, or set assume_strict if "
             "whoever runs this Redis "
             "guarantees %s",
             SETTINGS[command].name, (int)text.len, (const char *)text.ptr,
             SETTINGS[command].wanted);
    }
}

void mr_watch_check_answer(struct mr_watch *w, struct mr_watch_tag tag,
                           const struct mr_redis_answer *answer) {
    struct mr_watch_server *server = &w->servers[tag.server];
    struct mr_watch_round *round = &server->round;
    if (round->session == 0 || round->number != tag.round) {
        return; /* of a check given up: the session has changed, or everything is checked anew */
    }
    MR_ASSERT(round->unanswered > 0);
    if (answer->outcome == MR_REDIS_ASKED && tag.command == MR_WATCH_CANARY &&
        send(w, tag.server, tag.command, tag.index, answer->node_asked, true) == MR_OK) {
        return; /* its slot is on the way to another server, and the key is there already */
    }
    round->unanswered--;
    round->settings_answered += tag.command != MR_WATCH_CANARY;
    switch (answer->outcome) {
    case MR_REDIS_ANSWERED:
        take_answer(w, server, tag, answer);
        break;
    case MR_REDIS_REFUSED:
        take_refusal(server, tag.command, answer->reply.text);
        break;
    case MR_REDIS_MOVED:
    case MR_REDIS_ASKED:
    case MR_REDIS_LATER:
    case MR_REDIS_UNKNOWN:
        round->failed = true;
        break;
    }
}

void mr_watch_check_drop(struct mr_watch *w) {
    for (uint32_t i = 0; i < w->server_count; i++) {
        struct mr_watch_server *server = &w->servers[i];
        server->round.session = 0;
        server->round.number = (server->round.number + 1) % MR_WATCH_ROUNDS;
        server->check_ns = w->now_ns;
    }
}

void mr_watch_check_again(struct mr_watch *w) {
    mr_watch_check_drop(w);
    for (uint32_t i = 0; i < w->server_count; i++) {
        w->servers[i].passed_session = 0;
    }
}
