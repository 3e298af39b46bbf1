# SPDX-License-Identifier: Apache-2.0
"""
Redis: real redis-server processes for a test, one or a cluster of three masters and three replicas, on free ports of
the loopback, in a temporary directory, and a small client of their protocol. They are stopped by their process ids,
whatever became of the test.

    with redis() as r:                  one server that keeps what it said
        r.call("SET", "a", "1")
        r.kill(); r.start()             SIGKILL, and again on the same port and directory
    with cluster() as c:
        c.masters()[0].kill()
"""
import atexit
import contextlib
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile

from harness import until

STRICT = {"save": "", "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


def is_installed():
    return all(shutil.which(name) for name in ("redis-server", "redis-cli"))


class RedisError(Exception):
    """What the server answered with a minus."""


class Connection:
    """A connection that speaks RESP 2. Answers are str, int, None or lists of these."""

    def __init__(self, port, timeout=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.file = self.socket.makefile("rb")

    def send(self, *words):
        words = [w if isinstance(w, bytes) else str(w).encode("utf-8", "surrogateescape") for w in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))

    def receive(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b"+":
            return rest.decode()
        if kind == b":":
            return int(rest)
        size = int(rest)
        if size < 0:
            return None
        if kind == b"$":
            return self.file.read(size + 2)[:-2].decode("utf-8", "surrogateescape")
        assert kind == b"*", line
        return [self.receive() for _ in range(size)]

    def call(self, *words):
        self.send(*words)
        return self.receive()

    def close(self):
        self.file.close()
        self.socket.close()


def free_port():
    """One that is free, and the one 10000 above it (where a cluster's servers talk to each other). Below those that the
    system gives to connections, so that a server finds its port free when it comes back."""
    while True:
        port = random.randrange(10100, 22000)
        try:
            for p in (port, port + 10000):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", p))
            return port
        except OSError:
            continue


class Redis:
    """A directory and a port, and a process over them that may be killed, stopped, and started again."""

    def __init__(self, directory, login=(), **settings):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.login = login
        self.settings = dict(STRICT, **{k.replace("_", "-"): v for k, v in settings.items()})
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory),
                 "--daemonize", "no", "--loglevel", "notice"]
        for key, value in self.settings.items():
            words += ["--" + key, *(value if isinstance(value, (list, tuple)) else [value])]
        with open(self.directory / "redis.log", "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        atexit.register(self.close)
        until(f"PONG of {self.address}", self.answers)
        return self

    def answers(self):
        assert self.process.poll() is None, (self.directory / "redis.log").read_text()[-2000:]
        try:
            return self.call("PING") == "PONG"
        except (OSError, RedisError):
            return False

    @contextlib.contextmanager
    def connection(self):
        c = Connection(self.port)
        try:
            if self.login:
                c.call("AUTH", *self.login)
            yield c
        finally:
            c.close()

    def call(self, *words):
        with self.connection() as c:
            return c.call(*words)

    def info(self, name):
        for line in self.call("INFO").splitlines():
            if line.startswith(name + ":"):
                return line.split(":", 1)[1]
        raise KeyError(name)

    def kill(self):
        """SIGKILL: what it has not written is gone."""
        self.process.kill()
        self.process.wait()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()  # also of a stopped one
        atexit.unregister(self.close)


@contextlib.contextmanager
def redis(**settings):
    directory = tempfile.mkdtemp(prefix="millrace-redis-")
    server = Redis(directory, **settings)
    try:
        yield server.start()
    finally:
        server.close()
        shutil.rmtree(directory, ignore_errors=True)


class Cluster:
    """Three masters, a replica for each."""

    def __init__(self, directory, **settings):
        more = dict(cluster_enabled="yes", cluster_node_timeout="1000", cluster_config_file="nodes.conf",
                    repl_diskless_sync_delay="0", cluster_replica_validity_factor="0", **settings)
        self.servers = [Redis(f"{directory}/{i}", **more) for i in range(6)]

    def start(self):
        for server in self.servers:
            server.start()
        done = subprocess.run(["redis-cli", "--cluster", "create", *(s.address for s in self.servers),
                               "--cluster-replicas", "1", "--cluster-yes"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        self.await_ok()
        return self

    def await_ok(self):
        """All that live agree that all slots are served, and every replica is in step."""
        until("the cluster", lambda: all(self.is_ok(s) for s in self.living()))

    def is_ok(self, server):
        state = dict(line.split(":", 1) for line in server.call("CLUSTER", "INFO").splitlines())
        return (state["cluster_state"] == "ok" and state["cluster_slots_ok"] == "16384"
                and state["cluster_known_nodes"] == str(len(self.servers))
                and (server.info("role") == "master" or server.info("master_link_status") == "up"))

    def living(self):
        return [s for s in self.servers if s.process.poll() is None]

    def masters(self):
        return [s for s in self.living() if s.info("role") == "master"]

    def replica_of(self, master):
        return next(s for s in self.living()
                    if s.info("role") == "slave" and int(s.info("master_port")) == master.port)

    def id_of(self, server):
        return server.call("CLUSTER", "MYID")

    def slots_of(self, server):
        """The ranges of slots it serves."""
        return [(first, last) for first, last, (_, port, *_), *_ in server.call("CLUSTER", "SLOTS")
                if port == server.port]

    @property
    def addresses(self):
        return [s.address for s in self.servers[:3]]

    def close(self):
        for server in self.servers:
            server.close()


@contextlib.contextmanager
def cluster(**settings):
    directory = tempfile.mkdtemp(prefix="millrace-cluster-")
    servers = Cluster(directory, **settings)
    try:
        yield servers.start()
    finally:
        servers.close()
        shutil.rmtree(directory, ignore_errors=True)
