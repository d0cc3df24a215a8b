#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what nibble_peers_bench measures as a Markdown table and an SVG roofline.

usage: report.py [--out docs] [--threads 1 ..] [--rounds 7] PROGRAM     runs build/release/bench/peers/nibble_peers_bench
       report.py [--out docs] --json FILE ..                           takes what it wrote with --json FILE
Writes OUT/performance.md, OUT/roofline.svg (of the first run) and, when it ran the program, OUT/performance.json.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

BYTES_A_WEIGHT = 0.5 + 2 / 32  # of q4f16_1 and Q4_0: four bits, and an f16 scale for 32
OURS, GGML, ORT = "nibble", "ggml", "onnxruntime"


class Run:
    """The records of one run of the program."""

    def __init__(self, records):
        about = [r for r in records if r["work"] == "about"]
        self.about = about[0]["contestant"] if about else "nibble"
        self.processor = about[0].get("processor", "") if about else ""
        self.threads = records[0]["threads"] if records else 1
        self.limits = {r["contestant"]: r["speed"] for r in records if r["work"] == "roofs"}
        self.works = {}  # name -> records
        for r in records:
            if r["work"] not in ("about", "roofs"):
                self.works.setdefault(r["work"], []).append(r)

    def fastest(self, work, of, exact, has=None):
        """The fastest record of contestants whose name begins so, in this arithmetic; has(name) may choose further."""
        found = [r for r in self.works.get(work, []) if r["contestant"].startswith(of) and r["exact"] == exact and "f32 weights" not in r["contestant"]]
        if has is not None:
            found = [r for r in found if has(r["contestant"])]
        return min(found, key=lambda r: r["best_us"], default=None)

    def compute_limit(self, exact):
        """GFLOP/s, and its name: exact products may take an activation as three bytes."""
        fma, dot = self.limits.get("fma", 0), self.limits.get("dot", 0)
        if not exact:
            return (dot, "products of bytes") if dot > fma else (fma, "multiply-adds")
        return (dot / 3, "products of bytes / 3") if dot / 3 > fma else (fma, "multiply-adds")


def parsed(work):
    """Kind, N, K, M and whether weights come from memory, of a product's name."""
    parts = work.split()
    n, k = (int(v) for v in parts[1].split("x"))
    return parts[0], n, k, int(parts[2][2:]) if parts[0] == "gemm" else 1, parts[2] == "memory"


def is_product(work):
    return work.startswith(("gemv", "gemm"))


def time(us):
    if us is None:
        return "–"
    if us < 1000:
        return f"{us:.0f} µs" if us >= 100 else f"{us:.1f} µs"
    return f"{us / 1000:.2f} ms" if us < 10000 else f"{us / 1000:.1f} ms"


def us_of(record):
    return record["best_us"] if record else None


def times_faster(ours, peers):
    """How many times as fast as the fastest of these; nothing where there is nobody to compare with."""
    peers = [p["best_us"] for p in peers if p]
    return f"{min(peers) / ours['best_us']:.2f} ×" if ours and peers else "–"


def limit_of(run, work, exact, best):
    """Share of the limit that the best time reaches, and which limit it is. Where weights are in cache, reading them is not counted."""
    _, n, k, m, from_memory = parsed(work)
    peak, name = run.compute_limit(exact)
    limits = [(2 * m * n * k / peak * 1e-3, name)] if peak else []
    if from_memory and run.limits.get("read"):
        limits.append((n * k * BYTES_A_WEIGHT / run.limits["read"] * 1e-3, "reading"))
    if not limits or best is None:
        return "–"
    us, name = max(limits)
    return f"{100 * us / best:.0f} % of {name}"


