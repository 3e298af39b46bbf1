/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/events.h"

#include "base/alloc.h"
#include "base/check.h"
#include "bench/load/digits.h"
#include "bench/load/random.h"
#include "bench/load/reader.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum {
    VALUES = 800,  /* 0 to 99.875 */
    USERS = 1000,  /* pages */
    COUNTRIES = 8,
    ADS_OF_CAMPAIGN = 10,
    ADS = 100 * ADS_OF_CAMPAIGN, /* yahoo */
    VISITORS = 100,
    PLACES = 100,
    UUIDS = ADS + VISITORS + PLACES,
    AD_TYPES = 5,
    EVENT_TYPES = 3, /* the first is the one that counts */
    PRICES = 4096, /* bids: 100 to 100,000,000, log-uniform */
    BIDS_OF_50 = 46,
    AUCTIONS_OF_50 = 3,
    AUCTIONS_FIRST = 1000,
    AUCTIONS_OPEN = 100,
    BIDDERS_OPEN = 1000,
    CHANNELS = 4
};

const char mr_load_decimal_pairs[201] =
    "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
    "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

uint8_t *mr_load_put_uint_long(uint8_t *at, uint64_t value) {
    return mr_load_put_uint(at, value); /* four digits less each time */
}

static const char *const ad_types[] = {"banner", "modal", "sponsored-search", "mail", "mobile"};
static const char *const event_types[] = {"view", "click", "purchase"};
static const char *const channels[] = {"Google", "Facebook", "Baidu", "Apple"};

static const struct mr_load_names names[] = {
    [MR_LOAD_PAGES] = {.stream = "events", .rule = "by_key", .id = "id", .time = "{ field: ts, format: ms }",
                       .group_by = "[key]", .count = "views", .second = "spend", .second_yaml = "{ sum: value }",
                       .kind = MR_LOAD_SUM_EIGHTHS},
    [MR_LOAD_YAHOO] = {.stream = "ads", .rule = "views_by_campaign", .id = "event_id",
                       .time = "{ field: event_time, format: ms }", .group_by = "[campaign]", .count = "views",
                       .lookups = "# The table: millrace-bench yahoo --print-ads > ads.csv\n"
                                  "lookups:\n"
                                  "  ads: { file: ads.csv, key: ad_id, value: campaign_id }\n",
                       .derive = "    derive:\n"
                                 "      campaign: lookup(\"ads\", ad_id)\n",
                       .where = "event_type == \"view\"", .kind = MR_LOAD_NO_SECOND},
    [MR_LOAD_BIDS] = {.stream = "bids", .rule = "by_auction", .id = "id",
                      .time = "{ field: dateTime, format: ms }", .group_by = "[auction]", .count = "bids",
                      .second = "highest", .second_yaml = "{ max: price }", .kind = MR_LOAD_MAX_WHOLE},
    [MR_LOAD_FILE] = {.stream = "events", .kind = MR_LOAD_NO_SECOND},
};

const struct mr_load_names *mr_load_names_of(enum mr_load_kind_of_event kind) {
    return &names[kind];
}

/* The same ads in every run: only who saw which depends on the seed. */
static struct mr_load_uuid *make_uuids(void) {
    struct mr_load_uuid *uuids = mr_alloc(UUIDS * sizeof *uuids);
    for (uint32_t i = 0; uuids != NULL && i < UUIDS; i++) {
        uint8_t hex[32];
        (void)mr_load_put_hex(hex, mr_load_random(1, i));
        (void)mr_load_put_hex(hex + 16, mr_load_random(2, i));
        hex[12] = '4'; /* version and variant of RFC 4122 */
        hex[16] = '8';
        char *to = uuids[i].text;
        for (uint32_t h = 0; h < 32; h++) {
            if (h == 8 || h == 12 || h == 16 || h == 20) {
                *to++ = '-';
            }
            *to++ = (char)hex[h];
        }
    }
    return uuids;
}

