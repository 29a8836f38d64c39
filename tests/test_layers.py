"""The laws of the house, held by reading the sources: who may import whom, what is pure, how big things are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
MTA = ROOT / "mta"

SERVING = ("receive", "relay", "deliver", "bounce")  # these rooms never import one another
SHARED = {
    "durable",
    "interfaces",
    "envelope",
    "status",
    "config",
    "smtp",
    "tls",
    "dns",
    "hints",
    "hostlist",
    "ports",
    "wire",
    "rate",
}
MAY_IMPORT = {
    **dict.fromkeys(SERVING, SHARED),
    "queue": {"durable", "interfaces", "envelope", "status", "config", "rate"},
    "route": {"interfaces", "envelope", "status", "config", "smtp", "dns"},
    "smtp": {"envelope", "status"},
    "dns": {"interfaces", "envelope", "status", "config"},
    "tls": {"interfaces", "envelope", "status", "config"},
    "config": {"status", "tls", "smtp", "hostlist", "rate"},
    "control": {"interfaces", "envelope", "status", "config", "queue", "ports"},  # of the queue what an operator may do
    # of the whole process what `twistd mta` does to it, and no room that serves
    "workers": {"interfaces", "status", "config", "control", "queue", "envelope", "rate", "ports", "process"},
}
PURE = (
    "smtp/*.py",
    "smtp/convert/*.py",
    "status.py",
    "envelope.py",
    "hostlist.py",
    "rate.py",
    "config/address_list.py",
    "config/at_start.py",
    "config/rule.py",
    "config/settings.py",
    "dns/answer.py",
    "dns/message.py",
    "dns/parse.py",
    "dns/plain.py",
    "dns/cache.py",
    "dns/servers.py",
    "tls/dane.py",
    "tls/owed.py",
    "tls/mtasts.py",
    "tls/policy.py",
    "tls/policy_table.py",
    "tls/resumption.py",
    "tls/tlsrpt.py",
    "receive/access.py",
    "receive/auth/certificate.py",
    "receive/auth/dovecot_words.py",
    "receive/auth/peer.py",
    "receive/auth/remembered.py",
    "receive/auth/senders.py",
    "receive/auth/stand_in.py",
    "receive/dnsbl.py",
    "receive/greylist.py",
    "receive/rules.py",
    "receive/limits/*.py",
    "receive/submission.py",
    "receive/proxy.py",
    "receive/tally.py",
    "receive/trace.py",
    "queue/carry/record.py",
    "queue/filing.py",
    "queue/flights.py",
    "queue/ids.py",
    "queue/lines.py",
    "queue/state.py",
    "queue/retry.py",
    "queue/sqlite/stride.py",
    "queue/tally.py",
    "queue/scheduler/*.py",
    "route/table.py",
    "route/mx.py",
    "relay/destination.py",
    "relay/handover.py",
    "relay/tally.py",
    "tls/tally.py",
    "control/merge.py",
    "control/metrics.py",
    "control/queue_facts.py",
    "cli/queue/follow.py",
    "cli/queue/sheet.py",
    "cli/queue/table.py",
    "relay/site.py",
    "queue/mode.py",
    "queue/pattern.py",
    "queue/space.py",
    "bounce/notice.py",
    "bounce/original.py",
    "bounce/quota.py",
    "bounce/report.py",
    "bounce/status_part.py",
    "bounce/text.py",
    "workers/frame.py",
    "workers/restart.py",
    "workers/shares.py",
)
IMPURE = {
    "twisted",
    "socket",
    "ssl",
    "os",
    "io",
    "time",
    "random",
    "secrets",
    "threading",
    "subprocess",
    "apsw",
    "sqlite3",
    "select",
}

NO_FILE = {("smtp/data.py", "io")}  # tells newlines apart, opens nothing


def sources(*patterns: str) -> list[Path]:
    return sorted({path for pattern in patterns for path in MTA.glob(pattern)})


def room_of(path: Path) -> str:
    parts = path.relative_to(MTA).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every imported module with its line, but for those under `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name


class LayersTests(SynchronousTestCase):
    """Each test names every offence at once."""

    def check(self, offences: list[str]) -> None:
        self.assertEqual([], offences, "\n" + "\n".join(offences))

    def test_rooms_import_only_what_they_may(self) -> None:
        """Laws 2 and 3: the serving rooms never import one another, the queue imports no room."""
        self.check(
            [
                f"{path.relative_to(ROOT)}:{line}: {room_of(path)} imports {module}"
                for path in sources("*/**/*.py")
                if room_of(path) in MAY_IMPORT
                for line, module in imports(path)
                if module.startswith("mta.")
                and (other := module.split(".")[1]) != room_of(path)
                and other not in MAY_IMPORT[room_of(path)]
            ]
        )

    def test_pure_files_are_pure(self) -> None:
        """Law 1: no Twisted, no file, no clock, no random number."""
        offences = [
            f"{path.relative_to(ROOT)}:{line}: imports {module}"
            for path in sources(*PURE)
            for line, module in imports(path)
            if module.split(".")[0] in IMPURE and (str(path.relative_to(MTA)), module) not in NO_FILE
        ]
        for path in sources(*PURE):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
                    offences.append(f"{path.relative_to(ROOT)}:{node.lineno}: opens a file")
        self.check(offences)

    def test_nothing_from_twisted_mail(self) -> None:
        """Law 5: its server executes commands injected behind STARTTLS, its client splits dot-stuffing."""
        self.check(
            [
                f"{path.relative_to(ROOT)}:{line}"
                for path in sources("**/*.py")
                for line, module in imports(path)
                if module.startswith("twisted.mail")
            ]
        )

    def test_no_module_level_reactor(self) -> None:
        """Law 4: the reactor is passed in; only the entry point asks for the global one, inside a function."""
        offences = []
        for path in sources("**/*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ImportFrom) and node.module == "twisted.internet":
                    offences += [f"{path.relative_to(ROOT)}:{node.lineno}" for name in node.names if name.name == "reactor"]
                if isinstance(node, ast.Import):
                    offences += [f"{path.relative_to(ROOT)}:{node.lineno}" for n in node.names if n.name.endswith(".reactor")]
        self.check(offences)

    def test_no_work_in_init(self) -> None:
        """Law 4: a package's __init__ has a docstring, __all__ and at most the version."""
        offences = []
        for path in sources("**/__init__.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                    continue
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.startswith("__"):
                    continue
                offences.append(f"{path.relative_to(ROOT)}:{node.lineno}")
        self.check(offences)

    def test_no_init_in_the_plugin_folders(self) -> None:
        """An __init__.py in twisted/ or twisted/plugins/ would shadow Twisted itself."""
        self.check([str(path) for path in (ROOT / "twisted").rglob("__init__.py")])

    def test_sizes(self) -> None:
        """No file over 400 lines, no function over 50."""
        offences = []
        for path in [*sources("**/*.py"), *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "bench").rglob("*.py"))]:
            text = path.read_text()
            if text.count("\n") > 400:
                offences.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not path.is_relative_to(ROOT / "tests"):
                    size = (node.end_lineno or node.lineno) - node.lineno + 1
                    if size > 50:
                        offences.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {size} lines")
        self.check(offences)

    def test_every_file_says_what_it_is_and_has_its_tests(self) -> None:
        """A head at every file; tests/<room>/test_<file>.py (or test_<file>_*.py) for every file with code."""
        offences = []
        for path in sources("**/*.py"):
            if not ast.get_docstring(ast.parse(path.read_text())):
                offences.append(f"{path.relative_to(ROOT)}: no head")
            if path.name in ("__init__.py", "__main__.py", "interfaces.py"):
                continue
            *rooms, name = path.relative_to(MTA).with_suffix("").parts
            folder = ROOT / "tests" / Path(*rooms)
            if not any(folder.glob(f"test_{name}.py")) and not any(folder.glob(f"test_{name}_*.py")):
                offences.append(f"{path.relative_to(ROOT)}: no {folder.relative_to(ROOT)}/test_{name}.py")
        self.check(offences)