def products_table(run, exact):
    lines = ["| work | nibble, as stored | nibble, repacked | ggml | ONNX Runtime | nibble beside the better | best nibble |", "|---|---|---|---|---|---|---|"]
    for work in filter(is_product, run.works):
        stored = run.fastest(work, OURS, exact, lambda c: "repacked" not in c)
        repacked = run.fastest(work, OURS, exact, lambda c: "repacked" in c)
        peers = [run.fastest(work, GGML, exact), run.fastest(work, ORT, exact)]
        if not stored:
            continue
        both = times_faster(stored, peers)
        if repacked:
            both += " / " + times_faster(repacked, peers)
        best = min(r["best_us"] for r in (stored, repacked) if r)
        kind, n, k, m, from_memory = parsed(work)
        what = f"{kind.upper()} {n} × {k}, " + (f"M = {m}" if kind == "gemm" else "weights in memory" if from_memory else "weights in cache")
        cells = [what, time(us_of(stored)), time(us_of(repacked)), time(us_of(peers[0])), time(us_of(peers[1])), both, limit_of(run, work, exact, best)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines if len(lines) > 2 else []


def others_table(run):
    lines = ["| work | nibble | ggml | ONNX Runtime | nibble beside the better |", "|---|---|---|---|---|"]
    for work in run.works:
        if is_product(work):
            continue
        found = [run.fastest(work, who, True) or run.fastest(work, who, False) for who in (OURS, GGML, ORT)]
        cells = [f"{r['speed']:.1f} {r['unit']}, {time(r['best_us'])}" if r else "–" for r in found]
        lines.append("| " + " | ".join([work.replace("x", " × ", 1), *cells, times_faster(found[0], found[1:])]) + " |")
    return lines if len(lines) > 2 else []


def largest_errors(run, exact):
    """A sentence: the largest error of each contestant over all products."""
    texts = []
    for who, name in ((OURS, "nibble"), (GGML, "ggml"), (ORT, "ONNX Runtime")):
        errors = [r["error"] for work in run.works if is_product(work) for r in run.works[work]
                  if r["contestant"].startswith(who) and r["exact"] == exact and "f32 weights" not in r["contestant"]]
        if errors:
            texts.append(f"{name} {max(errors):.1e}")
    return "Largest error in the 2-norm against f64: " + ", ".join(texts) + "."


def markdown(runs):
    out = ["# Performance", "", "Written by `bench/report.py`; all of a section was measured in one process, in turns, on the same numbers "
           "(4-bit weights with an f16 scale for each 32). `bench/README.md` says how.", "", "![Roofline](roofline.svg)", ""]
    for run in runs:
        limits = ", ".join(f"{text} {run.limits[key]:.0f} {unit}" for key, text, unit in
                           (("read", "reading memory", "GB/s"), ("fma", "multiply-adds of f32", "GFLOP/s"), ("dot", "products of bytes", "GOP/s")) if run.limits.get(key))
        out += [f"## {run.threads} thread{'s' if run.threads != 1 else ''}", "", f"{run.processor or 'Processor'}: {limits or 'limits not measured'}. {run.about}.", ""]
        for exact, title in ((True, "f32 activations (`exact`)"), (False, "activations rounded to 8 bits (`int8`)")):
            table = products_table(run, exact)
            if table:
                out += [f"### Products, {title}", "", *table, "", largest_errors(run, exact), ""]
        table = others_table(run)
        if table:
            out += ["### Other works", "", *table, ""]
    return "\n".join(out)


# The plot. Colours that are told apart on both grounds, and by those who see few colours; the ground is part of the picture, because a page
# may be dark where the system is light.
STYLE = """
.ground { fill: #ffffff } .frame { stroke: #d0d7de } .grid { stroke: #eaeef2 } .text { fill: #1f2328 } .quiet { fill: #59636e } .roof { stroke: #1f2328 }
.c0 { stroke: #0969da } .c1 { stroke: #54aeff } .c2 { stroke: #bc4c00 } .c3 { stroke: #1a7f37 }
.f0 { fill: #0969da } .f1 { fill: #54aeff } .f2 { fill: #bc4c00 } .f3 { fill: #1a7f37 } .hollow { fill: #ffffff }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117 } .frame { stroke: #3d444d } .grid { stroke: #21262d } .text { fill: #f0f6fc } .quiet { fill: #9198a1 } .roof { stroke: #f0f6fc }
.c0 { stroke: #79c0ff } .c1 { stroke: #388bfd } .c2 { stroke: #f0883e } .c3 { stroke: #56d364 }
.f0 { fill: #79c0ff } .f1 { fill: #388bfd } .f2 { fill: #f0883e } .f3 { fill: #56d364 } .hollow { fill: #0d1117 }
}"""
SERIES = [  # name, class, shape, who, which of theirs
    ("nibble, repacked", 0, "diamond", OURS, lambda c: "repacked" in c),
    ("nibble, as stored", 1, "circle", OURS, lambda c: "repacked" not in c),
    ("ggml", 2, "square", GGML, None),
    ("ONNX Runtime", 3, "triangle", ORT, None),
]


class Plot:
    WIDTH, HEIGHT = 900, 570
    LEFT, RIGHT, TOP, BOTTOM = 70, 150, 76, 58

    def __init__(self, x_range, y_range):
        self.x_range, self.y_range = x_range, y_range
        self.items = []

    def x(self, v):
        a, b = map(math.log, self.x_range)
        return self.LEFT + (math.log(v) - a) / (b - a) * (self.WIDTH - self.LEFT - self.RIGHT)

    def y(self, v):
        a, b = map(math.log, self.y_range)
        return self.HEIGHT - self.BOTTOM - (math.log(v) - a) / (b - a) * (self.HEIGHT - self.TOP - self.BOTTOM)

    def line(self, points, css, width=1.0, dash=""):
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.items.append(f'<polyline points="{at}" class="{css}" fill="none" stroke-width="{width}"{dashed}/>')

    def text(self, x, y, words, css="text", anchor="start", size=13, more=""):
        words = words.replace("&", "&amp;").replace("<", "&lt;")
        self.items.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}" font-size="{size}"{more}>{words}</text>')

    def mark(self, x, y, shape, series, filled, size=5.5):
        css = f'class="c{series} {f"f{series}" if filled else "hollow"}" stroke-width="1.8"'
        if shape == "circle":
            self.items.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" {css}/>')
            return
        corners = {"square": [(-1, -1), (1, -1), (1, 1), (-1, 1)], "diamond": [(0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)],
                   "triangle": [(0, -1.3), (1.2, 0.9), (-1.2, 0.9)]}[shape]
        at = " ".join(f"{x + dx * size * 0.9:.1f},{y + dy * size * 0.9:.1f}" for dx, dy in corners)
        self.items.append(f'<polygon points="{at}" {css}/>')

    def svg(self):
        return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.WIDTH} {self.HEIGHT}" width="{self.WIDTH}" height="{self.HEIGHT}" '
                          'font-family="-apple-system, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif" role="img">',
                          "<title>Roofline: speed of 4-bit products beside the limits of the machine</title>",
                          f"<style>{STYLE}\n</style>", f'<rect class="ground" width="{self.WIDTH}" height="{self.HEIGHT}" rx="8"/>', *self.items, "</svg>", ""])