static uint32_t *make_prices(void) {
    uint32_t *prices = mr_alloc(PRICES * sizeof *prices);
    for (uint32_t i = 0; prices != NULL && i < PRICES; i++) {
        prices[i] = (uint32_t)(100 * pow(10, 6 * (i + 0.5) / PRICES));
    }
    return prices;
}

enum mr_status mr_load_events_open(struct mr_load_events *events, enum mr_load_kind_of_event kind,
                                   uint64_t seed, struct mr_load_pick *pick) {
    MR_ASSERT((kind == MR_LOAD_PAGES) == (pick != NULL));
    *events = (struct mr_load_events){
        .kind = kind,
        .id_high_seed = mr_load_seed(seed, MR_LOAD_ID_HIGH),
        .id_low_seed = mr_load_seed(seed, MR_LOAD_ID_LOW),
        .key_seed = mr_load_seed(seed, MR_LOAD_KEY),
        .fields_seed = mr_load_seed(seed, MR_LOAD_FIELDS),
    };
    if (kind == MR_LOAD_PAGES) {
        events->pick = *pick;
        *pick = (struct mr_load_pick){0};
    }
    if (kind == MR_LOAD_YAHOO) {
        events->uuids = make_uuids();
        return events->uuids == NULL ? MR_NO_MEMORY : MR_OK;
    }
    if (kind == MR_LOAD_BIDS) {
        events->prices = make_prices();
        return events->prices == NULL ? MR_NO_MEMORY : MR_OK;
    }
    return MR_OK;
}

void mr_load_events_close(struct mr_load_events *events) {
    mr_load_pick_close(&events->pick);
    mr_free(events->uuids);
    mr_free(events->prices);
    *events = (struct mr_load_events){0};
}

/* The newest auctions of the moment; half of the bids are for the newest hundredth one. */
static uint64_t auction_of(uint64_t n, uint64_t random) {
    uint64_t newest = n / BIDS_OF_50 * AUCTIONS_OF_50 + n % BIDS_OF_50 * AUCTIONS_OF_50 / BIDS_OF_50;
    if ((random & 1) != 0) {
        return AUCTIONS_FIRST + newest / 100 * 100;
    }
    uint64_t open = newest + 1 < AUCTIONS_OPEN ? newest + 1 : AUCTIONS_OPEN;
    return AUCTIONS_FIRST + newest - mr_load_below(random, open);
}

static struct mr_load_fact page_fact(const struct mr_load_events *events, uint64_t n) {
    return (struct mr_load_fact){
        .group = mr_load_pick_draw(&events->pick, mr_load_random(events->key_seed, n)),
        .value = (int64_t)mr_load_below(mr_load_random(events->fields_seed, n), VALUES)};
}

/* Which ad, and what happened to it: ad * EVENT_TYPES + type. */
static uint64_t ad_and_type(const struct mr_load_events *events, uint64_t n) {
    return mr_load_below(mr_load_random(events->key_seed, n), (uint64_t)ADS * EVENT_TYPES);
}

static struct mr_load_fact ad_fact(const struct mr_load_events *events, uint64_t n) {
    uint64_t drawn = ad_and_type(events, n);
    return (struct mr_load_fact){.filtered = drawn % EVENT_TYPES != 0,
                                 .group = drawn / EVENT_TYPES / ADS_OF_CAMPAIGN};
}

struct mr_load_fact mr_load_events_fact(const struct mr_load_events *events, uint64_t n) {
    uint64_t fields = mr_load_random(events->fields_seed, n);
    switch (events->kind) {
    case MR_LOAD_PAGES:
        return page_fact(events, n);
    case MR_LOAD_YAHOO:
        return ad_fact(events, n);
    case MR_LOAD_BIDS:
        return (struct mr_load_fact){.group = auction_of(n, mr_load_random(events->key_seed, n)),
                                     .value = events->prices[fields % PRICES]};
    case MR_LOAD_FILE:
        break;
    }
    MR_UNREACHABLE();
}

static uint8_t *put_text(uint8_t *at, const char *text) {
    size_t len = strlen(text);
    memcpy(at, text, len);
    return at + len;
}

