"""A headless Chromium for the tests of the built book, driven over its debugging pipe.

Messages of Chrome's DevTools protocol travel as JSON, each ended by a NUL byte, on the file
descriptors 3 and 4 of the browser. That needs the standard library alone.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find() -> str | None:
    """Returns the path of an installed Chromium or Chrome, and `None` when there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One browser with one page, to be used in a `with` statement.

    Args:
        program: the path of the browser.
        deadline: seconds that a single command or page may take.
    """

    def __init__(self, program: str, *, deadline: float = 20.0):
        self._deadline = deadline
        self._program = program
        self._buffer = b""
        self._last_id = 0
        self.events: list[dict] = []

    def __enter__(self) -> "Browser":
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        arguments = [
            self._program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--hide-scrollbars",
            # Only this machine has a name and an address.
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            "--remote-debugging-pipe",
            f"--user-data-dir={self._profile.name}",
            "about:blank",
        ]
        ends = (to_browser, from_browser)
        self._process = subprocess.Popen(
            arguments,
            pass_fds=(3, 4),
            preexec_fn=lambda: _move(ends, (3, 4)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.page(f"{domain}.enable")
        return self

    def __exit__(self, *_) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def call(self, method: str, session: str | None = None, **parameters) -> dict:
        """Sends one command and returns its result; events that come meanwhile are kept."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        limit = time.monotonic() + self._deadline
        while True:
            answer = self._receive(limit, method)
            if answer.get("id") == self._last_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def page(self, method: str, **parameters) -> dict:
        """Sends a command to the page."""
        return self.call(method, self._session, **parameters)

    def open(self, url: str) -> None:
        """Loads a page, with an empty list of events, and waits for its `load` event."""
        self.events.clear()
        self.page("Page.navigate", url=url)
        limit = time.monotonic() + self._deadline
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._receive(limit, url)

    def evaluate(self, expression: str):
        """Returns the value of a JavaScript expression, awaited if it is a promise."""
        answer = self.page(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def resize(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Sets the size of the window and the color scheme that the reader prefers."""
        self.page(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.page("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, *, whole: bool = False) -> bytes:
        """Returns a PNG of the window, or of the whole page."""
        data = self.page("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        return base64.b64decode(data)

    def requests(self) -> list[str]:
        """Returns the address of everything the page has asked for since it was opened."""
        sent = (event for event in self.events if event["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]

    def complaints(self) -> list[str]:
        """Returns the errors in the page's console, its exceptions and its failed requests."""
        found = []
        for event in self.events:
            method, values = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                found.append(_exception(values["exceptionDetails"]))
            elif method == "Log.entryAdded" and values["entry"]["level"] == "error":
                found.append(f"{values['entry']['text']} {values['entry'].get('url', '')}".strip())
            elif method == "Runtime.consoleAPICalled" and values["type"] == "error":
                found.append(" ".join(str(part.get("value")) for part in values["args"]))
            elif method == "Network.loadingFailed" and not values.get("canceled"):
                found.append(f"request failed: {values['errorText']}")
        return found

    def _receive(self, limit: float, waiting_for: str) -> dict:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, limit - time.monotonic()))
            chunk = os.read(self._read, 1 << 20) if ready else b""
            if not chunk:
                raise TimeoutError(
                    f"Chromium did not answer within {self._deadline} s, expected an answer to "
                    f"{waiting_for}. Run the test again with less load on the machine."
                )
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        decoded = json.loads(message)
        if "method" in decoded:
            self.events.append(decoded)
        return decoded


def _move(sources: tuple[int, ...], targets: tuple[int, ...]) -> None:
    """Gives open files the numbers that the browser expects, also where the two overlap."""
    copies = [fcntl.fcntl(source, fcntl.F_DUPFD, 10) for source in sources]
    for copy, target in zip(copies, targets, strict=True):
        os.dup2(copy, target)


def _exception(details: dict) -> str:
    said = details.get("exception", {}).get("description", details.get("text", "exception"))
    return f"{said} ({details.get('url', 'inline script')}:{details.get('lineNumber', 0) + 1})"