def points_of(run):
    """(M, shape, series, exact, GFLOP/s): GEMV from memory, and GEMM."""
    points = []
    for work in filter(is_product, run.works):
        kind, n, k, m, from_memory = parsed(work)
        if kind == "gemv" and not from_memory:
            continue
        for series, (_, _, _, who, which) in enumerate(SERIES):
            for exact in (True, False):
                r = run.fastest(work, who, exact, which)
                if r:
                    points.append((m, (n, k), series, exact, 2 * m * n * k / r["best_us"] * 1e-3))
    return points


def roofline(run):
    points = points_of(run)
    read, fma, dot = (run.limits.get(k, 0) for k in ("read", "fma", "dot"))
    top = max([fma, dot] + [p[4] for p in points] + [1])
    low = min([p[4] for p in points] + [10])
    intensity = lambda m: 2 * m / BYTES_A_WEIGHT
    most_m = max([p[0] for p in points] + [8])
    plot = Plot((intensity(1) / 2, intensity(most_m) * 2), (low / 1.5, top * 1.6))
    x0, x1 = plot.x_range
    left, right, bottom = plot.x(x0), plot.x(x1), plot.y(plot.y_range[0])

    for decade in range(-1, 6):
        for step in (1, 2, 5):
            v = step * 10.0 ** decade
            if plot.y_range[0] <= v <= plot.y_range[1]:
                plot.line([(left, plot.y(v)), (right, plot.y(v))], "grid")
                plot.text(left - 8, plot.y(v) + 4, f"{v:g}", "quiet", "end", 12)
    for m in sorted({p[0] for p in points}):
        x = plot.x(intensity(m))
        plot.line([(x, plot.y(plot.y_range[1])), (x, bottom)], "grid")
        plot.text(x, bottom + 18, f"{intensity(m):.2f}" if m < 8 else f"{intensity(m):.0f}", "quiet", "middle", 12)
        plot.text(x, bottom + 33, f"M = {m}", "text", "middle", 12)
    plot.text((left + right) / 2, bottom + 51, "operations for each byte of weights", "quiet", "middle", 12)
    plot.text(18, (plot.y(plot.y_range[1]) + bottom) / 2, "GFLOP/s", "quiet", "middle", 12, f' transform="rotate(-90 18 {(plot.y(plot.y_range[1]) + bottom) / 2:.1f})"')

    ceiling = max(fma, dot)
    if read:
        ends = [max(x0, plot.y_range[0] / read), min(x1, ceiling / read) if ceiling else x1]
        plot.line([(plot.x(x), plot.y(x * read)) for x in ends], "roof", 2)
        at = ends[0] * (ends[1] / ends[0]) ** 0.62
        slope = math.degrees(math.atan2(plot.y(ends[1] * read) - plot.y(ends[0] * read), plot.x(ends[1]) - plot.x(ends[0])))
        x, y = plot.x(at), plot.y(at * read) - 8
        plot.text(x, y, f"reading memory, {read:.0f} GB/s", "text", "middle", 12, f' transform="rotate({slope:.1f} {x:.1f} {y:.1f})"')
    for value, name, dash in ((dot, "products of bytes", ""), (fma, "multiply-adds", ""), (dot / 3, "f32 as 3 bytes", "6 4")):
        if value and (not dash or value > fma):
            start = max(x0, value / read) if read else x0
            plot.line([(plot.x(start), plot.y(value)), (right, plot.y(value))], "roof", 2 if not dash else 1.2, dash)
            plot.text(right + 6, plot.y(value) + 4, f"{name}, {value:.0f}", "text", "start", 12)

    # The shape with the most products is a line through its points; other shapes stand beside it, smaller.
    shapes = [p[1] for p in points]
    main = max(sorted(set(shapes)), key=shapes.count) if shapes else None
    for series, (_, css, shape, _, _) in reversed(list(enumerate(SERIES))):
        for exact in (True, False):
            mine = sorted((p[0], p[4]) for p in points if p[1] == main and p[2] == series and p[3] == exact)
            plot.line([(plot.x(intensity(m)), plot.y(v)) for m, v in mine], f"c{css}", 1.3, "3 3" if exact else "")
            for i, other in enumerate(sorted(set(shapes) - {main})):
                for p in points:
                    if p[1] == other and p[2] == series and p[3] == exact:
                        plot.mark(plot.x(intensity(p[0])) + (22 + 14 * (i // 2)) * (1 if i % 2 else -1), plot.y(p[4]), shape, css, not exact, 3.6)
            for m, v in mine:
                plot.mark(plot.x(intensity(m)), plot.y(v), shape, css, not exact)
    x = left
    for name, css, shape, _, _ in SERIES:
        if any(SERIES[p[2]][0] == name for p in points):
            plot.mark(x + 6, 24, shape, css, True)
            plot.text(x + 18, 28, name)
            x += 34 + 7.6 * len(name)
    plot.text(left, 48, "filled, full lines: activations rounded to 8 bits; hollow, dotted: f32 activations", "quiet", "start", 12)
    if main:
        others = ", ".join(f"{n} × {k}" for n, k in sorted(set(shapes) - {main}))
        words = f"{main[0]} × {main[1]}: weights from memory for M = 1, else from cache" + (f"; small, beside M = 1: {others}, from memory" if others else "")
        plot.text(left, 64, words, "quiet", "start", 12)
    return plot.svg()


def measured(program, threads, rounds):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.json")
        subprocess.run([program, "--threads", str(threads), "--rounds", str(rounds), "--json", path], check=True)
        with open(path, encoding="utf-8") as f:
            return json.load(f)


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
    parser.add_argument("program", nargs="?")
    parser.add_argument("--json", nargs="+", default=[])
    parser.add_argument("--out", default="docs")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    if bool(args.program) == bool(args.json):
        parser.error("give the program, or --json and files that it wrote")
    if args.program:
        records = [measured(os.path.abspath(args.program), threads, args.rounds) for threads in args.threads]
    else:
        records = []
        for path in args.json:
            with open(path, encoding="utf-8") as f:
                loaded = json.load(f)
            records += loaded if loaded and isinstance(loaded[0], list) else [loaded]
    runs = [Run(r) for r in records]
    os.makedirs(args.out, exist_ok=True)
    written = {"performance.md": markdown(runs), "roofline.svg": roofline(runs[0])}
    if args.program:
        lines = ["[" + ",\n ".join(json.dumps(r) for r in run) + "]" for run in records]
        written["performance.json"] = "[" + ",\n".join(lines) + "]\n"
    for name, text in written.items():
        path = os.path.join(args.out, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        print("wrote", path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
