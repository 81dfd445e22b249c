"""The tables of the embedded store, and the steps that bring an older file up to them.

NULL means unknown everywhere. No table refers to spans by foreign key, since signals arrive in any order. Times are nanoseconds or
milliseconds since the epoch, as the column says.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from otel_agent.errors import Unavailable

VERSION = 1
# By the version they start from: what to run to reach the next one.
MIGRATIONS: Mapping[int, Sequence[str]] = {}

metadata = MetaData()

meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

resource = Table(
    "resource",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("service", Text),
    Column("host", Text),
    Column("container_id", Text),
    Column("attrs", Text, nullable=False),
    Column("first_ms", Integer, nullable=False),
    Column("last_ms", Integer, nullable=False),  # to the hour
)

scope = Table(
    "scope",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
)

span = Table(
    "span",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("trace_id", LargeBinary, nullable=False),
    Column("span_id", LargeBinary, nullable=False),
    Column("parent_id", LargeBinary),
    Column("resource_id", Integer, nullable=False),
    Column("scope_id", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Integer, nullable=False),
    Column("start_ns", Integer, nullable=False),
    Column("dur_ns", Integer, nullable=False),
    Column("status", Integer, nullable=False),
    Column("status_message", Text),
    Column("request", Integer),  # 1 where the span is a call of a model, else NULL
    Column("op", Text),
    Column("provider", Text),
    Column("model", Text),
    Column("request_id", Text),
    Column("in_tok", Integer),
    Column("out_tok", Integer),
    Column("cached_tok", Integer),
    Column("ttft_ns", Integer),
    Column("queue_ns", Integer),
    Column("prefill_ns", Integer),
    Column("decode_ns", Integer),
    Column("cost_usd", Float),
    Column("cost_src", Text),
    Column("joules", Float),
    Column("joules_src", Text),
    Column("finish", Text),
    Column("error_type", Text),
    Column("attrs", Text, nullable=False),
    Column("events", Text),
    Column("links", Text),
)
# Unique, so that a batch that is sent again after a lost answer is kept once.
Index("span_ids", span.c.trace_id, span.c.span_id, unique=True)
# Requests live longer than other spans: with one index for both, each clean-up would walk over all old requests.
Index("span_other_start", span.c.start_ns, sqlite_where=span.c.request.is_(None))
Index("span_request_start", span.c.start_ns, sqlite_where=span.c.request == text("1"))
Index("span_request_model", span.c.model, span.c.start_ns, span.c.dur_ns, sqlite_where=span.c.request == text("1"))
Index("span_request_id", span.c.request_id, sqlite_where=span.c.request_id.is_not(None))
Index("span_error_start", span.c.start_ns, sqlite_where=span.c.status == text("2"))

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("temporality", Integer, nullable=False),  # OTLP's: 0 none, 1 delta, 2 cumulative
    Column("resource_id", Integer, nullable=False),
    Column("scope_id", Integer, nullable=False),
    Column("attrs", Text, nullable=False),
    Column("bounds", Text),  # of a histogram: its explicit bounds as JSON
    Column("last_ms", Integer, nullable=False),  # time of the last written point, up to a minute behind
)
Index("series_name", series.c.name)
Index("series_resource", series.c.resource_id)

# A value or count of NULL marks the end of the series: its source said that there is no value any more.
point = Table(
    "point",
    metadata,
    Column("series_id", Integer, primary_key=True),
    Column("ts_ms", Integer, primary_key=True),
    Column("v", Float),
    sqlite_with_rowid=False,
)

hpoint = Table(
    "hpoint",
    metadata,
    Column("series_id", Integer, primary_key=True),
    Column("ts_ms", Integer, primary_key=True),
    Column("cnt", Integer),
    Column("sum", Float),
    Column("min", Float),
    Column("max", Float),
    # Of a histogram: its counts as little-endian u32, or u64 where one needs it. Of an exponential histogram or summary: the OTLP data point
    # without its attributes.
    Column("buckets", LargeBinary),
    sqlite_with_rowid=False,
)

exemplar = Table(
    "exemplar",
    metadata,
    Column("series_id", Integer, primary_key=True),
    Column("ts_ms", Integer, primary_key=True),
    Column("trace_id", LargeBinary, primary_key=True),
    Column("span_id", LargeBinary, primary_key=True),
    Column("v", Float, nullable=False),
    sqlite_with_rowid=False,
)

log = Table(
    "log",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("ts_ns", Integer, nullable=False),
    Column("severity", Integer),
    Column("severity_text", Text),
    Column("resource_id", Integer, nullable=False),
    Column("scope_id", Integer, nullable=False),
    Column("event_name", Text),
    Column("body", Text),  # JSON where `structured`, else the text itself
    Column("structured", Integer),
    Column("trace_id", LargeBinary),
    Column("span_id", LargeBinary),
    Column("attrs", Text, nullable=False),
)
Index("log_ts", log.c.ts_ns)
Index("log_trace", log.c.trace_id, sqlite_where=log.c.trace_id.is_not(None))

# How many rows are kept, by what they are and whose: counting the tables themselves would take seconds.
tally = Table(
    "tally",
    metadata,
    Column("class", Text, primary_key=True),  # requests, traces (other spans), metrics, logs
    Column("service", Text, primary_key=True),
    Column("n", Integer, nullable=False),
    sqlite_with_rowid=False,
)

drop_count = Table(
    "drop_count",
    metadata,
    Column("hour_s", Integer, primary_key=True),
    Column("signal", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("n", Integer, nullable=False),
    sqlite_with_rowid=False,
)


def prepare(
    connection: sqlite3.Connection, *, version: int = VERSION, migrations: Mapping[int, Sequence[str]] = MIGRATIONS
) -> None:
    """Create the tables in an empty file, or migrate an older one, each step in one transaction.

    Raises Unavailable for a file of a newer version, and ValueError for a file that is not ours.
    """
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not names:
        _run(connection, (*ddl(), f"INSERT INTO meta VALUES ('schema_version', '{version}')"))
        return
    if "meta" not in names:
        raise ValueError("it holds tables of something else")
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    if row is None:
        raise ValueError("it names no schema version")
    found = int(row[0])
    if found > version:
        raise Unavailable(
            f"the store was written by a newer version (schema {found}, this one knows {version})",
            "upgrade otel-llm, or set OTEL_LLM_DATA_DIR to another folder",
        )
    for step in range(found, version):
        _run(connection, (*migrations[step], f"UPDATE meta SET value = '{step + 1}' WHERE key = 'schema_version'"))


def ddl() -> list[str]:
    """Return the statements that make every table and index in an empty file."""
    made = [str(CreateTable(table).compile(dialect=sqlite.dialect())) for table in metadata.sorted_tables]
    indexes = (
        index for table in metadata.sorted_tables for index in sorted(table.indexes, key=lambda index: str(index.name))
    )
    return made + [str(CreateIndex(index).compile(dialect=sqlite.dialect())) for index in indexes]


def _run(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements:
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
