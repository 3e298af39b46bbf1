# SPDX-License-Identifier: Apache-2.0
"""
Strict JSON, from the outside: a table of texts that are JSON (y), are not (n), or may be taken or refused (i), each
sent in every place where a text can stand.

Proves, for each case: as a whole body, n is 400 and y never 5xx; as the value of a field that no rule uses, y is
accepted and n rejected (what is not used is checked as strictly); in NDJSON, neighbours are accepted whatever stands
between them; in an array, events before a broken one are taken, and behind it none is made up. i is anything but a
crash, a 5xx or a wrong sum. Json of the standard library is asked as well, so that the table itself is right.
"""
import json

from harness import check_ledger, run, server

CONFIG = """
node: { data_dir: "@DIR@/data", shards: 2 }
limits: { body: 4MiB, inflated: 8MiB, event: 1MiB, in_flight: 32MiB }
log: { segment: 16MiB }
streams:
  s:
    id: id
    time: { field: time, format: ms }
    dedup: { mode: exact, horizon: 1h, ids: 100000 }
    watermark: { out_of_orderness: 1m, idle_timeout: off }
rules:
  r: { from: s, group_by: [key], window: { type: tumbling, size: 1m }, metrics: { n: count, total: { sum: value } } }
"""
E = "/v1/streams/s/events"
DEPTH = 32  # limits.json_depth, the event itself included


def raw(text):
    return text if isinstance(text, bytes) else text.encode()


def nested(count, left="[", right="]", inside=""):
    return left * count + inside + right * count


YES = [
    # arrays
    "[]", "[[]]", "[[],[]]", '[""]', "[1]", "[1,2]", "[ 1 , 2 ]", "[null]", "[true,false,null]", '["a"]', "[{}]",
    "[{},{}]", "[[[[[]]]]]", "[1,\"1\",[1],{\"1\":1}]", "[\n1\n,\n2\n]", "[1\n]", " [1]", "[2] ",
    "[null, 1, \"1\", {}]",
    "[" + "1," * 999 + "1]", '["' + "a" * 10000 + '"]', "[[1,2],[3,4]]", "[1,null,null,null,2]", '[{"a":[]}]',
    # depth: the event is the first
    nested(DEPTH - 1), nested(DEPTH - 2, '{"a":', "}", "1"), nested(15, '[{"a":', "}]", "1"),
    # numbers
    "0", "-0", "1", "-1", "12", "123", "-123", "10", "100", "0.0", "-0.0", "0.1", "-0.1", "1.0", "1.5", "123.456",
    "1e1", "1E1", "1e+1", "1E+1", "1e-1", "1E-1", "0e1", "0E1", "0e+1", "0e-1", "1.5e10", "1.5E-10", "-1.5e+10", "1e00",
    "1e05", "0.5e-005", "20e1", "123e65", "123.456e78", "-1e-2", "1e22", "9007199254740991", "9007199254740993",
    "9223372036854775807", "-9223372036854775808", "18446744073709551615", "4294967296", "2147483648", "-2147483649",
    "1.7976931348623157e308", "2.2250738585072014e-308", "5e-324", "0.1234567890123456789",
    "1.000000000000000000000001",
    "0." + "0" * 100 + "1", "0.00000000000000000000000001", "-0e0", "0.0e-0", "3.141592653589793",
    # strings
    '""', '" "', '"a"', '"abc"', '"\\""', '"\\\\"', '"\\/"', '"/"', '"\\b\\f\\n\\r\\t"', '"\\u0000"', '"\\u0001"',
    '"\\u001f"', '"\\u0020"', '"\\u0041"', '"\\u00e9"', '"\\u00E9"', '"\\uABCD"', '"\\uabcd"', '"\\u12aB"', '"\\u2028"',
    '"\\u2029"', '"\\ufeff"', '"\\uFFFF"', '"\\uFFFE"', '"\\uD7FF"', '"\\uE000"', '"\\uD834\\uDD1E"',
    '"\\ud800\\udc00"', '"\\uDBFF\\uDFFF"', '"\\ud83d\\ude39\\ud83d\\udc8d"', '"a\\uD834\\uDD1Eb"', '"\\\\u0000"',
    '"\\\\\\\\"', '"\\"\\\\\\""', '"\\\\\\""', '"\\u005C"', '"\\u0022"', '"é"', '"ß€"', '"中文"', '"𝄞"', '"😀😀"',
    '"\u0080"', '"\u07ff"', '"\u0800"', '"\uffff"', '"\U00010000"', '"\U0010ffff"', '"\u2028\u2029"', '"\ufeff"',
    '"\ufffd"', '"\x7f"', '"a\x7fb"', '"/* not a comment */"', '"// nor this"', '"[1,2"', '"{"', '"}"', '"]"', '","',
    '":"', '"null"', '"a/*b*/c/*d//e"', '"\\u0061\\u0030"', '"' + "x" * 15 + '"', '"' + "x" * 16 + '"',
    '"' + "x" * 17 + '"', '"' + "x" * 31 + '\\n"', '"' + "x" * 32 + '\\""', '"' + "é" * 33 + '"',
    '"' + "\\\\" * 50 + '"',
    '"' + "a" * 100000 + '"', '"\\u0060\\u012a\\u12AB"', '"new\\u000Aline"', '"\u00a0\u03c0"', '"\u200b"', '"🏳️‍🌈"',
    # structure, objects, white space
    "true", "false", "null", "{}", '{"":0}', '{"a":1}', '{"a":"b"}', '{"a":null}', '{"a":true,"b":false}',
    '{"a":[]}', '{"a":{}}', '{"a":{"b":{"c":{}}}}', '{ "a" : 1 }', '{\n"a"\n:\n1\n}', '{"a":1,"b":2,"c":3}',
    '{"\\u0061b":1}', '{"a\\u0000b":1}', '{"\\"":1}', '{"é":1}', '{"\\\\":1}', '{"a":1,"a":2}', '{"a":1,"\\u0061":1}',
    '{"id":"inner"}', '{"x":{"id":1,"time":"x"}}', '{"min":-1.0e+28,"max":1.0e+28}', '{"a":[1,{"b":[2]}]}',
    "\t[\r\n]\t",
    " 1 ", "\n1\n", "\r\n\t null \t\r\n", '{"a":"}"}', '{"' + "k" * 5000 + '":1}',
    "{" + ",".join(f'"k{i}":{i}' for i in range(500)) + "}",
    '{"time":1}', '{"__proto__":{}}', '{"a":[[[{"b":[]}]]]}', "[\t]", "{\r}", "{\t\"a\"\r:\n1 }",
]

