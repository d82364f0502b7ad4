"""Real commands in random environments: each works, or a line names the cause.

A case is JSON: a command, and how the environment differs from a usual one. Each case has a folder
of its own for everything that the project writes. Nothing outside of it may change, except the
folder of the rate limit.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from hypothesis import strategies as st

from dixa_assets_tests.stress.fuzz import Violation, count_ends
from dixa_assets_tests.support.processes import PROJECT
from dixa_assets_tests.support.projects import write_project
from dixa_assets_tests.support.simulator import KEY, NOW, Json, running_simulator
from dixa_assets_tests.support.tunnel import HOST, make_authority, proxy_to, tls_before

NOBODY, ANOTHER_USER = 65534, 54321
SECRET = "s3cret-part"
HOME_SETTINGS = "telemetry: {enabled: false}\n"
ATTRIBUTES = """attributes:
  base_url: "{{ env('DIXA_BASE_URL') }}"
  duckdb_path: "{{ env('DIXA_DUCKDB_PATH') }}"
  read_copy_path: "{{ env('DIXA_READ_COPY_PATH', '') }}"
  report_path: "{{ env('DIXA_REPORT_PATH', '') }}"
  requests_per_second: 1000
  burst: 100
"""
# Places of a file or folder. `own` is usual: it exists and can be written.
PLACES = ("own", "own", "own", "own", "new", "file", "proc", "link", "read only", "full", "theirs")
# The settings of files that commands write, and the places outside where they may succeed.
WRITTEN = ("database", "read_copy", "report", "dagster_home", "temporary")
OUTSIDE = {"full": "full", "theirs": "theirs", "link": "nowhere"}
# The kinds of places that work.
GOOD = ("own", "new")
USUAL = {
    "command": "doctor",
    "user": "root",
    "umask": 0o022,
    "locale": "C.utf8",
    "api": "plain",
    "certificate": "none",
    "proxy": "none",
    "home": "own",
    "temporary": "own",
    "dagster_home": "own",
    "database": "own",
    "read_copy": "none",
    "report": "none",
    "env_file": "none",
    "webhook": "none",
    "most_bytes": 0,
}
cases = st.fixed_dictionaries(
    {
        "command": st.sampled_from(["doctor", "doctor", "probe", "report", "load", "load"]),
        "user": st.sampled_from(["root", "nobody", "nobody"]),
        "umask": st.sampled_from([0o022] * 4 + [0, 0o077, 0o177, 0o777]),
        "locale": st.sampled_from(["C.utf8", "C.utf8", "C"]),
        "api": st.sampled_from(["plain", "plain", "plain", "tls", "proxied"]),
        "certificate": st.sampled_from(
            ["right", "right", "right", "none", "folder", "missing", "no pem", "a folder as file"]
        ),
        "proxy": st.sampled_from(
            ["right", "right", "right", "none", "dead", "socks", "no port", "bracket"]
        ),
        "home": st.sampled_from(["own", "own", "unset", "missing", "file", "read only", "theirs"]),
        "temporary": st.sampled_from([*PLACES, "unset", "hostile"]),
        "dagster_home": st.sampled_from(
            ["own", "own", "own", "unset", "relative", "broken", *PLACES[4:]]
        ),
        "database": st.sampled_from([*PLACES, "staging link", "staging file"]),
        "read_copy": st.sampled_from(["none", "none", *PLACES]),
        "report": st.sampled_from(["none", "none", *PLACES]),
        "env_file": st.sampled_from(["none"] * 5 + ["good", "latin-1", "folder", "theirs"]),
        "webhook": st.sampled_from(["none"] * 6 + ["good", "blank", "http"]),
        "most_bytes": st.sampled_from([0] * 8 + [0, 2_000, 100_000]),
    }
)


@dataclass
class World:
    """Everything that cases share: the places outside, and the servers."""

    root: Path
    url: str
    tls_url: str
    proxy: str
    certificate: Path
    server: "subprocess.Popen[str]"
    kinds: frozenset[str]
    is_root: bool


class Environments:
    """Runs cases and judges them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.kinds = world.kinds
        self._numbers = count()
        self._outside = world.root / "outside"

    def check(self, case: Json) -> str:
        """Run a case: `works`, or the cause that a line names. Raises `Violation`."""
        case = USUAL | case
        folder = self._world.root / f"case_{next(self._numbers)}"
        self._make_folders(folder)
        user = NOBODY if case["user"] == "nobody" and self._world.is_root else os.getuid()
        environment, causes = self._environment(case, folder)
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                os.chown(path, user, user if self._world.is_root else -1)
        before = self._snapshot(case, folder)
        ask = {
            "command": case["command"],
            "user": user,
            "umask": case["umask"],
            "locale": case["locale"],
            "encoding": "ascii" if case["locale"] == "C" else "utf-8",
            "environment": environment,
            "folder": str(folder / "project"),
            "most_bytes": case["most_bytes"],
            "out": str(folder / "out"),
            "err": str(folder / "err"),
            "modules": str(folder / "modules"),
        }
        assert self._world.server.stdin
        assert self._world.server.stdout
        self._world.server.stdin.write(json.dumps(ask) + "\n")
        self._world.server.stdin.flush()
        code = int(self._world.server.stdout.readline())
        out, err = ((folder / name).read_bytes().decode() for name in ("out", "err"))
        problem, end = _judge(code, out, err, causes)
        after = self._snapshot(case, folder)
        if not problem and (changed := sorted(set(before.items()) ^ set(after.items()))):
            problem = f"outside changed: {changed[:4]}"
        self._remove(folder)
        if problem:
            raise Violation(f"{problem}\n{code}\n{out}\n{err}\ncase: {json.dumps(case)}")
        return end

    def _make_folders(self, folder: Path) -> None:
        for name in ("project", "home", "tmp", "data", "published", "dagster_home"):
            (folder / name).mkdir(parents=True)
        (folder / "dagster_home" / "dagster.yaml").write_text(HOME_SETTINGS)
        (folder / "home" / "precious").write_text("mine")
        write_project(folder / "project", dixa=ATTRIBUTES)
        (folder / "out").touch()
        (folder / "err").touch()
        folder.chmod(0o755)

    def _environment(self, case: Json, folder: Path) -> tuple[dict[str, str], list[str]]:
        """The variables of a case, and words of which a line must have one if the case fails."""
        causes: list[str] = []
        environment = {"PATH": "/usr/bin:/bin", "DIXA_API_KEY": KEY, "LANG": case["locale"]}
        self._connect(case, environment, causes)
        for name, setting, own in (
            ("database", "DIXA_DUCKDB_PATH", folder / "data" / "x.duckdb"),
            ("read_copy", "DIXA_READ_COPY_PATH", folder / "published" / "x.duckdb"),
            ("report", "DIXA_REPORT_PATH", folder / "published" / "x.html"),
        ):
            if (kind := case[name]) != "none":
                place = self._place(kind, own.parent)
                environment[setting] = str(place / own.name)
                if kind not in GOOD:
                    causes += [setting, str(place)]
        staging = folder / "data" / "x.duckdb.staging"
        if case["database"] == "staging link":
            staging.symlink_to(self._outside / "precious")
        elif case["database"] == "staging file":
            staging.touch()
        self._add_home(case["home"], environment, folder)
        self._add_temporary(case["temporary"], environment, folder)
        self._add_dagster_home(case["dagster_home"], environment, folder, causes)
        self._add_files(case, environment, folder, causes)
        if case["umask"] & 0o700 or case["most_bytes"]:
            causes += ["Permission denied", "cannot be written", "File too large", "cannot be"]
        return environment, causes

    def _connect(self, case: Json, environment: dict[str, str], causes: list[str]) -> None:
        world, api = self._world, case["api"]
        environment["DIXA_BASE_URL"] = {
            "plain": world.url,
            "tls": world.tls_url,
            "proxied": f"https://{HOST}",
        }[api]
        files = {
            "right": ("SSL_CERT_FILE", world.certificate),
            "folder": ("SSL_CERT_DIR", world.certificate.parent),
            "missing": ("SSL_CERT_FILE", "/nowhere/ca.pem"),
            "no pem": ("SSL_CERT_FILE", os.devnull),
            "a folder as file": ("SSL_CERT_FILE", os.curdir),
        }
        if case["certificate"] in files:
            name, value = files[case["certificate"]]
            environment[name] = str(value)
        if api != "plain" and case["certificate"] not in ("right", "folder"):
            causes += ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        proxies = {
            "right": ("HTTPS_PROXY", world.proxy),
            "dead": ("HTTPS_PROXY", f"http://user:{SECRET}@127.0.0.1:9"),
            "socks": ("all_proxy", f"socks5://user:{SECRET}@127.0.0.1:9"),
            "no port": ("HTTPS_PROXY", f"http://user:{SECRET}@proxy:port"),
            "bracket": ("NO_PROXY", "localhost,[::1]"),
        }
        if case["proxy"] in proxies:
            name, value = proxies[case["proxy"]]
            environment[name] = value
        if api == "proxied" and case["proxy"] != "right":
            causes += [*(name for name, _ in proxies.values()), "https_proxy", f"https://{HOST}"]
            causes += ["no complete answer"]

    def _place(self, kind: str, own: Path) -> Path:
        """A folder of a kind; kinds that this machine cannot make are usual folders."""
        if kind == "new":
            return own / "new" / "newer"
        if kind == "link":
            return self._outside / "dangling"
        if kind == "proc":
            return Path("/proc/nowhere")
        if kind in self._world.kinds:
            return self._outside / kind
        return own

    def _add_home(self, kind: str, environment: dict[str, str], folder: Path) -> None:
        if kind != "unset":
            missing = folder / "nowhere"
            home = missing if kind == "missing" else self._place(kind, folder / "home")
            environment["HOME"] = str(home)

    def _add_temporary(self, kind: str, environment: dict[str, str], folder: Path) -> None:
        if kind == "hostile":
            environment["TMPDIR"] = str(self._outside / "hostile")
        elif kind != "unset":
            environment["TMPDIR"] = str(self._place(kind, folder / "tmp"))

    def _add_dagster_home(
        self, kind: str, environment: dict[str, str], folder: Path, causes: list[str]
    ) -> None:
        place = self._place(kind, folder / "dagster_home")
        if kind == "unset":
            return
        if kind == "broken":
            (place / "dagster.yaml").write_text("run_launcher: {module: no_such_module}")
        environment["DAGSTER_HOME"] = "dagster_home" if kind == "relative" else str(place)
        if kind != "own":
            causes += ["DAGSTER_HOME"]

    def _add_files(
        self, case: Json, environment: dict[str, str], folder: Path, causes: list[str]
    ) -> None:
        env_file = folder / "project" / ".env"
        if case["env_file"] == "good":
            env_file.write_text("DIXA_HISTORY_DAYS=3\n")
        elif case["env_file"] == "latin-1":
            env_file.write_bytes(b"DIXA_HISTORY_DAYS=3 # \xf8\n")
            causes += [".env"]
        elif case["env_file"] == "folder":
            env_file.mkdir()
        elif case["env_file"] == "theirs" and "theirs" in self._world.kinds:
            env_file.symlink_to(self._outside / "theirs file")
            causes += [".env"]
        webhooks = {
            "good": f"https://hooks.example/{SECRET}",
            "blank": f"https://hooks.example/{SECRET} x",
            "http": f"http://localhost.evil.example/{SECRET}",
        }
        if case["webhook"] in webhooks:
            environment["DIXA_ALERT_WEBHOOK"] = webhooks[case["webhook"]]
            causes += ["DIXA_ALERT_WEBHOOK"] if case["webhook"] != "good" else []

    def _snapshot(self, case: Json, folder: Path) -> dict[str, str]:
        """The places outside and the home and the project of the user, which must not change.

        The case may write into the places that its settings name.
        """
        named = {case[name] for name in WRITTEN}
        left_out = {"__pycache__", ".dagster_home"}
        left_out |= {place for kind, place in OUTSIDE.items() if kind in named}
        kept = {}
        for root in (self._outside, folder / "home", folder / "project"):
            for path in (root, *root.rglob("*")):
                if left_out & {*path.parts}:
                    continue
                about = path.lstat()
                text = f"{about.st_mode:o} {about.st_uid}"
                if path.is_file() and not path.is_symlink():
                    text += hashlib.sha256(path.read_bytes()).hexdigest()
                kept[str(path.relative_to(self._world.root))] = text
        for path in (folder / "tmp").glob("*"):
            if not path.name.startswith("dixa_assets"):
                kept[f"tmp {path.name}"] = "left behind"
        return kept

    def _remove(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder)