static uint8_t *put_id(const struct mr_load_events *events, uint64_t n, uint8_t *at) {
    at = mr_load_put_hex(at, mr_load_random(events->id_high_seed, n));
    return mr_load_put_hex(at, mr_load_random(events->id_low_seed, n));
}

static size_t write_page(const struct mr_load_events *events, uint64_t n, int64_t time_ms, uint8_t *to) {
    static const char countries[COUNTRIES][2] = {{'D', 'E'}, {'F', 'R'}, {'U', 'S'}, {'G', 'B'},
                                                 {'I', 'N'}, {'B', 'R'}, {'J', 'P'}, {'P', 'L'}};
    static const char eighths[8][3] = {{'0', '0', '0'}, {'1', '2', '5'}, {'2', '5', '0'}, {'3', '7', '5'},
                                       {'5', '0', '0'}, {'6', '2', '5'}, {'7', '5', '0'}, {'8', '7', '5'}};
    struct mr_load_fact fact = page_fact(events, n);
    uint64_t low = mr_load_random(events->id_low_seed, n);
    uint8_t *at = MR_LOAD_PUT(to, "{\"id\":\"");
    at = mr_load_put_hex(at, mr_load_random(events->id_high_seed, n));
    at = mr_load_put_hex(at, low);
    at = MR_LOAD_PUT(at, "\",\"ts\":");
    at = mr_load_put_time(at, time_ms);
    at = MR_LOAD_PUT(at, ",\"key\":\"/page/");
    at = mr_load_put_uint(at, fact.group);
    at = MR_LOAD_PUT(at, "\",\"country\":\"");
    memcpy(at, countries[low % COUNTRIES], 2);
    at = MR_LOAD_PUT(at + 2, "\",\"value\":");
    at = mr_load_put_uint(at, (uint64_t)fact.value / 8);
    *at++ = '.';
    memcpy(at, eighths[fact.value % 8], 3);
    at = MR_LOAD_PUT(at + 3, ",\"user\":\"u");
    at = mr_load_put_uint(at, mr_load_below(low, USERS));
    at = MR_LOAD_PUT(at, "\"}");
    return (size_t)(at - to);
}

static uint8_t *put_uuid(const struct mr_load_events *events, uint64_t which, uint8_t *at) {
    memcpy(at, events->uuids[which].text, sizeof events->uuids[which].text);
    return at + sizeof events->uuids[which].text;
}

static size_t write_ad(const struct mr_load_events *events, uint64_t n, int64_t time_ms, uint8_t *to) {
    uint64_t drawn = ad_and_type(events, n);
    uint64_t fields = mr_load_random(events->fields_seed, n);
    uint8_t *at = put_id(events, n, MR_LOAD_PUT(to, "{\"event_id\":\""));
    at = MR_LOAD_PUT(at, "\",\"user_id\":\"");
    at = put_uuid(events, ADS + mr_load_below(fields, VISITORS), at);
    at = MR_LOAD_PUT(at, "\",\"page_id\":\"");
    at = put_uuid(events, ADS + VISITORS + (fields & 0xffff) % PLACES, at);
    at = MR_LOAD_PUT(at, "\",\"ad_id\":\"");
    at = put_uuid(events, drawn / EVENT_TYPES, at);
    at = MR_LOAD_PUT(at, "\",\"ad_type\":\"");
    at = put_text(at, ad_types[(fields >> 16 & 0xffff) % AD_TYPES]);
    at = MR_LOAD_PUT(at, "\",\"event_type\":\"");
    at = put_text(at, event_types[drawn % EVENT_TYPES]);
    at = MR_LOAD_PUT(at, "\",\"event_time\":\"");
    at = mr_load_put_time(at, time_ms);
    at = MR_LOAD_PUT(at, "\",\"ip_address\":\"1.2.3.4\"}");
    return (size_t)(at - to);
}

