"""check.py STATION GATEWAY: the gateway against OPC UA's implementation in Python (asyncua), with a simulated station that
is killed and comes back. Ends with an AssertionError that says what was wrong."""

import asyncio
import json
import logging
import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tty
import urllib.error
import urllib.request
from pathlib import Path

from asyncua import Client, ua
from asyncua.common.events import get_filter_from_event_type
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyAes256Sha256RsaPss, SecurityPolicyBasic256Sha256
from cryptography.x509.oid import ExtendedKeyUsageOID

logging.disable(logging.WARNING)
STATION, GATEWAY = sys.argv[1:3]
VISION, OWN = "http://opcfoundation.org/UA/MachineVision", "urn:faprompt-edge:gateway"
FOLDER = Path(tempfile.mkdtemp())
DONE = []
CHILDREN = []


def started(command, **more):
    child = subprocess.Popen(command, **more)
    CHILDREN.append(child)
    return child



def done(what):
    DONE.append(what)
    print("ok:", what, flush=True)


def free():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


WEB, UA = free(), free()

class Station:
    """A simulated station, four parts a second."""

    def __init__(self):
        self.child = None
        self.log = open(FOLDER / "station.log", "ab")
        self.cable, self.end = pty.openpty()
        tty.setraw(self.end)

    def start(self, *more):
        command = [STATION, "run", "--board", "sim", "--source", "pattern", "--rate", "4", "--delay-ms", "4000", "--quiet",
                   "--frames", "1000000", "--web", f"127.0.0.1:{WEB}", "--out", FOLDER / "out", "--state", FOLDER / "state",
                   # The default without alarm 11: how late a busy machine is, is not what is looked at here.
                   "--serial", os.ttyname(self.end), "--set", "station_name=line1", "--set", "alarm_stop=1662"]
        self.child = started([*command, *more], stdout=subprocess.DEVNULL, stderr=self.log)
        until("the station", lambda: mode() in ("running", None))

    def order(self, line):
        """A line over its serial port."""
        os.write(self.cable, line.encode() + b"\r")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += os.read(self.cable, 1)
        assert answer.startswith(b"OK,"), (line, answer)

    def kill(self):
        self.child.kill()
        self.child.wait()


def state():
    with urllib.request.urlopen(f"http://127.0.0.1:{WEB}/api/state", timeout=5) as answer:
        return json.load(answer)


def mode():
    """The station's mode; None: it shows it after log-in only."""
    try:
        return state()["mode"]
    except urllib.error.HTTPError as e:
        assert e.code == 401, e
        return None


def until(what, fits, patience=60):
    start = time.monotonic()
    while True:
        try:
            if fits():
                return
        except OSError:
            pass
        assert time.monotonic() - start < patience, f"{what} does not come"
        time.sleep(0.1)


async def soon(what, fits, patience=30):
    start = time.monotonic()
    while True:
        last = await fits()
        if last:
            return last
        assert time.monotonic() - start < patience, f"{what} does not come"
        await asyncio.sleep(0.1)


def file(**more):
    """A gateway's file; `more` goes to the top, password to the station."""
    password = more.pop("password", None)
    url = more.pop("url", f"http://127.0.0.1:{WEB}")
    top = {"listen": f"127.0.0.1:{UA}", "certificates": "pki", **more}
    lines = [f"{key} = {json.dumps(value)}" for key, value in top.items()]
    lines += ["[station]", 'name = "line1"', f"url = {json.dumps(url)}"]
    if password is not None:
        (FOLDER / "password").write_text(password + "\n")
        lines.append('password_file = "password"')
    path = FOLDER / "gateway.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def ended(path, *arguments):
    """Exit code and what was said."""
    result = subprocess.run([GATEWAY, path, *arguments], capture_output=True, text=True, timeout=60)
    return result.returncode, result.stderr


class Gateway:
    def __init__(self, path):
        self.log = open(FOLDER / "gateway.log", "ab")
        self.child = started([GATEWAY, path], stderr=self.log)
        until("the gateway", lambda: socket.create_connection(("127.0.0.1", UA), 1).close() is None)

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        code = self.child.wait(20)
        assert code == 0, f"the gateway ended with {code}"


