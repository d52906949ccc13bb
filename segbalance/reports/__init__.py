"""Run folders -> pages: report.html of a run, compare.html of several.

What comes in is the run folder with its evaluation; what goes out is one HTML page that stands alone: no
script that it needs, no network, every number with its place in the JSON.

`report` and `comparison` gather the figures, `pictures` the examples, `charts` the curves as inline SVG,
`outlines` draws masks on photos. `pages` fills the templates/. `advice` says what to do next: its rules
stand in `score_advice`, `class_advice` and `training_advice`, written as the `sentences` of a page.
"""
