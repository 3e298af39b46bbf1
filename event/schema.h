/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Schema: what a stream's events must have, and which of their fields the rules need.
 *
 * Idea        The decoder projects: only the fields named here become columns; the rest of an event is
 *             checked for being JSON and skipped.
 * Shape       A path such as data.order.id is a list of member names from the top object downwards. The
 *             schema compiles all paths of a stream into one tree that the decoder walks with the event;
 *             a field may be wanted as text, as number and as anything, and may be id or time as well.
 *
 *             Columns of a batch: the fields, then the expressions, then hidden ones, of use ANY, for the
 *             fields that expressions use and no rule lists for any use:
 *
 *                 | 0 … field_count | … + expr_count | hidden … at most MR_FIELDS_MAX |
 *
 *             Expressions (event/expr.h) are compiled here and evaluated at the end of decoding. A
 *             derived field is a named expression: those behind it in the list, and all expressions, may
 *             use its name, which hides a field of that path; its own text still means the field.
 * Owner       mr_schema_open copies what it is given, but for the lookup tables, which must live longer;
 *             the schema is constant and shared afterwards.
 * Threads     Constant after open.
 * Errors      open: MR_INVALID (a path that is another's parent, an empty, over-deep or over-long path
 *             (255 bytes), too many fields or parts of the id (MR_ID_PARTS_MAX), no time field although a
 *             missing time is rejected; an expression, as "its name: column 14: …") with a text;
 *             MR_NO_MEMORY.
 */
#include "base/hash.h"

enum mr_field_use {
    MR_FIELD_KEY,    /* group_by: null, bool, number or string; the text is kept */
    MR_FIELD_NUMBER, /* metrics: a number (int64 exact, else double), or null/missing: skipped */
    MR_FIELD_ANY,    /* expressions, metrics of any value: never a reason to reject an event */
    MR_EXPR_WHERE,   /* expressions only: TRUE, or FALSE for everything else */
};

struct mr_field {
    struct mr_bytes path; /* dotted: "data.order.id" */
    enum mr_field_use use;
};

/* What an expression's values become in its column:
 *     KEY     numbers DIGITS, with their JSON text (event/expr.h: mr_expr_scalar_text); a text over
 *             MR_KEY_TEXT_MAX, an object or an array rejects the event (bad_key)
 *     NUMBER  numbers; null stays NULL, everything else is MISSING
 *     ANY     as it comes
 *     WHERE   TRUE or FALSE */
struct mr_schema_expr {
    struct mr_bytes name; /* for messages: "where of rule ad_views" */
    struct mr_bytes text;
    enum mr_field_use use;
};

struct mr_schema_derived {
    struct mr_bytes name; /* a path, as fields have */
    struct mr_bytes text;
    struct mr_bytes label; /* for messages; empty: "derived field NAME" */
};

struct mr_expr_lookup;

enum mr_time_format { MR_TIME_RFC3339, MR_TIME_S, MR_TIME_MS, MR_TIME_US, MR_TIME_NS };

enum mr_missing { MR_MISSING_REJECT, MR_MISSING_ACCEPT };

struct mr_schema_options {
    struct mr_bytes stream;
    struct mr_secret secret;
    /* The id: parts in order, e.g. source, id. The last part is the id proper; the earlier ones may be
     * missing in an event (then they count as absent, which differs from ""). id_parts 0: no id at all
     * (dedup mode none). */
    struct mr_bytes id[8];
    uint32_t id_parts;
    enum mr_missing missing_id;
    struct mr_bytes time;
    enum mr_time_format time_format; /* the unit of numbers; RFC 3339 strings are always understood */
    enum mr_missing missing_time;    /* ACCEPT: arrival time */
    const struct mr_field *fields;   /* column i of a batch is fields[i] */
    uint32_t field_count;
    const struct mr_schema_derived *derived;
    uint32_t derived_count; /* at most MR_DERIVED_MAX */
    const struct mr_schema_expr *exprs; /* column field_count + i of a batch is exprs[i] */
    uint32_t expr_count;
    const struct mr_expr_lookup *lookups; /* tables that expressions may use, by name */
    uint32_t lookup_count;
    uint32_t event_bytes_max; /* a longer event is rejected (too_long) */
    uint32_t events_max;      /* of one batch: over it the request is refused */
    uint32_t shards;          /* dedup shards, for the partition of a batch */
    /* Also require what CloudEvents 1.0 does: specversion "1.0", and id, source and type non-empty. */
    bool cloudevents;
};

struct mr_schema;

enum mr_status mr_schema_open(const struct mr_schema_options *options, struct mr_schema **ret,
                              struct mr_error *error) MR_MUST_CHECK;
void mr_schema_close(struct mr_schema *schema);
const struct mr_schema_options *mr_schema_options(const struct mr_schema *schema);