NO = [
    # arrays
    "[", "]", "[,]", "[1,]", "[,1]", "[1,,2]", "[1,,]", "[1 2]", "[1", "[1,", "[[", "[[]", "[]]", '["a"', '["a",',
    '["a" "b"]',
    "[1:2]", '["a":1]', "[;]", "[1;2]", "[a]", "[*]", "[-]", "[1\n1]", "[}", "[1}", "[{]", "[{}", "[\"\x0ba\"\\f]",
    "(1)",
    "[x", "[1,\n1\n,1", "[{}", "[3[4]]", "[1]x", "[1],", "[,\"\"]", "[   , \"\"]", "[1,2,]", "[<null>]", "[#]", "[1]]",
    # numbers
    "+1", "+0", "++1", "--1", "-", "+", ".", ".1", "-.1", "+.1", "1.", "-1.", "1.e1", ".e1", "e1", "E1", "1e", "1E",
    "1e+",
    "1e-", "1E+", "1ee1", "1e1e1", "1e1.5", "1e1.", "0e", "0e+", "0.e1", "1.0e", "1.0e+", "1.0e-", "1.1.1", "1..1",
    "01",
    "00", "-01", "-00", "012", "00.5", "0x1", "0X1F", "0x", "1x", "1a", "1_000", "1,000", "1 000", "- 1", "-a", "-x1",
    "0b1", "0o7", "1f", "1L", "1n", "NaN", "-NaN", "nan", "Infinity", "-Infinity", "+Infinity", "inf", "Inf", "-inf",
    "1+2",
    "1-1", "1/2", "2.e+3", "2.e-3", "9.e+", "0.3e+", "0.1.2", "1eE2", "-1x", "0e+-1", "-2.", "-012", "1#", "１", "٣",
    "1e１",
    "$1", "1%", "0.0.0", "1e--1", "1\u00a0",
    # strings
    '"', '"a', "'a'", "a", "abc", '"\\"', '"\\', '"\\x41"', '"\\a"', '"\\v"', '"\\0"', '"\\\'"', '"\\e"', '"\\U0041"',
    '"\\ "',
    '"\\\t"', '"\\\n"', '"\\u"', '"\\u0"', '"\\u00"', '"\\u004"', '"\\u004g"', '"\\ug000"', '"\\u-041"', '"\\u+041"',
    '"\\u 041"', '"\\u{41}"', '"\\u00\\"', '"\\uD800"', '"\\uDBFF"', '"\\uDC00"', '"\\uDFFF"', '"\\uD800\\uD800"',
    '"\\uDC00\\uD800"', '"\\uD800a"', '"\\uD800\\n"', '"\\uD800\\u0041"', '"\\uD800\\uE000"', '"\\uD800\\',
    '"\\uD800\\u"',
    '"\\uD800\\uDC0"', '"\\uD834\\uDd"', '"\\uD888\\u1234"', '"\\uDd1ea"', '"\\ud83d\\ude39\\ud83d"', '"\t"', '"\n"',
    '"\r"',
    '"\x00"', '"\x01"', '"\x1f"', '"a\x00b"', '"' + "x" * 20 + '\x1f"', '"' + "x" * 40 + '\n"', '"a"b', '"a""b"',
    '"a" "b"',
    '"\\😀"', '"\\é"', "‘a’", "“a”", '"\\u００４１"', "`a`", '"""', '"a\\', "\"\\u'", "é", "\\n", "\\u0022a\\u0022",
    # broken UTF-8
    b'"\xff"', b'"\xfe"', b'"\x80"', b'"\xbf"', b'"\xc0\xaf"', b'"\xc1\xbf"', b'"\xc3"', b'"\xc3\x28"', b'"\xe2\x82"',
    b'"\xe2\x28\xa1"', b'"\xe0\x80\xaf"', b'"\xe0\x9f\xbf"', b'"\xed\xa0\x80"', b'"\xed\xbf\xbf"',
    b'"\xed\xa1\x8c\xed\xbe\xb4"', b'"\xf0\x80\x80\xaf"', b'"\xf0\x8f\xbf\xbf"', b'"\xf0\x28\x8c\xbc"',
    b'"\xf0\x9d\x84"',
    b'"\xf4\x90\x80\x80"', b'"\xf5\x80\x80\x80"', b'"\xf8\x88\x80\x80\x80"', b'"\xfc\x84\x80\x80\x80\x80"', b'"\xe9"',
    b'"' + b"x" * 31 + b'\xc3"', b'"' + b"x" * 64 + b'\xff"', b'{"\xff":1}', b'{"\xed\xa0\x80":1}', b"[\xff]", b"\xff",
    b"\xe5", b"\xc3\xa9", b'"\\\xe5"', b'"\\u\xe5"', b"1\xe5", b"-123.123\xe5", b"[a\xe5]", b'["x", tr\xe5]',
    b'"a\xc2"',
    # byte order marks and other encodings
    b"\xef\xbb\xbf{}", b"\xef\xbb\xbf1", b"\xef\xbb\xbf[]", b"\xef\xbb\xbf", b"\xef\xbb", b"\xff\xfe[\x00]\x00",
    b"\xfe\xff\x00[\x00]", b"[\x00", b"\x001",
    # objects
    "{", "}", "{,}", '{"a"}', '{"a":}', '{"a":1,}', '{,"a":1}', '{"a":1,,"b":2}', '{"a":1', '{"a":1,', '{"a":', '{"a"',
    '{"a',
    "{a:1}", "{'a':1}", "{1:1}", "{null:1}", "{true:1}", "{[]:1}", "{{}:1}", '{"a" 1}', '{"a"=1}', '{"a":1 "b":2}',
    '{"a"::1}',
    '{"a":1:2}', '{"a","b"}', '{:1}', '{"a":1]', '{"a":a}', '{"a":1;"b":2}', '{"a":[}', '{"a":{]', '{"a":"b}', "{a",
    '{"a":1}}',
    '{"a":1}#', '{"a":1}x', '{"a":1}//', '{"a":/*x*/1}', "{\"a\":1/*x*/}", "{/**/}", '{"a"b:1}', '{ "a" "b" }',
    '{"\\ud800":1}',
    '{"\\x":1}', '{"\t":1}', '{"a":\x00}', '{"\x00":1}', '{"a":undefined}', '{"a":NaN}', '{"a":01}', "{...}",
    '{"a":"a" 123}',
    # structure, words, comments, white space
    "tru", "truee", "True", "TRUE", "t", "fals", "falsee", "False", "FALSE", "f", "nul", "nulll", "Null", "NULL", "n",
    "nil", "None",
    "undefined", "true false", "truefalse", "true,", "null,", "1,2", "1]", "1}", ",", ":", ";", "/", "//", "/**/",
    "/* */ 1",
    "1 // x", "1 /* x */", "# 1", "1 # x", "<x/>", "<null>", "*", "@", "!", "?", "%", "\\", "\x00", "\x01", "\x0b1",
    "\x0c1", "1\x0c",
    "\x0c", "\u00a01", "1\u00a0", "\u2003[]", "\u2028[]", "\u2060", "\u200b1", "\x1e1", "\x7f", "[\x0b]", "{\x0c}",
    "[\u00a0]", "{\u3000}",
    "[\u2060]", "1\x00", "null\x00", "[]\x00", "{}\x00", "[1]\x00x", "true\x00", "{}[]", "[]{}", "{}1", "1{}", '""1',
    '1""', "[][]",
    "nan", "yes", "on", "~", "- a", "a: b", "|", "%YAML", "!!int 1", "<!-- -->", "&a", "*a", "function(){}",
    "new Date()", "1;",
    # deep
    "[" * 100, "[" * 100000, "]" * 100000, '{"a":' * 100000, '[{"":' * 50000, nested(100000), nested(DEPTH + 1),
    nested(DEPTH + 10, '{"a":', "}", "1"), "[" * 32 + "]" * 31,
]

