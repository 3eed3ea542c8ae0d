"""The numbers of a report's page against those of the JSON, wherever the page was read. A page here
has `tables`, {caption: (columns, rows)}, a second table of the same caption with " 2" behind it;
cells are numbers, or texts where there is no number."""
import json
import os
import subprocess


def run(muonspec, *arguments, **environment):
    done = subprocess.run([muonspec, *arguments], text=True, capture_output=True,
                          env={**os.environ, **environment})
    assert done.returncode == 0, (arguments, done.returncode, done.stderr)
    return done


def values(muonspec, *arguments):
    return json.loads(run(muonspec, *arguments, "-q", "--format", "json").stdout)


class Tables:
    """Base of pages."""

    def add_table(self, caption, columns, rows):
        name, number = caption, 2
        while name in self.tables:  # of the second side
            name, number = f"{caption} {number}", number + 1
        self.tables[name] = (columns, rows)

    def records(self, caption):
        columns, rows = self.tables[caption]
        assert all(len(r) == len(columns) for r in rows), caption
        return [dict(zip(columns, row)) for row in rows]


def equal(cell, number):
    assert cell == ("" if number is None else number), (cell, number)


def check_risks(page, wanted, suffix=""):
    """`wanted`: of `risk`. Returns how many numbers were compared, as do all of these."""
    wanted = [r for r in wanted["risks"] if r["verdict"] != "ok"]
    shown = page.records("To watch and at risk" + suffix) if wanted else []
    assert len(shown) == len(wanted)
    by_key = {(r["name"], r["kind"], r["reason"]): r for r in wanted}
    for row in shown:
        risk = by_key[row["name"], row["kind"], row["reason"]]
        assert row["verdict"] == risk["verdict"]
        equal(row["value"], risk["value"])
        equal(row["threshold"], risk["threshold"])
    return 2 * len(shown)


def check_weights(page, wanted, suffix=""):
    """`wanted`: of `analyze`."""
    rows = page.records("Matrices" + suffix)
    assert [r["matrix"] for r in rows] == [m["name"] for m in wanted["matrices"]]
    compared = 0
    for row, matrix in zip(rows, wanted["matrices"]):
        assert row["rows"] == matrix["rows"] and row["cols"] == matrix["cols"]
        for metric, cell in list(row.items())[6:]:
            equal(cell, matrix["metrics"][metric])
            compared += 1
    groups = {r["metric"]: r for r in page.records("Groups: means over their matrices" + suffix)}
    assert list(groups["rms"])[1:] == [g["group"] for g in wanted["groups"]]
    for group in wanted["groups"]:
        name = group["group"]
        assert groups["matrices"][name] == group["count"]
        for metric, summary in group["metrics"].items():
            equal(groups[metric][name], summary["mean"])
            compared += 1
    return compared


def check_run(page, wanted):
    """`wanted`: of `track`."""
    series = {(s["name"].strip("()"), s["metric"]): dict(zip(map(str, s["steps"]), s["values"]))
              for s in wanted["series"]
              if s["name"].startswith("(") and not s["metric"].startswith("forward_")}
    rows = page.records("By step")
    assert len(rows) == len(series) > 0
    compared = 0
    for row in rows:
        known = series[row["group"].strip("()"), row["metric"]]
        for step, cell in list(row.items())[2:]:
            equal(cell, known.get(step))
            compared += 1
    trends = {t["name"]: t for t in wanted["trends"] if t["metric"] == "rms"}
    for row in page.records("Growth of the RMS: value ~ step^exponent"):
        trend = trends.pop(row["name"])
        equal(row["exponent"], trend["exponent"])
        equal(row["standard error"], trend["exponent_error"])
        compared += 2
    assert not trends
    return compared


def check_activations(page, wanted, suffix=""):
    """`wanted`: of `track`."""
    series = {(s["name"], s["metric"]): dict(zip(map(str, s["steps"]), s["values"]))
              for s in wanted["series"]
              if s["name"].startswith("layer ") or s["metric"].startswith("forward_")
              if s["metric"] != "recorded_head_max_logits"}
    rows = page.records("Activations by step" + suffix) if series else []
    assert {(r["layer"], r["metric"]) for r in rows} == set(series) and len(rows) == len(series)
    compared = 0
    for row in rows:
        for step, cell in list(row.items())[2:]:
            equal(cell, series[row["layer"], row["metric"]].get(step))
            compared += 1
    return compared


def check_comparison(page, wanted):
    """`wanted`: of `compare`."""
    keys = ["metric", "count", "share_higher_a", "share_higher_b", "ties", "sign_test_p",
            "median_difference", "low", "high", "effect_size"]
    compared = 0
    _, rows = page.tables["Findings at the last checkpoints that pair"]
    for row, finding in zip(rows, wanted["findings"], strict=True):
        for cell, key in zip(row, keys, strict=True):
            equal(cell, finding[key])
            compared += 1
    groups = [(g["name"], g["step"], metric, sides) for g in wanted["groups"]
              for metric, sides in g["metrics"].items()]
    for row, (name, step, metric, sides) in zip(page.records("Groups by step"), groups, strict=True):
        assert (row["group"], row["step"], row["metric"]) == (name, step, metric), row
        for part, key in (("first", "a"), ("second", "b"), ("difference", "difference")):
            equal(row[part], sides[key])
            compared += 1
    last = max(p["step"] for p in wanted["pairs"])
    wanted_pairs = [p for p in wanted["pairs"] if p["step"] == last]
    pairs = page.records("Pairs of matrices at the last checkpoints that pair")
    for row, pair in zip(pairs, wanted_pairs, strict=True):
        assert row["matrix"] == pair["name"]
        for metric, sides in pair["metrics"].items():
            for part, key in (("first", "a"), ("second", "b"), ("difference", "difference")):
                equal(row[f"{metric}, {part}"], sides[key])
                compared += 1
    return compared
