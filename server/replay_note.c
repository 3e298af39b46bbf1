/* SPDX-License-Identifier: Apache-2.0 */
#include "server/replay_note.h"

#include "base/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PATH_CAP = 4096, NOTE_BYTES_MAX = 1 << 20, NAME_CAP = 64 };

#define HEAD "millrace replay, format 1\n"

/* Name in the file, member. */
#define NUMBERS(X)                                                                                                     \
    X("made_ms", made_ms)                                                                                              \
    X("incarnation", incarnation)                                                                                      \
    X("configuration", configuration)                                                                                  \
    X("first_lsn", first_lsn)                                                                                          \
    X("last_lsn", last_lsn)                                                                                            \
    X("last_seq", last_seq)                                                                                            \
    X("first_ms", first_ms)                                                                                            \
    X("received", received)                                                                                            \
    X("accepted", accepted)                                                                                            \
    X("duplicate", duplicate)                                                                                          \
    X("late", late)                                                                                                    \
    X("rejected", rejected)                                                                                            \
    X("pending", pending)                                                                                              \
    X("gone", gone)                                                                                                    \
    X("unknown", unknown)                                                                                              \
    X("lost", lost)                                                                                                    \
    X("promotable", promotable)                                                                                        \
    X("record_hash", record_hash)

static enum mr_status join(char ret[PATH_CAP], const char *dir, const char *name, struct mr_error *error) {
    int len = snprintf(ret, PATH_CAP, "%s/%s", dir, name);
    return len > 0 && len < PATH_CAP ? MR_OK : mr_error_set(error, MR_LIMIT, "%s: too long a path", dir);
}

static void print_note(struct mr_buf *text, const struct mr_replay_note *note) {
    mr_buf_append_text(text, HEAD);
    mr_buf_printf(text, "data_dir %s\n", note->data_dir);
#define X(name, member) mr_buf_printf(text, name " %" PRId64 "\n", (int64_t)note->member);
    NUMBERS(X)
#undef X
    for (uint32_t i = 0; i < note->rule_count; i++) {
        const struct mr_replay_rule *rule = &note->rules[i];
        mr_buf_printf(text, "rule %s %" PRId64 " %" PRId64 "\n", rule->name, rule->begins_ms, rule->final_end_ms);
    }
    mr_buf_append_text(text, "end\n");
}

static enum mr_status write_text(struct mr_disk *disk, const char *path, enum mr_file_mode mode, struct mr_bytes text) {
    struct mr_file *file = NULL;
    enum mr_status status = mr_disk_unlink(disk, path);
    if (status == MR_OK || status == MR_NOT_FOUND) {
        status = mr_file_open(disk, path, mode, &file);
    }
    if (status == MR_OK) {
        status = mr_file_pwrite(file, text, 0);
    }
    if (status == MR_OK) {
        status = mr_file_sync(file);
    }
    mr_file_close(file);
    return status;
}

enum mr_status mr_replay_file_write(struct mr_disk *disk, const char *dir, const char *name, enum mr_file_mode mode,
                                    struct mr_bytes text, struct mr_error *error) {
    char path[PATH_CAP];
    char made[PATH_CAP];
    char made_name[NAME_CAP];
    int len = snprintf(made_name, sizeof made_name, "%s.new", name);
    MR_ASSERT(len > 0 && len < NAME_CAP);
    if (join(path, dir, name, error) != MR_OK || join(made, dir, made_name, error) != MR_OK) {
        return MR_LIMIT;
    }
    enum mr_status status = write_text(disk, made, mode, text);
    if (status == MR_OK) {
        status = mr_disk_rename(disk, made, path);
    }
    if (status == MR_OK) {
        status = mr_disk_sync_dir(disk, dir);
    }
    return status == MR_OK ? MR_OK : mr_error_set(error, status, "cannot write %s: %s", path, mr_status_text(status));
}

enum mr_status mr_replay_note_write(struct mr_disk *disk, const char *dir, const struct mr_replay_note *note,
                                    struct mr_error *error) {
    struct mr_buf text;
    mr_buf_init(&text, NOTE_BYTES_MAX);
    print_note(&text, note);
    enum mr_status status = text.failed ? mr_error_set(error, MR_NO_MEMORY, "out of memory writing %s/REPLAY", dir)
                                        : mr_replay_file_write(disk, dir, "REPLAY", MR_FILE_CREATE_NEW,
                                                               mr_buf_bytes(&text), error);
    mr_buf_finish(&text);
    return status;
}

/* One line, without its end. false: not one of a note. */
static bool parse_line(const char *line, struct mr_replay_note *ret) {
    char word[64];
    int64_t value = 0;
    struct mr_replay_rule *rule = &ret->rules[ret->rule_count];
    if (strncmp(line, "data_dir ", 9) == 0) {
        int len = snprintf(ret->data_dir, sizeof ret->data_dir, "%s", line + 9);
        return len > 0 && (size_t)len < sizeof ret->data_dir;
    }
    if (strncmp(line, "rule ", 5) == 0) {
        static_assert(MR_NAME_MAX == 64, "as the width below says");
        bool good = ret->rule_count < MR_RULES_MAX && sscanf(line, "rule %64s %" SCNd64 " %" SCNd64, rule->name,
                                                             &rule->begins_ms, &rule->final_end_ms) == 3;
        ret->rule_count += good;
        return good;
    }
    if (sscanf(line, "%63s %" SCNd64, word, &value) != 2) {
        return false;
    }
#define X(name, member)                                                                                                \
    if (strcmp(word, name) == 0) {                                                                                     \
        ret->member = (__typeof__(ret->member))value;                                                                  \
        return true;                                                                                                   \
    }
    NUMBERS(X)
#undef X
    return false;
}

/* The text ends with a NUL, which is taken into pieces here. */
static bool parse_note(char *text, struct mr_replay_note *ret) {
    if (strncmp(text, HEAD, sizeof HEAD - 1) != 0) {
        return false;
    }
    char *line = text + sizeof HEAD - 1;
    for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        if (strcmp(line, "end") == 0) {
            return ret->data_dir[0] != '\0';
        }
        if (!parse_line(line, ret)) {
            return false;
        }
    }
    return false;
}

enum mr_status mr_replay_note_read(struct mr_disk *disk, const char *dir, struct mr_replay_note *ret,
                                   struct mr_error *error) {
    char path[PATH_CAP];
    struct mr_buf text;
    *ret = (struct mr_replay_note){.rule_count = 0};
    enum mr_status status = join(path, dir, "REPLAY", error);
    if (status != MR_OK) {
        return status;
    }
    mr_buf_init(&text, NOTE_BYTES_MAX);
    status = mr_disk_read_all(disk, path, &text);
    mr_buf_append_char(&text, '\0');
    if (status == MR_NOT_FOUND) {
        (void)mr_error_set(error, status, "%s has no file REPLAY: it is not what a replay has made", dir);
    } else if (status != MR_OK) {
        (void)mr_error_set(error, status, "cannot read %s: %s", path, mr_status_text(status));
    } else if (text.failed || !parse_note((char *)text.ptr, ret)) {
        status = mr_error_set(error, MR_CORRUPT, "%s is not a note that this version of millrace wrote", path);
    }
    mr_buf_finish(&text);
    return status;
}