EITHER = [  # numbers that no double holds; a depth next to the bound
    "1e309", "-1e309", "1e999", "1e9999999999", "-1e9999999999", "1e-9999999999", "1e-400", "123123e100000",
    "-123123e100000",
    "0.4e0066" + "9" * 100 + "6" + "9" * 7 + "006",
    "1" + "0" * 400, "-1" + "0" * 400, "1" * 5000, "0." + "1" * 5000, "18446744073709551616", "-9223372036854775809",
    "100000000000000000000", "-123123123123123123123123123123", "1.5e+9999", "0e9999999999999999999999",
    "1e-1" + "0" * 50,
    "0." + "0" * 5000 + "1e5000", "123.456e-789", nested(DEPTH), nested(DEPTH - 1, '{"a":', "}", "1"),
    '{"' + "k" * 70000 + '":1}',
    '"' + "a" * 900000 + '"',
]


def strict(text):
    """Whether the standard library agrees that it is JSON; Python's extras taken away."""
    def never(word):
        raise ValueError(word)
    try:
        value = json.loads(raw(text).decode("utf-8"), parse_constant=never)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # no lone surrogates
        return True
    except (ValueError, RecursionError):
        return False


def test_the_table():
    assert len(YES) >= 140 and len(NO) >= 300 and len(EITHER) >= 20, (len(YES), len(NO), len(EITHER))
    for text in YES:
        assert strict(text), text
    for text in NO:
        deep = raw(text).count(b"[") > DEPTH - 1 or raw(text).count(b"{") > DEPTH - 1
        assert deep or not strict(text), text


