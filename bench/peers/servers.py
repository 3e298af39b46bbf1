# SPDX-License-Identifier: Apache-2.0
"""
The peers: how each is started on loopback in a directory of its own, loaded, asked what it counted, and stopped.

A peer that is not there raises Missing with the package that has it.
"""
import glob
import json
import os
import pathlib
import re
import select
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import measure

ROOT = pathlib.Path(__file__).resolve().parents[2]
GIVE_UP_S = 60
CLIENT_S = 900
PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
HORIZON_S = 24 * 3600
CONNECTIONS = 8  # of those that speak HTTP: enough that requests come while others are synced


class Missing(Exception):
    pass


class Failed(Exception):
    pass


def program(name, package):
    found = shutil.which(name, path=PATH)
    if found is None:
        raise Missing(f"no {name} (Debian: {package})")
    return found


def said_by(*command):
    """What a program prints of itself, on either stream."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=GIVE_UP_S)
    return done.stdout.strip()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Peer:
    """One turn's server. Below: name, work, batch and connections say what it is given."""

    batch = 1000
    connections = 1

    def __init__(self, build, directory):
        self.build = pathlib.Path(build)
        self.directory = pathlib.Path(directory)
        self.process = None
        self.port = None

    def client_path(self, name, package):
        path = self.build / "bench/peers" / name
        if not path.exists():
            raise Missing(f"{path} was not built (Debian: {package})")
        return path

    def spawn(self, *command, user=None, **more):
        # It ends with us, whatever happens to us; not as root where it refuses that.
        prefix = [shutil.which("setpriv", path=PATH) or "setpriv", "--pdeathsig", "KILL"]
        if user is not None and os.getuid() == 0:
            prefix += ["--reuid", user, "--regid", user, "--clear-groups"]
        with open(self.directory / "output.txt", "ab") as output:
            more = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **more}
            self.process = subprocess.Popen([*prefix, *map(str, command)], cwd=self.directory, **more)

    def output(self):
        return (self.directory / "output.txt").read_text(errors="replace")

    def until(self, what, true):
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            got = true()
            if got:
                return got
            if self.process.poll() is not None:
                raise Failed(f"ended with {self.process.returncode}: {self.output()[-800:]}")
            if time.monotonic() > deadline:
                raise Failed(f"in vain: {what}: {self.output()[-800:]}")
            time.sleep(0.02)

    def listening(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def client(self, *command):
        """Runs one of our clients; looks at the server's memory while its connections are still open."""
        with subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as client:
            try:
                ready = select.select([client.stdout], [], [], CLIENT_S)[0]
                line = client.stdout.readline() if ready else ""
                self.memory_bytes = measure.memory_bytes(self.pid())
                if not ready:
                    client.kill()
                why = client.communicate()[1].strip() or f"no result in {CLIENT_S} s"
            except BaseException:
                client.kill()
                raise
        if client.returncode != 0:
            raise Failed(f"{pathlib.Path(command[0]).name}: {why[:800]}")
        return json.loads(line)

    def post(self, path, file, *more):
        return self.client(self.build / "bench/peers/peers_http", self.port, path, file, self.batch, self.connections,
                           *more)

    def pid(self):
        return self.process.pid

    def counted_again(self, file, result):
        """How many repeats the peer took for new events, as it shows; None: it keeps nothing."""
        return file["repeats"] - result["repeats"] if result["repeats"] is not None else None

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Millrace(Peer):
    name = "millrace"
    work = "exact dedup, count and sum by key and window"
    connections = CONNECTIONS
    sync = "group"

    def start(self):
        binary = self.build / "server/millrace"
        if not binary.exists():
            raise Missing(f"{binary} was not built")
        config = (ROOT / "config/examples/bench.yaml").read_text()
        config = config.replace("127.0.0.1:8080", "127.0.0.1:0")
        config = re.sub(r"data_dir: [^ ,}]*", f"data_dir: {self.directory}/data", config)
        (self.directory / "config.yaml").write_text(config + f"log: {{ sync: {self.sync} }}\n")
        self.spawn(binary, "serve", "-c", self.directory / "config.yaml")
        found = self.until("listening", lambda: re.search(r"event=listening url=\S+:(\d+) ", self.output()))
        self.port = int(found.group(1))
        self.version = said_by(binary, "--version").rpartition(" ")[2]
        self.settings = f"config/examples/bench.yaml: log.sync {self.sync}, ids 20 M, one shard, one http thread"

    def send(self, file):
        return self.post("/v1/events", file["path"], "duplicate")


class MillraceOff(Millrace):
    name = "millrace-off"
    sync = "off"


class MillraceSingle(Millrace):
    name = "millrace-1"
    batch = 1
    connections = 64


class Microhttpd(Peer):
    name = "libmicrohttpd"
    work = "receives, discards, answers 200"
    connections = CONNECTIONS

    def start(self):
        self.spawn(self.client_path("peers_discard", "libmicrohttpd-dev"), stdin=subprocess.PIPE)
        text = self.until("a port", lambda: "\n" in self.output() and self.output())
        hello = json.loads(text)
        self.port = hello["port"]
        self.version = hello["version"]
        self.settings = "one epoll thread, connection memory 32 KiB"

    def send(self, file):
        return self.post("/", file["path"])

    def stop(self):
        if self.process is not None:
            self.process.stdin.close()
        super().stop()


class MicrohttpdSingle(Microhttpd):
    name = "libmicrohttpd-1"
    batch = 1
    connections = 64


class Nginx(Peer):
    name = "nginx"
    work = "discards, answers 200"
    connections = CONNECTIONS

    def start(self):
        nginx = program("nginx", "nginx-light")
        self.port = free_port()
        (self.directory / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid {self.directory}/pid; error_log {self.directory}/error.log;
{"user root;" if os.getuid() == 0 else ""}
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 1000000000; client_max_body_size 0; lingering_timeout 60s;
    client_body_temp_path {self.directory}/body; proxy_temp_path {self.directory}/proxy;
    fastcgi_temp_path {self.directory}/fastcgi; uwsgi_temp_path {self.directory}/uwsgi;
    scgi_temp_path {self.directory}/scgi;
    server {{ listen 127.0.0.1:{self.port}; location / {{ return 200 "{{}}\\n"; }} }}
}}
""")
        # -e: what it says before it has read the file would go to the system's log.
        self.spawn(nginx, "-e", self.directory / "error.log", "-p", self.directory, "-c", self.directory / "nginx.conf")
        self.until("listening", self.listening)
        self.version = said_by(nginx, "-v").rpartition("/")[2]
        self.settings = "worker_processes 1, access_log off, return 200"

    def send(self, file):
        return self.post("/", file["path"])


class NginxSingle(Nginx):
    name = "nginx-1"
    batch = 1
    connections = 64


class Redis(Peer):
    name = "redis"
    work = "SET id NX PX, 1,000 in the pipeline"
    append = "yes"

    def start(self):
        redis = program("redis-server", "redis-server")
        self.port = free_port()
        self.spawn(redis, "--port", self.port, "--bind", "127.0.0.1", "--dir", self.directory, "--save", "",
                   "--appendonly", self.append, "--appendfsync", "everysec", "--maxmemory-policy", "noeviction")
        self.until("listening", self.listening)
        self.version = re.search(r"v=(\S+)", said_by(redis, "--version")).group(1)
        everysec = ", appendfsync everysec, rewritten when it has doubled" if self.append == "yes" else ""
        self.settings = f"appendonly {self.append}{everysec}, noeviction, no snapshots"

    def send(self, file):
        return self.client(self.client_path("peers_ids", "gcc"), "redis", self.port, file["path"], self.batch)


class RedisOff(Redis):
    name = "redis-off"
    append = "no"


class Memcached(Peer):
    name = "memcached"
    work = "add id, 1,000 in the pipeline"
    megabytes = 1024

    def start(self):
        memcached = program("memcached", "memcached")
        self.port = free_port()
        as_nobody = ["-u", "nobody"] if os.getuid() == 0 else []  # it refuses to be root
        self.spawn(memcached, "-l", "127.0.0.1", "-p", self.port, "-U", 0, "-t", 1, "-m", self.megabytes, *as_nobody)
        self.until("listening", self.listening)
        self.version = said_by(memcached, "-V").split()[-1]
        self.settings = f"-t 1 -m {self.megabytes}" + (", its default" if self.megabytes == 64 else "")

    def send(self, file):
        return self.client(self.client_path("peers_ids", "gcc"), "memcached", self.port, file["path"], self.batch)


class MemcachedSmall(Memcached):
    name = "memcached-64"
    megabytes = 64


class Postgres(Peer):
    name = "postgresql"
    work = "INSERT … ON CONFLICT, roll-up by key and window"
    user = "postgres"

    def start(self):
        client = self.client_path("peers_postgres", "libpq-dev")
        homes = [pathlib.Path(p).parent for p in glob.glob("/usr/lib/postgresql/*/bin/postgres")]
        homes += [pathlib.Path(p).parent for p in [shutil.which("postgres", path=PATH)] if p]
        if not homes:
            raise Missing("no postgres (Debian: postgresql)")
        home = max(homes, key=lambda p: (p.parent.name == "15", p.parent.name))
        data = self.directory / "data"
        data.mkdir()
        if os.getuid() == 0:  # it refuses to be root
            os.chmod(self.directory, 0o755)
            shutil.chown(data, self.user)
        self.spawn(home / "initdb", "-D", data, "-A", "trust", "-U", "bench", "--no-sync", "-E", "UTF8",
                   "--locale", "C", user=self.user)
        if self.process.wait(GIVE_UP_S) != 0:
            raise Failed("initdb: " + self.output()[-800:])
        self.port = free_port()
        self.spawn(home / "postgres", "-D", data, "-p", self.port, "-h", "127.0.0.1", "-k", "",
                   "-c", "synchronous_commit=on", "-c", "shared_buffers=512MB", "-c", "max_wal_size=4GB",
                   user=self.user)
        self.until("listening", lambda: "ready to accept connections" in self.output())
        self.prepared = client
        self.version = said_by(home / "postgres", "--version").split()[2]
        self.settings = "fsync on, synchronous_commit on, shared_buffers 512MB, max_wal_size 4GB"

    def send(self, file):
        return self.client(self.prepared, f"host=127.0.0.1 port={self.port} user=bench dbname=postgres", file["path"],
                           self.batch)


CLICKHOUSE_CONFIG = """<yandex>
<logger><level>warning</level><log>{dir}/log.txt</log><errorlog>{dir}/error.txt</errorlog></logger>
<http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><listen_host>127.0.0.1</listen_host>
<path>{dir}/data/</path><tmp_path>{dir}/tmp/</tmp_path><user_files_path>{dir}/files/</user_files_path>
<format_schema_path>{dir}/schemas/</format_schema_path>
<users_config>{dir}/users.xml</users_config><default_profile>default</default_profile>
<default_database>default</default_database><mark_cache_size>268435456</mark_cache_size>
<keep_alive_timeout>600</keep_alive_timeout><timezone>UTC</timezone>
</yandex>
"""
CLICKHOUSE_USERS = """<yandex>
<profiles><default><input_format_skip_unknown_fields>1</input_format_skip_unknown_fields></default></profiles>
<users><default><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
<quota>default</quota></default></users>
<quotas><default><interval><duration>3600</duration><queries>0</queries><errors>0</errors>
<result_rows>0</result_rows><read_rows>0</read_rows><execution_time>0</execution_time></interval></default></quotas>
</yandex>
"""
CLICKHOUSE_TABLES = (
    "CREATE TABLE events (id String, ts UInt64, key String, value Float64) ENGINE = Null",
    # Many small inserts make many parts; it would slow them down, then refuse them.
    "CREATE TABLE by_key (began UInt64, key String, views UInt64, spend Float64)"
    " ENGINE = SummingMergeTree() ORDER BY (began, key)"
    " SETTINGS parts_to_delay_insert = 100000, parts_to_throw_insert = 100000",
    "CREATE MATERIALIZED VIEW adding TO by_key AS SELECT intDiv(ts, 10000) * 10000 AS began, key, count() AS views,"
    " sum(value) AS spend FROM events GROUP BY began, key",
)


class ClickHouse(Peer):
    name = "clickhouse-1k"
    work = "JSONEachRow into Null, view adds by key and window"
    connections = CONNECTIONS

    def start(self):
        server = program("clickhouse-server", "clickhouse-server")
        self.port = free_port()
        (self.directory / "config.xml").write_text(
            CLICKHOUSE_CONFIG.format(dir=self.directory, http=self.port, tcp=free_port()))
        (self.directory / "users.xml").write_text(CLICKHOUSE_USERS)
        self.spawn(server, f"--config-file={self.directory}/config.xml")
        self.until("listening", self.listening)
        for table in CLICKHOUSE_TABLES:
            self.ask(table)
        self.version = self.ask("SELECT version()")
        self.settings = "no fsync, SummingMergeTree behind the view, " + \
            ("1,000 events an insert" if self.batch == 1000 else "all events in one insert")

    def ask(self, query):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", data=query.encode())
        try:
            with urllib.request.urlopen(request, timeout=GIVE_UP_S) as answer:
                return answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            raise Failed(error.read().decode()[:800])

    def send(self, file):
        self.before = int(self.ask("SELECT sum(views) FROM by_key") or 0)
        return self.post("/?query=" + urllib.parse.quote("INSERT INTO events FORMAT JSONEachRow"), file["path"])

    def counted_again(self, file, result):
        views = int(self.ask("SELECT sum(views) FROM by_key")) - self.before
        return views - (file["events"] - file["repeats"])


class ClickHouseMillion(ClickHouse):
    name = "clickhouse-1m"
    batch = 1000000
    connections = 1


class Nats(Peer):
    name = "nats"
    work = "JetStream publish with Nats-Msg-Id, no aggregation"
    window_s = HORIZON_S

    def start(self):
        nats = program("nats-server", "nats-server")
        self.port = free_port()
        self.spawn(nats, "-a", "127.0.0.1", "-p", self.port, "-js", "-sd", self.directory / "store")
        self.until("listening", self.listening)
        self.version = said_by(nats, "--version").rpartition("v")[2]
        self.settings = "file storage, duplicate_window 24h, sync_interval 2m (its default)"

    def send(self, file):
        return self.client(self.client_path("peers_nats", "gcc"), self.port, file["path"], self.batch, self.window_s)


# In the order of a turn: what is compared most stands close together, the slow ones last.
PEERS = [Millrace, MillraceOff, Microhttpd, Nginx, RedisOff, Redis, ClickHouseMillion, ClickHouse, Memcached,
         MemcachedSmall, MillraceSingle, MicrohttpdSingle, NginxSingle, Postgres, Nats]
