"""What is wrong or odd in a data folder and on this machine.

What comes in is a data folder or manifests; what goes out is a `Diagnosis`: findings of known kinds, each
with its severity and a way out, as text, JSON and a page of pictures; and corrected copies of masks.

`checkup` is the way through, `examined` what it looked at. `appearance` reads pairs a second time,
`look_alikes` and `mask_outliers` compare them, `diagnosis` holds the kinds, `gallery` draws the page.
`mask_fixes` makes corrected copies, never changing a file. `environment` looks at Python, packages, memory
and disk.
"""