def closes_the_event(case):
    """`1}`: put where a value goes, it ends the event itself, which is then a good one before the broken rest."""
    return any(strict(case[:i]) for i in range(1, min(len(case), 100)) if case[i:].lstrip().startswith(b"}"))


def kinds():
    for kind, table in (("y", YES), ("n", NO), ("i", EITHER)):
        for case in table:
            yield kind, raw(case)


def counted(answer, kind, case):
    """A summary whose sum is right, from a 200 or from the 400 of a body without one good event."""
    assert answer.status in (200, 400, 413), (kind, case[:80], answer)
    if answer.status == 200:
        a = answer.json
        assert a["received"] == a["accepted"] + a["duplicate"] + a["late"] + a["rejected"], (kind, case[:80], a)
        return a
    assert answer.headers["Content-Type"] == "application/problem+json", (kind, case[:80], answer)
    answer.json  # whatever was quoted of the body
    return None


def test_whole_body():
    with server(CONFIG) as s:
        connection = s.connect()
        for kind, case in kinds():
            for content_type in ("application/json", None):
                answer = s.post(E, case, content_type, connection=connection)
                counted(answer, kind, case)
                if kind == "n" and case.strip(b" \t\r\n"):
                    assert answer.status == 400, (content_type, case[:80], answer)
        check_ledger(s, "s")
        assert s.get("/livez").status == 200