URL = f"opc.tcp://127.0.0.1:{UA}/"
CERTIFICATE, KEY = FOLDER / "client.der", FOLDER / "client.pem"


async def client(user=None, password=None, policy=SecurityPolicyBasic256Sha256):
    made = Client(URL, timeout=10)
    made.application_uri = "urn:check:client"
    if policy:
        await made.set_security(policy, str(CERTIFICATE), str(KEY))
    if user:
        made.set_user(user)
        made.set_password(password)
    return made


def codes():
    """Ends that a user must be able to tell apart."""
    for settings, arguments, wanted, said in [
        ({"listen": "nowhere"}, (), 23, "listen: invalid socket address"),
        ({"unencrypted": True}, (), 23, "unencrypted: nobody can log in"),
        (None, (), 23, "missing.toml"),
        ({"listen": f"127.0.0.1:{WEB}"}, (), 45, "does another program serve there?"),
        ({"certificates": "/proc/pki"}, (), 46, "certificates: /proc/pki"),
        ({"url": "http://127.0.0.1:9"}, ("--check",), 42, "no connection"),
        ({}, ("--check",), 0, "line1 running"),
    ]:
        path = FOLDER / "missing.toml" if settings is None else file(**settings)
        code, text = ended(path, *arguments)
        assert code == wanted and said in text, f"{settings} {arguments}: {code} {text}"
    done("exit codes of wrong files, addresses, folders, stations")


async def paths(ua_client):
    vision = await ua_client.get_namespace_index(VISION)
    own = await ua_client.get_namespace_index(OWN)

    async def at(path, last=None):
        names = [f"{vision}:{name}" for name in path.split("/")]
        return await ua_client.nodes.objects.get_child(names + ([last] if last else []))

    return vision, own, at


async def filter_of(node):
    """All fields of a type's events; by OfType: that a server compares types in a list it does not promise."""
    made = await get_filter_from_event_type([node])
    element = ua.ContentFilterElement(FilterOperator=ua.FilterOperator.OfType,
                                      FilterOperands=[ua.LiteralOperand(Value=ua.Variant(node.nodeid))])
    made.WhereClause = ua.ContentFilter(Elements=[element])
    return made


class Heard:
    def __init__(self):
        self.events, self.values = [], []

    def event_notification(self, event):
        self.events.append(event)

    def datachange_notification(self, node, value, data):
        self.values.append(value)

    def status_change_notification(self, status):
        pass


