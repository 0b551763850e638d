#!/usr/bin/env python3
"""Draws the dashboard from a running Prometheus, as the pictures of docs/monitoring.md. Needs matplotlib and Pillow.

draw.py PROMETHEUS MINUTES draws the last MINUTES, such as: draw.py http://127.0.0.1:9090 10
Which panels a picture has is written into it, for the test that compares them with the dashboard.
"""

import json
import pathlib
import sys
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image
from PIL.PngImagePlugin import PngInfo

FOLDER = pathlib.Path(__file__).parent
DASHBOARD = FOLDER.parents[1] / "charts/pinstream/files/dashboard.json"
# The rows of each picture.
PICTURES = {
    "dashboard-running": ["What runs", "Policy"],
    "dashboard-admission": ["Adoption", "Webhook", "Processes"],
    "dashboard-images": ["Image streams and imports", "Pull-through registry"],
}
OTHERS = ["#8f6fc9", "#2aa198", "#b58900", "#7f7f7f", "#d070a0", "#6b8e23"]
VARIABLES = {"$__rate_interval": "30s", "$namespace": "pinstream-system", "$job": ".*"}


def history(source, query):
    """The series of a query: labels, and values at minutes since the start."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    prometheus, end, minutes = source
    asked = {"query": query, "start": end - minutes * 60, "end": end, "step": 5}
    url = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
    with urllib.request.urlopen(url) as answer:
        found = json.load(answer)["data"]["result"]
    start = end - minutes * 60
    for series in found:
        points = [((at - start) / 60, float(value)) for at, value in series["values"]]
        yield series["metric"], points


def legend(pattern, labels):
    for name in ["__name__", *labels]:
        pattern = pattern.replace("{{" + name + "}}", labels.get(name, ""))
    return pattern.strip()


# What the values of a unit are multiplied with, and what is written behind them.
UNITS = {"bytes": (2**-20, " MiB"), "Bps": (2**-20, " MiB/s"), "percentunit": (100, " %"), "ops": (1, "/s"), "d": (1, " d")}


def shown(unit):
    """How numbers of a unit are written."""

    def write(value, _=None):
        if unit == "s" and 0 < value < 1:
            return f"{value * 1000:.3g} ms"
        return f"{value:.3g}{' s' if unit == 's' else UNITS.get(unit, (1, ''))[1]}" if value else "0"

    return write


def colors(panel):
    """The colours that the panel gives to legends."""
    overrides = panel["fieldConfig"]["overrides"]
    fixed = {"green": "#56a64b", "red": "#e02f44", "orange": "#ff9830", "blue": "#3274d9"}
    return {one["matcher"]["options"]: fixed[one["properties"][0]["value"]["fixedColor"]] for one in overrides}


def draw(axes, panel, source):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    factor, _ = UNITS.get(unit, (1, ""))
    fixed, others = colors(panel), iter(OTHERS * 9)
    lines = []
    for target in panel["targets"]:
        for labels, points in history(source, target["expr"]):
            points = [(at, value * factor) for at, value in points]
            lines.append((legend(target["legendFormat"], labels), points))
    # What is always 0 says nothing in a picture, if there is something else.
    lines = [line for line in lines if any(value for _, value in line[1])] or lines
    lines.sort(key=lambda line: line[0])
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    shades = [fixed.get(name) or next(others) for name, _ in lines]
    if stacked and lines:
        times = sorted({at for _, points in lines for at, _ in points})
        values = [[dict(points).get(at, 0) for at in times] for _, points in lines]
        axes.stackplot(times, values, labels=[name for name, _ in lines], colors=shades, alpha=0.75, linewidth=0)
    else:
        for (name, points), shade in zip(lines, shades):
            axes.plot(*zip(*points), label=name, color=shade, linewidth=1.1)
    axes.set_title(panel["title"], fontsize=8.5, loc="left", fontweight="bold")
    axes.set_xlim(0, source[2])
    top = panel["fieldConfig"]["defaults"].get("max")
    axes.set_ylim(bottom=0, top=top * factor if top else None)
    if axes.get_ylim()[1] < 1e-9 or not any(value for _, points in lines for _, value in points):
        axes.set_ylim(top=1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} min" if value else ""))
    axes.yaxis.set_major_formatter(FuncFormatter(shown(unit)))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=unit == "short"))
    axes.tick_params(labelsize=6.5, length=2)
    axes.grid(linewidth=0.3, alpha=0.6)
    for side in ["top", "right"]:
        axes.spines[side].set_visible(False)
    axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(0, -0.12), ncols=3, frameon=False, handlelength=1)


def rows():
    """The panels of each row that show how something went on."""
    found, row = {}, None
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        if panel["type"] == "row":
            row = found.setdefault(panel["title"], [])
        elif panel["type"] == "timeseries":
            row.append(panel)
    return found


def picture(file, panels, source):
    height = -(-len(panels) // 3)
    figure, axes = plt.subplots(height, 3, figsize=(13, 2.55 * height), layout="constrained")
    for panel, place in zip(panels, axes.flat):
        draw(place, panel, source)
    for place in axes.flat[len(panels) :]:
        place.set_visible(False)
    figure.savefig(file, dpi=85)
    about = PngInfo()
    about.add_text("Panels", "\n".join(panel["title"] for panel in panels))
    Image.open(file).convert("RGB").quantize(64).save(file, optimize=True, pnginfo=about)


def main():
    prometheus, minutes = sys.argv[1:]
    source = prometheus, time.time(), float(minutes)
    found = rows()
    for name, titles in PICTURES.items():
        picture(FOLDER / f"{name}.png", [panel for title in titles for panel in found[title]], source)


main()
