"""A run -> a model for elsewhere: SavedModel, TFLite or ONNX, with a card.

What comes in is a run folder; what goes out is a folder with the model, model.json, which says what goes in
and out of it, and MODEL_CARD.md. An export is compared with the run's network before it is put in place.

`export` is the way through, `formats` writes each format, `exported_model` reads and runs any of them (it is
what `predict --model` uses), `model_card` writes the page.
"""
