/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/datadir.h"

#include "base/check.h"
#include "base/limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char format_text[] = "millrace data, format 4\n";

static void join(char *ret, size_t cap, const char *dir, const char *name) {
    int len = snprintf(ret, cap, "%s/%s", dir, name);
    MR_ASSERT(len > 0 && (size_t)len < cap); /* path is shorter than its room in mr_datadir_open */
}

static enum mr_status failed(struct mr_error *error, enum mr_status status, const char *what,
                             const char *path) {
    return mr_error_set(error, status, "%s %s: %s", what, path, mr_status_text(status));
}

static enum mr_status take_lock(struct mr_datadir *dir, struct mr_error *error) {
    char path[3200];
    join(path, sizeof path, dir->path, "LOCK");
    enum mr_status status = mr_file_open(dir->disk, path, MR_FILE_CREATE, &dir->lock);
    if (status != MR_OK) {
        return failed(error, status, "cannot open", path);
    }
    status = mr_file_lock(dir->lock);
    if (status == MR_BUSY) {
        return mr_error_set(error, MR_BUSY,
                            "%s is in use by another millrace process: stop it, or give this one "
                            "another node.data_dir",
                            dir->path);
    }
    return status == MR_OK ? MR_OK : failed(error, status, "cannot lock", path);
}

/* Writes a small file, under another name at first, so that it is either there whole or not at all. */
static enum mr_status write_file_as(struct mr_datadir *dir, const char *name, const char *name_at_first,
                                    enum mr_file_mode mode, struct mr_bytes content, struct mr_error *error) {
    char path[3200];
    char made[3200];
    join(path, sizeof path, dir->path, name);
    join(made, sizeof made, dir->path, name_at_first);
    enum mr_status status = mr_disk_unlink(dir->disk, made);
    if (status != MR_OK && status != MR_NOT_FOUND) {
        return failed(error, status, "cannot remove", made);
    }
    struct mr_file *file = NULL;
    status = mr_file_open(dir->disk, made, mode, &file);
    if (status == MR_OK) {
        status = mr_file_pwrite(file, content, 0);
    }
    if (status == MR_OK) {
        status = mr_file_sync(file);
    }
    mr_file_close(file);
    if (status == MR_OK) {
        status = mr_disk_rename(dir->disk, made, path);
    }
    if (status == MR_OK) {
        status = mr_disk_sync_dir(dir->disk, dir->path);
    }
    return status == MR_OK ? MR_OK : failed(error, status, "cannot write", path);
}

static enum mr_status write_file(struct mr_datadir *dir, const char *name, enum mr_file_mode mode,
                                 struct mr_bytes content, struct mr_error *error) {
    return write_file_as(dir, name, "NEW", mode, content, error);
}

static enum mr_status read_file(struct mr_datadir *dir, const char *name, struct mr_buf *ret,
                                struct mr_error *error) {
    char path[3200];
    join(path, sizeof path, dir->path, name);
    enum mr_status status = mr_disk_read_all(dir->disk, path, ret);
    return status == MR_OK || status == MR_NOT_FOUND ? status
                                                     : failed(error, status, "cannot read", path);
}

/* The KEY is known by then: a changed one would make every known id a new one. MR_NOT_FOUND: there is no FORMAT. */
static enum mr_status match_format(struct mr_datadir *dir, const char *wanted, struct mr_error *error) {
    struct mr_buf text;
    mr_buf_init(&text, 256);
    enum mr_status status = read_file(dir, "FORMAT", &text, error);
    struct mr_bytes stored = mr_buf_bytes(&text);
    size_t format_len = sizeof format_text - 1;
    if (status == MR_OK && (stored.len < format_len || memcmp(stored.ptr, format_text, format_len) != 0)) {
        status = mr_error_set(error, MR_MISMATCH,
                              "%s/FORMAT says `%.*s`, but this version writes `%.*s`: use the version "
                              "that made it, or another node.data_dir",
                              dir->path, (int)(text.len > 60 ? 60 : text.len), (char *)text.ptr,
                              (int)format_len - 1, format_text);
    } else if (status == MR_OK && !mr_bytes_equal(stored, mr_bytes_text(wanted))) {
        status = mr_error_set(error, MR_CORRUPT,
                              "%s/KEY is not the key this data was made with (as %s/FORMAT says): restore the file "
                              "that belongs to it (with another one every known id would count as new)",
                              dir->path, dir->path);
    }
    mr_buf_finish(&text);
    return status;
}

