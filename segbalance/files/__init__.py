"""Files, before anybody asks what they mean.

What comes in are paths; what goes out are pixels, names, and files that are whole or not there at all.

`writing` writes under temporary names and renames. `locks` keeps a folder to one process at a time, which
`holders` tells from all others. `images` says which files are images and decodes them
strictly, `pixel_limit` looks at the pixels that a header claims before anything is decoded. `data_root` keeps
rows from leading out of the data root, `photo_search` finds the photos that a command line names.
"""
