"""Folders -> pairs -> mask encoding -> split -> manifests.

What comes in is a folder of images with masks, or of images with labels, as a person keeps it. What goes out
are the manifests: train.csv, valid.csv, train<subset>.csv and manifest.json, and later the `Manifest` that
training reads back from them.

`make_csv_file` is the way through: `pairs` finds image and mask, `inspection` reads each file once on all
cores, `mask_encoding` finds out how masks hold class ids, `duplicates` finds copies, `splitting` says which
subset and which side an image belongs to. `manifest` and `rows` write and read the tables, a person's edits
included, `replacing` puts them in the place of earlier ones, `description` reads manifest.json. `tasks`
describes the three tasks; no other module asks which of them it is in. `classes`, `class_table` and
`class_shares` are about several classes; `labels`, `label_rows` and `labelled_images` about images that have
a class as a whole. Nothing here imports TensorFlow, and no file of the user is changed.
"""