def _judge(code: int, out: str, err: str, causes: list[str]) -> tuple[str, str]:
    """The problem of what a command printed, empty if there is none, and the end in a word."""
    said = out + err
    if "Traceback" in said or 'File "' in said or "Stack Trace" in said:
        return "a stack trace", ""
    if KEY in said or SECRET in said:
        return "a secret is shown", ""
    if code == 0:
        return ("" if re.search(r"^(✓|\\u2713) ", out, re.MULTILINE) else "nothing done"), "works"
    if code != 1:
        return f"exit code {code}", ""
    lines = [line for line in err.splitlines() if not line.startswith("attempt ")]
    odd = [line for line in lines if not re.match(r"(✗|\\u2717|!) \S|[\w.]+: ", line)]
    if odd or not lines:
        return f"not a line with a cause: {odd}", ""
    named = [cause for cause in causes if cause in err]
    return ("" if named else "no cause is named"), named[0].split("/")[0] if named else ""


@contextlib.contextmanager
def environments() -> Iterator[Environments]:
    """Everything that cases need, gone afterwards."""
    is_root = os.getuid() == 0
    with contextlib.ExitStack() as opened:
        # The folders of the other user must be reachable for each user.
        root = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="environments-")))
        root.chmod(0o755)
        outside = root / "outside"
        kinds = {"file"}
        for name in ("precious", "hostile", "certificates"):
            (outside / name).mkdir(parents=True)
        (outside / "precious" / "file").write_text("mine")
        (outside / "file").touch()
        (outside / "dangling").symlink_to(outside / "nowhere")
        (outside / "hostile").chmod(0o1777)
        for user in (0, NOBODY, os.getuid()):
            for name in (f"dixa_assets-{user}.staging", f"dixa_assets-{user}", "dixa_assets"):
                with contextlib.suppress(FileExistsError):
                    (outside / "hostile" / name).symlink_to(outside / "precious")
        if is_root:
            kinds |= {"theirs", *opened.enter_context(_mounts(outside))}
            (outside / "theirs").mkdir(mode=0o700)
            (outside / "theirs file").write_text("DIXA_HISTORY_DAYS=3\n")
            (outside / "theirs file").chmod(0o600)
            for name in ("theirs", "theirs file"):
                os.chown(outside / name, ANOTHER_USER, ANOTHER_USER)
        certificate, tls = make_authority(outside / "certificates")
        _link_by_hash(certificate)
        certificate.chmod(0o644)
        simulator = opened.enter_context(running_simulator("--rate", "0", "--now", NOW.isoformat()))
        tls_url = opened.enter_context(tls_before(simulator.url, tls))
        proxy = opened.enter_context(proxy_to(tls_url))
        server = opened.enter_context(_server(root))
        world = World(
            root, simulator.url, tls_url, proxy.url, certificate, server, frozenset(kinds), is_root
        )
        running = Environments(world)
        # Later processes, of another user too, have the modules that these import.
        for command in ("doctor", "probe", "report", "load"):
            running.check({"command": command, "read_copy": "own", "report": "own"})
        running.check({"api": "tls", "certificate": "right"})
        yield running


