"""The Grafana boards as Python data, built to the JSON that Grafana provisions; and rules for Prometheus beside them.

    python -m dashboards            write dashboards/json and dashboards/rules
    python -m dashboards --check    compare them, and fail on a difference

A board is rows of panels (`node`, `llm`, `router`, `engine`); `shapes` are queries that boards share, `names` turns what is declared into PromQL,
`panels` and `board` into Grafana's classic JSON, and `queries` takes the queries out of that JSON again and fills in variables, so that they can be run without Grafana. `cadvisor` holds recording rules, `engine_alerts` alerts.
"""
