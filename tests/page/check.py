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
import tarfile
import tempfile
import time
import tty
import urllib.request

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

# A busy machine judges slowly.
expect.set_options(timeout=40000)

PASSWORDS = {"engineer": "press-maker", "operator": "belt-runner"}
failed = 0


def check(what, seen, right):
    global failed
    good = right(seen) if callable(right) else seen == right
    failed += not good
    print(f"{'ok  ' if good else 'FAIL'} {what:55} {seen}", flush=True)


class Station:
    """A simulated station that shows its page."""

    started = []

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
        command = [self.program, "run", "--board", "sim", "--source", "pattern", "--rate", "4", "--delay-ms", "4000", "--frames", "1000000",
                   "--quiet", "--web", f"127.0.0.1:{self.port}", "--out", self.folder / "out", "--state", self.folder / "state",
                   # The default without alarm 11: how late a busy machine is, is not what is looked at here.
                   "--serial", os.ttyname(self.end), "--set", "alarm_stop=1662"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        Station.started.append(self.process)
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
    page.on("dialog", lambda d: (problems.append(f"the browser's own dialog: {d.message}"), d.dismiss()))
    return page


def log_in(page, level, password):
    page.locator("#account").click()
    page.locator("#level").select_option(level)
    page.locator("#password").fill(password)
    page.locator("#login-go").click()


PAGES = ["live", "archive", "teach", "regions", "settings", "report", "log"]


def until(page, expression):
    """Waits until it is true. Playwright's own way needs eval, which the page's policy forbids."""
    for _ in range(400):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise SystemExit(f"never: {expression}")


def answered(page, text):
    expect(page.locator("#answer")).to_contain_text(text, timeout=40000)
    return page.locator("#answer").inner_text()


def go(page, name):
    page.get_by_role("link", name=name, exact=True).click()


def check_live(page, station):
    """Without log-in, a wrong password, every order, a pause."""
    expect(page.locator("#mode")).to_have_text("Inspecting")
    expect(page.locator("#picture")).to_be_visible(timeout=40000)
    until(page, "scores.length > 5")
    check("figures", page.locator("#figures").inner_text().split("\n")[0], "Parts")
    check("lamps that are on", page.locator("#lamps li.on").all_inner_texts(), lambda lamps: any("ready" in l for l in lamps))
    page.get_by_role("button", name="Disarm").click()
    expect(page.locator("#login")).to_be_visible()
    page.locator("#login-cancel").click()
    check("without log-in nothing is disarmed", station.state()["mode"], "running")
    go(page, "Archive")
    expect(page.locator("#login")).to_be_visible()
    page.locator("#login-cancel").click()
    check("without log-in no archive is seen", page.locator("#parts .card").count(), 0)
    go(page, "Live")
    log_in(page, "operator", "guess")
    expect(page.locator("#login-error")).to_have_text("wrong password")
    check("wrong password", page.locator("#login-error").inner_text(), "wrong password")
    time.sleep(1.1)
    page.locator("#password").fill(PASSWORDS["operator"])
    page.locator("#login-go").click()
    expect(page.locator("#account")).to_have_text("Log out (Operator)")
    # A busy machine may have raised an alarm; with one latched nothing is armed.
    for button, answer in [("Acknowledge alarms", "OK,ACK,0"), ("Disarm", "OK,DISARM"), ("Inspect", "OK,ARM"),
                           ("Self-test", "OK,SELFTEST,started"), ("3 test pieces", "OK,CHALLENGE,running,3")]:
        page.get_by_role("button", name=button, exact=True).click()
        check(f"button {button}", answered(page, answer), answer)
    expect(page.locator("#challenge")).to_contain_text("test pieces", ignore_case=True)
    # The generator's good parts pass: that is a missed test piece, and stops the line.
    expect(page.locator("#alarms")).to_contain_text("9 challenge", timeout=40000)


def check_pause(page, station):
    page.locator("#pause").click()
    page.locator("#pause-cancel").click()
    check("a pause that was not meant", station.state()["mode"], "running")
    page.locator("#pause").click()
    page.locator("#pause-minutes").fill("3")
    page.locator("#pause-reason").fill("Lens \"cleaning\"")
    page.locator("#pause-go").click()
    expect(page.locator("#mode")).to_have_text("Paused (Lens cleaning), 3 min left: everything is rejected")
    state = station.state()
    check("while paused", (state["mode"], state["outputs"]["line_stop"], state["pause"]["by"]),
          ("disarmed", True, "operator@web 127.0.0.1"))


def check_settings(wide, phone, station):
    """An operator sets the threshold, and not what is an engineer's; two people at once."""
    go(wide, "Settings")
    field = wide.locator("#parameter-reject_delay_ms")
    before = field.input_value()
    field.fill("900")
    field.press("Tab")
    answered(wide, "ER,SET,401")
    check("an operator's try at an engineer's parameter", field.input_value(), before)
    field = wide.locator("#parameter-threshold")
    for wrong in ["2", "high", "-1"]:
        wide.evaluate("say('')")
        field.fill(wrong)
        field.press("Tab")
        check(f"threshold {wrong}", answered(wide, "ER,SET,20"), lambda text: text.startswith("ER,SET,20"))
    field.fill("0.55")
    field.press("Tab")
    expect(wide.locator("#commit")).to_be_enabled()
    wide.locator("#backup").click()
    check("an operator's try at a backup", answered(wide, "engineer"), lambda text: "engineer" in text)

    # Somebody else, on a phone: sees it change, and cannot change anything meanwhile.
    phone.goto(station.url)
    expect(phone.locator("#mode")).to_have_text("Inspecting")
    time.sleep(1.1)
    log_in(phone, "engineer", PASSWORDS["engineer"])
    expect(phone.locator("#account")).to_have_text("Log out (Engineer)")
    go(phone, "Settings")
    phone.locator("#parameter-pulse_width_ms").fill("50")
    phone.locator("#parameter-pulse_width_ms").press("Tab")
    check("two people at once", answered(phone, "ER,SET,501"), lambda text: text.startswith("ER,SET,501"))
    wide.locator("#commit").click()
    answered(wide, "OK,COMMIT,1,next part")
    check("the threshold is in force", station.state()["threshold"], 0.55)
    phone.locator("#parameter-pulse_width_ms").fill("50")
    phone.locator("#parameter-pulse_width_ms").press("Tab")
    expect(phone.locator("#revert")).to_be_enabled()
    phone.locator("#revert").click()
    expect(phone.locator("#parameter-pulse_width_ms")).to_have_value("40")
    phone.locator("#find").fill("bright")
    shown = phone.locator(".parameter:visible code").all_inner_texts()
    check("find a parameter", shown, lambda names: "frame_bright" in names and "threshold" not in names)
    phone.locator("#find").fill("")
    phone.locator("#recipe").fill("2")
    phone.locator("#recipe-go").click()
    answered(phone, "OK,RECIPE,2")
    check("another recipe", station.state()["recipe"], "2")
    phone.locator("#recipe").fill("1")
    phone.locator("#recipe-go").click()
    answered(phone, "OK,RECIPE,1")


def check_backup(phone, station, folder):
    with phone.expect_download() as download:
        phone.locator("#backup").click()
    file = folder / "backup.toml"
    download.value.save_as(file)
    text = file.read_text()
    check("backup", download.value.suggested_filename, "station.backup.toml")
    broken = folder / "broken.toml"
    broken.write_text(text.replace("threshold = 0.55", "threshold = 55"))
    phone.locator("#restore").set_input_files(broken)
    check("a backup with a mistake in it", answered(phone, "threshold"), lambda answer: "not in 0.0000..1.0000" in answer)
    check("nothing of it is in force", station.state()["threshold"], 0.55)
    file.write_text(text.replace("threshold = 0.55", "threshold = 0.3"))
    phone.locator("#restore").set_input_files(file)
    answered(phone, "Restored")
    # With which every part that is judged is a reject: there is something to look for.
    check("restored", station.state()["threshold"], 0.3)


def check_archive(page, folder):
    go(page, "Archive")
    expect(page.locator("#parts .card").first).to_be_visible()
    until(page, "document.querySelector('#parts img').naturalWidth > 0")
    wide = page.evaluate("document.querySelector('#parts img').naturalWidth")
    page.locator("#overlay").click()
    until(page, f"document.querySelector('#parts img').naturalWidth < {wide}")
    check("the frame without its heat map", page.locator("#overlay").get_attribute("aria-pressed"), "false")
    page.locator("[name=outcome]").select_option("good")
    until(page, "!document.querySelector('#parts .card.bad')")
    page.locator("[name=outcome]").select_option("reject")
    until(page, "document.querySelector('#parts .card.bad')")
    page.locator("[name=low]").fill("0.999")
    page.locator("#search").click()
    expect(page.locator("#parts")).to_contain_text("No part is kept that fits")
    page.locator("[name=low]").fill("")
    page.locator("[name=cause]").select_option("score")
    for _ in range(30):
        page.locator("#search").click()
        page.wait_for_timeout(500)
        if page.locator("#parts .card").count():
            break
    page.locator("#parts .card").first.click()
    page.locator("#detail-overlay").click()
    page.locator("#detail-note").fill("scratch at the rim")
    page.locator("#save-note").click()
    answered(page, "Saved")
    expect(page.locator("#parts")).to_contain_text("scratch at the rim")
    page.locator("#parts .card").first.click()
    page.wait_for_timeout(300)
    page.screenshot(path=folder / "detail.png")
    page.locator("#detail-close").click()
    page.locator("#parts .card").first.click()
    page.locator("#was-bad").click()
    answered(page, "Marked as bad")
    page.locator("[name=mark]").select_option("bad")
    expect(page.locator("#parts .card")).to_have_count(1)
    with page.expect_download() as download:
        page.locator("#download").click()
    file = folder / "archive.tar"
    download.value.save_as(file)
    with tarfile.open(file) as tar:
        names = tar.getnames()
    check("download of what was marked", names, lambda n: len(n) == 1 and n[0].startswith("station/test/defect/"))
    file.unlink()
    page.locator("#parts .card").first.click()
    page.locator("#was-good").click()
    answered(page, "Marked as good")
    for name in ["mark", "cause", "outcome"]:
        page.locator(f"[name={name}]").select_option("")


def check_teach(page, station, out):
    go(page, "Teach")
    if page.locator("#teach-cancel").is_enabled():
        page.locator("#teach-cancel").click()
        expect(page.locator("#lesson")).to_have_text("No lesson is going on.")
    page.locator("#teach-parts").fill("0")
    page.locator("#teach-go").click()
    check("a lesson of no part", answered(page, "ER,TEACH,202"), lambda text: "parts" in text)
    page.locator("#teach-parts").fill("12")
    page.locator("#teach-go").click()
    expect(page.locator("#lesson")).to_contain_text("Look at the odd ones", timeout=60000)
    expect(page.locator("#bound")).to_contain_text("of 100 good parts will be rejected")
    expect(page.locator("#odd img").first).to_be_visible()
    page.screenshot(path=out / "teach.png", full_page=True)
    page.locator("#odd button").first.click()
    expect(page.locator("#lesson")).to_contain_text("11 parts. Look", timeout=30000)
    page.locator("#teach-good").click()
    answered(page, "TEACH")
    page.locator("#teach-bad").click()
    answered(page, "TEACH")
    page.wait_for_timeout(1500)
    page.locator("#what-if").fill("0.9")
    expect(page.locator("#what-if-text")).to_contain_text("judged parts")
    page.locator("#teach-cancel").click()
    expect(page.locator("#lesson")).to_have_text("No lesson is going on.", timeout=40000)
    # What is pending under Settings is neither put into force nor dropped by a button of another tab.
    before = station.state()["threshold"]
    go(page, "Settings")
    field = page.locator("#parameter-threshold")
    # The fields of the visit before are there until the new ones come.
    page.wait_for_timeout(1500)
    shown = field.input_value()
    field.fill("0.44")
    field.press("Tab")
    expect(page.locator("#commit")).to_be_enabled()
    go(page, "Teach")
    page.locator("#what-if").fill("0.6")
    page.locator("#what-if-set").click()
    answered(page, "changed under Settings")
    check("beside pending settings no threshold is put into force", station.state()["threshold"], before)
    go(page, "Settings")
    expect(field).to_have_value("0.44")
    page.locator("#revert").click()
    expect(field).to_have_value(shown)
    expect(page.locator("#commit")).to_be_disabled()
    go(page, "Teach")
    page.locator("#what-if").fill("0.6")
    page.locator("#what-if-set").click()
    answered(page, "OK,COMMIT,1,next part")
    check("the slider's threshold is in force", station.state()["threshold"], 0.6)
    page.locator("#teach-parts").fill("8")
    page.locator("#teach-go").click()
    expect(page.locator("#lesson")).to_contain_text("Look at the odd ones", timeout=60000)
    page.locator("#teach-accept").click()
    answered(page, "OK,TEACH,accepted")
    expect(page.locator("#lesson")).to_have_text("No lesson is going on.", timeout=40000)
    page.locator("#teach-parts").fill("3")
    page.locator("#teach-add").click()
    expect(page.locator("#lesson")).to_contain_text("11 parts. Look", timeout=60000)
    page.locator("#what-if").fill("0.7")
    page.locator("#what-if-accept").click()
    answered(page, "OK,TEACH,accepted")
    check("accepted with the slider's threshold", station.state()["threshold"], 0.7)


def check_regions(page, station):
    go(page, "Regions")
    until(page, "document.querySelector('#frame').naturalWidth > 0")

    def at(x, y):
        page.locator("#shapes").scroll_into_view_if_needed()
        box = page.locator("#shapes").bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*at(0.1, 0.1))
    page.mouse.down()
    page.mouse.move(*at(0.9, 0.8))
    page.mouse.up()
    page.locator("#draw-polygon").click()
    for corner in [(0.4, 0.4), (0.6, 0.4), (0.5, 0.6)]:
        page.mouse.click(*at(*corner))
    page.locator("#close-polygon").click()
    expect(page.locator(".region")).to_have_count(2)
    page.locator(".region select").nth(1).select_option("leave")
    page.locator(".region input").first.fill("cap")
    page.locator(".region input").first.press("Tab")
    page.locator("#regions-save").click()
    # What was taught was taught with all of the picture: it does not go with these.
    check("regions that do not go with what was taught", answered(page, "ER,COMMIT"), lambda text: "taught" in text)
    go(page, "Settings")
    page.locator("#parameter-taught").fill("")
    page.locator("#parameter-taught").press("Tab")
    expect(page.locator("#commit")).to_be_enabled()
    page.locator("#commit").click()
    answered(page, "OK,COMMIT")
    go(page, "Regions")
    expect(page.locator(".region")).to_have_count(0)
    until(page, "document.querySelector('#frame').naturalWidth > 0")
    page.locator("#draw-rectangle").click()
    page.mouse.move(*at(0.1, 0.1))
    page.mouse.down()
    page.mouse.move(*at(0.9, 0.8))
    page.mouse.up()
    page.locator("#regions-save").click()
    answered(page, "OK,COMMIT,1")
    page.locator("#regions-reload").click()
    expect(page.locator(".region")).to_have_count(1)
    page.get_by_role("button", name="Remove").click()
    page.locator("#regions-save").click()
    answered(page, "OK,COMMIT,1")
    check("without regions again", page.evaluate("regions.length"), 0)


