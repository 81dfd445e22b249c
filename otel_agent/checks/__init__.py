"""What `otel-agent doctor` looks at beyond the agent itself, each as facts that are read and rows that judge them."""
