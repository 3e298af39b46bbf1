# SPDX-License-Identifier: Apache-2.0
"""
Workloads: small inputs for config/examples, made from a seed, and what their queries say, computed here in plain Python
over the whole list: no windows that open and close, no sketches, nothing that millrace has.

    ads()    the Yahoo Streaming Benchmark: views, clicks and purchases of the ads of config/examples/ads.csv, some of an
             ad that the table does not have
    bids()   Nexmark: auctions that come and go, half of the bids for a hot one; three evenings in Berlin around
             midnight, the second of a day of 23 hours

Events come up to two seconds out of order, and some of them twice.
"""
import collections
import csv
import datetime
import json
import random
import zoneinfo

from harness import ROOT

SECOND = 1000
MINUTE = 60 * SECOND
DAY = 24 * 3600 * SECOND
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def milliseconds(text):
    return round(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def campaigns():
    with open(ROOT / "config/examples/ads.csv", newline="") as f:
        return {row["ad_id"]: row["campaign_id"] for row in csv.DictReader(f)}


def shuffled(events, time, rng):
    """Out of order by up to two seconds, and one in ten twice: what is sent."""
    twice = events + [e for e in events if rng.random() < 0.1]
    return sorted(twice, key=lambda e: (int(e[time]) + rng.randrange(2 * SECOND)))


def lines(events):
    return [json.dumps(e, separators=(",", ":")).encode() + b"\n" for e in events]


def ads(seed=1, count=6000):
    """(what is sent, the events without copies)"""
    rng = random.Random(seed)
    known = sorted(campaigns())[:40]
    events = []
    for n in range(count):
        events.append({
            "event_id": f"{n:08x}-{rng.randrange(1 << 32):08x}", "user_id": f"user-{rng.randrange(100)}",
            "page_id": f"page-{rng.randrange(100)}", "ad_id": rng.choice(known) if rng.random() < 0.98 else "no-such-ad",
            "ad_type": rng.choice(["banner", "modal", "sponsored-search", "mail", "mobile"]),
            "event_type": rng.choice(["view", "click", "purchase"]),
            "event_time": str(milliseconds("2026-01-01T10:00:00Z") + n * 15 + rng.randrange(-49, 51)),
            "ip_address": "1.2.3.4"})
    return shuffled(events, "event_time", rng), events


def views_by_campaign(events):
    campaign = campaigns()
    count = collections.Counter()
    for e in events:
        if e["event_type"] == "view" and e["ad_id"] in campaign:
            time = int(e["event_time"])
            count[time - time % (10 * SECOND), campaign[e["ad_id"]]] += 1
    return dict(count)


EVENINGS = ("2026-03-28T22:58:30Z", "2026-03-29T21:58:30Z", "2026-03-30T21:58:30Z")  # 90 s before midnight in Berlin


def bids(seed=1, per_evening=3000, spacing_ms=60):
    rng = random.Random(seed)
    events = []
    for evening in EVENINGS:
        start = milliseconds(evening)
        for i in range(per_evening):
            n = len(events)
            newest = 1000 + n // 15  # 3 auctions to 46 bids
            hot = newest // 100 * 100
            auction = hot if rng.random() < 0.5 else newest - rng.randrange(min(100, newest - 999))
            bid = {"id": f"{n:08x}-{rng.randrange(1 << 32):08x}", "auction": auction,
                   # Some bidders come in bursts, so that there are sessions; some in all evenings.
                   "bidder": 1000 + (i // 40 if rng.random() < 0.5 else rng.randrange(60)),
                   "price": int(100 * 10 ** (6 * rng.random())), "channel": rng.choice(["Google", "Facebook", "Baidu", "Apple"]),
                   "url": "https://www.nexmark.com/item.htm?query=1", "dateTime": start + i * spacing_ms + rng.randrange(spacing_ms)}
            if rng.random() < 0.05:
                del bid["channel"]
            events.append(bid)
    return shuffled(events, "dateTime", rng), events


def in_order(sent):
    """The first copy of each id, in the order of (time, arrival): what first and last go by."""
    seen, taken = set(), []
    for e in sent:
        if e["id"] not in seen:
            seen.add(e["id"])
            taken.append(e)
    return sorted(taken, key=lambda e: e["dateTime"])  # stable: of equal times the order of arrival


def grouped(events, key, windows):
    """{(window start, end, key): its events}; windows(time): all (start, end) that hold it."""
    groups = collections.defaultdict(list)
    for e in events:
        for start, end in windows(e["dateTime"]):
            groups[(start, end, key(e))].append(e)
    return groups


def tumbling(size):
    return lambda t: [(t - t % size, t - t % size + size)]


def sliding(size, every):
    return lambda t: [(start, start + size) for start in range(t - t % every - size + every, t + 1, every)]


def berlin_day(t):
    day = datetime.datetime.fromtimestamp(t / 1000, BERLIN).date()
    at = lambda d: int(datetime.datetime.combine(d, datetime.time(), BERLIN).timestamp() * 1000)
    return [(at(day), at(day + datetime.timedelta(days=1)))]


def sessions(events, gap):
    """{(start, end, bidder): events}: a bidder's bids, cut wherever two are at least gap apart."""
    of = collections.defaultdict(list)
    for e in sorted(events, key=lambda e: e["dateTime"]):
        of[e["bidder"]].append(e["dateTime"])
    found = {}
    for bidder, times in of.items():
        start = 0
        for i in range(1, len(times) + 1):
            if i == len(times) or times[i] - times[i - 1] >= gap:
                found[times[start], times[i - 1] + gap, bidder] = i - start
                start = i
    return found


def q5_counts(events):
    """{window start: how many bids each auction had}"""
    groups = grouped(events, lambda e: None, sliding(10 * SECOND, 2 * SECOND))
    return {start: collections.Counter(e["auction"] for e in bids) for (start, _, _), bids in groups.items()}


def q7(events):
    """{window start: (highest price, the bidders who bid it)}"""
    found = {}
    for (start, _, _), bids in grouped(events, lambda e: None, tumbling(10 * SECOND)).items():
        price = max(e["price"] for e in bids)
        found[start] = (price, {e["bidder"] for e in bids if e["price"] == price})
    return found


def q17(events):
    found = {}
    for key, bids in grouped(events, lambda e: e["auction"], berlin_day).items():
        prices = [e["price"] for e in bids]
        found[key] = {"total_bids": len(prices), "rank1_bids": sum(p < 10000 for p in prices),
                      "rank2_bids": sum(10000 <= p < 1000000 for p in prices),
                      "rank3_bids": sum(p >= 1000000 for p in prices), "min_price": min(prices), "max_price": max(prices),
                      "sum_price": sum(prices), "avg_price": sum(prices) / len(prices)}
    return found


def q18(sent):
    """By (day, bidder, auction); the channel is that of the latest bid that has one."""
    found = {}
    for (start, _, key), bids in grouped(in_order(sent), lambda e: (e["bidder"], e["auction"]), tumbling(DAY)).items():
        channels = [e["channel"] for e in bids if "channel" in e]
        found[start, key] = {"price": bids[-1]["price"], "time": bids[-1]["dateTime"],
                             "channel": channels[-1] if channels else None}
    return found
