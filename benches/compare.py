"""This program beside its peers: same weights, same threads, one frame at a time, in turn.

Makes random weights of each size, exports them to bundles, and lets every contender judge one frame per round: this program in
f32 and int8, ONNX Runtime in f32 and dynamic int8 (image encoder), PyTorch by FAPrompt's published procedure (image encoder, then
all prompts of 77 tokens again), plain and through torch.compile. Ratios are taken round by round, so that they hold when the
machine's speed drifts. Writes compare.md, compare.svg and compare.json. `--encoder FILE.onnx --taps A,B --image-size N`: a network of
one's own instead, which ONNX Runtime runs in f32 up to the same taps.
Usage: compare.py --programs FOLDER --cache FOLDER --out FOLDER [--rounds N] [--threads N,M] [--models A,B] [--without PEER,PEER]
[--large] [--encoder FILE.onnx --taps A,B --image-size N]
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import peers

MODELS = {  # label: name for `faprompt-train random`, image size
    "ViT-S/16@224": ("ViT-S-16", 224),
    "ViT-B/16@224": ("ViT-B-16", 224),
    "ViT-L/14@336": ("ViT-L-14-336", 336),
    "ViT-L/14@518": ("ViT-L-14-336", 518),
    "DINOv2-S/14@224": ("DINOv2-S-14", 224),
    "DINOv2-S/14@448": ("DINOv2-S-14", 448),
}
DINO = "DINOv2-S-14"  # an image encoder without text: 384 x 12
LARGE = "ViT-L/14@518"
OURS = {"faprompt-edge f32": "f32", "faprompt-edge int8": "int8"}
PEERS = ["ONNX Runtime f32", "ONNX Runtime int8", "PyTorch published", "PyTorch compiled"]
# What is divided by what: label, contender, peer, stage.
RATIOS = [
    ("encoder f32 / ONNX Runtime f32", "faprompt-edge f32", "ONNX Runtime f32", "encode"),
    ("encoder int8 / ONNX Runtime int8", "faprompt-edge int8", "ONNX Runtime int8", "encode"),
    ("encoder int8 / ONNX Runtime f32", "faprompt-edge int8", "ONNX Runtime f32", "encode"),
    ("encoder int8 / own f32", "faprompt-edge int8", "faprompt-edge f32", "encode"),
    ("frame int8 / PyTorch published", "faprompt-edge int8", "PyTorch published", "total"),
    ("frame int8 / PyTorch compiled", "faprompt-edge int8", "PyTorch compiled", "total"),
    ("frame f32 / PyTorch published", "faprompt-edge f32", "PyTorch published", "total"),
]
HERE = pathlib.Path(__file__).parent


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def peak_mb(pid):
    """Largest resident memory so far, MB (proc(5): VmHWM, in KiB)."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def prepare_encoder(programs, cache, size, file, taps):
    """Bundles of a network of one's own, and its file cut at the taps; made anew, for the file may be another one."""
    import onnx

    folder = cache / f"{file.stem}-{size}"
    folder.mkdir(parents=True, exist_ok=True)
    for precision in OURS.values():
        run(programs / "faprompt-train", "export", "--encoder", file, "--taps", ",".join(taps), "--image-size", size,
            "--precision", precision, "--out", folder / f"{precision}.bundle")
    graph = onnx.load(file, load_external_data=False).graph
    constants = {i.name for i in graph.initializer}
    onnx.utils.extract_model(file, folder / "network.onnx", [i.name for i in graph.input if i.name not in constants], taps)
    return folder, size


