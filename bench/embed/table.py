"""Renders a result file as the Markdown tables that the README shows."""

import json
import sys
from pathlib import Path


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def engine_row(name: str, engine: dict) -> list[str]:
    sets, latency = engine["sets"], engine.get("latency", {})
    cells = [name]
    for set_name in ("short", "long256"):
        cells += [
            number(sets[set_name]["tokens_per_second"]),
            number(sets[set_name].get("mean_cosine"), 4),
        ]
    cells += [number(latency.get(text, {}).get("p50"), 2) for text in ("q16", "p256")]
    start = engine["start"]
    return [
        *cells,
        number(start["seconds"], 2),
        number(start["peak_mib"]),
        number(engine["peak_mib"]),
    ]


def ratio_rows(result: dict) -> list[list[str]]:
    """Each precision of wenyi over each peer; latency the other way, so that more is better."""
    ours = {name: engine for name, engine in result["engines"].items() if name.startswith("wenyi")}
    peers = {name: engine for name, engine in result["engines"].items() if name not in ours}
    rows = []
    for our_name, our in ours.items():
        for peer_name, peer in peers.items():
            cells = [f"{our_name} / {peer_name}"]
            for set_name in ("short", "long256"):
                rate = our["sets"][set_name]["tokens_per_second"]
                cells.append(number(rate / peer["sets"][set_name]["tokens_per_second"], 2) + "×")
            for text in ("q16", "p256"):
                if text in our.get("latency", {}) and text in peer.get("latency", {}):
                    cells.append(
                        number(peer["latency"][text]["p50"] / our["latency"][text]["p50"], 2) + "×"
                    )
                else:
                    cells.append("")
            rows.append(cells)
    return rows


def render(result: dict) -> str:
    machine = result["machine"]
    what = (
        f"{result['model']}, {result['threads']} threads of {machine['cpu']}"
        f" ({', '.join(machine['has'])}; lacks {', '.join(machine['lacks']) or 'nothing'}),"
        f" instruction set {result['isa']}, {result['date']},"
        f" medians of {result['repetitions']} interleaved runs,"
        f" other processes took {result['foreign']['median']:.0%} of the CPU"
        f" (at most {result['foreign']['worst']:.0%})."
    )
    header = [
        "engine", "short tok/s", "cosine", "256-token tok/s", "cosine",
        "16 tokens p50 ms", "256 tokens p50 ms",
        "start s", "MiB for one text", "MiB at most",
    ]  # fmt: skip
    parts = [what, table(header, [engine_row(*item) for item in result["engines"].items()])]
    if ratios := ratio_rows(result):
        header = ["times as fast", "short", "256-token", "one of 16", "one of 256"]
        parts.append(table(header, ratios))
    return "\n\n".join(parts)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(render(json.loads(Path(argument).read_text())), end="\n\n")