async def reading(c):
    vision, own, at = await paths(c)
    machine = await at("VisionSystem/VisionStateMachine")
    assert await machine.read_type_definition() == ua.NodeId(1017, vision)
    automatic = await at("VisionSystem/VisionStateMachine/AutomaticModeStateMachine")

    async def states():
        first = await (await machine.get_child("0:CurrentState")).read_value()
        second = await (await automatic.get_child("0:CurrentState")).read_data_value(raise_on_bad_status=False)
        return first.Text, second.Value.Value.Text if second.StatusCode.is_good() else None

    wanted = ("Operational", "ContinuousExecution")

    async def runs():
        return await states() == wanted

    await soon("ContinuousExecution", runs)
    current = await automatic.get_child("0:CurrentState")
    assert await (await current.get_child("0:Id")).read_value() == ua.NodeId(5059, vision)
    assert await (await current.get_child("0:Number")).read_value() == 8
    done("states: Operational, ContinuousExecution")

    # As generic clients do before a call: what cannot be decoded makes the answer to the whole request a fault.
    lists = 0
    for where in ("", "/AutomaticModeStateMachine"):
        of = await at(f"VisionSystem/VisionStateMachine{where}")
        for method in await of.get_methods():
            for named in await method.get_properties():
                arguments = await named.read_value()
                # By name: asyncua makes a class of its own for each type that it has read from a server.
                assert arguments and all(type(a).__name__ == "Argument" for a in arguments), (named, arguments)
                lists += 1
    management = await at("VisionSystem/ResultManagement")
    for method in await management.get_methods():
        for named in await method.get_properties():
            assert await named.read_value(), named
            lists += 1
    assert lists > 8, lists
    done(f"methods: {lists} lists of arguments can be read")

    await c.load_data_type_definitions()
    result_type = c.get_node(ua.NodeId(1024, vision))
    heard = Heard()
    subscription = await c.create_subscription(100, heard)
    system = await at("VisionSystem")
    await subscription.subscribe_events(system, evfilter=await filter_of(result_type), queuesize=1000)

    async def thirty():
        return len(heard.events) >= 30

    await soon("30 results", thirty)
    await subscription.delete()
    events = heard.events
    parts = [int(e.PartId.Id) for e in events]
    assert parts == list(range(parts[0], parts[0] + len(parts))), f"parts are missing or come twice: {parts}"
    # A busy machine may be late for some.
    event = next(e for e in reversed(events) if e.ResultState == 1)
    content = {pair.Key.Name: pair.Value.Value if isinstance(pair.Value, ua.Variant) else pair.Value
               for pair in event.ResultContent}
    assert isinstance(content["Pass"], bool) and 0 <= content["Score"] <= 1 and content["Camera"] == 1, content
    assert event.InternalRecipeId.Id == "1" and event.InternalRecipeId.Description.Text == "Cap M8", event.InternalRecipeId
    assert event.IsPartial is False and event.JobId.Id
    assert event.ProcessingTimes.ProcessingDuration > 0
    assert abs(time.time() - event.CreationTime.timestamp()) < 60
    done(f"{len(events)} results as ResultReadyEventType, none missing, none twice")

    last = await at("VisionSystem/ResultManagement/Results/LastResult")
    value = await last.read_value()
    assert int(value.PartId.Id) >= parts[-1] and value.ResultContent
    assert isinstance(await (await last.get_child(f"{own}:Pass")).read_value(), bool)
    management = await at("VisionSystem/ResultManagement")
    handle, found, error = await management.call_method(f"{vision}:GetResultById", event.ResultId, ua.Int32(1000))
    assert error == 0 and found.PartId.Id == event.PartId.Id, (error, found)
    nothing = ua.ResultIdDataType(Id="nothing")
    assert (await management.call_method(f"{vision}:GetResultById", nothing, ua.Int32(0)))[2] == -208
    components = await management.call_method(f"{vision}:GetResultComponentsById", event.ResultId, ua.Int32(0))
    assert len(components) == 17 and components[-1] == 0 and components[6].Id == event.PartId.Id, components

    def chosen(part="", most=0):
        ids = [ua.MeasIdDataType(), ua.PartIdDataType(Id=part), ua.RecipeIdExternalDataType(), ua.RecipeIdInternalDataType(),
               ua.ConfigurationIdDataType(), ua.ConfigurationIdDataType(), ua.ProductIdDataType(), ua.JobIdDataType()]
        numbers = [ua.Variant(most, ua.VariantType.UInt32), ua.Variant(0, ua.VariantType.UInt32), ua.Int32(0)]
        return management.call_method(f"{vision}:GetResultListFiltered", ua.Int32(0), *ids, *numbers)

    complete, count, _, results, error = await chosen(part=event.PartId.Id)
    assert (complete, count, error) == (True, 1, 0) and results[0].ResultId.Id == event.ResultId.Id
    complete, count, _, results, error = await chosen(most=5)
    assert (complete, count, len(results)) == (False, 5, 5)
    done("results by id, by components, filtered, in pages")

    recipes = await at("VisionSystem/RecipeManagement")
    everything = (ua.RecipeIdExternalDataType(), ua.ProductIdDataType(), ua.Int32(2),
                  ua.Variant(0, ua.VariantType.UInt32), ua.Variant(0, ua.VariantType.UInt32), ua.Int32(0))
    complete, count, _, listed, error = await recipes.call_method(f"{vision}:GetRecipeListFiltered", *everything)
    assert (complete, count, error) == (True, 32, 0)
    assert [r.Description.Text for r in listed[:2]] == ["Cap M8", "Cap M10"]
    first = await at("VisionSystem/RecipeManagement/Recipes", f"{own}:1")
    assert await (await first.get_child(f"{vision}:IsPrepared")).read_value() is True
    assert (await first.read_display_name()).Text == "1 Cap M8"
    said = await at("VisionSystem/Station")
    assert await (await said.get_child(f"{own}:Mode")).read_value() == "running"
    counters = await said.get_child(f"{own}:Counters")
    assert await (await counters.get_child(f"{own}:parts")).read_value() > 30
    try:
        await (await said.get_child(f"{own}:Mode")).write_value("halted")
        raise AssertionError("a value could be written")
    except ua.UaStatusCodeError:
        pass
    done("recipes, counters; nothing can be written")
    return states