enum { FORMAT_CAP = 80 };

static void say_format(const struct mr_datadir *dir, char ret[FORMAT_CAP]) {
    (void)snprintf(ret, FORMAT_CAP, "%skey %016llx\n", format_text,
                   (unsigned long long)mr_hash64(mr_bytes_of(dir->key.bytes, sizeof dir->key.bytes), 0));
}

static enum mr_status check_format(struct mr_datadir *dir, struct mr_error *error) {
    char wanted[FORMAT_CAP];
    say_format(dir, wanted);
    enum mr_status status = match_format(dir, wanted, error);
    return status == MR_NOT_FOUND ? write_file(dir, "FORMAT", MR_FILE_CREATE_NEW, mr_bytes_text(wanted), error)
                                  : status;
}

static enum mr_status seen_entry(void *ctx, const char *name) {
    (void)name;
    *(bool *)ctx = true;
    return MR_OK;
}

/* A new key only for a directory without a log: ids in an old log would get other fingerprints. */
static enum mr_status make_key(struct mr_datadir *dir, const struct mr_hash_key *wanted,
                               struct mr_error *error) {
    bool has_log = false;
    enum mr_status status = mr_disk_list(dir->disk, dir->log_dir, seen_entry, &has_log);
    if (status != MR_OK && status != MR_NOT_FOUND) {
        return failed(error, status, "cannot list", dir->log_dir);
    }
    if (has_log) {
        return mr_error_set(error, MR_CORRUPT,
                            "%s has a log but no KEY: restore the file KEY that belongs to it (without it "
                            "every known id would count as new)",
                            dir->path);
    }
    if (wanted != NULL) {
        dir->key = *wanted;
    } else if (mr_random_bytes(dir->key.bytes, sizeof dir->key.bytes) != MR_OK) {
        return mr_error_set(error, MR_IO, "the kernel gives no random bytes for the hash key");
    }
    return write_file(dir, "KEY", MR_FILE_SECRET, mr_bytes_of(dir->key.bytes, sizeof dir->key.bytes),
                      error);
}

static enum mr_status read_key(struct mr_datadir *dir, struct mr_error *error) {
    struct mr_buf key;
    mr_buf_init(&key, 256);
    enum mr_status status = read_file(dir, "KEY", &key, error);
    if (status == MR_OK && key.len != sizeof dir->key.bytes) {
        status = mr_error_set(error, MR_CORRUPT, "%s/KEY has %zu bytes, expected %zu", dir->path,
                              key.len, sizeof dir->key.bytes);
    } else if (status == MR_OK) {
        memcpy(dir->key.bytes, key.ptr, sizeof dir->key.bytes);
    }
    mr_buf_finish(&key);
    return status;
}

static enum mr_status load_key(struct mr_datadir *dir, const struct mr_hash_key *wanted,
                               struct mr_error *error) {
    enum mr_status status = read_key(dir, error);
    if (status == MR_NOT_FOUND) {
        status = make_key(dir, wanted, error);
    }
    if (status == MR_OK && wanted != NULL && memcmp(wanted, &dir->key, sizeof *wanted) != 0) {
        return mr_error_set(error, MR_MISMATCH,
                            "%s was made with another cluster.name or cluster.secret, or without: give this node another "
                            "node.data_dir, or go back to what was configured",
                            dir->path);
    }
    return status;
}

static enum mr_status name_parts(struct mr_disk *disk, struct mr_bytes path, struct mr_datadir *ret,
                                 struct mr_error *error) {
    *ret = (struct mr_datadir){.disk = disk};
    if (path.len == 0 || path.len >= sizeof ret->path) {
        return mr_error_set(error, MR_INVALID, "node.data_dir has %zu bytes, expected 1 to %zu",
                            path.len, sizeof ret->path - 1);
    }
    memcpy(ret->path, path.ptr, path.len);
    join(ret->log_dir, sizeof ret->log_dir, ret->path, "log");
    join(ret->dead_dir, sizeof ret->dead_dir, ret->path, "dead");
    join(ret->checkpoint_dir, sizeof ret->checkpoint_dir, ret->path, "checkpoint");
    join(ret->results_path, sizeof ret->results_path, ret->path, "results.db");
    return MR_OK;
}

