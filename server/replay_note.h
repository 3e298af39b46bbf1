/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Replay note: the file REPLAY beside the results that a replay made: of which log and configuration, from where to
 * where, and from which window to which window its rows are all there.
 *
 * Shape       A line a fact: a word, then its values. rule: name, windows begin from (ms), final up to (ms).
 * Idea        DIR/results.db has its name only once DIR/REPLAY is there whole: both are there, or the replay did not
 *             end.
 */
#include "base/file.h"
#include "config/config.h"

struct mr_replay_rule {
    char name[MR_NAME_MAX + 1];
    int64_t begins_ms;    /* rows of windows that begin before it were left out; INT64_MIN: none were */
    int64_t final_end_ms; /* windows that end up to here are final; INT64_MIN: none is */
};

struct mr_replay_note {
    char data_dir[3072];
    int64_t made_ms;
    uint64_t incarnation;
    uint64_t configuration; /* checksum of what the log would say of it: mr_config_print_state */
    uint64_t first_lsn;
    uint64_t last_lsn;
    uint64_t last_seq;
    int64_t first_ms; /* when the first record was recorded; INT64_MIN: the log begins with its first record */
    uint64_t received;
    uint64_t accepted;
    uint64_t duplicate;
    uint64_t late;
    uint64_t rejected;
    uint64_t pending;
    uint64_t gone;    /* events of streams that are not configured */
    uint64_t unknown; /* events of records before the log's beginning that have verdicts in it */
    uint64_t lost;    /* records that damage took */
    bool promotable;      /* DIR/checkpoint is of the same moment */
    uint64_t record_hash; /* of its last record: pipeline/promote.h */
    uint32_t rule_count;
    struct mr_replay_rule rules[MR_RULES_MAX];
};

/* A small file dir/name: durable, and there whole or as it was before. mode: MR_FILE_CREATE_NEW, MR_FILE_SECRET. */
enum mr_status mr_replay_file_write(struct mr_disk *disk, const char *dir, const char *name, enum mr_file_mode mode,
                                    struct mr_bytes text, struct mr_error *error) MR_MUST_CHECK;
/* Durable. dir/REPLAY is made, or replaced. */
enum mr_status mr_replay_note_write(struct mr_disk *disk, const char *dir, const struct mr_replay_note *note,
                                    struct mr_error *error) MR_MUST_CHECK;
/* MR_NOT_FOUND: dir is not one that a replay has made, to its end. */
enum mr_status mr_replay_note_read(struct mr_disk *disk, const char *dir, struct mr_replay_note *ret,
                                   struct mr_error *error) MR_MUST_CHECK;
