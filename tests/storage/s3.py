"""An object store on 127.0.0.1 that speaks S3: moto's server, in a process of its own.

It takes any signature and refuses a request without one.
"""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

BUCKET = "rlhf-store"  # at least three characters, or S3 refuses the name
_HEADERS = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=t/20260101/us-east-1/s3/aws4_request, Signature=t",
    "Content-Type": "application/octet-stream",
}
_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass(frozen=True)
class Store:
    """The server with one bucket."""

    url: str
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, folder: Path) -> "Store":
        """Start the server on a free port and make the bucket; `folder` gets its output."""
        log = folder / "server.log"
        command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        store = cls(_announced(log, process), process)
        store.ask("PUT", "")
        return store

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def ask(self, method: str, key: str, data: bytes | None = None) -> bytes:
        """Send one plain request about an object of the bucket ("" is the bucket)."""
        request = urllib.request.Request(f"{self.url}/{BUCKET}/{key}", data=data, method=method, headers=_HEADERS)
        with urllib.request.urlopen(request) as answer:
            body: bytes = answer.read()
        return body

    def objects(self) -> list[str]:
        """List the objects' keys, sorted."""
        listed = ElementTree.fromstring(self.ask("GET", "?list-type=2"))
        return sorted(str(one.text) for one in listed.iter(f"{_XML}Key"))

    def key_of(self, content: bytes) -> str:
        """Find the one object with these bytes."""
        (key,) = [key for key in self.objects() if self.ask("GET", key) == content]
        return key

    def damage(self, content: bytes) -> str:
        """Overwrite the one object that holds `content` by as many other bytes; return its key."""
        key = self.key_of(content)
        self.ask("PUT", key, bytes(255 - byte for byte in content))
        return key


def _announced(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait until the server says where it listens, and answers there."""
    while process.poll() is None:
        found = [line.split()[-1] for line in log.read_text().splitlines() if "Running on http" in line]
        if found:
            return found[0]
        time.sleep(0.05)
    raise RuntimeError(f"the server ended: {log.read_text()}")
