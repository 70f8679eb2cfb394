"""
Chromium, driven over a pipe.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Final, Self

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

PATIENCE: Final = 40.0
"""How many seconds anything may take in the browser."""


def findBrowser() -> str | None:
    """
    @return: the browser's path, or C{None} if it is not installed.
    """
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """
    A headless browser with one page. It speaks the DevTools protocol over two pipes, which takes
    neither a port nor a library.
    """

    def __init__(self, program: str, profile: Path) -> None:
        """
        @param profile: a folder for what it writes.
        """
        theirIn, self._out = os.pipe()
        self._in, theirOut = os.pipe()
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        # The browser reads descriptor 3 and writes descriptor 4.
        shell = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", str(theirIn), str(theirOut), program, *options],
            pass_fds=(theirIn, theirOut),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirIn)
        os.close(theirOut)
        self._received = b""
        self._asked = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """
        End the browser.
        """
        os.close(self._out)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._in)

    def _attach(self) -> None:
        targets = self.ask("Target.getTargets")["targetInfos"]
        [page] = [target["targetId"] for target in targets if target["type"] == "page"][:1]
        attached = self.ask("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        """
        @return: the browser's answer.
        """
        self._asked += 1
        request: dict[str, Any] = {"id": self._asked, "method": method, "params": parameters}
        if self._session is not None:
            request["sessionId"] = self._session
        os.write(self._out, json.dumps(request).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self._asked:
                assert "error" not in message, (method, message["error"])
                return message["result"]

    def _read(self) -> Any:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._received:
            left = end - time.monotonic()
            assert left > 0 and select.select([self._in], [], [], left)[0], "the browser hangs"
            data = os.read(self._in, 1 << 16)
            assert data, "the browser has ended"
            self._received += data
        line, _, self._received = self._received.partition(b"\0")
        message = json.loads(line)
        self._note(message)
        return message

    def _note(self, message: Any) -> None:
        told = message.get("params", {})
        if message.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(told["entry"]["text"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        elif message.get("method") == "Runtime.consoleAPICalled" and told["type"] == "error":
            self.complaints.append(json.dumps(told["args"]))

    def look(self, width: int, height: int, isDark: bool = False, hasScripts: bool = True) -> None:
        """
        Change the size of the page and its colours.
        """
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if isDark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Emulation.setScriptExecutionDisabled", value=not hasScripts)

    def open(self, address: str) -> None:
        """
        Go to an address, and wait for the page.
        """
        self.ask("Page.navigate", url=address)
        self.waitFor("document.readyState === 'complete'")
        # Chromium drops what is pressed before it has painted the page.
        self.waitFor("performance.getEntriesByName('first-paint').length > 0")

    def run(self, expression: str) -> Any:
        """
        @return: the value of an expression of the page.
        """
        found = self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def waitFor(self, expression: str) -> None:
        """
        Wait until an expression of the page is true.
        """
        end = time.monotonic() + PATIENCE
        while not self.run(expression):
            assert time.monotonic() < end, f"this did not become true: {expression}"
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """
        Press something as a mouse does.
        """
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            where = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            self.ask("Input.dispatchMouseEvent", type=kind, **where)

    def press(self, key: str, text: str = "") -> None:
        """
        Press a key.
        """
        more = {"text": text} if text else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, **more)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    def picture(self, whole: bool = False) -> bytes:
        """
        @param whole: whether to show what lies below the window, too.
        @return: the page, as a PNG.
        """
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])