def prepare(programs, cache, label):
    """Weights and bundles of a size; reused if they are there."""
    model, size, *own = MODELS[label]
    if own:
        return prepare_encoder(programs, cache, size, *own)
    folder = cache / f"{model}-{size}"
    folder.mkdir(parents=True, exist_ok=True)
    trainer = programs / "faprompt-train"
    if model == DINO:
        if not (folder / "dino.safetensors").exists():
            peers.Dino.random(folder / "dino.safetensors", 384, 12, 14, size)
        for precision in OURS.values():
            bundle = folder / f"{precision}.bundle"
            if not bundle.exists():
                run(trainer, "export", "--weights", folder / "dino.safetensors", "--untrained", "--precision", precision,
                    "--image-size", size, "--out", bundle)
        return folder, size
    if not (folder / "prompts.safetensors").exists():
        run(trainer, "random", "--model", model, "--out", folder)
    for precision in OURS.values():
        bundle = folder / f"{precision}.bundle"
        if not bundle.exists():
            run(trainer, "export", "--clip", folder / "clip.safetensors", "--prompts", folder / "prompts.safetensors",
                "--untrained", "--precision", precision, "--image-size", size, "--out", bundle)
    return folder, size


class Ours:
    """`faprompt-edge bench`, started anew each round: the median of three frames after one that is not counted."""

    def __init__(self, programs, folder, precision, threads):
        self.bundle = folder / f"{precision}.bundle"
        self.program, self.threads = programs / "faprompt-edge", threads
        self.version = run(self.program, "--version").split()[-1]
        photo = folder / "photo.ppm"
        photo.write_bytes(b"P6 640 480 255\n" + bytes(640 * 480 * 3))
        # From nothing to the first verdict, and the memory that this takes.
        start = time.perf_counter()
        process = subprocess.Popen([str(self.program), "inspect", "--bundle", str(self.bundle), str(photo)],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        self.start_s, self.peak_mb = time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6

    def frame(self):
        report = json.loads(run(self.program, "bench", "--bundle", self.bundle, "--threads", self.threads, "--frames", "3", "--json"))
        row = report["rows"][0]
        self.cpu = report["cpu"]
        return {**row["ms"], "total": row["total_ms"]}

    def close(self):
        pass


class Peer:
    """A worker process that judges a frame whenever it is asked."""

    def __init__(self, kind, folder, size, threads):
        start = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        files = (folder / name for name in ("network.onnx", "dino.safetensors", "clip.safetensors"))
        weights = next(file for file in files if file.exists())
        command = [sys.executable, HERE / "peers.py", kind, weights, size, threads, folder]
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=environment)
        first = self.process.stdout.readline()
        if not first:
            raise RuntimeError(self.process.stderr.read().strip().splitlines()[-1:])
        first = json.loads(first)
        self.version, self.digest = first["version"], first["digest"]
        self.start_s, self.peak_mb = time.perf_counter() - start, peak_mb(self.process.pid)

    def frame(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.peak_mb = peak_mb(self.process.pid)
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def middle(values):
    """Median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": median, "low": low, "high": high}


def compare(programs, cache, label, threads, rounds, kinds):
    folder, size = prepare(programs, cache, label)
    contenders, missing = {}, {}
    for name, precision in OURS.items():
        contenders[name] = Ours(programs, folder, precision, threads)
    # PyTorch's peer is the whole frame with text; rounding convolutions on the way is no int8 that anybody would use.
    _, _, *own = MODELS[label]
    runs = "ONNX Runtime f32" if own else "ONNX" if MODELS[label][0] == DINO else ""
    for kind in (k for k in kinds if k.startswith(runs)):
        try:
            contenders[kind] = Peer(kind, folder, size, threads)
        except RuntimeError as error:
            missing[kind] = str(error)
    digests = {kind: c.digest for kind, c in contenders.items() if isinstance(c, Peer)}
    for kind, digest in digests.items():
        if any(abs(a - b) > 0.02 * abs(b) for a, b in zip(digest, next(iter(digests.values())))):
            sys.exit(f"{kind} computes something else: {digest} against {digests}")
    frames = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            frames[name].append(contender.frame())
    result = {"model": label, "threads": threads, "missing": missing, "contenders": {}, "ratios": {}}
    for name, contender in contenders.items():
        contender.close()
        stages = {stage: middle([f[stage] for f in frames[name]]) for stage in frames[name][0]}
        result["contenders"][name] = {"version": contender.version, "ms": stages,
                                      "start_s": contender.start_s, "peak_mb": contender.peak_mb}
    for what, ours, peer, stage in RATIOS:
        if peer in frames:
            result["ratios"][what] = middle([a[stage] / b[stage] for a, b in zip(frames[ours], frames[peer])])
    result["cpu"] = contenders["faprompt-edge f32"].cpu
    return result


def markdown(results, rounds, weights):
    versions = {n: c["version"] for r in results for n, c in r["contenders"].items()}
    lines = [f"{results[0]['cpu']}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores; medians of {rounds} rounds in "
             f"turn [quartiles], {weights} weights.", "", ", ".join(f"{n} {v}" for n, v in versions.items()) + ".", "",
             "| | threads | encoder, ms | whole frame, ms | start to first result, s | peak memory, MB |", "|---|---|---|---|---|---|"]
    for r in results:
        for name, c in r["contenders"].items():
            total = f"{c['ms']['total']['median']:.1f}" if "total" in c["ms"] else ""
            e = c["ms"]["encode"]
            lines.append(f"| {r['model']}, {name} | {r['threads']} | {e['median']:.1f} [{e['low']:.1f}, {e['high']:.1f}] | {total} | "
                         f"{c['start_s']:.2f} | {c['peak_mb']:.0f} |")
    lines += ["", "| ratio | " + " | ".join(f"{r['model']}, {r['threads']} thr." for r in results) + " |",
              "|---" * (len(results) + 1) + "|"]
    for what, *_ in RATIOS:
        cells = [r["ratios"].get(what) for r in results]
        cells = [f"{c['median']:.2f} [{c['low']:.2f}, {c['high']:.2f}]" if c else "" for c in cells]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    for r in results:
        lines += [f"\n{r['model']}, {r['threads']} threads: {kind} did not run: {why}" for kind, why in r["missing"].items()]
    return "\n".join(lines) + "\n"


def plot(results, path):
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results), figsize=(4.2 * len(results), 3.2), squeeze=False)
    for axis, r in zip(axes[0], results):
        names = list(r["contenders"])[::-1]
        values = [r["contenders"][n]["ms"]["encode"] for n in names]
        medians = [v["median"] for v in values]
        spread = [[v["median"] - v["low"] for v in values], [v["high"] - v["median"] for v in values]]
        axis.barh(names, medians, xerr=spread, color=["#c4501b" if n in OURS else "#8a8f98" for n in names])
        axis.set_title(f"{r['model']}, {r['threads']} thread{'s' if r['threads'] > 1 else ''}", fontsize=10)
        axis.set_xlabel("image encoder, ms")
    figure.tight_layout()
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", default="")
    parser.add_argument("--models", default="")
    parser.add_argument("--without", default="", help="peers to leave out, by comma")
    parser.add_argument("--large", action="store_true", help=f"{LARGE} too: many minutes")
    parser.add_argument("--encoder", type=pathlib.Path, help="an ONNX file of any image encoder, as `export --encoder` takes it")
    parser.add_argument("--taps", default="", help="what is compared of it, by comma")
    parser.add_argument("--image-size", type=int, default=224)
    a = parser.parse_args()
    if bool(a.encoder) != bool(a.taps):
        parser.error("--encoder and --taps belong together")
    if a.encoder:
        a.models = f"{a.encoder.stem}@{a.image_size}"
        MODELS[a.models] = (a.encoder.stem, a.image_size, a.encoder, a.taps.split(","))
    cores = len(os.sched_getaffinity(0))
    threads = [int(t) for t in a.threads.split(",") if t] or sorted({1, cores})
    models = [m for m in a.models.split(",") if m] or [m for m in MODELS if a.large or m != LARGE]
    kinds = [p for p in PEERS if p not in a.without.split(",")]
    a.out.mkdir(parents=True, exist_ok=True)
    results = []
    for model in models:
        for n in threads:
            results.append(compare(a.programs, a.cache, model, n, a.rounds, kinds))
            # After every size: an interrupted run leaves what is done.
            text = markdown(results, a.rounds, "its own" if a.encoder else "random")
            (a.out / "compare.md").write_text(text)
            (a.out / "compare.json").write_text(json.dumps(results, indent=1) + "\n")
            plot(results, a.out / "compare.svg")
    print(text)


main()
