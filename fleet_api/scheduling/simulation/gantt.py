"""A run as a picture: a row for each node, a bar for each job in its model's colour, hatched while a model is loaded."""

from __future__ import annotations

from html import escape

from fleet_api.scheduling.simulation.events import Bar, Run

WIDTH = 1200
ROW = 14
GAP = 4
LEFT = 60
TOP = 44
LEGEND_MODELS = 12
TICKS = 10
GOLDEN_ANGLE = 137.508
"""Degrees between the hues of neighbouring models, so that any number of them stays apart."""

NARROWEST = 1.0
"""Bars narrower than so many pixels are drawn together with the next, so that 100,000 jobs make a picture of some megabytes at most."""


def gantt(run: Run) -> str:
    """Return the picture as SVG. The run must have kept its bars."""
    models = sorted({bar.model for bar in run.bars})
    hues = {model: round(number * GOLDEN_ANGLE % 360) for number, model in enumerate(models)}
    height = TOP + run.nodes * (ROW + GAP) + 30
    scale = (WIDTH - LEFT - 10) / max(run.makespan, 1e-9)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="10">',
        '<defs><pattern id="load" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="2" height="4" fill="#fff" fill-opacity=".65"/></pattern></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        *_legend(models, hues),
        *(f'<text x="4" y="{_y(node) + ROW - 3}">node {node + 1}</text>' for node in range(run.nodes)),
        *_axis(run, scale, height),
    ]
    for bar in _joined(run.bars, NARROWEST / scale):
        x, width = LEFT + bar.begin * scale, (bar.end - bar.begin) * scale
        place = f'x="{x:.2f}" y="{_y(bar.node)}" width="{width:.2f}" height="{ROW}"'
        parts.append(f'<rect {place} fill="hsl({hues[bar.model]} 60% 50%)"/>')
        if bar.load:
            parts.append(f'<rect {place} fill="url(#load)"/>')
    return "\n".join([*parts, "</svg>", ""])


def _y(node: int) -> int:
    return TOP + node * (ROW + GAP)


def _legend(models: list[str], hues: dict[str, int]) -> list[str]:
    shown = models[:LEGEND_MODELS]
    step = (WIDTH - LEFT) / (len(shown) + 2)
    parts = []
    for number, model in enumerate(shown):
        x = LEFT + number * step
        parts.append(f'<rect x="{x:.0f}" y="8" width="10" height="10" fill="hsl({hues[model]} 60% 50%)"/>')
        parts.append(f'<text x="{x + 14:.0f}" y="17">{escape(model[:14])}</text>')
    x = LEFT + len(shown) * step
    if len(models) > len(shown):
        parts.append(f'<text x="{x:.0f}" y="17">and {len(models) - len(shown)} more</text>')
    parts += [f'<rect x="{x:.0f}" y="22" width="10" height="10" fill="{fill}"/>' for fill in ("#888", "url(#load)")]
    parts.append(f'<text x="{x + 14:.0f}" y="31">loading</text>')
    return parts


def _axis(run: Run, scale: float, height: int) -> list[str]:
    parts = []
    for tick in range(TICKS + 1):
        at = run.makespan * tick / TICKS
        x = LEFT + at * scale
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{height - 24}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 12}" text-anchor="middle">{at:.0f} s</text>')
    return parts


def _joined(bars: list[Bar], narrow: float) -> list[Bar]:
    """Return the bars with those that are too narrow to be seen joined to their neighbour of the same node, model and kind."""
    joined: dict[int, Bar] = {}
    out: list[Bar] = []
    for bar in bars:
        last = joined.get(bar.node)
        alike = last is not None and (last.model, last.load) == (bar.model, bar.load) and bar.begin - last.end < narrow
        if last is not None and alike and bar.end - last.begin < 2 * narrow:
            joined[bar.node] = Bar(bar.node, last.begin, bar.end, bar.model, bar.load)
            continue
        if last is not None:
            out.append(last)
        joined[bar.node] = bar
    return out + list(joined.values())
