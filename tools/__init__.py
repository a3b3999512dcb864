"""What an operator's machine runs: the Python environment, Pulumi and its plugins, verify, demo, bench."""
