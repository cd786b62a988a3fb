"""The picture of a comparison: time against space, a point an allocator, a panel a trace."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from kernmem.language import KernmemError
from kernmem.workload.compare import Measurement

PANEL = (4.6, 3.8)  # inches
LEGEND = 1.4
COLUMNS = 3


class NoMatplotlib(KernmemError):
    """The library that draws is not installed."""


def require_matplotlib() -> None:
    """Raise NoMatplotlib, before any long work, if nothing can be drawn."""
    if find_spec("matplotlib") is None:
        raise NoMatplotlib("pictures are drawn by matplotlib: run  pip install 'kernmem[picture]'")


def draw(measurements: Sequence[Measurement], path: Path) -> None:
    """Draw to a file, whose name says the format; KernmemError if there is no such format.

    Whiskers are the quartiles of the repetitions.  An allocator with an arena is a disc, one
    whose space is that of resident pages a ring.
    """
    require_matplotlib()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    traces = list(dict.fromkeys(each.trace for each in measurements))
    columns = min(COLUMNS, len(traces))
    rows = -(-len(traces) // columns)
    size = (PANEL[0] * columns + LEGEND, PANEL[1] * rows)
    figure, panels = pyplot.subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained"
    )
    names = list(dict.fromkeys(each.allocator for each in measurements))
    colours = {name: pyplot.get_cmap("tab20")(place % 20) for place, name in enumerate(names)}
    for panel in panels.flat[len(traces) :]:
        panel.set_visible(False)
    for panel, trace in zip(panels.flat, traces, strict=False):
        shown = [each for each in measurements if each.trace == trace and each.error is None]
        panel.set(title=trace, xlabel="ns a call", ylabel="space / peak of live bytes")
        for each in shown:
            whiskers = [[each.ns - each.ns_low], [each.ns_high - each.ns]]
            panel.errorbar(
                each.ns,
                each.space_ratio,
                xerr=whiskers,
                marker="o",
                color=colours[each.allocator],
                markerfacecolor=colours[each.allocator] if each.has_arena else "white",
                linewidth=1,
                label=each.allocator,
            )
        panel.set_xlim(left=0)
    handles = {
        label: handle
        for panel in panels.flat
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8)
    try:
        figure.savefig(path)
    except ValueError as error:
        raise KernmemError(f"{path}: {error}") from error
    finally:
        pyplot.close(figure)
