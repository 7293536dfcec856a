"""The station's page in a real browser: every button and form, log-in, wrong input, a lost connection, two people at
once, a phone and a wall screen, and what axe-core finds against its accessibility.

check.py PROGRAM OUT: the device program; a folder for screenshots. Exit code 0: all is as it should be.
"""

import json
import os
import pathlib
import pty
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tty
import urllib.request

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

PASSWORDS = {"engineer": "maker", "operator": "runner"}
failed = 0


def check(what, seen, right):
    global failed
    good = right(seen) if callable(right) else seen == right
    failed += not good
    print(f"{'ok  ' if good else 'FAIL'} {what:55} {seen}", flush=True)


class Station:
    """A simulated station that shows its page."""

    def __init__(self, program, folder):
        with socket.socket() as port:
            port.bind(("127.0.0.1", 0))
            self.port = port.getsockname()[1]
        self.program, self.folder = program, folder
        self.cable, self.end = pty.openpty()
        tty.setraw(self.end)
        self.start()
        # At the station itself: one password a second.
        for level, password in PASSWORDS.items():
            self.say(f"SET {level}_password {password}", "OK,SET")
            time.sleep(1.1)
        self.say("COMMIT", "OK,COMMIT,2")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def start(self):
        command = [self.program, "run", "--board", "sim", "--source", "pattern", "--rate", "10", "--frames", "1000000",
                   "--quiet", "--web", f"127.0.0.1:{self.port}", "--out", self.folder / "out", "--state", self.folder / "state",
                   "--serial", os.ttyname(self.end)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(600):
            try:
                if self.state()["counters"]["parts"] > 3:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit("the station does not start")

    def say(self, line, answer):
        os.write(self.cable, f"{line}\r".encode())
        came = b""
        while not came.endswith(b"\n"):
            came += os.read(self.cable, 1)
        if not came.decode().startswith(answer):
            raise SystemExit(f"{line}: {came}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def state(self):
        with urllib.request.urlopen(self.url + "api/state", timeout=5) as answer:
            return json.load(answer)


def watched(page, problems):
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    return page


def log_in(page, level, password):
    page.locator("#account").click()
    page.locator("#level").select_option(level)
    page.locator("#password").fill(password)
    page.locator("#login-go").click()


def main(program, out):
    out.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp())
    station = Station(program, folder)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        problems = []
        wide = watched(browser.new_page(viewport={"width": 1920, "height": 1080}), problems)
        wide.goto(station.url)
        expect(wide.locator("#mode")).to_have_text("Inspecting")
        expect(wide.locator("#picture")).to_be_visible(timeout=15000)
        wide.wait_for_function("scores.length > 5")
        check("figures", wide.locator("#figures").inner_text().split("\n")[0], "Parts")
        check("lamps that are on", wide.locator("#lamps li.on").all_inner_texts(), lambda lamps: "ready" in lamps)

        # Nobody changes anything without a password.
        wide.get_by_role("button", name="Pause").click()
        expect(wide.locator("#login")).to_be_visible()
        wide.locator("#login-cancel").click()
        check("without log-in nothing is paused", station.state()["mode"], "running")
        log_in(wide, "operator", "guess")
        expect(wide.locator("#login-error")).to_have_text("wrong password")
        check("wrong password", wide.locator("#login-error").inner_text(), "wrong password")
        time.sleep(1.1)
        wide.locator("#password").fill(PASSWORDS["operator"])
        wide.locator("#login-go").click()
        expect(wide.locator("#account")).to_have_text("Log out (Operator)")

        for button, answer in [("Pause", "OK,DISARM"), ("Inspect", "OK,ARM"), ("Acknowledge alarms", "OK,ACK,0"),
                               ("Self-test", "OK,SELFTEST,started"), ("3 test pieces", "OK,CHALLENGE,running,3")]:
            wide.get_by_role("button", name=button, exact=True).click()
            expect(wide.locator("#answer")).to_have_text(answer)
            check(f"button {button}", wide.locator("#answer").inner_text(), answer)
        expect(wide.locator("#challenge")).to_contain_text("test pieces", ignore_case=True)
        # The generator's good parts pass: that is a missed test piece, and stops the line.
        expect(wide.locator("#alarms")).to_contain_text("9 challenge", timeout=15000)
        wide.screenshot(path=out / "alarm.png")
        wide.get_by_role("button", name="Acknowledge alarms").click()
        expect(wide.locator("#alarms")).to_be_hidden()
        wide.get_by_role("button", name="Inspect", exact=True).click()
        expect(wide.locator("#mode")).to_have_text("Inspecting", timeout=15000)

        # An operator sets the threshold, and not what is an engineer's.
        wide.get_by_role("link", name="Settings").click()
        field = wide.locator("#parameter-reject_delay_ms")
        before = field.input_value()
        field.fill("900")
        field.press("Tab")
        expect(wide.locator("#answer")).to_contain_text("ER,SET,401")
        check("an operator's try at an engineer's parameter", field.input_value(), before)
        field = wide.locator("#parameter-threshold")
        for wrong in ["2", "high", "-1"]:
            field.fill(wrong)
            field.press("Tab")
            expect(wide.locator("#answer")).to_contain_text("ER,SET,20")
            check(f"threshold {wrong}", wide.locator("#answer").inner_text(), lambda text: text.startswith("ER,SET,20"))
        field.fill("0.55")
        field.press("Tab")
        expect(wide.locator("#commit")).to_be_enabled()

        # Somebody else, on a phone: sees it change, and cannot change anything meanwhile.
        phone = watched(browser.new_page(viewport={"width": 360, "height": 740}, has_touch=True), problems)
        phone.goto(station.url)
        expect(phone.locator("#mode")).to_have_text("Inspecting")
        check("a phone's page is no wider than its screen",
              phone.evaluate("document.documentElement.scrollWidth"), lambda width: width <= 360)
        time.sleep(1.1)
        log_in(phone, "engineer", PASSWORDS["engineer"])
        expect(phone.locator("#account")).to_have_text("Log out (Engineer)")
        phone.get_by_role("link", name="Settings").click()
        phone.locator("#parameter-pulse_width_ms").fill("50")
        phone.locator("#parameter-pulse_width_ms").press("Tab")
        expect(phone.locator("#answer")).to_contain_text("ER,SET,501")
        check("two people at once", phone.locator("#answer").inner_text(), lambda text: text.startswith("ER,SET,501"))
        wide.locator("#commit").click()
        expect(wide.locator("#answer")).to_have_text("OK,COMMIT,1,next part")
        check("the threshold is in force", station.state()["threshold"], 0.55)
        phone.locator("#parameter-pulse_width_ms").fill("50")
        phone.locator("#parameter-pulse_width_ms").press("Tab")
        expect(phone.locator("#revert")).to_be_enabled()
        phone.locator("#revert").click()
        expect(phone.locator("#parameter-pulse_width_ms")).to_have_value("40")
        phone.locator("#find").fill("bright")
        shown = phone.locator(".parameter:visible code").all_inner_texts()
        check("find a parameter", shown, lambda names: "frame_bright" in names and "threshold" not in names)

        wide.get_by_role("link", name="Changes").click()
        expect(wide.locator("#changes")).to_contain_text("operator@web 127.0.0.1,threshold")
        wide.get_by_role("link", name="Rejects").click()
        expect(wide.locator("#pictures img").first).to_be_visible()
        wide.wait_for_function("document.querySelector('#pictures img').naturalWidth > 0")
        check("pictures of rejects", wide.locator("#pictures img").count(), lambda count: count > 0)

        for page, width in [(wide, 1920), (phone, 360)]:
            for name in ["live", "rejects", "settings", "log"]:
                page.goto(f"{station.url}#{name}")
                page.wait_for_timeout(800)
                found = Axe().run(page).response["violations"]
                serious = [(v["id"], len(v["nodes"])) for v in found if v["impact"] in ("serious", "critical")]
                check(f"accessibility of {name} at {width}", serious, [])
                page.screenshot(path=out / f"{name}-{width}.png")
        check("errors in the browser's console (but refusals, 4xx)",
              [p for p in problems if "status of 4" not in p], [])

        # The station goes away, and comes back.
        wide.goto(station.url + "#live")
        check("orderly end", station.stop(), lambda code: code in (0, 1))
        expect(wide.locator("#lost")).to_be_visible(timeout=10000)
        station.start()
        expect(wide.locator("#lost")).to_be_hidden(timeout=20000)
        check("the threshold after a restart", station.state()["threshold"], 0.55)
        # Sessions end with the program.
        wide.get_by_role("button", name="Pause").click()
        expect(wide.locator("#login")).to_be_visible()
        wide.locator("#login-cancel").click()
        log_in(phone, "engineer", PASSWORDS["engineer"])
        browser.close()
    station.stop()
    shutil.rmtree(folder)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))
