"""The embedded store: one more OTLP backend, kept in one SQLite file and written by one thread.

`store` is the door: it accepts parsed OTLP. Getting bytes off the network is left to `receiver`, asking questions to `history`.
"""
