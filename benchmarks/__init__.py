"""
Benchmarks: each measure of the design, ours and a peer's run in turn.

Run them with C{make bench}, or C{python -m benchmarks --help}. Every figure comes from a new
process, a L{contender<benchmarks.contender>}, so that nothing of one run is left in the next. A
figure that misses its target fails nothing. Only a benchmark that breaks does. A whole run writes
the figures and the plot of the documentation's page on performance.

A L{comparison<benchmarks.comparison>} has no figures. It puts all contenders through the same
faults, and tells what happened to every task.
"""