async def refused(c, wanted):
    try:
        await asyncio.wait_for(c.connect(), 20)
    except (ua.UaError, ConnectionError, asyncio.TimeoutError) as e:
        assert not wanted or type(e).__name__ in wanted, f"{type(e).__name__}: {e}"
        return
    await c.disconnect()
    raise AssertionError("it was let in")


async def main():
    station = Station()
    station.start()
    for line in ['SET recipe_name "Cap M8"', "COMMIT", "RECIPE 2", 'SET recipe_name "Cap M10"', "SET engineer_password press-maker",
                 "SET operator_password belt-runner", "COMMIT"]:
        station.order(line)
        time.sleep(1.1)
    station.order("LOGIN engineer press-maker")
    station.order("RECIPE 1")
    await setup_self_signed_certificate(KEY, CERTIFICATE, "urn:check:client", socket.gethostname(),
                                        [ExtendedKeyUsageOID.CLIENT_AUTH], {"countryName": "CH"})
    codes()
    gateway = Gateway(file())

    # A certificate that nobody has trusted yet is kept aside.
    await refused(await client("operator", "belt-runner"), None)
    rejected = list((FOLDER / "pki/rejected").iterdir())
    assert len(rejected) == 1, rejected
    rejected[0].rename(FOLDER / "pki/trusted" / rejected[0].name)
    for name in ["pki", "pki/private"]:
        assert (FOLDER / name).stat().st_mode & 0o077 == 0, f"{name} is open to others"
    assert (FOLDER / "pki/private/private.pem").stat().st_mode & 0o077 == 0
    done("an unknown certificate is refused and kept in rejected")
    await refused(await client("operator", "wrong"), ["BadIdentityTokenRejected", "BadUserAccessDenied"])
    await refused(await client("nobody", "belt-runner"), ["BadIdentityTokenRejected"])
    await refused(await client(), None)
    await refused(await client(policy=None), None)
    done("wrong password, unknown user, no user, no encryption: refused")

    async with await client("operator", "belt-runner") as c:
        states = await reading(c)
        vision, own, at = await paths(c)
        automatic = await at("VisionSystem/VisionStateMachine/AutomaticModeStateMachine")
        machine = await at("VisionSystem/VisionStateMachine")
        why = (ua.Int32(0), "check")

        def reached(*wanted):
            async def fits():
                return await states() == wanted
            return fits

        assert await automatic.call_method(f"{vision}:Stop", *why) == 0
        await soon("Ready", reached("Operational", "Ready"))
        ids = (ua.MeasIdDataType(), ua.PartIdDataType(), ua.RecipeIdExternalDataType(), ua.ProductIdDataType())
        nothing = ua.Variant([], ua.VariantType.Variant, is_array=True)
        job, error = await automatic.call_method(f"{vision}:StartSingleJob", *ids, nothing)
        assert error == -300 or error == -303, error
        job, error = await automatic.call_method(f"{vision}:StartContinuous", *ids, nothing)
        assert error == 0 and job.Id, (job, error)
        await soon("ContinuousExecution", reached("Operational", "ContinuousExecution"))
        assert await machine.call_method(f"{vision}:Reset", *why) == 0
        assert await machine.call_method(f"{vision}:Halt", *why) == -300
        await machine.call_method(f"{vision}:ConfirmAll", ua.LocalizedText("seen"))
        recipes = await at("VisionSystem/RecipeManagement")
        prepare = lambda number: recipes.call_method(
            f"{vision}:PrepareRecipe", ua.RecipeIdExternalDataType(), ua.RecipeIdInternalDataType(Id=number))
        recipe, completed, error = await prepare("2")
        assert (recipe.Description.Text, completed, error) == ("Cap M10", True, 0)
        second = await at("VisionSystem/RecipeManagement/Recipes", f"{own}:2")
        prepared = await second.get_child(f"{vision}:IsPrepared")
        await soon("recipe 2", prepared.read_value)
        assert state()["recipe"] == "2"
        assert (await prepare("33"))[2] == -206
        first = await at("VisionSystem/RecipeManagement/Recipes", f"{own}:1")
        assert await first.call_method(f"{vision}:Prepare") == [True, 0]
        assert await first.call_method(f"{vision}:Unprepare") == -300
        done("orders: Stop, StartContinuous, StartSingleJob (refused), Reset, Halt (refused), ConfirmAll, recipes")

        heard = Heard()
        subscription = await c.create_subscription(100, heard)
        current = await machine.get_child("0:CurrentState")
        await subscription.subscribe_data_change(current)
        station.kill()
        await soon("Error", reached("Error", None))
        connected = await (await at("VisionSystem/Station")).get_child(f"{own}:Connected")
        assert await connected.read_value() is False
        mode = await (await at("VisionSystem/Station")).get_child(f"{own}:Mode")
        value = await mode.read_data_value(raise_on_bad_status=False)
        assert value.StatusCode.name == "BadNoCommunication", value
        try:
            await automatic.call_method(f"{vision}:Stop", *why)
            raise AssertionError("an order was given to a station that is away")
        except ua.UaStatusCodeError as e:
            assert e.code == ua.StatusCodes.BadNoCommunication, e
        await c.load_data_type_definitions()
        results = Heard()
        more = await c.create_subscription(100, results)
        kind = c.get_node(ua.NodeId(1024, vision))
        await more.subscribe_events(await at("VisionSystem"), evfilter=await filter_of(kind), queuesize=1000)
        station.start()
        await soon("the station back", reached("Operational", "ContinuousExecution"))

        async def ten():
            return len(results.events) >= 10

        await soon("results after that", ten)
        ids = [e.ResultId.Id for e in results.events]
        assert len(set(ids)) == len(ids), ids
        names = [v.Text for v in heard.values]
        assert names[0] == "Operational" and "Error" in names, names
        done("the station killed and back: Error, then results again, in the same session")
        await subscription.delete()
        await more.delete()
    async with await client("engineer", "press-maker", SecurityPolicyAes256Sha256RsaPss) as c:
        await paths(c)
    done("Aes256_Sha256_RsaPss")
    gateway.end()

    gateway = Gateway(file(anonymous=True, unencrypted=True))
    async with await client(policy=None) as c:
        await reading(c)
        vision, own, at = await paths(c)
        automatic = await at("VisionSystem/VisionStateMachine/AutomaticModeStateMachine")
        try:
            await automatic.call_method(f"{vision}:Stop", ua.Int32(0), "check")
            raise AssertionError("anybody could stop the line")
        except ua.UaStatusCodeError as e:
            assert e.code == ua.StatusCodes.BadUserAccessDenied, e
    await refused(await client("operator", "belt-runner", policy=None), None)
    assert state()["mode"] == "running"
    done("anonymous, unencrypted: everything is read, nothing ordered, no password taken")
    gateway.end()
    station.kill()

    # A station that shows nothing without log-in.
    station.start("--set", "web_view=nothing")
    code, text = ended(file(), "--check")
    assert code == 44 and "code 400" in text, (code, text)
    code, text = ended(file(password="wrong"))
    assert code == 44 and "code 402" in text, (code, text)
    time.sleep(1.1)
    gateway = Gateway(file(password="belt-runner", anonymous=True, unencrypted=True))
    async with await client(policy=None) as c:
        await reading(c)
    gateway.end()
    done("web_view nothing: a wrong password ends it with 44, the right one reads")
    station.kill()
    log = (FOLDER / "gateway.log").read_text() + (FOLDER / "station.log").read_text()
    assert "belt-runner" not in log and "press-maker" not in log and "panicked" not in log, "secrets or panics in the log"
    print(f"{len(DONE)} checks passed")


def run():
    try:
        asyncio.run(main())
    except BaseException:
        for name in ["gateway.log", "station.log"]:
            if (FOLDER / name).exists():
                print(f"--- {name}\n" + "\n".join((FOLDER / name).read_text().splitlines()[-25:]), file=sys.stderr)
        raise
    finally:
        for child in CHILDREN:
            child.kill()


run()
