"""What the command does to its process: run as users run it, in a child."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

MINIMAL = 'hostname = "a.test"\ndata_dir = "data"\n[[listen]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n{more}'


class ProcessTests(SynchronousTestCase):
    """twistd -n mta, from its start to its end."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def start(self, text: str, *reactor: str) -> subprocess.Popen[str]:
        (self.folder / "mta.toml").write_text(text)
        twistd = Path(sys.executable).with_name("twistd")
        command = [str(twistd), *reactor, "-n", "--pidfile=", "mta", "--config", str(self.folder / "mta.toml")]
        return self.run_until_the_end(command)

    def run_until_the_end(self, command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder)
        self.addCleanup(process.stdout.close)  # type: ignore[union-attr]
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def until(self, process: subprocess.Popen[str], word: str) -> list[str]:
        lines = []
        for line in process.stdout:  # type: ignore[union-attr]
            lines.append(line)
            if word in line:
                return lines
        raise AssertionError(f"no {word}: {lines}")

    def test_start_and_stop(self) -> None:
        """It says listening, stops on SIGTERM in order; twistd then ends by the signal that it got."""
        process = self.start(MINIMAL.format(port=0, more=""))
        self.until(process, "event=listening")
        process.send_signal(signal.SIGTERM)
        self.until(process, "event=stopped")
        self.assertEqual(-signal.SIGTERM, process.wait(20))

    def test_asyncio_reactor(self) -> None:
        """The same under Twisted's asyncio reactor."""
        process = self.start(MINIMAL.format(port=0, more=""), "--reactor", "asyncio")
        self.until(process, "event=listening")
        process.send_signal(signal.SIGTERM)
        self.until(process, "event=stopped")
        self.assertEqual(-signal.SIGTERM, process.wait(20))

    def test_embedded_in_an_application(self) -> None:
        """etc/embedded.tac is an example that works."""
        shutil.copy(Path(__file__).parent.parent / "etc" / "embedded.tac", self.folder)
        (self.folder / "mta.toml").write_text(MINIMAL.format(port=0, more=""))
        twistd = Path(sys.executable).with_name("twistd")
        process = self.run_until_the_end([str(twistd), "-n", "--pidfile=", "-y", "embedded.tac"])
        self.until(process, "event=listening")
        process.send_signal(signal.SIGTERM)
        self.until(process, "event=stopped")

    def test_file_limit_is_raised(self) -> None:
        """As many open files as the hard limit allows."""
        process = self.start(MINIMAL.format(port=0, more=""))
        self.until(process, "event=listening")
        (line,) = [line for line in Path(f"/proc/{process.pid}/limits").read_text().splitlines() if "open files" in line]
        soft, hard = line.split()[3:5]
        self.assertEqual(hard, soft)

    def test_port_in_use(self) -> None:
        """A clear line and a status that is not zero: no server without its listener."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            process = self.start(MINIMAL.format(port=taken.getsockname()[1], more=""))
            output = process.communicate(timeout=30)[0]
        self.assertEqual(1, process.returncode, output)
        self.assertRegex(output, "mta: cannot listen on tcp:.*: Address already in use")
        self.assertNotIn("Traceback", output)

    def test_data_directory_is_locked(self) -> None:
        """The second server on one data directory ends with status 1 and says why."""
        first = self.start(MINIMAL.format(port=0, more=""))
        self.until(first, "event=listening")
        second = self.start(MINIMAL.format(port=0, more=""))
        output = second.communicate(timeout=30)[0]
        self.assertEqual(1, second.returncode, output)
        self.assertRegex(output, "mta: .*in use")

    def test_data_directory_is_not_writable(self) -> None:
        """A data directory that cannot be made ends the start with the reason."""
        (self.folder / "file").write_text("")
        process = self.start(MINIMAL.format(port=0, more="").replace('"data"', '"file/data"'))
        output = process.communicate(timeout=30)[0]
        self.assertEqual(1, process.returncode, output)
        self.assertRegex(output, "mta: .*cannot write in .*file/data")

    def test_missing_certificate(self) -> None:
        """The configuration's mistake stands with file, line and key."""
        process = self.start(MINIMAL.format(port=0, more='[tls]\ncertificate = "no.pem"\nkey = "no.key"\n'))
        output = process.communicate(timeout=30)[0]
        self.assertEqual(1, process.returncode, output)
        self.assertRegex(output, r"mta\.toml:6: tls\.certificate: .*no\.pem")

    def test_sighup_reopens_the_log(self) -> None:
        """The log file that was renamed is left alone, a new one of its name is begun."""
        process = self.start(MINIMAL.format(port=0, more='[log]\nfile = "mail.log"\n'))
        log = self.folder / "mail.log"
        self.wait_for(lambda: log.exists() and "event=listening" in log.read_text())
        log.rename(self.folder / "old.log")
        process.send_signal(signal.SIGHUP)
        self.wait_for(log.exists)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(-signal.SIGTERM, process.wait(20))
        self.assertIn("event=stopped", log.read_text())
        self.assertNotIn("event=stopped", (self.folder / "old.log").read_text())

    def events(self, name: str) -> list[str]:
        """The lines of an event in mail.log."""
        log = self.folder / "mail.log"
        return [line for line in log.read_text().splitlines() if f" event={name} " in line] if log.exists() else []

    def logged(self, port: int = 0, more: str = "") -> str:
        return MINIMAL.format(port=port, more=f'[log]\nfile = "mail.log"\n{more}')

    def test_s35_sighup_reads_everything_anew(self) -> None:
        """S35 H38: a new port is served, a mistake is logged and changes nothing, and the next SIGHUP finds it mended."""
        process = self.start(self.logged())
        self.wait_for(lambda: self.events("listening"))
        config = self.folder / "mta.toml"
        config.write_text(self.logged(more='[[listen]]\nendpoint = "tcp:0:interface=127.0.0.1:backlog=9"\n'))
        process.send_signal(signal.SIGHUP)
        self.wait_for(lambda: self.events("reload"))
        self.assertIn("status=done generation=2", self.events("reload")[0])
        self.assertEqual(2, len(self.events("listening")))
        config.write_text(self.logged(more="[limits]\nerrors = 0\nconnections = 0\n"))
        process.send_signal(signal.SIGHUP)
        self.wait_for(lambda: len(self.events("reload")) == 3)
        self.assertRegex(self.events("reload")[1], r'status=refused mistake="[^"]*mta\.toml:8: limits\.errors: at least 1')
        config.write_text(self.logged())
        process.send_signal(signal.SIGHUP)
        self.wait_for(lambda: len(self.events("reload")) == 4)
        self.assertIn("status=done generation=3", self.events("reload")[3])
        process.send_signal(signal.SIGTERM)
        self.assertEqual(-signal.SIGTERM, process.wait(20))

    def test_mta_reload(self) -> None:
        """H38: the command says generation, mistakes with status 1, what wants a restart; and that nobody is there."""
        process = self.start(self.logged())
        self.wait_for((self.folder / "data" / "control.sock").exists)
        self.assertEqual((0, "generation 2 of the configuration is in force\n"), self.mta_reload())
        (self.folder / "mta.toml").write_text(self.logged(more='[dns]\nattempts = 7\n[tls_client]\nlevel = "encypt"\n'))
        status, output = self.mta_reload()
        self.assertEqual(1, status)
        self.assertRegex(output, r"^/.*mta\.toml:10: tls_client\.level: .* did you mean 'encrypt'\?\n$")
        (self.folder / "mta.toml").write_text(self.logged(more="[dns]\nattempts = 7\n"))
        status, output = self.mta_reload()
        self.assertEqual((0, True), (status, output.endswith("in force only after a restart: dns\n")))
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        self.assertFalse((self.folder / "data" / "control.sock").exists())
        status, output = self.mta_reload()
        self.assertEqual((1, True), (status, "no service is running" in output))

    def test_control_socket_after_kill_9(self) -> None:
        """The file that a killed server left behind does not hinder the next."""
        control = self.folder / "data" / "control.sock"
        first = self.start(self.logged())
        self.wait_for(control.exists)
        first.kill()
        first.wait(20)
        self.assertTrue(control.exists())
        (self.folder / "mail.log").unlink()
        self.start(self.logged())
        self.wait_for(lambda: self.events("listening"))
        self.wait_for(lambda: self.mta_reload()[0] == 0)

    def mta_reload(self) -> tuple[int, str]:
        """Status and output of the command."""
        command = [str(Path(sys.executable).with_name("mta")), "reload", "--config", str(self.folder / "mta.toml")]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        return done.returncode, done.stdout

    def wait_for(self, true: object) -> None:
        for _ in range(1000):
            if true():  # type: ignore[operator]
                return
            time.sleep(0.02)
        raise AssertionError("it did not happen")

    def test_data_directory_removed(self) -> None:
        """H39: whatever hinders the end of the control socket, the server itself is stopped in order."""
        process = self.start(MINIMAL.format(port=0, more=""))
        self.until(process, "event=listening")
        self.wait_for((self.folder / "data" / "control.sock").exists)
        shutil.rmtree(self.folder / "data")
        process.send_signal(signal.SIGTERM)
        self.until(process, "event=stopped")

    def test_twistd_lists_it(self) -> None:
        """`twistd --help` shows mta, with each reactor, at the first run and at the second."""
        twistd = str(Path(sys.executable).with_name("twistd"))
        for reactor in ("epoll", "asyncio"):
            for _ in range(2):
                command = [twistd, "--reactor", reactor, "--help"]
                output = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True).stdout
                self.assertRegex(output, r"\n +mta +A mail transfer agent")
