"""What every route shares: reading requests, answering, authentication, and the one map from error to status."""
