"""Folders -> manifests: every file read once and checked, every subset split, nothing lost in silence.

python data_processing.py --data_root D
python data_processing.py --data_root D --task classification
"""

import pandas as pd

from segbalance.data_processing.class_shares import printed_class_table
from segbalance.data_processing.description import read_description
from segbalance.data_processing.make_csv_file import (
    ManifestOptions,
    make_csv_file,
    split_data_train,
    subset_table,
)
from segbalance.errors import listing
from segbalance.files.writing import check_output, write_json
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import usage


def print_report(rows: pd.DataFrame, options: ManifestOptions) -> None:
    """Prints the table of the subsets and what is worth a look."""
    shown = pd.DataFrame(subset_table(rows))
    shown["share"] = shown["share"].map("{:.1%}".format)
    if "mean_coverage" in shown:
        shown["mean_coverage"] = shown["mean_coverage"].map("{:.2%}".format).replace("nan%", "-")
    print(shown.rename(columns=lambda name: name.replace("_", " ")).to_string(index=False))
    description = read_description(options.csv_dir)
    assert description is not None, "it has just been written"
    if description.get("class_shares"):
        print(f"\n{printed_class_table(description['class_shares'])}")
    print(f"\nsplit: {description['split']}")
    if not options.kind.with_masks:
        print(f"classes: {', '.join(description['classes'].values())}; the subsets are the classes")
    else:
        empty = description["masks_without_foreground"]
        print(f"masks: {description['mask_encoding_found']}; {empty} of them empty")
    for key, meaning in (
        ("unpaired", "left out without partner"),
        ("contradictions", "identical images in several classes"),
        ("other_files", "passed over, no image type"),
        ("duplicates", "identical images on both sides of the split"),
    ):
        if description.get(key):
            print(f"{meaning}: {len(description[key])}\n{listing([str(item) for item in description[key]])}")
    print(f"wrote {options.csv_dir}: {', '.join(description['files'])}, manifest.json")


@command
def main(argv: list[str]) -> None:
    """Makes the manifests of a data folder and prints the table of its subsets."""
    options = parse_options(
        ManifestOptions,
        argv,
        prog=usage("prepare"),
        description="Folders -> manifests, every file checked.",
    )
    if options.json:
        check_output("--json", options.json)
    rows = make_csv_file(options)
    split_data_train(options.csv_dir)
    print_report(rows, options)
    if options.json:
        write_json(options.json, subset_table(rows))
