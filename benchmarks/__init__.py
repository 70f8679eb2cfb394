"""
Benchmarks: each measure of the design, ours and a peer's run in turn.

Run them with C{make bench}, or C{python -m benchmarks --help}. Every figure comes from a process of
its own, a L{contender<benchmarks.contender>}, so that nothing of one run is left in the next. A
figure that misses its target fails nothing; only a benchmark that breaks does.

A L{comparison<benchmarks.comparison>} has no figures: it puts all contenders through the same
faults, and says what became of everything.
"""