static size_t write_bid(const struct mr_load_events *events, uint64_t n, int64_t time_ms, uint8_t *to) {
    struct mr_load_fact fact = mr_load_events_fact(events, n);
    uint64_t low = mr_load_random(events->id_low_seed, n);
    const char *channel = channels[low % CHANNELS];
    uint8_t *at = put_id(events, n, MR_LOAD_PUT(to, "{\"id\":\""));
    at = MR_LOAD_PUT(at, "\",\"auction\":");
    at = mr_load_put_uint(at, fact.group);
    at = MR_LOAD_PUT(at, ",\"bidder\":");
    at = mr_load_put_uint(at, AUCTIONS_FIRST + n / BIDS_OF_50 + mr_load_below(low, BIDDERS_OPEN));
    at = MR_LOAD_PUT(at, ",\"price\":");
    at = mr_load_put_uint(at, (uint64_t)fact.value);
    at = MR_LOAD_PUT(at, ",\"channel\":\"");
    at = put_text(at, channel);
    at = MR_LOAD_PUT(at, "\",\"url\":\"https://www.nexmark.com/");
    at = put_text(at, channel);
    at = MR_LOAD_PUT(at, "/item.htm?query=1\",\"dateTime\":");
    at = mr_load_put_time(at, time_ms);
    *at++ = '}';
    return (size_t)(at - to);
}

size_t mr_load_events_write(const struct mr_load_events *events, uint64_t n, int64_t time_ms,
                            uint8_t *to) {
    switch (events->kind) {
    case MR_LOAD_PAGES:
        return write_page(events, n, time_ms, to);
    case MR_LOAD_YAHOO:
        return write_ad(events, n, time_ms, to);
    case MR_LOAD_BIDS:
        return write_bid(events, n, time_ms, to);
    case MR_LOAD_FILE:
        break;
    }
    MR_UNREACHABLE();
}

/* Digits only, as they were written: no leading zero. */
static bool read_uint(struct mr_bytes text, uint64_t *ret) {
    uint64_t value = 0;
    if (text.len == 0 || text.len > 18 || (text.len > 1 && text.ptr[0] == '0')) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    *ret = value;
    return true;
}

enum mr_status mr_load_events_print_ads(struct mr_buf *ret) {
    struct mr_load_uuid *uuids = make_uuids();
    if (uuids == NULL) {
        return MR_NO_MEMORY;
    }
    mr_buf_append_text(ret, "ad_id,campaign_id\n");
    for (uint32_t i = 0; i < ADS; i++) {
        mr_buf_append(ret, uuids[i].text, sizeof uuids[i].text);
        mr_buf_printf(ret, ",campaign-%u\n", i / ADS_OF_CAMPAIGN);
    }
    mr_free(uuids);
    return ret->failed ? MR_NO_MEMORY : MR_OK;
}

/* A text member that is this prefix and a number behind it. */
static bool numbered_group(struct mr_bytes key, const char *member, struct mr_bytes prefix, uint64_t *ret_group) {
    struct mr_bytes text;
    if (!mr_load_member(key, member, &text)) {
        return false;
    }
    text = mr_load_unquoted(text);
    return text.len > prefix.len && memcmp(text.ptr, prefix.ptr, prefix.len) == 0 &&
           read_uint(mr_bytes_of(text.ptr + prefix.len, text.len - prefix.len), ret_group);
}

bool mr_load_events_group(const struct mr_load_events *events, struct mr_bytes key,
                          uint64_t *ret_group) {
    struct mr_bytes text;
    switch (events->kind) {
    case MR_LOAD_PAGES:
        return numbered_group(key, "key", MR_BYTES("/page/"), ret_group);
    case MR_LOAD_YAHOO:
        return numbered_group(key, "campaign", MR_BYTES("campaign-"), ret_group);
    case MR_LOAD_BIDS:
        return mr_load_member(key, "auction", &text) && read_uint(text, ret_group);
    case MR_LOAD_FILE:
        break;
    }
    MR_UNREACHABLE();
}

void mr_load_events_show_group(const struct mr_load_events *events, uint64_t group, char *ret,
                               size_t cap) {
    const char *prefix = events->kind == MR_LOAD_PAGES   ? "/page/"
                         : events->kind == MR_LOAD_YAHOO ? "campaign-"
                                                         : "auction ";
    (void)snprintf(ret, cap, "%s%" PRIu64, prefix, group);
}
