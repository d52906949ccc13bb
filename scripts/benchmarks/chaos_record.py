"""What happened in the chaos: a line for each fault as it is met, and tables at the end."""

import time
from pathlib import Path

import pandas as pd

from scripts.benchmarks.chaos_faults import FAULTS
from segbalance.files.writing import write_atomically, write_json


class Record:
    """What happened: a line for each fault as it is met, and tables at the end.

    Args:
        output: folder for all of it.
        disk: how the disk becomes full.
    """

    def __init__(self, output, disk):
        self.output, self.disk = Path(output), disk
        self.faults, self.runs, self.minutes = [], [], 0.0
        self.output.mkdir(parents=True)

    def tell(self, line):
        """Prints a line and keeps it in log.txt."""
        line = f"{time.strftime('%H:%M:%S')}  {line}"
        print(line, flush=True)
        with open(self.output / "log.txt", "a") as log:
            log.write(line + "\n")

    def fault(self, **row):
        """Keeps a fault and its verdict."""
        row = {"run": len(self.runs) + 1} | row
        self.faults.append(row)
        place = f"{row['kind']} ({row['detail']})" if row["detail"] else row["kind"]
        self.tell(f"run {row['run']}: {place} in {row['phase']}: {row['verdict']}, status {row['status']}")
        for line in row["said"]:
            self.tell(f"    {line}")

    def run(self, resumes, different):
        """Keeps how a run came out."""
        self.runs.append({"run": len(self.runs) + 1, "resumes": resumes, "different": different})
        found = ", ".join(different) or "nothing"
        self.tell(f"run {len(self.runs)} is finished after {resumes} resumes; different: {found}")

    @property
    def failed(self):
        """Whether anything went wrong."""
        faults = any(row["verdict"] == "failed" for row in self.faults)
        return faults or any(row["different"] for row in self.runs)

    def summary(self):
        """One sentence."""
        identical = sum(not row["different"] for row in self.runs)
        return (
            f"{self.minutes:.1f} minutes of training among {len(self.faults)} faults, "
            f"{sum(row['resumes'] for row in self.runs)} resumes; {identical} of {len(self.runs)} runs are "
            f"bit-identical to the undisturbed one; disk: {self.disk}"
        )

    def write(self):
        """Writes the tables as far as they go."""
        table = fault_table(self.faults)
        phases = pd.Series([row["phase"] for row in self.faults], dtype=object).value_counts()
        parts = markdown(table), self.summary(), markdown(phases.rename_axis("struck in").reset_index())
        text = "\n\n".join(parts) + "\n"
        write_atomically(self.output / "table.md", text)
        content = {"minutes": self.minutes, "disk": self.disk, "table": table.to_dict("records")}
        write_json(self.output / "chaos.json", content | {"runs": self.runs, "faults": self.faults})
        print(f"\n{text}")


def fault_table(rows):
    """Columns fault, times, survived, answered, failed: a row each kind and one for all."""
    kinds = [*FAULTS, *sorted({row["kind"] for row in rows} - FAULTS.keys())]
    found = pd.DataFrame(rows, columns=["kind", "verdict"])
    table = pd.crosstab(found["kind"], found["verdict"]).reindex(
        index=kinds, columns=["survived", "answered", "failed"], fill_value=0
    )
    table.loc["all"] = table.sum()
    table.insert(0, "times", table.sum(axis=1))
    return table.rename_axis(index="fault", columns=None).reset_index()


def markdown(table):
    """A DataFrame as a table in Markdown."""
    rows = [list(table), ["---"] * len(table.columns), *table.values.tolist()]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
