/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inserts the lines of a file into PostgreSQL, BATCH a transaction: one prepared statement takes the JSON as it is,
 * keeps the ids it has not seen, and adds the rows of those to a roll-up by 10 s window and key. One connection.
 *
 * usage: peers_postgres CONNINFO FILE BATCH
 * Makes the tables when they are not there. repeats: events whose id was there before.
 */
#include "bench/peers/wire.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char tables[] =
    "CREATE TABLE IF NOT EXISTS seen (id uuid PRIMARY KEY);"
    "CREATE TABLE IF NOT EXISTS by_key (began bigint, key text, views bigint NOT NULL,"
    " spend double precision NOT NULL, PRIMARY KEY (began, key));";

/* DISTINCT ON: an id may be twice in one batch, and a join would count both of its rows. */
static const char insert[] =
    "WITH sent AS (SELECT DISTINCT ON (id) id, ts, key, value"
    " FROM json_to_recordset($1::json) AS e(id uuid, ts bigint, key text, value double precision)),"
    " fresh AS (INSERT INTO seen SELECT id FROM sent ON CONFLICT DO NOTHING RETURNING id),"
    " rolled AS (INSERT INTO by_key AS b SELECT ts / 10000 * 10000, key, count(*), sum(value)"
    " FROM sent JOIN fresh USING (id) GROUP BY 1, 2"
    " ON CONFLICT (began, key) DO UPDATE SET views = b.views + excluded.views,"
    " spend = b.spend + excluded.spend)"
    " SELECT count(*) FROM fresh";

static void expect(PGconn *db, PGresult *result, ExecStatusType status) {
    if (PQresultStatus(result) != status) {
        peer_die("%s", PQerrorMessage(db));
    }
}

static uint64_t run_number(PGconn *db, PGresult *result) {
    expect(db, result, PGRES_TUPLES_OK);
    uint64_t number = PQntuples(result) == 1 ? strtoull(PQgetvalue(result, 0, 0), NULL, 10) : 0;
    PQclear(result);
    return number;
}

/* The lines as one JSON array; the newlines become commas. */
static void fill_array(char *to, const char *lines, size_t len) {
    to[0] = '[';
    memcpy(to + 1, lines, len);
    for (char *at = to + 1; (at = memchr(at, '\n', (size_t)(to + len - at))) != NULL; at++) {
        *at = ',';
    }
    to[len] = ']'; /* in place of the last newline */
    to[len + 1] = '\0';
}

static size_t longest(const struct peer_file *file, uint64_t batch) {
    size_t most = 0;
    for (uint64_t n = 0; n < file->count; n += batch) {
        uint64_t end = file->count - n < batch ? file->count : n + batch;
        size_t len = file->lines[end] - file->lines[n];
        most = len > most ? len : most;
    }
    return most;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        peer_die("usage: peers_postgres CONNINFO FILE BATCH");
    }
    struct peer_file file;
    uint64_t batch = strtoull(argv[3], NULL, 10);
    if (batch == 0) {
        peer_die("a batch of 1 or more");
    }
    peer_file_open(&file, argv[2]);
    char *array = malloc(longest(&file, batch) + 2);
    PGconn *db = PQconnectdb(argv[1]);
    if (array == NULL || PQstatus(db) != CONNECTION_OK) {
        peer_die("%s", array == NULL ? "no memory" : PQerrorMessage(db));
    }
    PGresult *made = PQexec(db, tables);
    expect(db, made, PGRES_COMMAND_OK);
    PQclear(made);
    PGresult *prepared = PQprepare(db, "insert", insert, 1, NULL);
    expect(db, prepared, PGRES_COMMAND_OK);
    PQclear(prepared);
    struct peer_result result = {.events = file.count, .judged = true};
    uint64_t fresh = 0;
    peer_begin(&result);
    for (uint64_t n = 0; n < file.count; n += batch) {
        uint64_t end = file.count - n < batch ? file.count : n + batch;
        const char *values[] = {array};
        fill_array(array, file.ptr + file.lines[n], file.lines[end] - file.lines[n]);
        fresh += run_number(db, PQexecPrepared(db, "insert", 1, values, NULL, NULL, 0));
        result.requests++;
    }
    result.repeats = file.count - fresh;
    peer_report(&result);
    PQfinish(db);
    free(array);
    return 0;
}
