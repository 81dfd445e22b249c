"""OTLP from the network: gRPC and HTTP, checked, bounded and answered as the specification says.

`grpc_server` and `http_app` are the two doors; what becomes of the telemetry is left to the sink behind them.
"""
