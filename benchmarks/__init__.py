"""Benchmarks: each stage against a plain textbook implementation and against the floor that this
machine sets.

``python -m benchmarks [--smoke] [--only TOPIC,...] [--out DIR] [--device cuda]``. A topic is a
module of this package with ``run(smoke: bool) -> list[dict[str, object]]``, the rows of its table;
the first line of its docstring is the table's title, the rest what stands under it. If it also has
``plot(rows, folder)``, that is called with the rows and the output folder.
"""
