"""The report of a set of classifiers: what it is about, and the pages and tables it becomes."""