enum mr_status mr_datadir_look(struct mr_disk *disk, struct mr_bytes path, struct mr_datadir *ret,
                               struct mr_error *error) {
    char wanted[FORMAT_CAP];
    enum mr_status status = name_parts(disk, path, ret, error);
    if (status == MR_OK) {
        status = read_key(ret, error);
    }
    if (status == MR_OK) {
        say_format(ret, wanted);
        status = match_format(ret, wanted, error);
    }
    return status == MR_NOT_FOUND
               ? mr_error_set(error, status, "%s is not a data directory: it has no KEY and FORMAT", ret->path)
               : status;
}

enum mr_status mr_datadir_open(struct mr_disk *disk, struct mr_bytes path, const struct mr_hash_key *key,
                               struct mr_datadir *ret, struct mr_error *error) {
    enum mr_status status = name_parts(disk, path, ret, error);
    if (status != MR_OK) {
        return status;
    }
    status = mr_disk_mkdir(disk, ret->path);
    if (status != MR_OK) {
        return failed(error, status, "cannot make", ret->path);
    }
    status = take_lock(ret, error);
    if (status == MR_OK) {
        status = load_key(ret, key, error);
    }
    if (status == MR_OK) {
        status = check_format(ret, error);
    }
    if (status != MR_OK) {
        mr_datadir_close(ret);
    }
    return status;
}

/* MR_STORE names are those of configuration: letters, digits, - and _. */
static void epoch_name(char ret[MR_NAME_MAX + 8], struct mr_bytes store) {
    MR_ASSERT(store.len <= MR_NAME_MAX);
    (void)snprintf(ret, MR_NAME_MAX + 8, "EPOCH-%.*s", (int)store.len, (const char *)store.ptr); /* fits */
}

enum mr_status mr_datadir_read_epoch(struct mr_datadir *dir, struct mr_bytes store, struct mr_epoch *ret,
                                     struct mr_error *error) {
    char name[MR_NAME_MAX + 8];
    struct mr_buf stored;
    mr_buf_init(&stored, 256);
    epoch_name(name, store);
    *ret = (struct mr_epoch){{0}};
    enum mr_status status = read_file(dir, name, &stored, error);
    if (status == MR_OK && stored.len != sizeof ret->bytes) {
        status = mr_error_set(error, MR_CORRUPT, "%s/%s has %zu bytes, expected %zu", dir->path, name,
                              stored.len, sizeof ret->bytes);
    } else if (status == MR_OK) {
        memcpy(ret->bytes, stored.ptr, sizeof ret->bytes);
    }
    mr_buf_finish(&stored);
    return status == MR_NOT_FOUND ? MR_OK : status;
}

enum mr_status mr_datadir_write_epoch(struct mr_datadir *dir, struct mr_bytes store,
                                      const struct mr_epoch *epoch, struct mr_error *error) {
    char name[MR_NAME_MAX + 8];
    epoch_name(name, store);
    return write_file(dir, name, MR_FILE_CREATE_NEW, mr_bytes_of(epoch->bytes, sizeof epoch->bytes), error);
}

static void sink_name(char ret[MR_NAME_MAX + 16], struct mr_bytes sink, const char *end) {
    MR_ASSERT(sink.len <= MR_NAME_MAX);
    (void)snprintf(ret, MR_NAME_MAX + 16, "SINK-%.*s%s", (int)sink.len, (const char *)sink.ptr, end); /* fits */
}

enum mr_status mr_datadir_read_sink(struct mr_datadir *dir, struct mr_bytes sink, struct mr_buf *ret,
                                    struct mr_error *error) {
    char name[MR_NAME_MAX + 16];
    sink_name(name, sink, "");
    return read_file(dir, name, ret, error);
}

enum mr_status mr_datadir_write_sink(struct mr_datadir *dir, struct mr_bytes sink, struct mr_bytes content,
                                     struct mr_error *error) {
    char name[MR_NAME_MAX + 16];
    char name_at_first[MR_NAME_MAX + 16];
    sink_name(name, sink, "");
    sink_name(name_at_first, sink, ".NEW"); /* its own: other threads write small files, too */
    return write_file_as(dir, name, name_at_first, MR_FILE_CREATE_NEW, content, error);
}