def test_value_of_an_unused_field():
    with server(CONFIG) as s:
        connection = s.connect()
        for number, (kind, case) in enumerate(kinds()):
            for place, before, after in (("last", b'{"id":"l%d","x":' % number, b"}"),
                                         ("first", b'{"x":', b',"id":"f%d"}' % number)):
                answer = s.post(E, before + case + after, "application/json", connection=connection)
                got = counted(answer, kind, case)
                if kind == "y":
                    assert got and got["accepted"] == 1, (place, case[:80], answer)
                if kind == "n":
                    assert answer.status == 400, (place, case[:80], answer)
        # The sum of what was taken is what the rule counted: nothing was read as something else.
        taken = s.metric("millrace_events_total", stream="s", verdict="accepted")
        assert sum(r["events"] for r in s.rows("r")) == taken >= 2 * len(YES)
        check_ledger(s, "s")


def test_between_two_good_lines():
    with server(CONFIG) as s:
        connection = s.connect()
        for number, (kind, case) in enumerate(kinds()):
            for name, line in (("bare", case), ("field", b'{"id":"m%d","x":%s}' % (number, case))):
                if b"\n" in line:
                    continue  # more lines than one
                body = b'{"id":"a%d%s"}\n%s\n{"id":"z%d%s"}\n' % (number, name.encode(), line, number, name.encode())
                answer = s.post(E + "?return=results", body, connection=connection)
                got = counted(answer, kind, case)
                assert got, (name, case[:80], answer)
                blank = not line.strip(b" \t\r")
                assert got["results"][0] == got["results"][-1] == "A", (name, case[:80], got)
                assert len(got["results"]) == (2 if blank else 3), (name, case[:80], got)
                if kind == "n" and not blank:
                    assert got["results"] == "ARA" and got["errors"][0]["line"] == 2, (name, case[:80], got)
                if kind == "y" and name == "field":
                    assert got["results"] == "AAA", (case[:80], got)
        check_ledger(s, "s")


def test_inside_an_array():
    with server(CONFIG) as s:
        connection = s.connect()
        for number, (kind, case) in enumerate(kinds()):
            body = b'[{"id":"a%d"},{"id":"m%d","x":%s},{"id":"z%d"}]' % (number, number, case, number)
            answer = s.post(E + "?return=results", body, "application/json", connection=connection)
            got = counted(answer, kind, case)
            assert got, (case[:80], answer)
            if kind == "y":
                assert got["results"] == "AAA", (case[:80], got)
            if kind == "n":  # the first is taken; what comes behind a broken value is not known to be an event
                assert got["results"][0] == "A" and got["rejected"] >= 1, (case[:80], got)
                good = "AA" if closes_the_event(case) else "A"
                assert got["results"].rstrip("R") == good, (case[:80], got)
        check_ledger(s, "s")


if __name__ == "__main__":
    run(globals())