def _link_by_hash(certificate: Path) -> None:
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(certificate)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (certificate.parent / f"{found.strip()}.0").symlink_to(certificate)


@contextlib.contextmanager
def _mounts(outside: Path) -> Iterator[list[str]]:
    """A full and a read-only file system with a Dagster home; none where root may not mount."""
    made = []
    try:
        for name in ("full", "read only"):
            place = outside / name
            place.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=1777", "none", str(place)]
            if subprocess.run(command, capture_output=True, check=False).returncode:
                break
            made.append(name)
            (place / "dagster.yaml").write_text(HOME_SETTINGS)
        if "full" in made:
            with contextlib.suppress(OSError), (outside / "full" / "filler").open("wb") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()
        if "read only" in made:
            place = str(outside / "read only")
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        yield made
    finally:
        for name in made:
            subprocess.run(["umount", "-l", str(outside / name)], check=True)


@contextlib.contextmanager
def _server(root: Path) -> Iterator["subprocess.Popen[str]"]:
    """The process that runs the commands, without UTF-8 mode."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(root), "LC_ALL": "C"}
    environment |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "dixa_assets_tests.stress.environment_server"],
        env=environment,
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(number: int, first_seed: int) -> Counter[str]:
    """The number of cases by their end; raises `Violation` with the smallest bad case."""
    with environments() as each:
        return count_ends(each.check, cases, number, first_seed)
