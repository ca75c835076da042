"""What an operator touches: configuration, logs, metrics. Stands beside the floors and imports floor 0 only."""