static void lookup_name(char ret[64], uint64_t hash, uint64_t len) {
    (void)snprintf(ret, 64, "LOOKUP-%016" PRIx64 "-%" PRIu64, hash, len);
}

enum mr_status mr_datadir_read_lookup(struct mr_datadir *dir, uint64_t hash, uint64_t len, struct mr_buf *ret,
                                      struct mr_error *error) {
    char name[64];
    lookup_name(name, hash, len);
    enum mr_status status = read_file(dir, name, ret, error);
    bool other = status == MR_OK && (ret->len != len || mr_checksum(mr_buf_bytes(ret)) != hash);
    return other ? mr_error_set(error, MR_CORRUPT, "%s/%s: the content of a lookup is damaged", dir->path, name)
                 : status;
}

/* Durable; MR_OK also when there is none. */
static enum mr_status remove_file(struct mr_datadir *dir, const char *name, struct mr_error *error) {
    char path[3200];
    join(path, sizeof path, dir->path, name);
    enum mr_status status = mr_disk_unlink(dir->disk, path);
    if (status == MR_OK) {
        status = mr_disk_sync_dir(dir->disk, dir->path);
    }
    return status == MR_OK || status == MR_NOT_FOUND ? MR_OK : failed(error, status, "cannot remove", path);
}

static void until_name(char ret[72], uint64_t hash, uint64_t len) {
    lookup_name(ret, hash, len);
    (void)snprintf(ret + strlen(ret), 72 - strlen(ret), ".until"); /* fits */
}

enum mr_status mr_datadir_keep_lookup(struct mr_datadir *dir, struct mr_bytes content, struct mr_error *error) {
    char name[72];
    char path[3200];
    struct mr_file *file;
    until_name(name, mr_checksum(content), content.len);
    enum mr_status status = remove_file(dir, name, error);
    if (status != MR_OK) {
        return status;
    }
    lookup_name(name, mr_checksum(content), content.len);
    join(path, sizeof path, dir->path, name);
    if (mr_file_open(dir->disk, path, MR_FILE_READ, &file) == MR_OK) {
        mr_file_close(file);
        return MR_OK; /* there already, whole: it got its name last */
    }
    return write_file(dir, name, MR_FILE_CREATE_NEW, content, error);
}

/* A file that holds one number; 0: there is none. */
static enum mr_status read_number(struct mr_datadir *dir, const char *name, uint64_t most, uint64_t *ret,
                                  struct mr_error *error) {
    struct mr_buf stored;
    mr_buf_init(&stored, 256);
    enum mr_status status = read_file(dir, name, &stored, error);
    uint64_t number = 0;
    for (size_t i = 0; status == MR_OK && i < stored.len && stored.ptr[i] != '\n'; i++) {
        bool digit = stored.ptr[i] >= '0' && stored.ptr[i] <= '9' && number <= (most - 9) / 10;
        if (!digit) {
            status = mr_error_set(error, MR_CORRUPT, "%s/%s is not a number", dir->path, name);
        }
        number = number * 10 + (uint64_t)(stored.ptr[i] - '0');
    }
    mr_buf_finish(&stored);
    *ret = number;
    return status == MR_NOT_FOUND ? MR_OK : status;
}

static enum mr_status write_number(struct mr_datadir *dir, const char *name, uint64_t number, struct mr_error *error) {
    char text[32];
    (void)snprintf(text, sizeof text, "%" PRIu64 "\n", number); /* has room for any */
    return write_file(dir, name, MR_FILE_CREATE_NEW, mr_bytes_text(text), error);
}

enum mr_status mr_datadir_read_lookup_until(struct mr_datadir *dir, uint64_t hash, uint64_t len, uint64_t *ret_lsn,
                                            struct mr_error *error) {
    char name[72];
    until_name(name, hash, len);
    enum mr_status status = read_number(dir, name, INT64_MAX, ret_lsn, error);
    return status == MR_OK && *ret_lsn == 0 ? MR_NOT_FOUND : status;
}

