"""The yardstick: cyconv against the engines a NumPy user might otherwise reach for.

    layers.py      which convolutions are timed
    reference.py   what they should return: the definition, in float64
    peers/         one adapter for each engine, used when it can be imported
    timing.py      how two of them are timed side by side on a noisy machine
    layerwise.py   the sections that walk the layer table: forward, image, train, float64, ...
    overall.py     the sections that do not: latency, threads, batch, memory, builds
    summary.py     geometric means, worst cases, and the aims they are held against
    report.py      Markdown and the picture

`python -m benchmarks --help` says how to run it. Every section produces the same kind of table,
row -> column -> record, so that one function prints them all.
"""