def check_report(page):
    go(page, "Shift")
    expect(page.locator("#sheet h2")).to_have_text("Shift report: station")
    page.locator("#hours").select_option("24")
    expect(page.locator("#sheet")).to_contain_text("alarm 9")
    text = page.locator("#sheet").inner_text()
    check("test pieces in the report", [l for l in text.split("\n") if "missed" in l], lambda lines: any("FAILED" in l for l in lines))
    check("changes in the report", "threshold" in text, True)
    page.evaluate("window.print = () => { window.printed = true; }")
    page.locator("#print").click()
    check("button Print", page.evaluate("window.printed"), True)


def serious_of(page):
    """What axe-core finds serious, and where."""
    found = Axe().run(page).response["violations"]
    return [(v["id"], [n["target"] for n in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")]


def check_dialogs(page, station, width, out):
    """Each fits on the screen, can be hit with gloves, is read aloud, and goes away by Escape, with the focus back where it was."""
    page.goto(f"{station.url}#archive")
    page.locator("#parts .card").first.wait_for()
    for name, opener in [("login", None), ("detail", "#parts .card"), ("pausing", "#pause")]:
        if name == "pausing":
            go(page, "Live")
        if opener:
            page.locator(opener).first.click()
        else:
            page.evaluate("askLogin('')")
        dialog = page.locator(f"#{name}")
        expect(dialog).to_be_visible()
        box = dialog.bounding_box()
        check(f"dialog {name} fits into {width}", (box["x"], box["x"] + box["width"]), lambda seen: seen[0] >= 0 and seen[1] <= width)
        low = dialog.locator("button:visible, input:visible, select:visible").evaluate_all(
            "all => all.map(e => Math.round(e.getBoundingClientRect().height)).filter(h => h < 48)")
        check(f"dialog {name}: what is too low for gloves (48 px)", low, [])
        check(f"dialog {name} has the focus", page.evaluate(f"document.getElementById('{name}').contains(document.activeElement)"), True)
        check(f"accessibility of dialog {name} at {width}", serious_of(page), [])
        page.screenshot(path=out / f"dialog-{name}-{width}.png")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        if opener:
            check(f"after dialog {name} the focus is back", page.evaluate(
                f"document.activeElement === document.querySelector('{opener}')"), True)


def main(program, out):
    out.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp())
    station = Station(program, folder)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        problems = []
        context = lambda **options: browser.new_context(locale="en-GB", **options)
        wide = watched(context(viewport={"width": 1920, "height": 1080}).new_page(), problems)
        wide.set_default_timeout(40000)
        wide.goto(station.url)
        check_live(wide, station)
        wide.screenshot(path=out / "alarm.png")
        wide.get_by_role("button", name="Acknowledge alarms").click()
        expect(wide.locator("#alarms")).not_to_contain_text("9 challenge", timeout=40000)
        wide.get_by_role("button", name="Inspect", exact=True).click()
        expect(wide.locator("#mode")).to_have_text("Inspecting", timeout=40000)
        check_pause(wide, station)
        wide.screenshot(path=out / "paused.png")
        wide.get_by_role("button", name="Inspect", exact=True).click()
        expect(wide.locator("#mode")).to_have_text("Inspecting", timeout=40000)
        phone = context(viewport={"width": 360, "height": 740}, has_touch=True, color_scheme="dark").new_page()
        phone = watched(phone, problems)
        phone.set_default_timeout(40000)
        check_settings(wide, phone, station)
        check_backup(phone, station, folder)
        check_archive(wide, out)
        check_teach(wide, station, out)
        check_regions(phone, station)
        check_report(wide)
        go(wide, "Changes")
        expect(wide.locator("#changes")).to_contain_text("operator@web 127.0.0.1,threshold")

        for page, width in [(wide, 1920), (phone, 360)]:
            for name in PAGES:
                page.goto(f"{station.url}#{name}")
                page.wait_for_timeout(600)
                check(f"{name} is no wider than {width}", page.evaluate("document.documentElement.scrollWidth"),
                      lambda seen: seen <= width)
                check(f"accessibility of {name} at {width}", serious_of(page), [])
                page.screenshot(path=out / f"{name}-{width}.png")
            check_dialogs(page, station, width, out)
        wide.emulate_media(color_scheme="dark")
        wide.goto(f"{station.url}#live")
        wide.wait_for_timeout(600)
        check("accessibility of live in the dark at 1920", serious_of(wide), [])
        wide.screenshot(path=out / "live-dark.png")
        wide.emulate_media(color_scheme="light")
        check("errors in the browser's console (but refusals, 4xx)",
              [p for p in problems if "status of 4" not in p], [])

        # The station goes away, and comes back.
        wide.goto(station.url + "#live")
        threshold = station.state()["threshold"]
        check("orderly end", station.stop(), lambda code: code in (0, 1))
        expect(wide.locator("#lost")).to_be_visible(timeout=10000)
        check("the state without a connection", wide.locator("#mode").inner_text(), "No connection")
        wide.screenshot(path=out / "lost.png")
        station.start()
        expect(wide.locator("#lost")).to_be_hidden(timeout=20000)
        expect(wide.locator("#mode")).to_have_text("Inspecting")
        check("the threshold after a restart", station.state()["threshold"], threshold)
        # Sessions end with the program.
        wide.get_by_role("button", name="Disarm").click()
        expect(wide.locator("#login")).to_be_visible()
        wide.locator("#login-cancel").click()

        # Its settings are damaged: it stands, and says why although there may be no alarm.
        station.stop()
        (folder / "state" / "memory").write_text("noise")
        station.start()
        expect(wide.locator("#alarms")).to_contain_text("Memory fault", timeout=40000)
        check("the state with damaged settings", station.state()["mode"], "stopped")
        wide.screenshot(path=out / "memory.png")
        browser.close()
    station.stop()
    shutil.rmtree(folder)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        code = main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    finally:
        for process in Station.started:
            process.kill()
    sys.exit(code)