enum mr_status mr_datadir_write_lookup_until(struct mr_datadir *dir, uint64_t hash, uint64_t len, uint64_t lsn,
                                             struct mr_error *error) {
    char name[72];
    until_name(name, hash, len);
    return write_number(dir, name, lsn, error);
}

enum mr_status mr_datadir_drop_lookup(struct mr_datadir *dir, uint64_t hash, uint64_t len, struct mr_error *error) {
    char name[72];
    lookup_name(name, hash, len);
    enum mr_status status = remove_file(dir, name, error);
    until_name(name, hash, len);
    return status == MR_OK ? remove_file(dir, name, error) : status;
}

enum mr_status mr_datadir_read_shards(struct mr_datadir *dir, uint32_t *ret,
                                      struct mr_error *error) {
    uint64_t shards = 0;
    enum mr_status status = read_number(dir, "SHARDS", UINT32_MAX, &shards, error);
    *ret = (uint32_t)shards;
    return status;
}

enum mr_status mr_datadir_read_promoting(struct mr_datadir *dir, uint32_t *ret, struct mr_error *error) {
    uint64_t steps = 0;
    enum mr_status status = read_number(dir, "PROMOTING", UINT32_MAX, &steps, error);
    *ret = (uint32_t)steps;
    return status;
}

enum mr_status mr_datadir_write_promoting(struct mr_datadir *dir, uint32_t steps, struct mr_error *error) {
    if (steps > 0) {
        return write_number(dir, "PROMOTING", steps, error);
    }
    return remove_file(dir, "PROMOTING", error);
}

enum mr_status mr_datadir_write_promoted(struct mr_datadir *dir, uint64_t seq, struct mr_error *error) {
    return write_number(dir, "PROMOTED", seq, error);
}

enum mr_status mr_datadir_read_promoted(struct mr_datadir *dir, uint64_t *ret, struct mr_error *error) {
    uint32_t steps = 0;
    enum mr_status status = mr_datadir_read_promoting(dir, &steps, error);
    if (status == MR_OK && steps > 0) {
        return mr_error_set(error, MR_BUSY,
                            "%s: a `millrace replay promote` was stopped in the middle: run it again, to its end",
                            dir->path);
    }
    return status == MR_OK ? read_number(dir, "PROMOTED", INT64_MAX, ret, error) : status;
}

bool mr_datadir_is_rewound(struct mr_datadir *dir) {
    struct mr_buf text;
    struct mr_error error;
    mr_buf_init(&text, 256);
    bool is = read_file(dir, "REWOUND", &text, &error) != MR_NOT_FOUND; /* unreadable: better once too often */
    mr_buf_finish(&text);
    return is;
}

enum mr_status mr_datadir_set_rewound(struct mr_datadir *dir, bool rewound, struct mr_error *error) {
    if (rewound) {
        return write_file(dir, "REWOUND", MR_FILE_CREATE_NEW, MR_BYTES("\n"), error);
    }
    char path[3200];
    join(path, sizeof path, dir->path, "REWOUND");
    enum mr_status status = mr_disk_unlink(dir->disk, path);
    return status == MR_OK || status == MR_NOT_FOUND ? MR_OK
                                                     : failed(error, status, "cannot remove", path);
}

enum mr_status mr_datadir_set_results_aside(struct mr_datadir *dir, struct mr_error *error) {
    static const char *const names[][2] = {{"results.db", "results.db.before"},
                                           {"results.db-wal", "results.db.before-wal"},
                                           {"results.db-shm", "results.db.before-shm"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char from[3200];
        char to[3200];
        join(from, sizeof from, dir->path, names[i][0]);
        join(to, sizeof to, dir->path, names[i][1]);
        enum mr_status status = mr_disk_rename(dir->disk, from, to);
        if (status != MR_OK && status != MR_NOT_FOUND) {
            return failed(error, status, "cannot rename", from);
        }
    }
    return MR_OK;
}

enum mr_status mr_datadir_write_shards(struct mr_datadir *dir, uint32_t shards,
                                       struct mr_error *error) {
    return write_number(dir, "SHARDS", shards, error);
}

void mr_datadir_close(struct mr_datadir *dir) {
    mr_file_close(dir->lock);
    dir->lock = NULL;
}
